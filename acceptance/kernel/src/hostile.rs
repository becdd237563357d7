//! More operations for actors: what somebody tries who knows the system well. As in `ops`, each answers with the
//! call's result or the negative errno.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::address::address;
use crate::uring::{Ring, answer};
use libc::*;
use std::ffi::{CStr, CString};

/// Runs one command line.
pub fn act(words: &[&str]) -> i64 {
    let text = |i: usize| CString::new(words.get(i).copied().unwrap_or("")).unwrap_or_default();
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<i64>().ok()).unwrap_or(0);
    let fd = |i: usize| number(i) as c_int;
    unsafe {
        match words.first().copied().unwrap_or("") {
            "disconnect" => {
                let nowhere = [0u8; 16];
                answer(connect(fd(1), nowhere.as_ptr().cast(), 16))
            }
            "terminal" => terminal(),
            "terminals" => (0..).take_while(|_| terminal() >= 0).count() as i64,
            "sigio" => sigio(fd(1), fd(2)),
            "statfs" => {
                let mut into: statfs = std::mem::zeroed();
                answer(statfs(text(1).as_ptr(), &raw mut into))
            }
            "getacl" => {
                let name = c"system.posix_acl_access".as_ptr();
                answer(getxattr(text(1).as_ptr(), name, std::ptr::null_mut(), 0))
            }
            "flock" => answer(flock(fd(1), fd(2) | LOCK_NB)),
            "lock" => {
                let mut lock: flock = std::mem::zeroed();
                lock.l_type = fd(2) as c_short;
                answer(fcntl(fd(1), F_OFD_SETLK, &raw const lock))
            }
            "lease" => answer(fcntl(fd(1), F_SETLEASE, fd(2))),
            "hint" => {
                let hint = 2u64;
                answer(fcntl(fd(1), 1036 /* F_SET_RW_HINT */, &raw const hint))
            }
            "ioctl" => {
                let mut space = [0u64; 32];
                answer(ioctl(fd(1), number(2) as _, space.as_mut_ptr()))
            }
            "option" => answer(setsockopt(fd(1), fd(2), fd(3), std::ptr::null(), 0)),
            "control" => control(fd(1), words[2], number(3) as u16, fd(4), fd(5)),
            "splice" => {
                into_pipe(|pipe| splice(fd(1), &mut 0, pipe, std::ptr::null_mut(), 4096, 0))
            }
            "sendfile-pipe" => into_pipe(|pipe| sendfile(pipe, fd(1), &mut 0, 4096)),
            "sendfile-socket" => {
                let mut ends = [0; 2];
                socketpair(AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr());
                match answer(sendfile(ends[1], fd(1), &mut 0, 4096)) {
                    failed @ ..0 => failed,
                    _ => ends[0].into(),
                }
            }
            "uring-splice" => into_pipe(|pipe| match Ring::new(0) {
                Ok(mut ring) => {
                    let done = ring.splice(fd(1), pipe);
                    *__errno_location() = -done.min(0) as c_int;
                    done.max(-1) as isize
                }
                Err(_) => -1,
            }),
            "vmsplice" => into_pipe(|pipe| {
                let part = iovec { iov_base: number(1) as *mut c_void, iov_len: 4096 };
                vmsplice(pipe, &raw const part, 1, 0)
            }),
            "register" => match Ring::new(0) {
                Ok(ring) => {
                    let done = ring.register(number(1) as u64, 4096);
                    // It lives as long as its ring.
                    std::mem::forget(ring);
                    done
                }
                Err(e) => e.into(),
            },
            "munmap" => answer(munmap(number(1) as *mut c_void, 4096)),
            "read" => {
                let mut byte = 0u8;
                answer(read(fd(1), (&raw mut byte).cast(), 1))
            }
            "zero-copy" => {
                let (socket, one) = (fd(1), 1i32);
                let set = setsockopt(socket, SOL_SOCKET, SO_ZEROCOPY, (&raw const one).cast(), 4);
                if set < 0 {
                    return answer(set);
                }
                let flags = 0x400_0000 /* MSG_ZEROCOPY */;
                answer(send(socket, number(2) as *const c_void, 4096, flags))
            }
            "recv-fd" => recv_fd(fd(1)),
            "syslog" => answer(klogctl(10, std::ptr::null_mut(), 0)),
            "kexec" => answer(syscall(
                SYS_kexec_file_load,
                fd(1),
                -1,
                1,
                c"".as_ptr(),
                4, /* no initrd */
            )),
            "mount-type" => answer(mount(
                c"none".as_ptr(),
                text(2).as_ptr(),
                text(1).as_ptr(),
                0,
                std::ptr::null(),
            )),
            "mount-v1" => answer(mount(
                c"none".as_ptr(),
                text(1).as_ptr(),
                c"cgroup".as_ptr(),
                0,
                c"freezer".as_ptr().cast(),
            )),
            "remount" => answer(mount(
                std::ptr::null(),
                text(1).as_ptr(),
                std::ptr::null(),
                MS_REMOUNT,
                std::ptr::null(),
            )),
            "perf-of" => {
                let mut attr = [0u64; 16];
                attr[0] = 1 | 128 << 32;
                answer(syscall(SYS_perf_event_open, attr.as_ptr(), fd(1), fd(2), -1, 0))
            }
            "read-only" => mount_attributes(&text(1), MOUNT_ATTR_RDONLY, 0),
            "writable" => mount_attributes(&text(1), 0, MOUNT_ATTR_RDONLY),
            "stale-worker" => stale_worker(&text(1), &text(2)),
            "kprobe" => match std::fs::write(words[1], "p vfs_read") {
                Ok(()) => 0,
                Err(e) => -i64::from(e.raw_os_error().unwrap_or(EIO)),
            },
            _ => crate::code::act(words),
        }
    }
}

/// No security module is asked about this call.
unsafe fn mount_attributes(path: &CStr, set: u64, clear: u64) -> i64 {
    let attributes = [set, clear, 0, 0];
    let size = size_of_val(&attributes);
    unsafe {
        answer(syscall(SYS_mount_setattr, AT_FDCWD, path.as_ptr(), 0, attributes.as_ptr(), size))
    }
}

/// Fills a new pipe; the end to read from.
unsafe fn into_pipe(fill: impl FnOnce(c_int) -> isize) -> i64 {
    unsafe {
        let mut ends = [0; 2];
        pipe(ends.as_mut_ptr());
        match answer(fill(ends[1]) as i64) {
            failed @ ..0 => failed,
            _ => ends[0].into(),
        }
    }
}

/// The descriptor beside the next message, whose bytes do not matter.
pub unsafe fn recv_fd(socket: c_int) -> i64 {
    unsafe {
        let mut byte = 0u8;
        let mut part = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut space = [0u64; 8];
        let mut message: msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = 64;
        match answer(recvmsg(socket, &raw mut message, 0)) {
            failed @ ..0 => failed,
            _ => match CMSG_FIRSTHDR(&raw const message) {
                head if head.is_null() || (*head).cmsg_len < CMSG_LEN(4) as usize => {
                    -i64::from(EACCES)
                }
                head => CMSG_DATA(head).cast::<c_int>().read_unaligned().into(),
            },
        }
    }
}

/// Has the kernel send a signal in its own name: a process is made the owner of a pipe that becomes ready.
unsafe fn sigio(pid: c_int, signal: c_int) -> i64 {
    const F_SETSIG: c_int = 10;
    unsafe {
        let mut ends = [0; 2];
        pipe(ends.as_mut_ptr());
        let set = [
            fcntl(ends[0], F_SETOWN, pid),
            fcntl(ends[0], F_SETSIG, signal),
            fcntl(ends[0], F_SETFL, O_ASYNC),
        ];
        let done = match set.into_iter().find(|done| *done < 0) {
            Some(failed) => answer(failed),
            None => answer(write(ends[1], b"x".as_ptr().cast(), 1)),
        };
        ends.into_iter().for_each(|end| _ = close(end));
        done
    }
}

/// Sends a datagram with one control message beside it.
unsafe fn control(socket: c_int, host: &str, port: u16, level: c_int, kind: c_int) -> i64 {
    let (address, length) = address(host, port);
    // A routing header of type 2 (RFC 6275) that leads to ::1.
    let header = [59u8, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    unsafe {
        let mut part = iovec { iov_base: b"hi".as_ptr().cast_mut().cast(), iov_len: 2 };
        let mut space = [0u64; 8];
        let mut message: msghdr = std::mem::zeroed();
        message.msg_name = (&raw const address).cast_mut().cast();
        message.msg_namelen = length;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = CMSG_SPACE(header.len() as u32) as usize;
        let head = CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = CMSG_LEN(header.len() as u32) as usize;
        CMSG_DATA(head).copy_from_nonoverlapping(header.as_ptr(), header.len());
        answer(sendmsg(socket, &raw const message, 0))
    }
}

/// Makes a worker of io_uring by changing an own file, changes the own credentials, and has the worker, who has the
/// old ones, change another.
unsafe fn stale_worker(own: &CStr, path: &CStr) -> i64 {
    let Ok(mut ring) = Ring::new(0) else { return -i64::from(ENOSYS) };
    ring.setxattr(own, c"before");
    unsafe {
        for keep in [1, 0] {
            prctl(PR_SET_KEEPCAPS, keep);
        }
    }
    ring.setxattr(path, c"after")
}

/// A new terminal, opened at both ends; they stay open.
unsafe fn terminal() -> i64 {
    unsafe {
        let master = open(c"/dev/ptmx".as_ptr(), O_RDWR | O_NOCTTY);
        if master < 0 {
            return answer(-1);
        }
        let (mut number, unlocked) = (0, 0);
        ioctl(master, TIOCGPTN, &raw mut number);
        ioctl(master, TIOCSPTLCK, &raw const unlocked);
        let name = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
        answer(open(name.as_ptr(), O_RDWR | O_NOCTTY))
    }
}
