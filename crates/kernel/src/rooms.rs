//! What the cloned child has to itself of what lies at names that every program knows: `/proc`, `/tmp`, shared memory and
//! terminals. As child.rs: raw system calls only.
#![allow(unsafe_code)]

use crate::SpawnStep;
use crate::step::{Step, check};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// Where its `/proc`, `/tmp` and IPC namespace come from.
pub(crate) enum Room<'a> {
    /// It makes them.
    Own { tmp_options: &'a CStr },
    /// A mount to be put at `/tmp`, and namespaces to go into.
    Shared { tmp: RawFd, mounts: RawFd, ipc: RawFd },
}

/// It has a `/dev/shm` of its own: a bit of what [`enter`] returns.
pub(crate) const HAS_SHM: i32 = 1;
/// It has terminals of its own, at `/dev/pts` and `/dev/ptmx`.
pub(crate) const HAS_TERMINALS: i32 = 2;

/// Goes in, and makes what is to be made; which of those whose place a machine may lack it has.
pub(crate) fn enter(room: &Room<'_>) -> Result<i32, (SpawnStep, i32)> {
    match *room {
        Room::Own { tmp_options } => {
            make(tmp_options)?;
            let shm =
                mount(SpawnStep::Shm, c"tmpfs", c"/dev/shm", GUARD | libc::MS_NOEXEC, tmp_options);
            let mut made = if is_there(shm)? { HAS_SHM } else { 0 };
            if is_there(terminals())? {
                made |= HAS_TERMINALS;
            }
            Ok(made)
        }
        Room::Shared { tmp, mounts, ipc } => {
            // SAFETY: plain numbers.
            unsafe {
                check(SpawnStep::Ipc, libc::setns(ipc, libc::CLONE_NEWIPC).into())?;
                check(SpawnStep::Private, libc::setns(mounts, libc::CLONE_NEWNS).into())?;
                // A copy of them; none is one that others hear of.
                check(SpawnStep::Private, libc::unshare(libc::CLONE_NEWNS).into())?;
            }
            put(SpawnStep::Tmp, tmp, c"/tmp")?;
            // The same folder: a file system more is one more for every agent.
            Ok(if is_there(bind(SpawnStep::Shm, c"/tmp", c"/dev/shm"))? { HAS_SHM } else { 0 })
        }
    }
}

const GUARD: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// Mounts that others do not hear of, with a `/proc` and a `/tmp` of its own.
fn make(tmp_options: &CStr) -> Step {
    let none = core::ptr::null();
    // SAFETY: every pointer is NULL or a NUL-terminated string.
    let done = unsafe {
        libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, none.cast())
    };
    check(SpawnStep::Private, done.into())?;
    mount(SpawnStep::Proc, c"proc", c"/proc", GUARD | libc::MS_NOEXEC, c"hidepid=invisible")?;
    mount(SpawnStep::Tmp, c"tmpfs", c"/tmp", GUARD, tmp_options)
}

/// Terminals that nobody else sees, or uses up: there are 3,072 for all instances (`kernel.pty`).
fn terminals() -> Step {
    let options = c"newinstance,ptmxmode=0666,mode=0620,max=64";
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(SpawnStep::Terminals, c"devpts", c"/dev/pts", flags, options)?;
    bind(SpawnStep::Terminals, c"/dev/pts/ptmx", c"/dev/ptmx")
}

fn mount(step: SpawnStep, kind: &CStr, at: &CStr, flags: libc::c_ulong, options: &CStr) -> Step {
    let (kind, at, options) = (kind.as_ptr(), at.as_ptr(), options.as_ptr().cast());
    // SAFETY: NUL-terminated strings.
    check(step, unsafe { libc::mount(kind, at, kind, flags, options) }.into())
}

fn bind(step: SpawnStep, from: &CStr, to: &CStr) -> Step {
    let none = core::ptr::null();
    // SAFETY: NUL-terminated strings, or NULL.
    let done = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()) };
    check(step, done.into())
}

/// Whether the machine has the place: one that it lacks is no program's need.
fn is_there(done: Step) -> Result<bool, (SpawnStep, i32)> {
    match done {
        Ok(()) => Ok(true),
        Err((_, libc::ENOENT)) => Ok(false),
        Err(refused) => Err(refused),
    }
}

/// Puts a mount that lies nowhere where it belongs.
fn put(step: SpawnStep, mount: RawFd, place: &CStr) -> Step {
    const F_EMPTY_PATH: u32 = 4;
    let (here, to) = (c"".as_ptr(), place.as_ptr());
    // SAFETY: an open descriptor, and NUL-terminated strings.
    let done = unsafe {
        libc::syscall(libc::SYS_move_mount, mount, here, libc::AT_FDCWD, to, F_EMPTY_PATH)
    };
    check(step, done)
}
