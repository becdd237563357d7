//! Attempts on other processes: their memory, files, environment and life.

use super::{Attempt, Got, Target, first_bytes, printable, step};
use crate::sys;
use rustix::process::{self, Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The table. ADDR and LEN say where the victim's secret lies.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "see-others",
        argument: "",
        wants: "find foreign processes in /proc",
        run: see,
    },
    Attempt { name: "signal", argument: "PID", wants: "send SIGCONT", run: signal },
    Attempt {
        name: "pidfd-signal",
        argument: "PID",
        wants: "send SIGCONT by pidfd",
        run: pidfd_signal,
    },
    Attempt { name: "ptrace", argument: "PID,ADDR", wants: "trace it and peek", run: ptrace },
    Attempt {
        name: "vm-read",
        argument: "PID,ADDR,LEN",
        wants: "process_vm_readv its secret",
        run: vm_read,
    },
    Attempt {
        name: "proc-mem",
        argument: "PID,ADDR,LEN",
        wants: "read /proc/PID/mem",
        run: proc_mem,
    },
    Attempt { name: "proc-environ", argument: "PID", wants: "read its environment", run: environ },
    Attempt {
        name: "proc-fd",
        argument: "PID,FD",
        wants: "reopen its file in /proc",
        run: proc_fd,
    },
    Attempt {
        name: "proc-root",
        argument: "PID",
        wants: "enter its root directory",
        run: proc_root,
    },
    Attempt { name: "pidfd-getfd", argument: "PID,FD", wants: "copy its descriptor", run: getfd },
    Attempt { name: "prlimit", argument: "PID", wants: "change its limits", run: prlimit },
    Attempt {
        name: "leaked-getfd",
        argument: "OWNFD,FD",
        wants: "copy by an inherited pidfd",
        run: leaked_getfd,
    },
    Attempt {
        name: "leaked-setns",
        argument: "OWNFD",
        wants: "enter namespaces by it",
        run: leaked_setns,
    },
    Attempt {
        name: "leaked-signal",
        argument: "OWNFD",
        wants: "send SIGCONT by it",
        run: leaked_signal,
    },
];

fn pid(t: &Target) -> io::Result<Pid> {
    Pid::from_raw(t.parse(0)?).ok_or_else(|| io::Error::other("a process id is positive"))
}

fn see(_: &Target) -> Got {
    let own = std::process::id();
    let names: Vec<String> = std::fs::read_dir("/proc")?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.parse::<u32>().is_ok_and(|pid| pid != own && foreign(pid)))
        .collect();
    match names.len() {
        0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        n => Ok(format!("{n} foreign processes, the first is {}", names[0])),
    }
}

/// In another cgroup than this process.
fn foreign(pid: u32) -> bool {
    let cgroup = |who: &str| std::fs::read_to_string(format!("/proc/{who}/cgroup")).ok();
    cgroup(&pid.to_string()).is_some_and(|c| Some(c) != cgroup("self"))
}

fn signal(t: &Target) -> Got {
    process::kill_process(pid(t)?, Signal::CONT)?;
    Ok("signalled".to_owned())
}

fn pidfd_of(t: &Target) -> io::Result<OwnedFd> {
    step("pidfd_open", process::pidfd_open(pid(t)?, PidfdFlags::empty()))
}

fn pidfd_signal(t: &Target) -> Got {
    process::pidfd_send_signal(pidfd_of(t)?, Signal::CONT)?;
    Ok("signalled".to_owned())
}

fn ptrace(t: &Target) -> Got {
    Ok(printable(&sys::ptrace_peek(t.parse(0)?, t.parse(1)?)?))
}

fn vm_read(t: &Target) -> Got {
    let mut bytes = vec![0u8; t.parse::<usize>(2)?.min(4096)];
    let n = sys::vm_read(t.parse(0)?, t.parse(1)?, &mut bytes)?;
    Ok(printable(&bytes[..n]))
}

fn proc_mem(t: &Target) -> Got {
    let mut bytes = vec![0u8; t.parse::<usize>(2)?.min(4096)];
    let memory = step("open", File::open(format!("/proc/{}/mem", t.text(0)?)))?;
    let n = memory.read_at(&mut bytes, t.parse(1)?)?;
    Ok(printable(&bytes[..n]))
}

fn environ(t: &Target) -> Got {
    first_bytes(File::open(format!("/proc/{}/environ", t.text(0)?))?)
}

fn proc_fd(t: &Target) -> Got {
    first_bytes(File::open(format!("/proc/{}/fd/{}", t.text(0)?, t.text(1)?))?)
}

fn proc_root(t: &Target) -> Got {
    let names = std::fs::read_dir(format!("/proc/{}/root/", t.text(0)?))?;
    Ok(format!("{} names", names.count()))
}

fn copied(pidfd: impl std::os::fd::AsFd, t: &Target) -> Got {
    let fd = process::pidfd_getfd(pidfd, t.parse(1)?, PidfdGetfdFlags::empty())?;
    let mut bytes = [0u8; 64];
    let n = step("read", File::from(fd).read_at(&mut bytes, 0))?;
    Ok(printable(&bytes[..n]))
}

fn getfd(t: &Target) -> Got {
    copied(pidfd_of(t)?, t)
}

fn prlimit(t: &Target) -> Got {
    use rustix::process::{Resource, Rlimit};
    let none = Rlimit { current: Some(8), maximum: Some(8) };
    process::prlimit(Some(pid(t)?), Resource::Nofile, none)?;
    Ok("it may open 8 files now".to_owned())
}

fn inherited<'a>(t: &Target) -> io::Result<BorrowedFd<'a>> {
    let number = t.parse(0)?;
    // SAFETY: fcntl(F_GETFD) takes any number, and says whether a descriptor is behind it.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was inherited, and nothing in this child closes it.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

fn leaked_getfd(t: &Target) -> Got {
    copied(inherited(t)?, t)
}

fn leaked_setns(t: &Target) -> Got {
    sys::setns(inherited(t)?, libc::CLONE_NEWPID | libc::CLONE_NEWUTS)?;
    Ok("is in its namespaces".to_owned())
}

fn leaked_signal(t: &Target) -> Got {
    process::pidfd_send_signal(inherited(t)?, Signal::CONT)?;
    Ok("signalled".to_owned())
}
