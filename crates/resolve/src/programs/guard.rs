//! What keeps a hashed file's content as it was hashed.

use super::Leases;
use rustix::fs::{OFlags, Stat, StatxFlags, fstat, fstatfs, statx};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// Why the digest of a file is that of what will run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Basis {
    /// Whoever would write waits until the lease is given back.
    Lease,
    /// fs-verity holds the file to this measured digest.
    VerityFile(Vec<u8>),
    /// The file lies on a read-only image that dm-verity checks.
    VerityImage,
    /// Nothing: a file system without leases, or one whose files change beneath the kernel.
    Nothing,
}

/// Holds a file, and its content where the file system can. Dropping it lets writers go on.
pub struct Guard {
    /// A description of its own, so that what is executed shares neither offset nor lease with it.
    file: OwnedFd,
    node: (u64, u64),
    basis: Basis,
    leases: Arc<dyn Leases>,
}

impl Guard {
    /// Takes the strongest hold that there is on an open file.
    ///
    /// # Errors
    /// `WouldBlock` while somebody has the file open for writing; those of the system calls.
    pub(crate) fn take(file: &OwnedFd, leases: &Arc<dyn Leases>) -> io::Result<Guard> {
        let own = reopen(file)?;
        let node = node(&fstat(&own)?);
        let basis = basis(&own, leases.as_ref())?;
        Ok(Guard { file: own, node, basis, leases: Arc::clone(leases) })
    }

    /// What the hold stands on.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// True as long as nobody has written to the file, or waits to, since the guard was taken.
    pub fn holds(&self) -> bool {
        match self.basis {
            Basis::Lease => self.leases.is_held(self.file.as_fd()).unwrap_or(false),
            Basis::VerityFile(_) | Basis::VerityImage => true,
            Basis::Nothing => false,
        }
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn node(&self) -> (u64, u64) {
        self.node
    }

    /// Whether `stat` is of the very file, not of one with its numbers: tmpfs with 32-bit inodes
    /// may have two of them alive. Nobody can set a change time.
    pub(crate) fn is_of(&self, stat: &Stat) -> bool {
        let times = |s: &Stat| (s.st_size, s.st_ctime, s.st_ctime_nsec);
        self.node == node(stat) && fstat(&self.file).is_ok_and(|own| times(&own) == times(stat))
    }
}

fn node(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Not left to closing: a child between clone and exec has a copy of the descriptor.
        if self.basis == Basis::Lease {
            let _ = self.leases.give_back(self.file.as_fd());
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("file", &self.file).field("basis", &self.basis).finish()
    }
}

/// Another description of the very file.
pub(crate) fn reopen(file: &OwnedFd) -> io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(link, flags, rustix::fs::Mode::empty())?)
}

fn basis(file: &OwnedFd, leases: &dyn Leases) -> io::Result<Basis> {
    let seen = statx(file, "", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    if leases.is_verity_image(seen.stx_dev_major, seen.stx_dev_minor) {
        return Ok(Basis::VerityImage);
    }
    // A file system that cannot tell has none, and a lease is asked for.
    if let Ok(Some(measured)) = leases.verity_digest(file.as_fd()) {
        return Ok(Basis::VerityFile(measured));
    }
    if !all_writers_are_seen(fstatfs(file)?.f_type as u64) {
        return Ok(Basis::Nothing);
    }
    match leases.take(file.as_fd()) {
        Ok(()) => Ok(Basis::Lease),
        Err(error) if has_none(&error) => Ok(Basis::Nothing),
        Err(error) => Err(error),
    }
}

fn has_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || error.kind() == io::ErrorKind::PermissionDenied
}

/// File systems on which nobody writes but through the file itself. Network and FUSE file systems
/// change at the other end, the layers of an overlay beneath it, whatever a lease says.
const LOCAL: [u64; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xe0f5_e1e2, // erofs
    0x7371_7368, // squashfs
];

fn all_writers_are_seen(magic: u64) -> bool {
    LOCAL.contains(&magic)
}
