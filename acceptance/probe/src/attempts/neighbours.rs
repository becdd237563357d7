//! More attempts on other processes: by their number, by a pidfd that leaked, and by what processes of one user share.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::{Attempt, Got, Target, c_text, first_bytes, printable, step, syscall};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The table. KEY is the number that the victim was given (`--ipc`).
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "tgkill", argument: "PID", wants: "signal its thread", run: tgkill },
    Attempt { name: "sigqueue", argument: "PID", wants: "signal with a value", run: sigqueue },
    Attempt { name: "signal-all", argument: "", wants: "signal all of its user", run: signal_all },
    Attempt { name: "own-sigio", argument: "PID", wants: "have the kernel signal", run: sigio },
    Attempt { name: "own-sigio-ex", argument: "PID", wants: "… by F_SETOWN_EX", run: sigio_ex },
    Attempt { name: "pidfd-open", argument: "PID", wants: "hold it", run: pidfd_open },
    Attempt { name: "kcmp", argument: "PID", wants: "compare it with itself", run: kcmp },
    Attempt { name: "affinity", argument: "PID", wants: "put it on one processor", run: affinity },
    Attempt { name: "scheduler", argument: "PID", wants: "make it idle", run: scheduler },
    Attempt { name: "ioprio", argument: "PID", wants: "make its disk slow", run: ioprio },
    Attempt { name: "nice-other", argument: "PID", wants: "make it nice", run: nice_other },
    Attempt { name: "move-pages", argument: "PID", wants: "ask where its pages are", run: pages },
    Attempt { name: "robust-list", argument: "PID", wants: "learn its addresses", run: robust },
    Attempt { name: "getsid", argument: "PID", wants: "learn its session", run: getsid },
    Attempt { name: "proc-status", argument: "PID", wants: "learn of its memory", run: status },
    Attempt { name: "proc-maps", argument: "PID", wants: "learn its addresses", run: maps },
    Attempt { name: "leaked-info", argument: "OWNFD", wants: "learn who it is", run: leaked_info },
    Attempt { name: "leaked-netns", argument: "OWNFD", wants: "have its network", run: leaked_net },
    Attempt {
        name: "leaked-madvise",
        argument: "OWNFD",
        wants: "swap it out",
        run: leaked_madvise,
    },
    Attempt { name: "shm-key", argument: "KEY", wants: "read shared memory", run: shm_key },
    Attempt { name: "shm-list", argument: "", wants: "find it by number", run: shm_list },
    Attempt { name: "shm-remove", argument: "KEY", wants: "remove it", run: shm_remove },
    Attempt { name: "msg-key", argument: "KEY", wants: "take a message", run: msg_key },
    Attempt { name: "sem-key", argument: "KEY", wants: "hold a semaphore", run: sem_key },
    Attempt { name: "mq-open", argument: "KEY", wants: "take from a queue", run: mq_open },
    Attempt { name: "dev-shm", argument: "KEY", wants: "read POSIX memory", run: dev_shm },
    Attempt { name: "tmp-file", argument: "KEY", wants: "read its /tmp", run: tmp_file },
];

fn tgkill(t: &Target) -> Got {
    let pid: i32 = t.parse(0)?;
    syscall!(libc::SYS_tgkill, pid, pid, libc::SIGCONT)?;
    Ok("signalled".to_owned())
}

fn sigqueue(t: &Target) -> Got {
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = libc::SIGCONT;
    info.si_code = libc::SI_QUEUE;
    let pid: i32 = t.parse(0)?;
    syscall!(libc::SYS_rt_sigqueueinfo, pid, libc::SIGCONT, &raw const info)?;
    Ok("signalled".to_owned())
}

/// Signal 0: whether there is anybody that it could be sent to.
fn signal_all(_: &Target) -> Got {
    syscall!(libc::SYS_kill, -1, 0)?;
    Ok("there are some".to_owned())
}

/// A pipe whose readiness the kernel tells its owner by a signal of our choice.
fn owned_pipe(own: impl FnOnce(i32) -> io::Result<i64>) -> Got {
    const F_SETSIG: i32 = 10;
    let (reader, writer) = rustix::pipe::pipe()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
    step("F_SETOWN", own(fd))?;
    step("F_SETSIG", syscall!(libc::SYS_fcntl, fd, F_SETSIG, libc::SIGCONT))?;
    step("O_ASYNC", syscall!(libc::SYS_fcntl, fd, libc::F_SETFL, libc::O_ASYNC))?;
    step("write", rustix::io::write(&writer, b"x"))?;
    Ok("the kernel signals it".to_owned())
}

fn sigio(t: &Target) -> Got {
    let pid: i32 = t.parse(0)?;
    owned_pipe(|fd| syscall!(libc::SYS_fcntl, fd, libc::F_SETOWN, pid))
}

fn sigio_ex(t: &Target) -> Got {
    const F_SETOWN_EX: i32 = 15;
    const F_OWNER_PID: i32 = 1;
    let owner = [F_OWNER_PID, t.parse(0)?];
    owned_pipe(|fd| syscall!(libc::SYS_fcntl, fd, F_SETOWN_EX, owner.as_ptr()))
}

fn pidfd_open(t: &Target) -> Got {
    syscall!(libc::SYS_pidfd_open, t.parse::<i32>(0)?, 0)?;
    Ok("holds it".to_owned())
}

fn kcmp(t: &Target) -> Got {
    const KCMP_FS: i32 = 3;
    let (own, other) = (std::process::id(), t.parse::<i32>(0)?);
    let order = syscall!(libc::SYS_kcmp, own, other, KCMP_FS, 0, 0)?;
    Ok(format!("compared: {order}"))
}

fn affinity(t: &Target) -> Got {
    let (pid, first) = (t.parse::<i32>(0)?, 1u64);
    syscall!(libc::SYS_sched_setaffinity, pid, size_of_val(&first), &raw const first)?;
    Ok("is on one processor".to_owned())
}

fn scheduler(t: &Target) -> Got {
    let (pid, none) = (t.parse::<i32>(0)?, libc::sched_param { sched_priority: 0 });
    syscall!(libc::SYS_sched_setscheduler, pid, libc::SCHED_BATCH, &raw const none)?;
    Ok("runs behind others".to_owned())
}

fn ioprio(t: &Target) -> Got {
    const WHO_PROCESS: i32 = 1;
    const BEST_EFFORT_LAST: i32 = 2 << 13 | 7;
    syscall!(libc::SYS_ioprio_set, WHO_PROCESS, t.parse::<i32>(0)?, BEST_EFFORT_LAST)?;
    Ok("reads behind others".to_owned())
}

fn nice_other(t: &Target) -> Got {
    syscall!(libc::SYS_setpriority, libc::PRIO_PROCESS, t.parse::<i32>(0)?, 5)?;
    Ok("nice is 5".to_owned())
}

fn pages(t: &Target) -> Got {
    let (pid, none) = (t.parse::<i32>(0)?, std::ptr::null::<u8>());
    syscall!(libc::SYS_move_pages, pid, 0, none, none, none, 0)?;
    Ok("may ask".to_owned())
}

fn robust(t: &Target) -> Got {
    let (mut head, mut length) = (0usize, 0usize);
    let pid: i32 = t.parse(0)?;
    syscall!(libc::SYS_get_robust_list, pid, &raw mut head, &raw mut length)?;
    Ok(format!("at {head:#x}"))
}

fn getsid(t: &Target) -> Got {
    Ok(format!("session {}", syscall!(libc::SYS_getsid, t.parse::<i32>(0)?)?))
}

fn status(t: &Target) -> Got {
    first_bytes(File::open(format!("/proc/{}/status", t.text(0)?))?)
}

fn maps(t: &Target) -> Got {
    first_bytes(File::open(format!("/proc/{}/maps", t.text(0)?))?)
}

/// `PIDFD_GET_INFO` (Linux 6.13): its number, its user, its cgroup.
fn leaked_info(t: &Target) -> Got {
    const PIDFD_GET_INFO: u64 = 0xc040_ff0b;
    let mut info = [0u32; 16];
    // PIDFD_INFO_PID, _CREDS and _CGROUPID.
    info[0] = 7;
    syscall!(libc::SYS_ioctl, t.parse::<i32>(0)?, PIDFD_GET_INFO, info.as_mut_ptr())?;
    match info[4] {
        0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        pid => Ok(format!("process {pid} in cgroup {}", info[2])),
    }
}

fn leaked_net(t: &Target) -> Got {
    const PIDFD_GET_UTS_NAMESPACE: u64 = 0xff0a;
    let fd = syscall!(libc::SYS_ioctl, t.parse::<i32>(0)?, PIDFD_GET_UTS_NAMESPACE, 0)?;
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok("holds a namespace of its".to_owned())
}

fn leaked_madvise(t: &Target) -> Got {
    // An address that need not be mapped: that there is none is told after the permission.
    let part = [4096usize, 4096];
    let cold = libc::MADV_COLD;
    let asked = syscall!(libc::SYS_process_madvise, t.parse::<i32>(0)?, part.as_ptr(), 1, cold, 0);
    match asked {
        Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => Ok("may".to_owned()),
        other => other.map(|_| "did".to_owned()),
    }
}

/// What is at an address that was attached, as text.
fn attached(id: i64) -> Got {
    let at = step("shmat", syscall!(libc::SYS_shmat, id, 0, libc::SHM_RDONLY))?;
    let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, 64) };
    Ok(printable(bytes.split(|b| *b == 0).next().unwrap_or_default()))
}

fn shm_key(t: &Target) -> Got {
    attached(step("shmget", syscall!(libc::SYS_shmget, t.parse::<i32>(0)?, 0, 0))?)
}

/// As `ipcs` finds them.
fn shm_list(_: &Target) -> Got {
    const SHM_STAT: i32 = 13;
    let mut about = [0u8; 256];
    let found =
        (0..128).find_map(|n| syscall!(libc::SYS_shmctl, n, SHM_STAT, about.as_mut_ptr()).ok());
    attached(found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?)
}

fn shm_remove(t: &Target) -> Got {
    let id = step("shmget", syscall!(libc::SYS_shmget, t.parse::<i32>(0)?, 0, 0))?;
    syscall!(libc::SYS_shmctl, id, libc::IPC_RMID, 0)?;
    Ok("removed".to_owned())
}

fn msg_key(t: &Target) -> Got {
    let id = step("msgget", syscall!(libc::SYS_msgget, t.parse::<i32>(0)?, 0))?;
    let mut message = [0u8; 72];
    let (at, nowait) = (message.as_mut_ptr(), libc::IPC_NOWAIT);
    let n = step("msgrcv", syscall!(libc::SYS_msgrcv, id, at, 64, 0, nowait))?;
    Ok(printable(&message[8..8 + n as usize]))
}

fn sem_key(t: &Target) -> Got {
    let id = step("semget", syscall!(libc::SYS_semget, t.parse::<i32>(0)?, 1, 0))?;
    let up = [0u16, 1, 0];
    step("semop", syscall!(libc::SYS_semop, id, up.as_ptr(), 1))?;
    Ok("changed".to_owned())
}

fn mq_open(t: &Target) -> Got {
    let name = c_text(&format!("coconut-{}", t.text(0)?))?;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let fd = step("mq_open", syscall!(libc::SYS_mq_open, name.as_ptr(), flags, 0, 0))?;
    let queue = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut message = [0u8; 8192];
    let (fd, at) = (std::os::fd::AsRawFd::as_raw_fd(&queue), message.as_mut_ptr());
    let n = syscall!(libc::SYS_mq_timedreceive, fd, at, message.len(), 0, 0);
    Ok(printable(&message[..step("mq_receive", n)? as usize]))
}

fn dev_shm(t: &Target) -> Got {
    first_bytes(File::open(format!("/dev/shm/coconut-{}", t.text(0)?))?)
}

fn tmp_file(t: &Target) -> Got {
    first_bytes(File::open(format!("/tmp/coconut-{}", t.text(0)?))?)
}

/// What an ordinary program shares by names that others can guess; it goes with its end.
pub struct Shared {
    shm: i64,
    msg: i64,
    sem: i64,
    queue: CString,
    files: [String; 2],
}

impl Shared {
    /// Puts the secret into each.
    pub fn plant(key: i32, secret: &str) -> io::Result<Shared> {
        let make = libc::IPC_CREAT | 0o600;
        let shm = step("shmget", syscall!(libc::SYS_shmget, key, 4096, make))?;
        let at = step("shmat", syscall!(libc::SYS_shmat, shm, 0, 0))?;
        let room = unsafe { std::slice::from_raw_parts_mut(at as *mut u8, 4096) };
        room[..secret.len()].copy_from_slice(secret.as_bytes());
        let msg = step("msgget", syscall!(libc::SYS_msgget, key, make))?;
        let message = [&1u64.to_ne_bytes()[..], secret.as_bytes()].concat();
        let sent = syscall!(libc::SYS_msgsnd, msg, message.as_ptr(), secret.len(), 0);
        step("msgsnd", sent)?;
        let sem = step("semget", syscall!(libc::SYS_semget, key, 1, make))?;
        let queue = c_text(&format!("coconut-{key}"))?;
        let flags = libc::O_CREAT | libc::O_WRONLY;
        let fd = step("mq_open", syscall!(libc::SYS_mq_open, queue.as_ptr(), flags, 0o600, 0))?;
        let (text, length) = (secret.as_ptr(), secret.len());
        step("mq_send", syscall!(libc::SYS_mq_timedsend, fd, text, length, 0, 0))?;
        let files = ["/dev/shm", "/tmp"].map(|dir| format!("{dir}/coconut-{key}"));
        for file in &files {
            step(file, std::fs::write(file, secret))?;
        }
        Ok(Shared { shm, msg, sem, queue, files })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = syscall!(libc::SYS_shmctl, self.shm, libc::IPC_RMID, 0);
        let _ = syscall!(libc::SYS_msgctl, self.msg, libc::IPC_RMID, 0);
        let _ = syscall!(libc::SYS_semctl, self.sem, 0, libc::IPC_RMID, 0);
        let _ = syscall!(libc::SYS_mq_unlink, self.queue.as_ptr());
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}
