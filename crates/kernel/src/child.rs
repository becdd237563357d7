//! What the cloned child does before it becomes the agent's program.
//!
//! The daemon has many threads, so between clone and exec only raw system calls are made: no
//! allocation, no locks, nothing that another thread could have held.
#![allow(unsafe_code)]

use crate::SpawnStep;
use crate::filter::NO_EXEC_BY_DEFAULT;
use crate::rooms::{self, Room};
use crate::step::{Step, check, errno};
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Everything the child needs, made before the clone.
pub(crate) struct Plan<'a> {
    /// NULL-terminated.
    pub argv: Vec<*const libc::c_char>,
    /// NULL-terminated.
    pub env: Vec<*const libc::c_char>,
    pub cwd: &'a CStr,
    pub room: Room<'a>,
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
    /// Nothing that is written becomes code.
    pub strict: bool,
    /// To be executed by descriptor; a script goes by its path.
    pub program: Option<RawFd>,
    pub stdio: [RawFd; 3],
    pub tell: RawFd,
    pub go: RawFd,
    /// All of these lie on it; what others lie on is closed at once.
    pub seat: [RawFd; 9],
    /// Above every seat: the rest of the daemon's table is not copied.
    pub end: RawFd,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWUTS) as u64;

/// Clones a child into the cgroup, with namespaces of its own.
pub(crate) fn clone_into(cgroup: RawFd, plan: &Plan<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let own = match plan.room {
        Room::Own { .. } => (libc::CLONE_NEWNS | libc::CLONE_NEWIPC) as u64,
        Room::Shared { .. } => 0,
    };
    let args = CloneArgs {
        flags: NAMESPACES
            | own
            | CLONE_INTO_CGROUP
            // For a moment: see `table`.
            | libc::CLONE_FILES as u64
            | CLONE_CLEAR_SIGHAND
            | libc::CLONE_PIDFD.cast_unsigned() as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup as u64,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is live and as large as said. The child gets a copy of this address space and, with its
    // first call, of the descriptors; it runs `prepare`, which only makes system calls, and never
    // returns from here.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        0 => prepare(plan),
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made this descriptor for us alone.
        pid => Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

fn prepare(plan: &Plan<'_>) -> ! {
    let (step, errno) = match run(plan) {
        Ok(never) => match never {},
        Err(refused) => refused,
    };
    say(plan, step, errno);
    // SAFETY: ends this process without running anything of the daemon's.
    unsafe { libc::_exit(127) }
}

fn run(plan: &Plan<'_>) -> Result<std::convert::Infallible, (SpawnStep, i32)> {
    table(plan)?;
    say(plan, SpawnStep::Table, 0);
    session(plan)?;
    let made = rooms::enter(&plan.room)?;
    stdio(plan)?;
    control_terminal(plan);
    limits();
    privileges(plan)?;
    if plan.strict {
        filter()?;
    }
    // SAFETY: a NUL-terminated path.
    check(SpawnStep::Chdir, unsafe { libc::chdir(plan.cwd.as_ptr()) }.into())?;
    say(plan, SpawnStep::Report, made);
    let mut go = 0u8;
    // SAFETY: one byte into a live variable.
    let n = unsafe { libc::read(plan.go, (&raw mut go).cast(), 1) };
    if n != 1 {
        return Err((SpawnStep::Await, libc::EPIPE));
    }
    // SAFETY: NULL-terminated arrays of NUL-terminated strings, and a descriptor that is open.
    unsafe {
        match plan.program {
            Some(fd) => {
                let (argv, env) = (plan.argv.as_ptr(), plan.env.as_ptr());
                let here = libc::AT_EMPTY_PATH;
                libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, env, here);
            }
            None => {
                libc::execve(plan.argv[0], plan.argv.as_ptr(), plan.env.as_ptr());
            }
        }
    }
    Err((SpawnStep::Exec, errno()))
}

/// The lowest descriptors of the daemon's table, copied: until this is done none may be closed or moved.
/// Then those go that are not this child's: it might keep another's pipe open.
fn table(plan: &Plan<'_>) -> Step {
    let close = |from: RawFd, to: RawFd, flags: u32| -> Step {
        let (from, to) = (from.cast_unsigned(), to.cast_unsigned());
        // SAFETY: plain numbers.
        check(SpawnStep::Table, unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) })
    };
    close(plan.end, -1, libc::CLOSE_RANGE_UNSHARE)?;
    let (mut from, mut rest) = (3, plan.seat);
    rest.sort_unstable();
    for number in rest {
        if number > from {
            close(from, number - 1, 0)?;
        }
        from = number + 1;
    }
    if from < plan.end { close(from, plan.end - 1, 0) } else { Ok(()) }
}

/// A session or a process group, signals and a keyring of its own: nothing of the daemon's reaches the agent.
fn session(plan: &Plan<'_>) -> Step {
    // SAFETY: plain system calls; the signal set is a live local variable.
    unsafe {
        let alone = match plan.room {
            Room::Own { .. } => libc::setsid(),
            // For each session the scheduler makes a group with queues on every processor (autogroup),
            // which serves nobody: the agent's cgroup decides. The daemon's session has no terminal.
            Room::Shared { .. } => libc::setpgid(0, 0),
        };
        check(SpawnStep::Session, alone.into())?;
        let mut none: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::umask(0o022);
        let join_session = libc::KEYCTL_JOIN_SESSION_KEYRING as libc::c_ulong;
        libc::syscall(libc::SYS_keyctl, join_session, core::ptr::null::<u8>());
        // The daemon is spared by the OOM killer; its agents are not.
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
    Ok(())
}

fn stdio(plan: &Plan<'_>) -> Step {
    for (to, from) in plan.stdio.into_iter().enumerate() {
        // SAFETY: plain numbers.
        check(SpawnStep::Stdio, unsafe { libc::dup2(from, to as RawFd) }.into())?;
    }
    // SAFETY: plain numbers; whatever else is open closes with the execve.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(SpawnStep::Stdio, done)
}

/// A terminal that nobody has yet is its session's: without that there is no job control. One that somebody has stays
/// his, and what is no terminal has nothing to give.
fn control_terminal(plan: &Plan<'_>) {
    if matches!(plan.room, Room::Own { .. }) {
        // SAFETY: plain numbers.
        unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
    }
}

/// What is counted by user would be shared with all other agents of that user. What it stands for takes memory, which
/// is the agent's own, and processes are counted by its control group.
fn limits() {
    let none = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    for resource in
        [libc::RLIMIT_NPROC, libc::RLIMIT_SIGPENDING, libc::RLIMIT_MSGQUEUE, libc::RLIMIT_MEMLOCK]
    {
        // SAFETY: a live value. With a kernel that refuses it the limit is the daemon's.
        unsafe { libc::setrlimit(resource, &raw const none) };
    }
}

/// Away with every privilege: bounding set, groups, ids, capabilities, and their way back.
fn privileges(plan: &Plan<'_>) -> Step {
    // SAFETY: plain system calls; pointers go to live memory of the stated size. The raw calls
    // are used because the C library's versions talk to the daemon's other threads.
    unsafe {
        for capability in 0..64 {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                match errno() {
                    libc::EINVAL => break,
                    e => return Err((SpawnStep::Bounding, e)),
                }
            }
        }
        let groups = libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr());
        check(SpawnStep::Groups, groups)?;
        let (uid, gid) = (plan.uid, plan.gid);
        check(SpawnStep::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(SpawnStep::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        const VERSION_3: u32 = 0x2008_0522;
        let header = [VERSION_3, 0];
        let nothing = [0u32; 6];
        let done = libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr());
        check(SpawnStep::Caps, done)?;
        check(SpawnStep::NoNewPrivs, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())
    }
}

fn filter() -> Step {
    let mut lines = NO_EXEC_BY_DEFAULT;
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    let (set, mode) = (libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER);
    // SAFETY: a live program of as many lines as it says, which the kernel copies.
    check(SpawnStep::Filter, unsafe { libc::prctl(set, mode, &raw const program, 0, 0) }.into())
}

fn say(plan: &Plan<'_>, step: SpawnStep, errno: i32) {
    let message = [step as u32, errno.cast_unsigned()];
    // SAFETY: eight bytes of a live array.
    unsafe { libc::write(plan.tell, message.as_ptr().cast(), 8) };
}
