//! Measurements that an actor makes on itself.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::address::address;
use crate::uring::answer;
use libc::*;
use std::ffi::CString;
use std::ptr::null_mut;

/// Nanoseconds for all rounds, or a negative errno; none for what is no measurement.
pub fn act(name: &str, words: &[&str]) -> Option<i64> {
    let rounds: u32 = words.last().and_then(|w| w.parse().ok()).unwrap_or(1);
    let path = CString::new(words.get(1).copied().unwrap_or("")).unwrap_or_default();
    let port = || words.get(2).and_then(|port| port.parse().ok()).unwrap_or(0);
    let taken = unsafe {
        match name {
            "landlock" => crate::landlock::hold(),
            "time-getpid" => timed(rounds, || syscall(SYS_getpid)),
            "time-open" => timed(rounds, || {
                let fd = open(path.as_ptr(), O_RDONLY);
                close(fd);
                fd.into()
            }),
            "time-stat" => {
                let mut known: stat = std::mem::zeroed();
                timed(rounds, || stat(path.as_ptr(), &raw mut known).into())
            }
            "time-pread" => {
                let fd = open(path.as_ptr(), O_RDONLY);
                let mut byte = 0u8;
                timed(rounds, || pread(fd, (&raw mut byte).cast(), 1, 0) as i64)
            }
            "time-rename" => renames(&path, rounds),
            "time-pipe" => pipes(rounds),
            "time-datagram" => datagrams(words[1], port(), rounds),
            "time-connect" => connections(words[1], port(), rounds),
            "time-fork" => timed(rounds, || {
                let pid = fork();
                if pid == 0 {
                    _exit(0);
                }
                waitpid(pid, null_mut(), 0).into()
            }),
            "time-exec" => timed(rounds, || starts(&path)),
            _ => return None,
        }
    };
    Some(taken)
}

fn timed(rounds: u32, mut once: impl FnMut() -> i64) -> i64 {
    let start = crate::clock();
    for _ in 0..rounds {
        if once() < 0 {
            return answer(-1);
        }
    }
    (crate::clock() - start) as i64
}

/// To another name in the same folder, and back with the next: half of the rounds each.
unsafe fn renames(path: &CString, rounds: u32) -> i64 {
    let mut names =
        [path.clone(), CString::new([path.as_bytes(), b"2"].concat()).unwrap_or_default()];
    timed(rounds, || {
        let done = unsafe { rename(names[0].as_ptr(), names[1].as_ptr()) };
        names.swap(0, 1);
        done.into()
    })
}

/// A byte to another process and back.
unsafe fn pipes(rounds: u32) -> i64 {
    unsafe {
        let (mut there, mut back, mut byte) = ([0; 2], [0; 2], 0u8);
        let byte = (&raw mut byte).cast();
        if pipe2(there.as_mut_ptr(), O_CLOEXEC) < 0 || pipe2(back.as_mut_ptr(), O_CLOEXEC) < 0 {
            return answer(-1);
        }
        let pid = fork();
        if pid == 0 {
            close(there[1]);
            while read(there[0], byte, 1) == 1 && write(back[1], byte, 1) == 1 {}
            _exit(0);
        }
        let taken = timed(rounds, || match (write(there[1], byte, 1), read(back[0], byte, 1)) {
            (1, 1) => 0,
            _ => -1,
        });
        for end in there.into_iter().chain(back) {
            close(end);
        }
        waitpid(pid, null_mut(), 0);
        taken
    }
}

/// A datagram to itself, and its receipt.
unsafe fn datagrams(host: &str, port: u16, rounds: u32) -> i64 {
    let (address, length) = address(host, port);
    let to = (&raw const address).cast();
    unsafe {
        let s = socket(address.ss_family.into(), SOCK_DGRAM, 0);
        if bind(s, to, length) < 0 || connect(s, to, length) < 0 {
            return answer(-1);
        }
        let mut byte = 0u8;
        let byte = (&raw mut byte).cast();
        let taken = timed(rounds, || match (send(s, byte, 1, 0), recv(s, byte, 1, 0)) {
            (1, 1) => 0,
            _ => -1,
        });
        close(s);
        taken
    }
}

unsafe fn connections(host: &str, port: u16, rounds: u32) -> i64 {
    let line = format!("connect {host} {port}");
    timed(rounds, || {
        let Ok((mut wire, _)) = std::os::unix::net::UnixStream::pair() else { return -1 };
        let s = crate::ops::act(&line, &mut wire);
        unsafe { close(s as c_int) };
        s
    })
}

unsafe fn starts(path: &CString) -> i64 {
    unsafe {
        let args = [c"busybox".as_ptr(), c"true".as_ptr(), std::ptr::null()];
        let pid = fork();
        if pid == 0 {
            execv(path.as_ptr(), args.as_ptr());
            _exit(126);
        }
        let mut status = 0;
        waitpid(pid, &raw mut status, 0);
        if WEXITSTATUS(status) == 126 { -1 } else { 0 }
    }
}
