//! Read leases (`fcntl(2)`, `F_SETLEASE`) and fs-verity's measured digest.
//!
//! While a lease is held, nobody has the file open for writing, and whoever opens or cuts it waits
//! until it is given back, `/proc/sys/fs/lease-break-time` seconds at most. The holder is told by
//! SIGIO, whose default action ends the process: handle it before the first lease is taken.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Takes a read lease: while it is held, the file's content does not change.
///
/// # Errors
/// `WouldBlock` while somebody has the file open for writing or waits to; `InvalidInput` on a file
/// system without leases; `PermissionDenied` for another user's file without `CAP_LEASE`.
pub fn take(file: BorrowedFd<'_>) -> io::Result<()> {
    set(file, libc::F_RDLCK)
}

/// Gives the lease back; a writer that waits for it goes on.
///
/// # Errors
/// `WouldBlock` if none is held through this description.
pub fn give_back(file: BorrowedFd<'_>) -> io::Result<()> {
    set(file, libc::F_UNLCK)
}

fn set(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes a number; the descriptor is open while it is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// True while the lease is held and nobody waits for its end.
///
/// # Errors
/// Those of `fcntl`.
pub fn is_held(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETLEASE takes nothing; the descriptor is open while it is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind == libc::F_RDLCK),
    }
}

/// Bytes of the longest digest of fs-verity (SHA-512).
const VERITY_BYTES: usize = 64;

/// `struct fsverity_digest` of `linux/fsverity.h` with room for the longest digest.
#[repr(C)]
struct VerityDigest {
    algorithm: u16,
    size: u16,
    digest: [u8; VERITY_BYTES],
}

/// `_IOWR('f', 134, struct fsverity_digest)`; the structure's size is that of its two numbers.
const FS_IOC_MEASURE_VERITY: libc::Ioctl = 0xc004_6686_u32 as libc::Ioctl;

/// The digest that fs-verity holds the file's content to, its algorithm's number in front; none
/// for a file that fs-verity does not protect.
///
/// # Errors
/// Those of `ioctl`.
pub fn verity_digest(file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut told =
        VerityDigest { algorithm: 0, size: VERITY_BYTES as u16, digest: [0; VERITY_BYTES] };
    // SAFETY: the kernel writes at most `size` bytes behind the two numbers, and so many are there.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY, &raw mut told) };
    if done == -1 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENODATA | libc::ENOTTY | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        };
    }
    let length = usize::from(told.size).min(VERITY_BYTES);
    let mut digest = told.algorithm.to_ne_bytes().to_vec();
    digest.extend_from_slice(&told.digest[..length]);
    Ok(Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    /// A file of this test's own, which goes when the test ends.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("coconut-lease-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, [0; 4096]).unwrap();
            Scratch(path)
        }

        fn open(&self, write: bool) -> File {
            OpenOptions::new().read(true).write(write).open(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_lease_is_refused_while_the_file_is_open_for_writing() {
        let scratch = Scratch::new("open");
        let (writer, reader) = (scratch.open(true), scratch.open(false));
        assert_eq!(take(reader.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!is_held(reader.as_fd()).unwrap());
        drop(writer);
        take(reader.as_fd()).unwrap();
        assert!(is_held(reader.as_fd()).unwrap());
        give_back(reader.as_fd()).unwrap();
        assert!(!is_held(reader.as_fd()).unwrap());
        assert_eq!(verity_digest(reader.as_fd()).unwrap(), None);
    }

    /// What digests were remembered by once.
    fn version(file: &File) -> [i64; 5] {
        let of = file.metadata().unwrap();
        [of.size() as i64, of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()]
    }

    #[test]
    fn a_shared_mapping_counts_as_a_writer() {
        let scratch = Scratch::new("map");
        let (writer, reader) = (scratch.open(true), scratch.open(false));
        let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing else.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, protection, shared, writer.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        drop(writer);
        assert_eq!(take(reader.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The control: it writes without opening anything, and into a page that is dirty already
        // without a trace in size or times. (The page may be cleaned just in between, so not once.)
        let unseen = (1..=100u8).any(|value| {
            // SAFETY: one page is mapped there for writing, and nobody else in this process knows it.
            unsafe { at.cast::<u8>().write_volatile(value) };
            let (before, read) = (version(&reader), std::fs::read(&scratch.0).unwrap()[0]);
            // SAFETY: as above.
            unsafe { at.cast::<u8>().write_volatile(value + 100) };
            let now = std::fs::read(&scratch.0).unwrap()[0];
            (read, now) == (value, value + 100) && version(&reader) == before
        });
        assert!(unseen);
        // SAFETY: this is the mapping from above, and nothing points into it any more.
        assert_eq!(unsafe { libc::munmap(at, 4096) }, 0);
        take(reader.as_fd()).unwrap();
    }
}
