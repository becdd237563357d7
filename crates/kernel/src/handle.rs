//! Files by the numbers that the kernel programs know them by.
//!
//! The daemon looks at an open file; a program that sees this look writes down the kernel's device and
//! inode, and those of every folder above. `stat` of user space is no substitute: overlayfs and btrfs
//! report other numbers there. No name is followed here: who opened the file did that, once.

use crate::maps::{self, Maps};
use crate::{Error, Result, sys};
use abi::caps::FileKey;
use abi::control::{RESOLVED_CUT, RESOLVED_INTERNAL, RESOLVED_SEEN, Resolved};
use rustix::fs::FileType;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use zerocopy::FromZeros;

/// A file as the kernel programs know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Node {
    /// `s_dev` (major << 20 | minor).
    pub dev: u64,
    /// `i_ino`.
    pub ino: u64,
    /// Rules reach what lies below.
    pub directory: bool,
}

impl Node {
    pub(crate) fn key(self) -> FileKey {
        FileKey { dev: self.dev, ino: self.ino }
    }
}

/// A file that is kept open while somebody has rights on it: its numbers cannot become another file's.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    node: Node,
    above: Vec<Node>,
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
        Handle { fd, node, above }
    }

    /// Every folder above it when it was looked at, mounts crossed, the nearest first.
    pub fn above(&self) -> &[Node] {
        &self.above
    }
}

/// Looks at an open file, to give rights on it.
///
/// # Errors
/// When it lies on a file system that gives files no lasting identity, or the programs did not see it.
pub(crate) fn handle(maps: &Maps, fd: OwnedFd) -> Result<Handle> {
    let failed = |source| Error::Path { path: path_of(fd.as_fd()), source };
    let magic = rustix::fs::fstatfs(&fd).map_err(|e| failed(e.into()))?.f_type;
    stands_by_its_numbers(magic as u64).map_err(failed)?;
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
    let above = above.iter().map(folder).collect();
    Ok(Handle { node: seen.node, above, fd })
}

fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// File systems on which two files can have one (device, inode) pair, or one file another pair
/// tomorrow: rights on such a pair could become rights on somebody else's file (decision 9).
const UNSTABLE: [(u64, &str); 3] =
    [(0x794c_7630, "overlayfs"), (0x9123_683e, "btrfs"), (0xca45_1a4e, "bcachefs")];

pub(crate) fn stands_by_its_numbers(magic: u64) -> io::Result<()> {
    match UNSTABLE.iter().find(|(known, _)| *known == magic) {
        None => Ok(()),
        Some((_, name)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{name} gives files no lasting identity, so no right can be bound to one there"
            ),
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::stands_by_its_numbers;

    #[test]
    fn only_lasting_numbers_carry_rights() {
        const EXT4: u64 = 0xef53;
        assert!(stands_by_its_numbers(EXT4).is_ok());
        for magic in [0x794c_7630, 0x9123_683e, 0xca45_1a4e] {
            assert!(stands_by_its_numbers(magic).is_err());
        }
    }
}
