//! Files by the numbers that the kernel programs know them by.
//!
//! The daemon looks at an open file; a program that sees this look writes down the kernel's device and
//! inode, and those of every folder above. `stat` of user space is no substitute: overlayfs and btrfs
//! report other numbers there, and none that is an identity. On those the programs know a file by its
//! inode in memory, which a handle keeps where it is. Who opened the file followed its name, once.

use crate::maps::{self, Maps};
use crate::{Error, Result, sys};
use abi::caps::{FILE_IN_MEMORY, FileKey};
use abi::control::{RESOLVED_CUT, RESOLVED_INTERNAL, RESOLVED_SEEN, Resolved};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use zerocopy::FromZeros;

/// A file as the kernel programs know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Node {
    /// `s_dev` (major << 20 | minor); [`FILE_IN_MEMORY`] where inode numbers are no identity.
    pub dev: u64,
    /// `i_ino`, or the address of the inode in memory.
    pub ino: u64,
    /// Rules reach what lies below.
    pub directory: bool,
}

impl Node {
    pub(crate) fn key(self) -> FileKey {
        FileKey { dev: self.dev, ino: self.ino }
    }

    /// It is this file only while it is kept open.
    pub fn in_memory(self) -> bool {
        self.dev & FILE_IN_MEMORY != 0
    }
}

/// A file that is kept open while somebody has rights on it: its numbers cannot become another file's.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    node: Node,
    above: Vec<Node>,
    /// Folders above that are known by their inodes in memory, kept there also when the file is
    /// moved elsewhere. The descriptor keeps its mount, and nothing is unmounted beneath.
    _pins: Vec<OwnedFd>,
}

impl AsFd for Handle {
    /// While this is open the file's numbers are nobody else's.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Handle {
    /// Its numbers.
    pub fn node(&self) -> Node {
        self.node
    }

    /// The descriptor that keeps it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A handle of a kernel that only remembers, for tests without one.
    #[doc(hidden)]
    pub fn for_tests(fd: OwnedFd, node: Node, above: Vec<Node>) -> Handle {
        Handle { fd, node, above, _pins: Vec::new() }
    }

    /// Every folder above it when it was looked at, mounts crossed, the nearest first.
    pub fn above(&self) -> &[Node] {
        &self.above
    }
}

/// Looks at an open file, to give rights on it.
///
/// # Errors
/// When it has no place in the file system, is moved meanwhile, or the programs did not see it.
pub(crate) fn handle(maps: &Maps, fd: OwnedFd) -> Result<Handle> {
    let failed = |source| Error::Path { path: path_of(fd.as_fd()), source };
    let seen = look(maps, fd.as_fd()).map_err(failed)?;
    if seen.is_internal() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it has no place in the file system, or the kernel programs did not see it",
        )));
    }
    if seen.told.flags & RESOLVED_CUT != 0 {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it lies below too many folders",
        )));
    }
    let above = &seen.told.above[..seen.told.depth as usize];
    let folder = |key: &FileKey| Node { dev: key.dev, ino: key.ino, directory: true };
    let above: Vec<Node> = above.iter().map(folder).collect();
    let pins = pins(maps, fd.as_fd(), seen.node, &above).map_err(failed)?;
    Ok(Handle { node: seen.node, above, fd, _pins: pins })
}

/// Opens the folders above that are known by their place in memory: they are the ones that were seen,
/// or it is an error.
fn pins(maps: &Maps, fd: BorrowedFd<'_>, own: Node, above: &[Node]) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut pins: Vec<OwnedFd> = Vec::new();
    // Folders whose numbers last need none, but lead to others that do.
    let last = above.iter().rposition(|node| node.in_memory()).map_or(0, |last| last + 1);
    for node in &above[..last] {
        let next = match pins.last() {
            Some(below) => openat(below, "..", flags, Mode::empty())?,
            None if own.directory => openat(fd, "..", flags, Mode::empty())?,
            None => {
                let path = path_of(fd);
                let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
                openat(CWD, folder, flags, Mode::empty())?
            }
        };
        if look(maps, next.as_fd())?.node != *node {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it was moved while it was looked at",
            ));
        }
        pins.push(next);
    }
    Ok(pins)
}

fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// What a look at a file told.
pub(crate) struct Seen {
    pub node: Node,
    told: Resolved,
}

impl Seen {
    /// A pipe, a socket or a memory file: no right is needed on it.
    pub fn is_internal(&self) -> bool {
        self.told.flags & RESOLVED_INTERNAL != 0
    }
}

/// The numbers of an open file.
///
/// The thread's entry is made before the look and taken away behind: an answer about another file can
/// never be taken for this one's.
pub(crate) fn look(maps: &Maps, fd: BorrowedFd<'_>) -> io::Result<Seen> {
    let thread = sys::thread_key();
    let empty = Resolved::new_zeroed();
    maps::put(&maps.resolved, "resolved", &thread, &empty).map_err(io::Error::other)?;
    let stat = rustix::fs::fstat(fd);
    let told: Result<Option<Resolved>> = maps::get(&maps.resolved, "resolved", &thread);
    maps::remove(&maps.resolved, "resolved", &thread).map_err(io::Error::other)?;
    let directory = FileType::from_raw_mode(stat?.st_mode) == FileType::Directory;
    let told = told.map_err(io::Error::other)?.unwrap_or(empty);
    let node = Node { dev: told.file.dev, ino: told.file.ino, directory };
    match told.flags & RESOLVED_SEEN {
        // Hooks never see private inodes: some pipes and anonymous files, which need no right.
        0 => Ok(Seen { node, told: Resolved { flags: RESOLVED_INTERNAL, ..told } }),
        _ => Ok(Seen { node, told }),
    }
}
