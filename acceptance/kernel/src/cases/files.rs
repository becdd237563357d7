//! Files: by device and inode, upward, mounts crossed.

use crate::world::{World, on};
use abi::Capability::{FsCreate, FsDelete, FsExec, FsRead, FsWrite};
use abi::event::Hook;
use anyhow::Result;
use libc::{EACCES, EXDEV, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY};
use std::fs;
use std::path::Path;

pub fn run(w: &World) -> Result<()> {
    let rules = [
        on(FsRead, "/data/ok"),
        on(FsWrite, "/data/ok"),
        on(FsDelete, "/data/ok"),
        on(FsRead, "/data/ro"),
        on(FsRead, "/data/exact"),
        on(FsExec, "/data/exe"),
        on(FsCreate, "/data/out"),
    ];
    let a = w.agent(&rules)?;
    let b = w.outsider()?;
    opens(w, &a, &b);
    names(w, &a, &b)?;
    attributes(w, &a, &b);
    mounts(w, &a)?;
    kernels_own(w, &a, &b);
    links(w, &a)?;
    exec(w, &a, &b);
    handed_over(w, &a)?;
    w.end(&a)
}

use crate::world::Actor;

fn opens(w: &World, a: &Actor, b: &Actor) {
    for (path, flags) in [("/data/ok/f", O_RDWR), ("/data/ok/a/b/c/d/e/f/deep", O_RDONLY)] {
        w.allowed(a, &format!("open {path} {flags}"));
    }
    w.allowed(a, "open /data/way/f 0");
    w.allowed(a, "open /data/exact 0");
    w.allowed(a, "list /data/ok");
    let denied = [
        ("/data/no/f", O_RDONLY),
        ("/data/ok/../no/f", O_RDONLY),
        ("/data/ro/f", O_RDWR),
        ("/data/ro/f", O_RDONLY | O_TRUNC),
        ("/data/exact", O_WRONLY),
        ("/data/ro", O_TMPFILE | O_RDWR),
    ];
    for (path, flags) in denied {
        let line = format!("open {path} {flags}");
        let hook = if flags == O_TRUNC { Hook::FileTruncate } else { Hook::FileOpen };
        w.denied(a, &line, EACCES, hook);
        w.allowed(b, &line);
    }
    w.denied(a, "list /data", EACCES, Hook::FileOpen);
    w.allowed(b, "list /data");
    // A descriptor without rights gives none.
    w.allowed(a, &format!("open /data/no/f {O_PATH}"));
    w.denied(a, "open /data/no/new 66", EACCES, Hook::PathMknod);
    w.denied(a, "open /data/no/new 66", EACCES, Hook::PathMknod);
    // O_CREAT on a file that is there makes nothing: writing is enough.
    w.allowed(a, "open /data/ok/f 66");
    w.check("a refused O_CREAT leaves nothing", !Path::new("/data/no/new").exists(), String::new);
    w.allowed(b, "open /data/no/new 66");
    w.allowed(a, "mkdir /data/out/new");
    let pipe = a.tell("socket 1 1 0");
    w.check("an agent has sockets of its own", pipe >= 0, || crate::world::show(pipe));
}

fn names(w: &World, a: &Actor, b: &Actor) -> Result<()> {
    fs::write("/data/no/x", "")?;
    w.denied(a, "unlink /data/no/f", EACCES, Hook::PathUnlink);
    w.denied(a, "rename /data/ok/f /data/no/h", EACCES, Hook::PathRename);
    w.denied(a, "rename /data/no/f /data/ok/h", EACCES, Hook::PathRename);
    w.denied(a, "mkdir /data/no/d", EACCES, Hook::PathMkdir);
    w.denied(a, "mkfifo /data/no/p", EACCES, Hook::PathMknod);
    w.denied(a, "symlink /x /data/no/s", EACCES, Hook::PathSymlink);
    w.denied(a, "rmdir /data/ro", EACCES, Hook::PathRmdir);
    w.denied(a, "link /data/no/f /data/ok/l", EACCES, Hook::PathLink);
    w.denied(a, "link /data/ro/f /data/ok/l", EXDEV, Hook::PathLink);
    for line in ["mkdir /data/no/d", "mkfifo /data/no/p", "symlink /x /data/no/s"] {
        w.allowed(b, line);
    }
    for line in ["rename /data/no/g /data/ok/h", "unlink /data/no/x", "link /data/no/f /data/ok/l"]
    {
        w.allowed(b, line);
    }
    fs::remove_file("/data/ok/l")?;
    for line in ["open /data/ok/n 66", "rename /data/ok/n /data/ok/m", "unlink /data/ok/m"] {
        w.allowed(a, line);
    }
    for line in ["mkdir /data/ok/d", "rmdir /data/ok/d", "symlink /x /data/ok/s"] {
        w.allowed(a, line);
    }
    Ok(())
}

fn attributes(w: &World, a: &Actor, b: &Actor) {
    w.denied(a, "stat /data/no/f", EACCES, Hook::InodeGetattr);
    w.denied(a, "stat /data/no", EACCES, Hook::InodeGetattr);
    w.allowed(b, "stat /data/no/f");
    for path in ["/data/ok/f", "/data/exact", "/data", "/", "/data/way", "/tmp"] {
        w.allowed(a, &format!("stat {path}"));
    }
    w.denied(a, "stat /data/no/script", EACCES, Hook::InodeGetattr);
    w.allowed(a, "readlink /data/way");
    w.allowed(b, "symlink /nowhere /data/no/link");
    w.denied(a, "readlink /data/no/link", EACCES, Hook::InodeReadlink);
    let changes = [
        ("truncate", Hook::PathTruncate),
        ("chmod", Hook::PathChmod),
        ("chown", Hook::PathChown),
        ("utimes", Hook::InodeSetattr),
        ("setxattr", Hook::InodeXattr),
    ];
    for (change, hook) in changes {
        w.denied(a, &format!("{change} /data/ro/f"), EACCES, hook);
        w.allowed(b, &format!("{change} /data/ro/f"));
        w.allowed(a, &format!("{change} /data/ok/f"));
    }
    w.denied(a, "getxattr /data/no/f", EACCES, Hook::InodeXattr);
    w.denied(a, "watch /data/no", EACCES, Hook::PathNotify);
    w.allowed(b, "watch /data/no");
    w.allowed(a, "watch /data/ok");
}

/// The agent's mounts are its own copies, so these are made for a fresh one.
fn mounts(w: &World, a: &Actor) -> Result<()> {
    fs::create_dir_all("/data/ok/mnt")?;
    fs::create_dir_all("/data/bound")?;
    let b = w.outsider()?;
    w.allowed(&b, "mount /data/ok/mnt");
    fs::write("/data/ok/mnt/f", "x")?;
    let c = w.agent(&[on(FsRead, "/data/ok")])?;
    w.allowed(&c, "open /data/ok/mnt/f 0");
    w.allowed(&c, "stat /data/ok/mnt/f");
    w.end(&c)?;
    w.allowed(&b, "umount /data/ok/mnt");
    // What is private to one agent is not another's.
    w.allowed(a, "open /tmp/mine 66");
    let c = w.agent(&[])?;
    w.same("an agent's /tmp is its own", &c.tell("open /tmp/mine 0"), &-2);
    w.allowed(&c, "open /proc/self/status 0");
    w.end(&c)
}

/// File systems whose superblock is the kernel's own, reached by an ordinary mount, are covered like
/// any other: another agent's message queue, the kernel's security files.
fn kernels_own(w: &World, a: &Actor, b: &Actor) {
    w.allowed(b, "open /dev/mqueue/theirs 66");
    for file in ["/dev/mqueue/theirs", "/sys/kernel/security/lsm"] {
        w.allowed(b, &format!("open {file} 0"));
        w.denied(a, &format!("open {file} 0"), EACCES, Hook::FileOpen);
        w.denied(a, &format!("stat {file}"), EACCES, Hook::InodeGetattr);
    }
}

/// What one name may do, another may not.
fn links(w: &World, a: &Actor) -> Result<()> {
    fs::write("/data/ok/two", "x")?;
    fs::hard_link("/data/ok/two", "/data/no/two")?;
    let fd = w.allowed(a, "open /data/ok/two 0");
    w.allowed(a, &format!("pread {fd}"));
    w.denied(a, "open /data/no/two 0", EACCES, Hook::FileOpen);
    // The covered name goes: a verdict remembered for the inode must not serve the other one.
    fs::write("/data/ok/one", "x")?;
    let fd = w.allowed(a, "open /data/ok/one 0");
    w.allowed(a, &format!("pread {fd}"));
    fs::hard_link("/data/ok/one", "/data/no/one")?;
    fs::remove_file("/data/ok/one")?;
    w.denied(a, "open /data/no/one 0", EACCES, Hook::FileOpen);
    // A rename away by somebody else takes the right along.
    fs::write("/data/ok/moves", "x")?;
    let fd = w.allowed(a, "open /data/ok/moves 0");
    w.allowed(a, &format!("pread {fd}"));
    fs::rename("/data/ok/moves", "/data/no/moves")?;
    w.denied(a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    // So does one of a folder above it, also when two change places.
    for (folder, swapped) in [("goes", false), ("swaps", true)] {
        fs::create_dir_all(format!("/data/ok/{folder}/x/y"))?;
        fs::create_dir_all(format!("/data/no/{folder}"))?;
        fs::write(format!("/data/ok/{folder}/x/y/f"), "x")?;
        let fd = w.allowed(a, &format!("open /data/ok/{folder}/x/y/f 0"));
        w.allowed(a, &format!("pread {fd}"));
        // Within what is covered it may go where it likes.
        fs::rename(format!("/data/ok/{folder}/x"), format!("/data/ok/{folder}-x"))?;
        w.allowed(a, &format!("pread {fd}"));
        let (from, to) = (format!("/data/ok/{folder}-x"), format!("/data/no/{folder}"));
        let to = if swapped { to } else { to + "/x" };
        rename(&from, &to, swapped)?;
        w.denied(a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    }
    escapes(w)
}

fn rename(from: &str, to: &str, swap: bool) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = if swap { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

/// What is moved out of the part of a file system that is mounted at a covered place is not covered any
/// more: its way upward does not come by the mount.
fn escapes(w: &World) -> Result<()> {
    fs::create_dir_all("/data/whole/part/deep")?;
    fs::create_dir_all("/data/ok/part")?;
    fs::write("/data/whole/part/deep/f", "x")?;
    let b = w.outsider()?;
    w.allowed(&b, "bind /data/whole/part /data/ok/part");
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let fd = w.allowed(&a, "open /data/ok/part/deep/f 0");
    w.allowed(&a, &format!("pread {fd}"));
    fs::rename("/data/whole/part/deep", "/data/whole/deep")?;
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.end(&a)?;
    w.allowed(&b, "umount /data/ok/part");
    Ok(())
}

fn exec(w: &World, a: &Actor, b: &Actor) {
    w.allowed(a, "exec /data/exe/busybox");
    w.allowed(a, "exec /data/exe/script");
    w.denied(a, "exec /data/no/busybox", EACCES, Hook::FileOpen);
    w.denied(a, "exec /data/ok/program", EACCES, Hook::BprmCheck);
    w.denied(a, "exec /data/exe/lure", EACCES, Hook::FileOpen);
    w.denied(a, "memfd-exec", EACCES, Hook::BprmCheck);
    w.allowed(b, "exec /data/no/busybox");
    w.allowed(b, "exec /data/exe/lure");
}

/// A descriptor from somebody who may, to an agent who may not.
fn handed_over(w: &World, a: &Actor) -> Result<()> {
    use std::os::fd::AsRawFd;
    let covered = fs::File::open("/data/ok/f")?;
    a.start("take-fd");
    a.hand_over(covered.as_raw_fd())?;
    let fd = a.hear();
    w.check("a covered descriptor arrives", fd > 2, || crate::world::show(fd));
    let secret = fs::File::open("/data/no/f")?;
    w.drain();
    let before = w.count(|e| e.hook == Hook::FileReceive as u32);
    a.start("take-fd");
    a.hand_over(secret.as_raw_fd())?;
    w.same("an uncovered one does not", &a.hear(), &-i64::from(EACCES));
    let events = w.await_more(before, |e| e.hook == Hook::FileReceive as u32);
    w.same("and that is one denial", &events, &1);
    let b = w.outsider()?;
    b.start("take-fd");
    b.hand_over(secret.as_raw_fd())?;
    w.check("a non-agent gets it", b.hear() > 2, String::new);
    Ok(())
}
