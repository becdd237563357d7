//! What every agent has from its launch on, and no rule names: its own mounts and standard files.
//!
//! It is shown and recorded, and never counts as held: a child's own `/proc` is not its parent's.

use abi::Capability;
use manifest::{Exec, Namespaces};
use rustix::fs::{OFlags, fcntl_getfl};
use std::os::fd::{AsRawFd, OwnedFd};

/// One right of that kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The capability that it is like.
    pub kind: Capability,
    /// What it is on, for people.
    pub object: String,
}

impl Given {
    fn new(kind: Capability, object: impl Into<String>) -> Self {
        Given { kind, object: object.into() }
    }
}

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// All of it; the standard files with exactly the modes that they were opened with.
pub fn given(stdio: &[OwnedFd; 3], namespaces: Namespaces, exec: Exec) -> Vec<Given> {
    use Capability::{FsCreate, FsDelete, FsExec, FsRead, FsWrite};
    let proc = match namespaces {
        Namespaces::Own => "/proc (its own)",
        Namespaces::Shared => "/proc (shared: its own processes, no list)",
    };
    let mut all = vec![
        Given::new(FsRead, "/ (to look at it, nothing below)"),
        Given::new(FsRead, proc),
        Given::new(FsWrite, proc),
        Given::new(FsRead, "its control group (its limits)"),
    ];
    let tmp = |kind| Given::new(kind, "/tmp (its own)");
    all.extend([FsRead, FsWrite, FsCreate, FsDelete].map(tmp));
    all.extend((exec == Exec::Readable).then(|| tmp(FsExec)));
    let shm = |kind| Given::new(kind, "/dev/shm (its own)");
    all.extend([FsRead, FsWrite, FsCreate, FsDelete].map(shm));
    if namespaces == Namespaces::Own {
        let terminals = |kind| Given::new(kind, "/dev/pts (terminals of its own)");
        all.extend([FsRead, FsWrite].map(terminals));
    }
    for (fd, name) in stdio.iter().zip(NAMES) {
        all.extend(standard(fd, name));
    }
    all
}

fn standard(fd: &OwnedFd, name: &str) -> Vec<Given> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let target = target.map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
    let flags = fcntl_getfl(fd).unwrap_or(OFlags::empty());
    let mode = flags & OFlags::RWMODE;
    let reads = mode == OFlags::RDONLY || mode == OFlags::RDWR;
    let writes = mode == OFlags::WRONLY || mode == OFlags::RDWR;
    // Where there is only appending, there is neither reading nor cutting.
    let appends = flags.contains(OFlags::APPEND);
    let mut all = Vec::new();
    if reads && !(writes && appends) {
        all.push(Given::new(Capability::FsRead, format!("{target} ({name})")));
    }
    if writes {
        let how = if appends { ", appending only" } else { "" };
        all.push(Given::new(Capability::FsWrite, format!("{target} ({name}{how})")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    #[test]
    fn a_standard_file_is_told_as_it_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let append = OpenOptions::new().append(true).open(&path).unwrap();
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let stdio = [File::open(&path).unwrap().into(), append.into(), both.into()];
        let all = given(&stdio, Namespaces::Own, Exec::Readable);
        let of = |name: &str| -> Vec<Capability> {
            all.iter().filter(|given| given.object.contains(name)).map(|given| given.kind).collect()
        };
        assert_eq!(of("standard input"), [Capability::FsRead]);
        assert_eq!(of("standard output, appending only"), [Capability::FsWrite]);
        assert_eq!(of("standard error"), [Capability::FsRead, Capability::FsWrite]);
    }
}
