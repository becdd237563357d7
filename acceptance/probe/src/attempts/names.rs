//! Attempts on names and attributes of files of others, by the calls that are none of opening, linking home or removing.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::{Attempt, Got, Target, first_bytes, printable, step, syscall};
use libc::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "statx", argument: "FILE", wants: "learn its size by statx", run: statx },
    Attempt { name: "stat-opath", argument: "FILE", wants: "… by O_PATH and fstat", run: stat },
    Attempt { name: "statfs", argument: "FILE", wants: "learn its file system", run: statfs },
    Attempt { name: "getxattr", argument: "FILE", wants: "read an attribute", run: getxattr },
    Attempt { name: "listxattr", argument: "FILE", wants: "list attributes", run: listxattr },
    Attempt { name: "readlink", argument: "LINK", wants: "read a link", run: readlink },
    Attempt { name: "rename-over", argument: "FILE,OWNDIR", wants: "replace it", run: rename_over },
    Attempt { name: "link-in", argument: "DIR,OWNDIR", wants: "link a file there", run: link_in },
    Attempt { name: "link-opath", argument: "FILE,OWNDIR", wants: "link it home", run: link_opath },
    Attempt { name: "symlink-in", argument: "DIR", wants: "make a link there", run: symlink_in },
    Attempt { name: "socket-in", argument: "DIR", wants: "make a socket there", run: socket_in },
    Attempt { name: "tmpfile", argument: "DIR", wants: "make a nameless file there", run: tmpfile },
    Attempt { name: "rmdir", argument: "DIR", wants: "remove it", run: rmdir },
    Attempt { name: "chown", argument: "FILE", wants: "give it away", run: chown },
    Attempt { name: "chmod-opath", argument: "FILE", wants: "change its mode", run: chmod_opath },
    Attempt { name: "utimes-opath", argument: "FILE", wants: "forge times", run: utimes_opath },
    Attempt { name: "set-acl", argument: "FILE", wants: "change its access list", run: set_acl },
    Attempt { name: "removexattr", argument: "FILE", wants: "take an attribute", run: removexattr },
    Attempt { name: "file-setattr", argument: "FILE", wants: "flag it by path", run: file_setattr },
    Attempt {
        name: "open-handle",
        argument: "FILE,OWNDIR",
        wants: "read it by handle",
        run: open_handle,
    },
];

/// A reference to a file that opens nothing.
fn handle(path: &Path) -> io::Result<OwnedFd> {
    step("open(O_PATH)", fs::openat(CWD, path, OFlags::PATH, Mode::empty()))
}

fn statx(t: &Target) -> Got {
    let (flags, want) = (AtFlags::STATX_DONT_SYNC, fs::StatxFlags::BASIC_STATS);
    let s = fs::statx(CWD, t.path(0)?, flags, want)?;
    Ok(format!("size {} uid {} mode {:o}", s.stx_size, s.stx_uid, s.stx_mode))
}

fn stat(t: &Target) -> Got {
    let s = step("fstat", fs::fstat(handle(t.path(0)?)?))?;
    Ok(format!("size {} uid {} mode {:o}", s.st_size, s.st_uid, s.st_mode))
}

fn statfs(t: &Target) -> Got {
    let s = fs::statfs(t.path(0)?)?;
    Ok(format!("{} of {} blocks are free", s.f_bfree, s.f_blocks))
}

fn getxattr(t: &Target) -> Got {
    let mut value = [0u8; 64];
    let n = fs::getxattr(t.path(0)?, c"user.secret", &mut value)?;
    Ok(printable(&value[..n]))
}

fn listxattr(t: &Target) -> Got {
    let mut names = [0u8; 256];
    let n = fs::listxattr(t.path(0)?, &mut names)?;
    Ok(printable(&names[..n]))
}

fn readlink(t: &Target) -> Got {
    Ok(std::fs::read_link(t.path(0)?)?.display().to_string())
}

fn rename_over(t: &Target) -> Got {
    let own = t.path(1)?.join("changeling");
    step("create", std::fs::write(&own, "by the probe"))?;
    step("rename", std::fs::rename(&own, t.path(0)?))?;
    Ok("replaced".to_owned())
}

fn link_in(t: &Target) -> Got {
    let own = t.path(1)?.join("gift");
    step("create", std::fs::write(&own, "by the probe"))?;
    step("link", std::fs::hard_link(&own, t.path(0)?.join("gift")))?;
    Ok("linked".to_owned())
}

/// By the link in `/proc` that leads to the open file itself.
fn link_opath(t: &Target) -> Got {
    let file = handle(t.path(0)?)?;
    let from = super::c_text(&format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let own = t.path(1)?.join("by-handle");
    let to = super::c_text(&own.display().to_string())?;
    let follow = AT_SYMLINK_FOLLOW;
    let linked = syscall!(libc::SYS_linkat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), follow);
    step("linkat", linked)?;
    first_bytes(File::open(own)?)
}

fn symlink_in(t: &Target) -> Got {
    std::os::unix::fs::symlink("/etc/passwd", t.path(0)?.join("lure"))?;
    Ok("made a link".to_owned())
}

fn socket_in(t: &Target) -> Got {
    UnixListener::bind(t.path(0)?.join("socket-by-probe"))?;
    Ok("listens there".to_owned())
}

fn tmpfile(t: &Target) -> Got {
    let mode = Mode::RUSR | Mode::WUSR;
    fs::openat(CWD, t.path(0)?, OFlags::TMPFILE | OFlags::WRONLY, mode)?;
    Ok("has a file on it".to_owned())
}

fn rmdir(t: &Target) -> Got {
    std::fs::remove_dir(t.path(0)?)?;
    Ok("removed".to_owned())
}

/// To whom it belongs already: that much its owner may do.
fn chown(t: &Target) -> Got {
    let group = rustix::process::getegid();
    fs::chownat(CWD, t.path(0)?, None, Some(group), AtFlags::empty())?;
    Ok("given".to_owned())
}

fn chmod_opath(t: &Target) -> Got {
    const SYS_FCHMODAT2: libc::c_long = 452;
    let file = handle(t.path(0)?)?;
    let (fd, none) = (file.as_raw_fd(), c"".as_ptr());
    step("fchmodat2", syscall!(SYS_FCHMODAT2, fd, none, 0o666, AT_EMPTY_PATH))?;
    Ok("mode is 666 now".to_owned())
}

fn utimes_opath(t: &Target) -> Got {
    let file = handle(t.path(0)?)?;
    let epoch = [0i64; 4];
    let (fd, none) = (file.as_raw_fd(), c"".as_ptr());
    let set = syscall!(libc::SYS_utimensat, fd, none, epoch.as_ptr(), AT_EMPTY_PATH);
    step("utimensat", set)?;
    Ok("last changed in 1970".to_owned())
}

/// The least that the kernel takes: version 2 with the entries of owner, group and others.
fn set_acl(t: &Target) -> Got {
    let entry = |tag: u16| [tag as u8, 0, 6, 0, 255, 255, 255, 255];
    let list = [&[2, 0, 0, 0][..], &entry(1), &entry(4), &entry(0x20)].concat();
    fs::setxattr(t.path(0)?, c"system.posix_acl_access", &list, fs::XattrFlags::empty())?;
    Ok("everybody may write it".to_owned())
}

fn removexattr(t: &Target) -> Got {
    fs::removexattr(t.path(0)?, c"user.to-take")?;
    Ok("taken".to_owned())
}

/// As `chattr +d` without opening the file (Linux 6.17).
fn file_setattr(t: &Target) -> Got {
    const SYS_FILE_SETATTR: libc::c_long = 469;
    const NO_DUMP: u64 = 0x80;
    let path = t.c_path(0)?;
    let attributes = [NO_DUMP, 0, 0];
    let length = size_of_val(&attributes);
    syscall!(SYS_FILE_SETATTR, AT_FDCWD, path.as_ptr(), attributes.as_ptr(), length, 0)?;
    Ok("flagged".to_owned())
}

fn open_handle(t: &Target) -> Got {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        text: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, text: [0; 128] };
    let (path, mut mount) = (t.c_path(0)?, 0i32);
    let (at, into) = (path.as_ptr(), &raw mut handle);
    let named = syscall!(
        libc::SYS_name_to_handle_at,
        AT_FDCWD,
        at,
        into,
        &raw mut mount,
        AT_SYMLINK_FOLLOW
    );
    step("name_to_handle_at", named)?;
    // Any place on the same file system will do; the working directory needs no right.
    std::env::set_current_dir(t.path(1)?)?;
    let opened = syscall!(libc::SYS_open_by_handle_at, AT_FDCWD, &raw mut handle, libc::O_RDONLY);
    let fd = step("open_by_handle_at", opened)?;
    first_bytes(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}
