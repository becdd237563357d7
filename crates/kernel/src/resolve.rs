//! Paths to the numbers by which the kernel programs know files.
//!
//! The daemon opens the path and looks at it; a program that sees this look writes down the
//! kernel's device and inode. `stat` of user space is no substitute: overlayfs and btrfs report
//! other numbers there.

use crate::maps::{self, Maps};
use crate::{Result, sys};
use abi::control::Resolved;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file as the kernel programs know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Node {
    pub dev: u64,
    pub ino: u64,
    pub directory: bool,
}

/// Resolves many paths; remembers those that it met, for they share their ancestors.
pub(crate) struct Resolver<'a> {
    maps: &'a Maps,
    ancestors: HashMap<PathBuf, Node>,
}

impl<'a> Resolver<'a> {
    pub fn new(maps: &'a Maps) -> Self {
        Resolver { maps, ancestors: HashMap::new() }
    }

    /// The file that `path` leads to, symbolic links followed, and its real path.
    pub fn follow(&self, path: &Path) -> io::Result<(Node, PathBuf)> {
        self.identify(open(path)?.as_fd())
    }

    /// As [`Resolver::follow`], for a path that rights are given on.
    pub fn grantable(&self, path: &Path) -> io::Result<(Node, PathBuf)> {
        let fd = open(path)?;
        stands_by_its_numbers(rustix::fs::fstatfs(&fd)?.f_type as u64)?;
        self.identify(fd.as_fd())
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> io::Result<(Node, PathBuf)> {
        let node = look(self.maps, fd)?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        Ok((node, real))
    }

    /// Every directory above a real path.
    pub fn above(&mut self, real: &Path) -> io::Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for path in real.ancestors().skip(1) {
            let node = match self.ancestors.get(path) {
                Some(node) => *node,
                None => {
                    let node = self.follow(path)?.0;
                    self.ancestors.insert(path.to_owned(), node);
                    node
                }
            };
            nodes.push(node);
        }
        Ok(nodes)
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// File systems on which two files can have one (device, inode) pair, or one file another pair
/// tomorrow: rights on such a pair could become rights on somebody else's file (decision 9).
const UNSTABLE: [(u64, &str); 3] =
    [(0x794c_7630, "overlayfs"), (0x9123_683e, "btrfs"), (0xca45_1a4e, "bcachefs")];

fn stands_by_its_numbers(magic: u64) -> io::Result<()> {
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

/// The numbers of an open file.
pub(crate) fn look(maps: &Maps, fd: BorrowedFd<'_>) -> io::Result<Node> {
    look_at_any(maps, fd)?
        .ok_or_else(|| io::Error::other("the kernel programs did not see the file"))
}

/// The numbers of an open file, or `None` if the hooks never see it (private inodes: some pipes and
/// anonymous files), so that nothing is to be granted.
///
/// What an earlier look left is removed first: an answer about another file must never be taken for
/// this one's.
pub(crate) fn look_at_any(maps: &Maps, fd: BorrowedFd<'_>) -> io::Result<Option<Node>> {
    let thread = sys::thread_key();
    maps::remove(&maps.resolved, "resolved", &thread).map_err(io::Error::other)?;
    let stat = rustix::fs::fstat(fd)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let told: Result<Option<Resolved>> = maps::get(&maps.resolved, "resolved", &thread);
    let told = told.map_err(io::Error::other)?;
    Ok(told.map(|r| Node { dev: r.dev, ino: r.ino, directory }))
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
