//! The operations that an actor can be told to do: one system call, or the few that belong together.
//!
//! Agents and the non-agents of the controls run the same code; only their cgroup differs.
//! Every operation answers with the call's result, or with the negative errno.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::address::address;
use crate::child::in_child;
use crate::uring::{self, answer};
use libc::*;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Runs one command line.
pub fn act(line: &str, wire: &mut UnixStream) -> i64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let text = |i: usize| CString::new(words.get(i).copied().unwrap_or("")).unwrap_or_default();
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<i64>().ok()).unwrap_or(0);
    let fd = |i: usize| number(i) as c_int;
    let name = words.first().copied().unwrap_or("");
    unsafe {
        match name {
            "getpid" => i64::from(getpid()),
            "exit" => exit(fd(1)),
            "open" => answer(open(text(1).as_ptr(), fd(2), 0o644)),
            "close" => answer(close(fd(1))),
            "dup" => answer(dup(fd(1))),
            "pread" => {
                let mut byte = 0u8;
                answer(pread(fd(1), (&raw mut byte).cast(), 1, 0))
            }
            "pwrite" => answer(pwrite(fd(1), b"x".as_ptr().cast(), 1, 0)),
            "sendfile" => answer(sendfile(fd(1), fd(2), std::ptr::null_mut(), 1)),
            "ftruncate" => answer(ftruncate(fd(1), 1)),
            "mmap" => map(fd(1), fd(2), fd(3)),
            "mprotect" => answer(mprotect(number(1) as *mut c_void, 4096, fd(2))),
            "stat" => stat_of(AT_FDCWD, &text(1), AT_SYMLINK_NOFOLLOW),
            "fstat" => stat_of(fd(1), c"", AT_EMPTY_PATH),
            "list" => match std::fs::read_dir(words[1]) {
                Ok(entries) => entries.count() as i64,
                Err(e) => errno_of(&e),
            },
            "unlink" => answer(unlink(text(1).as_ptr())),
            "rmdir" => answer(rmdir(text(1).as_ptr())),
            "mkdir" => answer(mkdir(text(1).as_ptr(), 0o755)),
            "mkfifo" => answer(mkfifo(text(1).as_ptr(), 0o644)),
            "rename" => answer(rename(text(1).as_ptr(), text(2).as_ptr())),
            "link" => answer(link(text(1).as_ptr(), text(2).as_ptr())),
            "symlink" => answer(symlink(text(1).as_ptr(), text(2).as_ptr())),
            "readlink" => {
                let mut into = [0u8; 256];
                answer(readlink(text(1).as_ptr(), into.as_mut_ptr().cast(), into.len()))
            }
            "truncate" => answer(truncate(text(1).as_ptr(), 1)),
            "chmod" => answer(chmod(text(1).as_ptr(), 0o600)),
            "chown" => answer(chown(text(1).as_ptr(), 0, 0)),
            "utimes" => answer(utimensat(AT_FDCWD, text(1).as_ptr(), std::ptr::null(), 0)),
            "setxattr" => {
                answer(setxattr(text(1).as_ptr(), c"user.x".as_ptr(), c"y".as_ptr().cast(), 1, 0))
            }
            "getxattr" => {
                answer(getxattr(text(1).as_ptr(), c"user.x".as_ptr(), std::ptr::null_mut(), 0))
            }
            "watch" => answer(inotify_add_watch(inotify_init(), text(1).as_ptr(), IN_ALL_EVENTS)),
            "exec" => exec(&text(1)),
            "memfd-exec" => memfd_exec(),
            "write-shared" => {
                *(number(1) as *mut u8) = 1;
                0
            }
            "read-shared" => i64::from(*(number(1) as *const u8)),
            "socket" => answer(socket(fd(1), fd(2), fd(3))),
            "connect" => connect_to(words[1], number(2) as u16, SOCK_STREAM),
            "udp" => connect_to(words[1], number(2) as u16, SOCK_DGRAM),
            "sendto" => send_to(fd(1), words[2], number(3) as u16, 0),
            "fastopen" => {
                let s = socket(AF_INET, SOCK_STREAM, 0);
                send_to(s, words[1], number(2) as u16, MSG_FASTOPEN)
            }
            "send" => answer(send(fd(1), b"hi".as_ptr().cast(), 2, MSG_NOSIGNAL)),
            "write" => answer(write(fd(1), b"hi".as_ptr().cast(), 2)),
            "fill" => fill(fd(1)),
            "autobind" => {
                let s = socket(AF_UNIX, SOCK_STREAM, 0);
                let family = AF_UNIX as sa_family_t;
                answer(bind(s, (&raw const family).cast(), 2))
            }
            "recv" => {
                let mut into = [0u8; 8];
                answer(recv(fd(1), into.as_mut_ptr().cast(), 8, MSG_DONTWAIT))
            }
            "wait-recv" => {
                let mut into = [0u8; 8];
                answer(recv(fd(1), into.as_mut_ptr().cast(), 8, 0))
            }
            "wait-read" => {
                let mut into = [0u8; 8];
                answer(read(fd(1), into.as_mut_ptr().cast(), 8))
            }
            "listen" => listen_on(words[1], number(2) as u16),
            "accept" => answer(accept(fd(1), std::ptr::null_mut(), std::ptr::null_mut())),
            "unix" => unix_connect(words[1]),
            "unix-listen" => unix_listen(words[1]),
            "unix-send" => unix_send(words[1]),
            "kill" => answer(kill(fd(1), fd(2))),
            "ptrace" => {
                let done = answer(ptrace(PTRACE_SEIZE, fd(1), 0, 0));
                if done == 0 {
                    kill(fd(1), SIGSTOP);
                    waitpid(fd(1), std::ptr::null_mut(), __WALL);
                    ptrace(PTRACE_DETACH, fd(1), 0, 0);
                    kill(fd(1), SIGCONT);
                }
                done
            }
            "vm-read" => vm_read(fd(1)),
            "getfd" => {
                let p = syscall(SYS_pidfd_open, fd(1), 0);
                if p < 0 { answer(p) } else { answer(syscall(SYS_pidfd_getfd, p, 0, 0)) }
            }
            "fork-kill" => fork_kill(),
            "leaderless" => leaderless(),
            "bpf" => {
                let mut attr = [0u32; 32];
                answer(syscall(SYS_bpf, 11 /* PROG_GET_NEXT_ID */, attr.as_mut_ptr(), 128))
            }
            "bpf-get" => {
                let path = text(1);
                let mut attr = [0u64; 16];
                attr[0] = path.as_ptr() as u64;
                answer(syscall(SYS_bpf, 7 /* OBJ_GET */, attr.as_mut_ptr(), 128))
            }
            "mount" => answer(mount(
                c"t".as_ptr(),
                text(1).as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )),
            "bind" => answer(mount(
                text(1).as_ptr(),
                text(2).as_ptr(),
                std::ptr::null(),
                MS_BIND,
                std::ptr::null(),
            )),
            "spread" => in_child(|| {
                if unshare(CLONE_NEWNS) != 0 {
                    return answer(-1);
                }
                let (at, none) = (text(1), std::ptr::null());
                answer(mount(none, at.as_ptr(), none, MS_REC | MS_PRIVATE, none.cast()))
            }),
            "umount" => answer(umount2(text(1).as_ptr(), MNT_DETACH)),
            "userns" => in_child(|| answer(unshare(CLONE_NEWUSER))),
            "perf" => {
                let mut attr = [0u64; 16];
                attr[0] = 1 | 128 << 32;
                answer(syscall(SYS_perf_event_open, attr.as_ptr(), 0, -1, -1, 0))
            }
            "keyctl" => answer(syscall(SYS_keyctl, 0, -3, 1)),
            "add-key" => {
                answer(syscall(SYS_add_key, c"user".as_ptr(), c"n".as_ptr(), c"v".as_ptr(), 1, -3))
            }
            "module" => answer(syscall(SYS_finit_module, fd(1), c"".as_ptr(), 0)),
            "reboot" => answer(reboot(RB_ENABLE_CAD)),
            "settime" => {
                let t = timespec { tv_sec: 1, tv_nsec: 0 };
                answer(clock_settime(CLOCK_REALTIME, &raw const t))
            }
            "sqpoll" => uring::Ring::new(2).map_or_else(i64::from, |_| 0),
            "uring" => match uring::Ring::new(0) {
                Ok(mut ring) => ring.read(fd(1), fd(2) != 0),
                Err(e) => e.into(),
            },
            "shm" => answer(shmget(IPC_PRIVATE, 4096, 0o600)),
            "msg" => answer(msgget(IPC_PRIVATE, 0o600)),
            "sem" => answer(semget(IPC_PRIVATE, 1, 0o600)),
            "mq" => {
                let flags = O_CREAT | O_RDWR;
                let none = std::ptr::null::<u8>();
                answer(syscall(SYS_mq_open, c"queue".as_ptr(), flags, 0o600, none))
            }
            "nice" => answer(setpriority(PRIO_PROCESS, fd(1) as u32, 0)),
            "rlimit" => {
                let limit = rlimit { rlim_cur: 1, rlim_max: 1 };
                let none = std::ptr::null_mut();
                answer(prlimit(fd(1), RLIMIT_CPU, &raw const limit, none))
            }
            "clone-into" => clone_into(&text(1)),
            "put" => match std::fs::write(words[1], words[2]) {
                Ok(()) => 0,
                Err(e) => errno_of(&e),
            },
            "get" => match std::fs::read(words[1]) {
                Ok(bytes) => bytes.len() as i64,
                Err(e) => errno_of(&e),
            },
            "take-fd" => crate::hostile::recv_fd(wire.as_raw_fd()),
            "many-opens" => {
                let mut refused = 0;
                for _ in 0..number(2) {
                    let f = open(text(1).as_ptr(), O_RDONLY);
                    if f < 0 {
                        refused += 1;
                    } else {
                        close(f);
                    }
                }
                refused
            }
            "spin-read" => {
                let mut byte = 0u8;
                while pread(fd(1), (&raw mut byte).cast(), 1, 0) == 1 {}
                crate::clock() as i64
            }
            "spin-open" => loop {
                let fd = open(text(1).as_ptr(), O_RDONLY);
                if fd < 0 {
                    break crate::clock() as i64;
                }
                close(fd);
            },
            "punch" => {
                answer(fallocate(fd(1), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
            }
            // RWF_NOAPPEND: the descriptor's O_APPEND does not count.
            "overwrite" => {
                let part = iovec { iov_base: c"X".as_ptr().cast_mut().cast(), iov_len: 1 };
                answer(syscall(SYS_pwritev2, fd(1), &raw const part, 1, 0, 0, 0x20))
            }
            "no-append" => answer(fcntl(fd(1), F_SETFL, 0)),
            "append" => answer(fcntl(fd(1), F_SETFL, O_APPEND)),
            _ => crate::hostile::act(&words),
        }
    }
}

fn errno_of(error: &std::io::Error) -> i64 {
    -i64::from(error.raw_os_error().unwrap_or(EIO))
}

unsafe fn stat_of(dir: c_int, path: &std::ffi::CStr, flags: c_int) -> i64 {
    unsafe {
        let mut into: stat = std::mem::zeroed();
        answer(fstatat(dir, path.as_ptr(), &raw mut into, flags))
    }
}

unsafe fn map(fd: c_int, prot: c_int, flags: c_int) -> i64 {
    let at = unsafe { mmap(std::ptr::null_mut(), 4096, prot, flags, fd, 0) };
    if at == MAP_FAILED { answer(-1) } else { at as i64 }
}

unsafe fn exec(path: &CString) -> i64 {
    in_child(|| unsafe {
        let args = [path.as_ptr(), c"true".as_ptr(), std::ptr::null()];
        let none = [std::ptr::null()];
        let mut ends = [0; 2];
        pipe2(ends.as_mut_ptr(), O_CLOEXEC);
        let pid = fork();
        if pid == 0 {
            let name = if path.to_bytes().ends_with(b"busybox") { 1 } else { 0 };
            execve(path.as_ptr(), args.as_ptr().add(name), none.as_ptr());
            let e = answer(-1);
            write(ends[1], (&raw const e).cast(), 8);
            _exit(126);
        }
        close(ends[1]);
        let mut e = 0i64;
        let n = read(ends[0], (&raw mut e).cast(), 8);
        waitpid(pid, std::ptr::null_mut(), 0);
        if n == 8 { e } else { 0 }
    })
}

unsafe fn memfd_exec() -> i64 {
    in_child(|| unsafe {
        let fd = memfd_create(c"program".as_ptr(), 0);
        let program = b"#!/bin/busybox true\n";
        write(fd, program.as_ptr().cast(), program.len());
        let args = [c"program".as_ptr(), std::ptr::null()];
        let none: [*const c_char; 1] = [std::ptr::null()];
        answer(syscall(SYS_execveat, fd, c"".as_ptr(), args.as_ptr(), none.as_ptr(), AT_EMPTY_PATH))
    })
}

fn connect_to(host: &str, port: u16, kind: c_int) -> i64 {
    let (address, length) = address(host, port);
    unsafe {
        let s = socket(c_int::from(address.ss_family), kind, 0);
        let done = answer(connect(s, (&raw const address).cast(), length));
        if done < 0 {
            close(s);
            return done;
        }
        s.into()
    }
}

fn send_to(s: c_int, host: &str, port: u16, flags: c_int) -> i64 {
    let (address, length) = address(host, port);
    unsafe {
        answer(sendto(s, b"hi".as_ptr().cast(), 2, flags, (&raw const address).cast(), length))
    }
}

/// Sends until nothing more goes in; how many bytes those were.
fn fill(s: c_int) -> i64 {
    let (block, mut sent) = (vec![b'x'; 65536], 0);
    loop {
        let flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        match unsafe { send(s, block.as_ptr().cast(), block.len(), flags) } {
            n if n > 0 => sent += n as i64,
            _ => return sent,
        }
    }
}

fn listen_on(host: &str, port: u16) -> i64 {
    let (address, length) = address(host, port);
    unsafe {
        let s = socket(c_int::from(address.ss_family), SOCK_STREAM, 0);
        let one = 1i32;
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, (&raw const one).cast(), 4);
        let bound = answer(bind(s, (&raw const address).cast(), length));
        let done = if bound < 0 { bound } else { answer(listen(s, 8)) };
        if done < 0 {
            close(s);
            return done;
        }
        s.into()
    }
}

fn unix_address(name: &str) -> std::io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

fn unix_connect(name: &str) -> i64 {
    let made = unix_address(name).and_then(|a| UnixStream::connect_addr(&a));
    match made {
        Ok(stream) => std::os::fd::IntoRawFd::into_raw_fd(stream).into(),
        Err(e) => errno_of(&e),
    }
}

fn unix_listen(name: &str) -> i64 {
    let made = unix_address(name).and_then(|a| UnixListener::bind_addr(&a));
    match made {
        Ok(listener) => std::os::fd::IntoRawFd::into_raw_fd(listener).into(),
        Err(e) => errno_of(&e),
    }
}

fn unix_send(name: &str) -> i64 {
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|s| s.send_to_addr(b"hi", &unix_address(name)?));
    match sent {
        Ok(n) => n as i64,
        Err(e) => errno_of(&e),
    }
}

unsafe fn vm_read(pid: c_int) -> i64 {
    unsafe {
        let mut into = [0u8; 8];
        let local = iovec { iov_base: into.as_mut_ptr().cast(), iov_len: 8 };
        let remote = iovec { iov_base: (&raw const ANCHOR).cast_mut().cast(), iov_len: 8 };
        answer(process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0))
    }
}

/// Lies at the same place in every process that runs this program, if not moved.
static ANCHOR: u64 = 7;

unsafe fn fork_kill() -> i64 {
    unsafe {
        let pid = fork();
        if pid == 0 {
            pause();
            _exit(0);
        }
        let done = answer(kill(pid, SIGKILL));
        waitpid(pid, std::ptr::null_mut(), 0);
        done
    }
}

/// A process whose main thread has ended and whose other goes on; 0.
unsafe fn leaderless() -> i64 {
    unsafe {
        if fork() == 0 {
            std::thread::spawn(|| {
                loop {
                    pause();
                }
            });
            syscall(SYS_exit, 0);
        }
        0
    }
}

/// clone3(CLONE_INTO_CGROUP); 1 if the child came to run there, -EPERM if it was ended before.
unsafe fn clone_into(cgroup: &CString) -> i64 {
    unsafe {
        let dir = open(cgroup.as_ptr(), O_PATH | O_CLOEXEC);
        if dir < 0 {
            return answer(dir);
        }
        let args: [u64; 11] = [1 << 33, 0, 0, 0, SIGCHLD as u64, 0, 0, 0, 0, 0, dir as u64];
        let pid = syscall(SYS_clone3, args.as_ptr(), 88);
        if pid == 0 {
            _exit(33);
        }
        if pid < 0 {
            return answer(pid);
        }
        let mut status = 0;
        waitpid(pid as c_int, &raw mut status, 0);
        if WIFEXITED(status) { 1 } else { -i64::from(EPERM) }
    }
}
