//! What somebody might do to a program before it becomes the daemon.
#![allow(unsafe_code)]

use anyhow::{Result, bail, ensure};
use std::ffi::CStr;
use std::process::Command;
use std::time::Duration;

/// How long helpers of a trick live.
const WHILE: Duration = Duration::from_secs(3);

/// Spoils this process, or what the command starts.
pub fn play(trick: &str, command: &mut Command) -> Result<()> {
    match trick {
        "plain" => {
            command.env("PATH", "/bin").env("LISTEN_FDNAMES", "x:".repeat(9_000));
        }
        "preload" => {
            command.env("LD_PRELOAD", "/nothing");
        }
        "audit" => {
            command.env("A", "B").env("LD_AUDIT", "/nothing");
        }
        "tunables" => {
            command.env("GLIBC_TUNABLES", "glibc.malloc.check=3");
        }
        "many" => {
            command.envs((0..1_100).map(|i| (format!("V{i}"), "x")));
        }
        "long" => {
            command.env("A", "x".repeat(5_000)).env("LD_PRELOAD", "/nothing");
        }
        "filter" => filter()?,
        // SAFETY: plain numbers and NUL-terminated strings; this process has one thread.
        "mounts" => unsafe { done(libc::unshare(libc::CLONE_NEWNS))? },
        "root" => other_root()?,
        "share" => {
            helper(libc::CLONE_FS, |_| ())?;
        }
        "traced" => {
            helper(0, |parent| {
                // SAFETY: plain numbers.
                unsafe { libc::ptrace(libc::PTRACE_SEIZE, parent, 0, 0) };
            })?;
        }
        other => bail!("no such trick: {other}"),
    }
    Ok(())
}

fn done(result: i32) -> Result<()> {
    ensure!(result >= 0, std::io::Error::last_os_error());
    Ok(())
}

/// A filter that lets everything through: another could answer in the kernel's place.
fn filter() -> Result<()> {
    const ALLOW: u32 = 0x7fff_0000;
    let mut program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: ALLOW }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: a program of one instruction, live during the call.
    unsafe {
        done(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0))
    }
}

/// The same tree at another place.
fn other_root() -> Result<()> {
    const PLACE: &CStr = c"/data/root";
    let none = std::ptr::null();
    let _ = std::fs::create_dir("/data/root");
    // SAFETY: NUL-terminated strings.
    unsafe {
        let bind = libc::MS_BIND;
        done(libc::mount(c"/".as_ptr(), PLACE.as_ptr(), none, bind, none.cast()))?;
        done(libc::chroot(PLACE.as_ptr()))?;
        done(libc::chdir(c"/".as_ptr()))
    }
}

/// A child that lives for a while, and has done something before this returns.
fn helper(shares: i32, act: impl FnOnce(i32)) -> Result<()> {
    let parent = std::process::id().cast_signed();
    let (ready, tell) = rustix::pipe::pipe()?;
    // SAFETY: as `fork`, in a process of one thread; the child only acts, waits and ends.
    let child = unsafe { libc::syscall(libc::SYS_clone, shares | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        act(parent);
        let _ = rustix::io::write(&tell, &[1]);
        std::thread::sleep(WHILE);
        // SAFETY: ends this process and nothing else.
        unsafe { libc::_exit(0) };
    }
    ensure!(child > 0, std::io::Error::last_os_error());
    rustix::io::read(&ready, &mut [0u8; 1])?;
    Ok(())
}
