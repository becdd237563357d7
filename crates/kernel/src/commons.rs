//! What agents with shared namespaces have in common: one instance of `/proc`, one tmpfs, one IPC
//! namespace, and a table of mounts without those that no agent can use.
//!
//! Every superblock has a shrinker, and the kernel keeps 520 bytes for each 64 of those in *every* memory
//! cgroup (`mm/shrinker.c`, `shrinker_unit_alloc`). An agent with a `/proc`, a `/tmp` and an IPC namespace
//! (which mounts an mqueue) of its own is three superblocks, so what each of *n* agents costs grows with *n*.
//! Agents that share theirs add none. `docs/decisions/0016-cost-of-one-of-many.md` has the figures.

use crate::lock::lock;
use crate::{Error, Result, sys, tree};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Made when the first agent comes that shares.
#[derive(Default)]
pub(crate) struct Commons(Mutex<Option<Arc<Made>>>);

/// A mount that lies nowhere, and namespaces that nobody is in.
pub(crate) struct Made {
    tmp: OwnedFd,
    namespaces: [OwnedFd; 2],
    /// Folders of ended agents, to the thread that empties them.
    left: Sender<String>,
}

/// What one agent takes with it.
pub(crate) struct Part {
    /// To be put at `/tmp`.
    pub tmp: OwnedFd,
    /// The mounts that it starts from: a copy is its own.
    pub mounts: OwnedFd,
    /// Its IPC namespace.
    pub ipc: OwnedFd,
}

impl Commons {
    fn made(&self) -> Result<Arc<Made>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        let new = Arc::new(Made::new()?);
        Ok(Arc::clone(made.insert(new)))
    }

    /// Copies for one agent, with a folder of its own for `/tmp`.
    pub fn part(&self, name: &str) -> Result<Part> {
        self.made()?.part(name)
    }

    /// Takes the folder's name away at once, and what lies below a little later.
    pub fn leave(&self, name: &str) {
        let made = lock(&self.0).clone();
        if let Some(made) = made
            && made.left.send(name.to_owned()).is_err()
        {
            tracing::error!(name, "the thread that empties /tmp has ended: an agent's files stay");
        }
    }
}

impl Made {
    fn new() -> Result<Made> {
        let tmp = system("make a tmpfs for agents", tmpfs())?;
        let (left, inbox) = channel::<String>();
        let root = system("make a tmpfs for agents", open_root(&tmp))?;
        let run = move || {
            for name in inbox {
                if let Err(error) = tree::remove(&root, &name) {
                    tracing::error!(name, %error, "an ended agent's /tmp stays");
                }
            }
        };
        let started = std::thread::Builder::new().name("tmp".into()).spawn(run);
        started.map_err(|source| Error::System { action: "start a thread", source })?;
        let made = std::thread::Builder::new().name("namespaces".into()).spawn(namespaces);
        let made = made
            .and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        Ok(Made { tmp, namespaces: system("make namespaces for agents", made)?, left })
    }

    fn part(&self, name: &str) -> Result<Part> {
        let folder = system("make a folder for /tmp", folder(&self.tmp, name))?;
        let [mounts, ipc] = &self.namespaces;
        let own = |fd: &OwnedFd| system("hand on a namespace", fd.try_clone());
        Ok(Part { tmp: copy(&folder)?, mounts: own(mounts)?, ipc: own(ipc)? })
    }
}

fn system<T>(action: &'static str, done: io::Result<T>) -> Result<T> {
    done.map_err(|source| Error::System { action, source })
}

/// Whether agents can share; tried, which needs root.
pub(crate) fn supported() -> bool {
    tmpfs().is_ok_and(|tmp| copy(&tmp).is_ok())
}

/// A mount of the same, that lies nowhere yet.
fn copy(mount: &OwnedFd) -> Result<OwnedFd> {
    let empty = OpenTreeFlags::AT_EMPTY_PATH;
    let flags = empty | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(mount, c"", flags) {
        Err(Errno::INVAL) => Err(Error::Unsupported {
            what: "agents with shared namespaces: copies of mounts that lie nowhere".to_owned(),
            hint: "boot Linux 6.15 or later, or say `namespaces = \"own\"` in [agent]",
        }),
        other => system("copy a mount", other.map_err(io::Error::from)),
    }
}

/// Of the daemon's PID namespace, in which every agent's process has a number: so that `/proc/self` is
/// found by all. A number is there for whoever may trace that process, which the programs of `bpf/` decide,
/// and those keep agents from listing the numbers. Without `gid` all are there for the group 0
/// (`has_pid_permissions`, `fs/proc/base.c`); this is the largest, and nobody's.
fn proc() -> io::Result<OwnedFd> {
    let options = [("hidepid", "invisible"), ("gid", "4294967294")];
    mount("proc", &options, MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

/// What a file and its name take counts as its agent's memory. Limits of the file system itself, its usual
/// half of memory, would be one for all, and whoever reached them would leave none to others.
fn tmpfs() -> io::Result<OwnedFd> {
    let options = [("size", "16t"), ("nr_inodes", "1000000000"), ("mode", "0711")];
    mount("tmpfs", &options, MountAttrFlags::empty())
}

/// A file system that lies nowhere: nobody else reaches it by a path.
pub(crate) fn mount(
    kind: &str,
    options: &[(&str, &str)],
    more: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(fs.as_fd(), *key, *value)?;
    }
    fsconfig_create(fs.as_fd())?;
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | more;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, guard)?)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_root(mount: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(mount, c".", FOLDER, Mode::empty())?)
}

fn folder(tmp: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(tmp, name, Mode::RWXU)?;
    let folder = rustix::fs::openat(tmp, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o1777))?;
    Ok(folder)
}

/// Makes both in the thread that runs it, which must end afterwards: mounts, and IPC.
fn namespaces() -> io::Result<[OwnedFd; 2]> {
    let proc = proc()?;
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWIPC)?;
    no_queues()?;
    // What the machine mounts later is to come here too, and nothing the other way.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let name = |name: &str| {
        let at = format!("/proc/thread-self/ns/{name}");
        rustix::fs::openat(CWD, at, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let made = [name("mnt")?, name("ipc")?];
    leave_out()?;
    move_mount(proc, c"", CWD, c"/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(made)
}

/// A namespace in which nobody can make anything, so that nobody finds or fills what is another's. Limits
/// are those of the namespace of whoever writes; a kernel without one of these has nothing to limit.
fn no_queues() -> io::Result<()> {
    const LIMITS: [(&str, &str); 4] = [
        ("kernel/shmmni", "0"),
        ("kernel/msgmni", "0"),
        ("fs/mqueue/queues_max", "0"),
        // Per set, in all, per call, sets.
        ("kernel/sem", "1 1 1 0"),
    ];
    for (limit, none) in LIMITS {
        match std::fs::write(format!("/proc/sys/{limit}"), none) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// The kernel's controls, which no capability opens, and secrets of services: half of a machine's
/// mounts, of which every agent would have a copy. The machine's `/proc` and `/tmp` are covered anyway.
fn leave_out() -> io::Result<()> {
    const KINDS: [&str; 11] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "configfs",
        "debugfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "pstore",
        "securityfs",
        "tracefs",
    ];
    let below = |at: &str, top: &str| {
        at.strip_prefix(top).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    // The last mounted first: it may lie on what comes next.
    for line in table.lines().rev() {
        let Some((at, kind)) = place_and_kind(line) else { continue };
        let hidden = ["/proc", "/tmp", "/run/credentials"].iter().any(|top| below(at, top));
        // What stays is a copy more for each agent, and no right to anything.
        if (hidden || KINDS.contains(&kind))
            && let Err(error) = unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        {
            tracing::debug!(at, %error, "a mount that agents have no use for stays");
        }
    }
    Ok(())
}

/// Of a line of `mountinfo` (proc(5)): the mount point and the kind of file system.
fn place_and_kind(line: &str) -> Option<(&str, &str)> {
    let (mount, system) = line.split_once(" - ")?;
    Some((mount.split(' ').nth(4)?, system.split(' ').next()?))
}
