//! A path, opened once: the descriptor is what is granted, the real path is what is compared.

use manifest::AbsPath;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Why a path cannot be held.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum OpenError {
    #[error("{0} does not exist")]
    Absent(AbsPath),
    #[error("{0} was removed or replaced while it was opened")]
    Gone(AbsPath),
    #[error(
        "{0} leads through /proc to a file of whoever asks, or through more links than the kernel follows\nhint: name the file itself"
    )]
    Loop(AbsPath),
    #[error("{path} leads to {real:?}, whose name is not UTF-8\nhint: rename it")]
    NotUtf8 { path: AbsPath, real: OsString },
    #[error("{path} leads to {real:?}, which no rule can name")]
    Unnameable {
        path: AbsPath,
        real: String,
        #[source]
        source: manifest::PathError,
    },
    #[error("{path} cannot be opened")]
    Io {
        path: AbsPath,
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// True if there is nothing by this name: what a profile may leave out.
    pub fn is_absent(&self) -> bool {
        matches!(self, OpenError::Absent(_) | OpenError::Gone(_))
    }
}

/// What a path led to when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// `O_PATH`: holds the file, and reads nothing of it.
    pub fd: OwnedFd,
    /// The name of the opened file, without links.
    pub real: AbsPath,
    /// What it is.
    pub kind: FileType,
}

/// Opens what `path` leads to, links followed. Magic links of `/proc` are not: they lead each
/// process to something of its own, and here they would lead to the daemon's.
///
/// # Errors
/// [`OpenError::Absent`] if there is no such file; others name what refused.
pub fn open(path: &AbsPath) -> Result<Opened, OpenError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = openat2(CWD, path.as_path(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .map_err(|errno| refused(path, errno))?;
    let stat = fstat(&fd).map_err(|errno| refused(path, errno))?;
    let real = real(path, fd.as_fd(), &stat)?;
    Ok(Opened { fd, real, kind: FileType::from_raw_mode(stat.st_mode) })
}

pub(crate) fn refused(path: &AbsPath, errno: Errno) -> OpenError {
    let path = path.clone();
    match errno {
        Errno::NOENT | Errno::NOTDIR => OpenError::Absent(path),
        Errno::LOOP => OpenError::Loop(path),
        _ => OpenError::Io { path, source: errno.into() },
    }
}

const DELETED: &[u8] = b" (deleted)";

/// The name of an open file, from its descriptor.
pub(crate) fn real(path: &AbsPath, fd: BorrowedFd<'_>, stat: &Stat) -> Result<AbsPath, OpenError> {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())
        .map_err(|errno| refused(path, errno))?
        .into_bytes();
    // The kernel says so of a name that is gone, but a name that is there may end so too.
    if link.ends_with(DELETED) && !still_named(&link, stat) {
        return Err(OpenError::Gone(path.clone()));
    }
    let real = String::from_utf8(link).map_err(|error| OpenError::NotUtf8 {
        path: path.clone(),
        real: OsString::from_vec(error.into_bytes()),
    })?;
    AbsPath::parse(&real).map_err(|source| OpenError::Unnameable {
        path: path.clone(),
        real,
        source,
    })
}

/// Whether the text is itself the name of that very file. This decides between two readings of the
/// text; what is granted stays the descriptor.
fn still_named(text: &[u8], stat: &Stat) -> bool {
    let name = PathBuf::from(OsString::from_vec(text.to_vec()));
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(CWD, &name, flags, Mode::empty()).and_then(fstat);
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path(at: &std::path::Path) -> AbsPath {
        AbsPath::parse(at.to_str().unwrap()).unwrap()
    }

    fn scene() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_link_is_held_as_what_it_leads_to() {
        let (_dir, root) = scene();
        fs::create_dir(root.join("secret")).unwrap();
        symlink("secret", root.join("link")).unwrap();
        let opened = open(&path(&root.join("link"))).unwrap();
        assert_eq!(opened.real, path(&root.join("secret")));
        assert_eq!(opened.kind, FileType::Directory);
    }

    #[test]
    fn what_was_opened_stays_held_when_the_name_leads_elsewhere() {
        let (_dir, root) = scene();
        fs::write(root.join("a"), "a").unwrap();
        fs::write(root.join("b"), "b").unwrap();
        let opened = open(&path(&root.join("a"))).unwrap();
        let inode = fstat(&opened.fd).unwrap().st_ino;
        fs::rename(root.join("b"), root.join("a")).unwrap();
        assert_eq!(fstat(&opened.fd).unwrap().st_ino, inode);
        // The control: the name leads to the other file now.
        assert_ne!(rustix::fs::stat(root.join("a")).unwrap().st_ino, inode);
    }

    #[test]
    fn absent_is_told_from_refused() {
        let (_dir, root) = scene();
        assert!(open(&path(&root.join("nothing"))).unwrap_err().is_absent());
        fs::write(root.join("file"), "").unwrap();
        assert!(open(&path(&root.join("file/below"))).unwrap_err().is_absent());
        symlink("circle", root.join("circle")).unwrap();
        let error = open(&path(&root.join("circle"))).unwrap_err();
        assert!(matches!(error, OpenError::Loop(_)) && !error.is_absent(), "{error}");
    }

    #[test]
    fn links_of_proc_do_not_lead_into_this_process() {
        // The control: the kernel would follow it.
        assert!(rustix::fs::stat("/proc/self/fd/0").is_ok());
        let error = open(&AbsPath::parse("/proc/self/fd/0").unwrap()).unwrap_err();
        assert!(matches!(error, OpenError::Loop(_)), "{error}");
    }

    #[test]
    fn a_deleted_file_is_gone_and_a_file_called_so_is_not() {
        let (_dir, root) = scene();
        let called = root.join("notes (deleted)");
        fs::write(&called, "").unwrap();
        assert_eq!(open(&path(&called)).unwrap().real, path(&called));

        let (name, other) = (root.join("notes"), root.join("other name"));
        fs::write(&name, "").unwrap();
        let held = openat(CWD, &name, OFlags::PATH, Mode::empty()).unwrap();
        // A second link: the file has a name still, but not this one. `notes (deleted)`, which is
        // what the kernel shows, is the name of another file.
        fs::hard_link(&name, &other).unwrap();
        fs::remove_file(&name).unwrap();
        let stat = fstat(&held).unwrap();
        assert_eq!(stat.st_nlink, 1);
        let gone = real(&path(&name), held.as_fd(), &stat);
        assert!(matches!(gone, Err(OpenError::Gone(_))), "{gone:?}");
        // The control: by the text alone the other file would be taken for it.
        let shown = fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap();
        assert_eq!(shown, called);
        assert!(called.exists());
    }

    #[test]
    fn a_name_that_no_rule_can_have_is_refused() {
        let (_dir, root) = scene();
        let odd = root.join(OsString::from_vec(b"\xff\xfe".to_vec()));
        fs::write(&odd, "").unwrap();
        symlink(&odd, root.join("link")).unwrap();
        let error = open(&path(&root.join("link"))).unwrap_err();
        assert!(matches!(error, OpenError::NotUtf8 { .. }), "{error}");
        let expiring = root.join("a;expires=1s");
        fs::write(&expiring, "").unwrap();
        symlink(&expiring, root.join("other")).unwrap();
        let error = open(&path(&root.join("other"))).unwrap_err();
        assert!(matches!(error, OpenError::Unnameable { .. }), "{error}");
    }
}
