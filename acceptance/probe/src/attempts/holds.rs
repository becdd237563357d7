//! Attempts on a file that may only be read: to stop others by it, or to change it, by the descriptor for reading.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::{Attempt, Got, Target, step, syscall};
use rustix::fs::{self, FlockOperation, Mode, XattrFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "flock", argument: "FILE", wants: "lock others out", run: flock },
    Attempt { name: "lock-record", argument: "FILE", wants: "… by fcntl", run: posix_lock },
    Attempt {
        name: "lock-open-file", argument: "FILE", wants: "… by F_OFD_SETLK", run: ofd_lock
    },
    Attempt { name: "lease", argument: "FILE", wants: "be asked before others write", run: lease },
    Attempt { name: "delegation", argument: "FILE", wants: "… by F_SETDELEG", run: delegation },
    Attempt { name: "write-hint", argument: "FILE", wants: "set its write hint", run: hint },
    Attempt { name: "set-flags", argument: "FILE", wants: "flag it by an ioctl", run: set_flags },
    Attempt { name: "set-project", argument: "FILE", wants: "… by FSSETXATTR", run: set_project },
    Attempt { name: "reopen-write", argument: "FILE", wants: "reopen it to write", run: reopen },
    Attempt { name: "fchmod", argument: "FILE", wants: "change its mode", run: fchmod },
    Attempt { name: "futimens", argument: "FILE", wants: "forge its times", run: futimens },
    Attempt { name: "fsetxattr", argument: "FILE", wants: "tag it", run: fsetxattr },
];

/// Opened to read, which is granted.
fn reader(t: &Target) -> io::Result<File> {
    step("open to read", File::open(t.path(0)?))
}

fn flock(t: &Target) -> Got {
    let file = reader(t)?;
    step("flock", fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
    // That others are locked out is the harm.
    match fs::flock(reader(t)?, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok("locked, and others are kept out".to_owned()),
        other => Err(io::Error::other(format!("a lock that stops nobody: {other:?}"))),
    }
}

fn lock(t: &Target, command: i32) -> Got {
    let file = reader(t)?;
    let lock =
        libc::flock { l_type: libc::F_RDLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    step("fcntl", syscall!(libc::SYS_fcntl, file.as_raw_fd(), command, &raw const lock))?;
    Ok("locked".to_owned())
}

fn posix_lock(t: &Target) -> Got {
    lock(t, libc::F_SETLK)
}

fn ofd_lock(t: &Target) -> Got {
    lock(t, libc::F_OFD_SETLK)
}

fn lease(t: &Target) -> Got {
    let file = reader(t)?;
    let set = syscall!(libc::SYS_fcntl, file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK);
    step("fcntl(F_SETLEASE)", set)?;
    Ok("who wants to write waits".to_owned())
}

fn delegation(t: &Target) -> Got {
    const F_SETDELEG: i32 = 1024 + 16;
    let file = reader(t)?;
    // struct delegation: flags, the type as a lease's, nothing.
    let wanted: [u16; 4] = [0, 0, libc::F_RDLCK as u16, 0];
    let set = syscall!(libc::SYS_fcntl, file.as_raw_fd(), F_SETDELEG, wanted.as_ptr());
    step("fcntl(F_SETDELEG)", set)?;
    Ok("who wants to write waits".to_owned())
}

fn hint(t: &Target) -> Got {
    const F_SET_RW_HINT: i32 = 1024 + 12;
    let (file, short) = (reader(t)?, 2u64);
    let set = syscall!(libc::SYS_fcntl, file.as_raw_fd(), F_SET_RW_HINT, &raw const short);
    step("fcntl(F_SET_RW_HINT)", set)?;
    Ok("set".to_owned())
}

fn set_flags(t: &Target) -> Got {
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const NO_DUMP: u64 = 0x40;
    let (file, flags) = (reader(t)?, NO_DUMP);
    let set = syscall!(libc::SYS_ioctl, file.as_raw_fd(), FS_IOC_SETFLAGS, &raw const flags);
    step("ioctl(FS_IOC_SETFLAGS)", set)?;
    Ok("no backup has it any more".to_owned())
}

fn set_project(t: &Target) -> Got {
    const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
    const NO_DUMP: u32 = 0x80;
    let file = reader(t)?;
    let attributes = [NO_DUMP, 0, 0, 0, 0, 0, 0];
    let set = syscall!(libc::SYS_ioctl, file.as_raw_fd(), FS_IOC_FSSETXATTR, attributes.as_ptr());
    step("ioctl(FS_IOC_FSSETXATTR)", set)?;
    Ok("no backup has it any more".to_owned())
}

fn reopen(t: &Target) -> Got {
    let file = reader(t)?;
    let way = format!("/proc/self/fd/{}", file.as_raw_fd());
    step("open to write", OpenOptions::new().append(true).open(way))?;
    Ok("may write".to_owned())
}

fn fchmod(t: &Target) -> Got {
    let file = reader(t)?;
    step("fchmod", fs::fchmod(&file, Mode::from_raw_mode(0o666)))?;
    Ok("mode is 666 now".to_owned())
}

fn futimens(t: &Target) -> Got {
    let epoch = fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: epoch, last_modification: epoch };
    step("futimens", fs::futimens(reader(t)?, &times))?;
    Ok("last changed in 1970".to_owned())
}

fn fsetxattr(t: &Target) -> Got {
    let file = reader(t)?;
    step("fsetxattr", fs::fsetxattr(&file, c"user.probe", b"was here", XattrFlags::empty()))?;
    Ok("tagged".to_owned())
}
