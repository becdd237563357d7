//! Removes a folder that whoever filled it may have made as deep and as wide as it liked.

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

/// Removes `name` in `top` with all that lies below, with three descriptors and no recursion: a
/// folder that is not empty is moved up to `top` and emptied in its turn. One that is not there was never
/// made.
///
/// # Errors
/// The first that the kernel has; what could be removed until then is gone.
pub(crate) fn remove(top: &OwnedFd, name: &str) -> io::Result<()> {
    let first = CString::new(name)?;
    let mut moved = 0u64;
    let mut waiting = 0u64;
    match empty(top, &first, name, &mut moved) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    while waiting < moved {
        let next = numbered(name, waiting);
        waiting += 1;
        empty(top, &next, name, &mut moved)?;
    }
    Ok(())
}

fn numbered(name: &str, n: u64) -> CString {
    CString::new(format!("{name}.{n}")).unwrap_or_default()
}

fn empty(top: &OwnedFd, folder: &CStr, name: &str, moved: &mut u64) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = openat(top, folder, flags, Mode::empty())?;
    for entry in Dir::read_from(&open)? {
        let entry = entry?;
        let entry = entry.file_name();
        if entry == c"." || entry == c".." {
            continue;
        }
        match unlinkat(&open, entry, AtFlags::empty()) {
            Ok(()) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        match unlinkat(&open, entry, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY) => {
                renameat(&open, entry, top, numbered(name, *moved))?;
                *moved += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unlinkat(top, folder, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    fn open(path: &std::path::Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_folder_of_any_depth_goes_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let top = open(dir.path());
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::create_dir_all(dir.path().join("kept/below")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("../../kept", dir.path().join("a/b/link")).unwrap();
        // Deeper than any stack or any table of descriptors.
        let mut at = open(&dir.path().join("a"));
        for _ in 0..20_000 {
            mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = openat(&at, c"d", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        remove(&top, "a").unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert!(dir.path().join("kept/below").exists());
    }

    #[test]
    fn many_folders_that_are_not_empty_go() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..200 {
            std::fs::create_dir_all(dir.path().join(format!("a/{i}/x"))).unwrap();
        }
        let top = open(dir.path());
        remove(&top, "a").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        remove(&top, "a").unwrap();
    }
}
