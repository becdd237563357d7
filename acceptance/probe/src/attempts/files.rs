//! Attempts on files of others: every way to a file's contents, name or attributes.

use super::{Attempt, Got, Target, first_bytes, printable, step};
use crate::sys;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "open", argument: "FILE", wants: "read a file", run: open },
    Attempt { name: "openat2", argument: "FILE", wants: "read it through openat2", run: openat2 },
    Attempt {
        name: "opath-reopen",
        argument: "FILE",
        wants: "O_PATH, then /proc/self/fd",
        run: opath,
    },
    Attempt {
        name: "dotdot",
        argument: "FILE,DIR",
        wants: "read it by way of DIR/..",
        run: dotdot,
    },
    Attempt { name: "mmap", argument: "FILE", wants: "map it", run: mmap },
    Attempt { name: "stat", argument: "FILE", wants: "learn size and owner", run: stat },
    Attempt { name: "list", argument: "DIR", wants: "list a directory", run: list },
    Attempt { name: "watch", argument: "DIR", wants: "be told what happens in it", run: watch },
    Attempt {
        name: "hardlink",
        argument: "FILE,OWNDIR",
        wants: "link it home and read it",
        run: hardlink,
    },
    Attempt {
        name: "symlink",
        argument: "FILE,OWNDIR",
        wants: "read it by a symbolic link",
        run: symlink,
    },
    Attempt {
        name: "rename-out",
        argument: "FILE,OWNDIR",
        wants: "move it home and read it",
        run: rename,
    },
    Attempt {
        name: "exchange",
        argument: "FILE,OWNDIR",
        wants: "swap it with an own file",
        run: exchange,
    },
    Attempt {
        name: "bind-mount",
        argument: "FILE,OWNDIR",
        wants: "bind it home and read it",
        run: bind,
    },
    Attempt { name: "write", argument: "FILE", wants: "append to it", run: write },
    Attempt { name: "truncate", argument: "FILE", wants: "empty it", run: truncate },
    Attempt { name: "create", argument: "DIR", wants: "make a file there", run: create },
    Attempt { name: "mkdir", argument: "DIR", wants: "make a directory there", run: mkdir },
    Attempt { name: "mknod", argument: "DIR", wants: "make a FIFO there", run: mknod },
    Attempt { name: "unlink", argument: "FILE", wants: "remove it", run: unlink },
    Attempt { name: "chmod", argument: "FILE", wants: "open it to everybody", run: chmod },
    Attempt { name: "xattr", argument: "FILE", wants: "tag it", run: xattr },
    Attempt { name: "utimes", argument: "FILE", wants: "forge its times", run: utimes },
    Attempt { name: "create-own", argument: "DIR", wants: "make a file where it may", run: create },
    Attempt { name: "read-own", argument: "FILE", wants: "read what it may", run: open },
];

fn open(t: &Target) -> Got {
    first_bytes(File::open(t.path(0)?)?)
}

fn openat2(t: &Target) -> Got {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = fs::openat2(CWD, t.path(0)?, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    first_bytes(File::from(fd))
}

fn opath(t: &Target) -> Got {
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(t.path(0)?)?;
    first_bytes(File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?)
}

fn dotdot(t: &Target) -> Got {
    let up = "../".repeat(t.path(1)?.components().count());
    let way = format!("{}/{up}{}", t.text(1)?, t.text(0)?.trim_start_matches('/'));
    first_bytes(File::open(way)?)
}

fn mmap(t: &Target) -> Got {
    let file = step("open", File::open(t.path(0)?))?;
    let length = (file.metadata()?.len() as usize).min(64);
    let mapping = step("mmap", sys::Mapping::of(file.as_fd()))?;
    Ok(printable(&(0..length).map(|i| mapping.byte(i)).collect::<Vec<u8>>()))
}

fn stat(t: &Target) -> Got {
    let s = fs::statat(CWD, t.path(0)?, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(format!("size {} uid {} mode {:o}", s.st_size, s.st_uid, s.st_mode))
}

fn list(t: &Target) -> Got {
    let names = std::fs::read_dir(t.path(0)?)?;
    let names: io::Result<Vec<String>> =
        names.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names?;
    names.sort();
    Ok(names.join(" "))
}

fn watch(t: &Target) -> Got {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    let queue = inotify::init(CreateFlags::NONBLOCK)?;
    inotify::add_watch(&queue, t.path(0)?, WatchFlags::ALL_EVENTS)?;
    Ok("watching".to_owned())
}

fn hardlink(t: &Target) -> Got {
    let own = t.path(1)?.join("hard");
    step("link", std::fs::hard_link(t.path(0)?, &own))?;
    first_bytes(File::open(own)?)
}

fn symlink(t: &Target) -> Got {
    let own = t.path(1)?.join("soft");
    step("symlink", std::os::unix::fs::symlink(t.path(0)?, &own))?;
    first_bytes(File::open(own)?)
}

fn rename(t: &Target) -> Got {
    let own = t.path(1)?.join("moved");
    step("rename", std::fs::rename(t.path(0)?, &own))?;
    first_bytes(File::open(own)?)
}

fn exchange(t: &Target) -> Got {
    let own = t.path(1)?.join("bait");
    step("create", std::fs::write(&own, "bait"))?;
    let flags = fs::RenameFlags::EXCHANGE;
    step("renameat2", fs::renameat_with(CWD, t.path(0)?, CWD, &own, flags))?;
    first_bytes(File::open(own)?)
}

fn bind(t: &Target) -> Got {
    let own = t.path(1)?.join("bound");
    step("create", std::fs::write(&own, ""))?;
    if !rustix::process::geteuid().is_root() {
        step("unshare(CLONE_NEWUSER)", sys::unshare(libc::CLONE_NEWUSER))?;
    }
    super::private_mounts()?;
    step("mount", rustix::mount::mount_bind(t.path(0)?, &own))?;
    first_bytes(File::open(own)?)
}

fn write(t: &Target) -> Got {
    let mut file = step("open", OpenOptions::new().append(true).open(t.path(0)?))?;
    file.write_all(b"changed by the probe\n")?;
    Ok("appended a line".to_owned())
}

fn truncate(t: &Target) -> Got {
    step("open", OpenOptions::new().write(true).truncate(true).open(t.path(0)?))?;
    Ok("emptied".to_owned())
}

fn create(t: &Target) -> Got {
    let path = t.path(0)?.join("made-by-probe");
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    Ok(format!("made {}", path.display()))
}

fn mkdir(t: &Target) -> Got {
    let path = t.path(0)?.join("dir-by-probe");
    std::fs::create_dir(&path)?;
    Ok(format!("made {}", path.display()))
}

fn mknod(t: &Target) -> Got {
    let path = t.path(0)?.join("fifo-by-probe");
    fs::mknodat(CWD, &path, fs::FileType::Fifo, Mode::RUSR, 0)?;
    Ok(format!("made {}", path.display()))
}

fn unlink(t: &Target) -> Got {
    std::fs::remove_file(t.path(0)?)?;
    Ok("removed".to_owned())
}

fn chmod(t: &Target) -> Got {
    std::fs::set_permissions(t.path(0)?, std::fs::Permissions::from_mode(0o666))?;
    Ok("mode is 666 now".to_owned())
}

fn xattr(t: &Target) -> Got {
    fs::setxattr(t.path(0)?, c"user.probe", b"was here", fs::XattrFlags::empty())?;
    Ok("tagged".to_owned())
}

fn utimes(t: &Target) -> Got {
    let epoch = fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: epoch, last_modification: epoch };
    let path: &Path = t.path(0)?;
    fs::utimensat(CWD, path, &times, AtFlags::empty())?;
    Ok("last changed in 1970".to_owned())
}
