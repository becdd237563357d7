//! More attempts on the machine itself: its devices, its clock, its mounts, namespaces and keys, and what `/proc` tells of it.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::{Attempt, Got, Target, first_bytes, private_mounts, step, syscall};
use crate::sys;
use libc::AT_FDCWD;
use rustix::fs::{self, CWD, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "device", argument: "FILE", wants: "have a device", run: device },
    Attempt { name: "proc-read", argument: "FILE", wants: "read of the machine", run: proc_read },
    Attempt { name: "proc-write", argument: "FILE", wants: "write what is there", run: rewrite },
    Attempt { name: "oom-score", argument: "", wants: "be the last to be ended", run: oom_score },
    Attempt { name: "unshare", argument: "KIND", wants: "a namespace", run: unshare },
    Attempt { name: "pivot-root", argument: "DIR", wants: "another root", run: pivot_root },
    Attempt { name: "open-tree", argument: "DIR,NAME", wants: "read by a copy", run: open_tree },
    Attempt { name: "move-mount", argument: "DIR,OWNDIR", wants: "move it home", run: move_mount },
    Attempt { name: "mount-setattr", argument: "", wants: "all read-only", run: mount_setattr },
    Attempt { name: "fspick", argument: "", wants: "configure a mount", run: fspick },
    Attempt { name: "mknod-device", argument: "OWNDIR", wants: "make a disk", run: mknod },
    Attempt { name: "swapon", argument: "FILE", wants: "have memory written to it", run: swapon },
    Attempt { name: "acct", argument: "FILE", wants: "be told who ran what", run: acct },
    Attempt { name: "settime", argument: "", wants: "set the clock", run: settime },
    Attempt { name: "adjtime", argument: "", wants: "make the clock slow", run: adjtime },
    Attempt { name: "ioports", argument: "", wants: "reach the hardware", run: ioports },
    Attempt { name: "reboot-keys", argument: "", wants: "say what keys do", run: reboot_keys },
    Attempt { name: "domainname", argument: "", wants: "rename the domain", run: domainname },
    Attempt { name: "userfaultfd", argument: "", wants: "stop the kernel", run: userfaultfd },
    Attempt { name: "ioprio-first", argument: "", wants: "read before all", run: ioprio_first },
    Attempt { name: "limit-raise", argument: "", wants: "lift its limit", run: limit_raise },
    Attempt { name: "groups", argument: "", wants: "join a group", run: groups },
    Attempt { name: "key-add", argument: "", wants: "leave a key to its user", run: key_add },
    Attempt { name: "key-session", argument: "NAME", wants: "share keys", run: key_session },
    Attempt { name: "key-request", argument: "NAME", wants: "ask for a key", run: key_request },
    Attempt { name: "clone-into", argument: "CGROUP", wants: "a child elsewhere", run: clone_into },
];

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn device(t: &Target) -> Got {
    let flags = libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(t.path(0)?)?;
    Ok("has it".to_owned())
}

fn proc_read(t: &Target) -> Got {
    first_bytes(step("open", File::open(t.path(0)?))?)
}

/// The control leaves it as it was.
fn rewrite(t: &Target) -> Got {
    let mut file = step("open to write", OpenOptions::new().write(true).open(t.path(0)?))?;
    let mut text = String::new();
    step("open to read", File::open(t.path(0)?))?.read_to_string(&mut text)?;
    step("write", file.write_all(text.trim().as_bytes()))?;
    Ok("wrote it".to_owned())
}

fn oom_score(_: &Target) -> Got {
    let path = "/proc/self/oom_score_adj";
    let mut file = step("open", OpenOptions::new().write(true).open(path))?;
    step("write", file.write_all(b"-999"))?;
    Ok("others go first".to_owned())
}

fn unshare(t: &Target) -> Got {
    let kind = match t.text(0)? {
        "mount" => libc::CLONE_NEWNS,
        "network" => libc::CLONE_NEWNET,
        "ipc" => libc::CLONE_NEWIPC,
        "pid" => libc::CLONE_NEWPID,
        "uts" => libc::CLONE_NEWUTS,
        "cgroup" => libc::CLONE_NEWCGROUP,
        "time" => libc::CLONE_NEWTIME,
        other => return Err(io::Error::other(format!("there is no namespace {other}"))),
    };
    sys::unshare(kind)?;
    Ok("has one".to_owned())
}

fn pivot_root(t: &Target) -> Got {
    let dir = t.c_path(0)?;
    if root() {
        private_mounts()?;
        step("bind", rustix::mount::mount_bind(t.path(0)?, t.path(0)?))?;
    }
    step("pivot_root", syscall!(libc::SYS_pivot_root, dir.as_ptr(), dir.as_ptr()))?;
    Ok("has another root".to_owned())
}

/// A copy of a mount has no place: what is read by it has no path.
fn open_tree(t: &Target) -> Got {
    const CLONE: i32 = 1;
    let dir = t.c_path(0)?;
    let tree = step("open_tree", syscall!(libc::SYS_open_tree, AT_FDCWD, dir.as_ptr(), CLONE))?;
    let tree = unsafe { OwnedFd::from_raw_fd(tree as i32) };
    let file = step("openat", fs::openat(tree, t.path(1)?, OFlags::RDONLY, Mode::empty()))?;
    first_bytes(File::from(file))
}

fn move_mount(t: &Target) -> Got {
    const FROM_EMPTY_PATH: i32 = 4;
    let (from, to, here) = (t.c_path(0)?, t.c_path(1)?, c"".as_ptr());
    if root() {
        private_mounts()?;
        step("bind", rustix::mount::mount_bind(t.path(0)?, t.path(0)?))?;
    }
    let tree = step("open_tree", syscall!(libc::SYS_open_tree, AT_FDCWD, from.as_ptr(), 0))?;
    let flags = FROM_EMPTY_PATH;
    let moved = syscall!(libc::SYS_move_mount, tree, here, AT_FDCWD, to.as_ptr(), flags);
    step("move_mount", moved)?;
    Ok("moved".to_owned())
}

fn mount_setattr(_: &Target) -> Got {
    if root() {
        private_mounts()?;
    }
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (top, at, size) = (c"/".as_ptr(), attributes.as_ptr(), size_of_val(&attributes));
    step("mount_setattr", syscall!(libc::SYS_mount_setattr, AT_FDCWD, top, 0, at, size))?;
    Ok("nobody writes".to_owned())
}

fn fspick(_: &Target) -> Got {
    step("fspick", syscall!(libc::SYS_fspick, AT_FDCWD, c"/".as_ptr(), 0))?;
    Ok("may configure it".to_owned())
}

fn mknod(t: &Target) -> Got {
    let path = t.path(0)?.join("disk");
    let device = fs::makedev(254, 0);
    fs::mknodat(CWD, &path, fs::FileType::BlockDevice, Mode::RUSR, device)?;
    let _ = std::fs::remove_file(&path);
    Ok("made one".to_owned())
}

fn swapon(t: &Target) -> Got {
    let file = t.c_path(0)?;
    step("swapon", syscall!(libc::SYS_swapon, file.as_ptr(), 0))?;
    step("swapoff", syscall!(libc::SYS_swapoff, file.as_ptr()))?;
    Ok("memory went there".to_owned())
}

fn acct(t: &Target) -> Got {
    let file = t.c_path(0)?;
    step("acct", syscall!(libc::SYS_acct, file.as_ptr()))?;
    step("acct(off)", syscall!(libc::SYS_acct, 0usize))?;
    Ok("all that ended was written down".to_owned())
}

/// To what it says, so that the control does no harm that lasts.
fn settime(_: &Target) -> Got {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now)?;
    Ok("set".to_owned())
}

fn adjtime(_: &Target) -> Got {
    const ADJ_TICK: u32 = 0x4000;
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    step("look", syscall!(libc::SYS_adjtimex, &raw mut time))?;
    time.modes = ADJ_TICK;
    step("adjtimex", syscall!(libc::SYS_adjtimex, &raw mut time))?;
    Ok("ticks as it likes".to_owned())
}

fn ioports(_: &Target) -> Got {
    syscall!(libc::SYS_ioperm, 0x80, 1, 1)?;
    Ok("may write to port 0x80".to_owned())
}

fn reboot_keys(_: &Target) -> Got {
    let (first, second) = (0xfee1_dead_u32, 672_274_793);
    syscall!(libc::SYS_reboot, first, second, libc::RB_DISABLE_CAD, 0)?;
    Ok("said".to_owned())
}

fn domainname(_: &Target) -> Got {
    if root() {
        step("unshare", sys::unshare(libc::CLONE_NEWUTS))?;
    }
    step("setdomainname", syscall!(libc::SYS_setdomainname, c"probe".as_ptr(), 5))?;
    Ok("renamed".to_owned())
}

/// One that stops the kernel as well as the process, where it reads memory.
fn userfaultfd(_: &Target) -> Got {
    syscall!(libc::SYS_userfaultfd, libc::O_CLOEXEC)?;
    Ok("stops the kernel when it likes".to_owned())
}

fn ioprio_first(_: &Target) -> Got {
    const WHO_PROCESS: i32 = 1;
    const REALTIME: i32 = 1 << 13;
    syscall!(libc::SYS_ioprio_set, WHO_PROCESS, 0, REALTIME)?;
    Ok("reads before all".to_owned())
}

fn limit_raise(_: &Target) -> Got {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let low = Rlimit { current: Some(64), maximum: Some(64) };
    let high = Rlimit { current: Some(64), maximum: Some(65) };
    step("lower", setrlimit(Resource::Nofile, low))?;
    step("raise", setrlimit(Resource::Nofile, high))?;
    Ok("lifted".to_owned())
}

fn groups(_: &Target) -> Got {
    let root = [0u32];
    syscall!(libc::SYS_setgroups, 1, root.as_ptr())?;
    Ok("is in root's group".to_owned())
}

const USER_KEYRING: libc::c_long = -4;
const SESSION_KEYRING: libc::c_long = -3;

fn key_add(_: &Target) -> Got {
    let (kind, name, value) = (c"user".as_ptr(), c"by-probe".as_ptr(), c"secret".as_ptr());
    let key = syscall!(libc::SYS_add_key, kind, name, value, 6, USER_KEYRING)?;
    const UNLINK: i32 = 9;
    let _ = syscall!(libc::SYS_keyctl, UNLINK, key, USER_KEYRING);
    Ok("left one".to_owned())
}

/// A session that others of the same user join by its name.
fn key_session(t: &Target) -> Got {
    const JOIN: i32 = 1;
    syscall!(libc::SYS_keyctl, JOIN, t.c_path(0)?.as_ptr())?;
    Ok("joined".to_owned())
}

fn key_request(t: &Target) -> Got {
    const LINK: i32 = 8;
    let linked = syscall!(libc::SYS_keyctl, LINK, USER_KEYRING, SESSION_KEYRING);
    step("keyctl(link)", linked)?;
    let (kind, name) = (c"user".as_ptr(), t.c_path(0)?);
    let found = syscall!(libc::SYS_request_key, kind, name.as_ptr(), 0usize, 0);
    Ok(format!("key {}", step("request_key", found)?))
}

/// `clone3` into a cgroup that a descriptor names, which `O_PATH` gives to anybody.
fn clone_into(t: &Target) -> Got {
    const INTO_CGROUP: u64 = 1 << 33;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let cgroup = step("open", fs::openat(CWD, t.path(0)?, flags, Mode::empty()))?;
    let mut arguments = [0u64; 11];
    arguments[0] = INTO_CGROUP;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = cgroup.as_raw_fd() as u64;
    let size = size_of_val(&arguments);
    let pid = step("clone3", syscall!(libc::SYS_clone3, arguments.as_ptr(), size))?;
    if pid == 0 {
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) };
    Ok("a child was there".to_owned())
}
