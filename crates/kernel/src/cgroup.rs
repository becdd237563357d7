//! The control group hierarchy, through its files.

use crate::{Error, Result};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Controllers that agents are measured and limited by.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// Makes a cgroup; one that exists is taken as it is.
pub(crate) fn make(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(file("make the control group", path)),
    }
}

/// Hands down the controllers that the cgroup has; returns those that it lacks.
pub(crate) fn delegate(path: &Path) -> Result<Vec<&'static str>> {
    let have = read(&path.join("cgroup.controllers"))?;
    let have: Vec<&str> = have.split_whitespace().collect();
    let (present, absent): (Vec<&str>, Vec<&str>) =
        CONTROLLERS.into_iter().partition(|c| have.contains(c));
    let words: Vec<String> = present.iter().map(|c| format!("+{c}")).collect();
    if !words.is_empty() {
        write(path, "cgroup.subtree_control", &words.join(" "))?;
    }
    Ok(absent)
}

/// The id by which the kernel knows the cgroup.
pub(crate) fn id(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(file("look at", path))?.ino())
}

/// Writes one control file.
pub(crate) fn write(dir: &Path, name: &str, value: &str) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, value).map_err(file("write", &path))
}

/// Writes a limit that the kernel may lack the controller for.
pub(crate) fn write_limit(dir: &Path, name: &str, value: Option<u64>) -> Result<()> {
    let path = dir.join(name);
    match value {
        Some(limit) => fs::write(&path, limit.to_string()).map_err(file("write", &path)),
        None => Ok(()),
    }
}

/// Process ids in the cgroup itself.
pub(crate) fn processes(dir: &Path) -> Result<Vec<u32>> {
    let text = read(&dir.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
}

/// How long a cgroup may take to do what it was told: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the cgroup is frozen, which the kernel does when each of its threads has been scheduled.
pub(crate) fn await_frozen(dir: &Path) -> Result<()> {
    await_frozen_within(dir, PATIENCE)
}

/// The same, for so long.
pub(crate) fn await_frozen_within(dir: &Path, patience: Duration) -> Result<()> {
    let path = dir.join("cgroup.events");
    let until = Instant::now() + patience;
    let mut pause = Duration::from_micros(20);
    while !read(&path)?.lines().any(|l| l == "frozen 1") {
        if Instant::now() > until {
            let source = io::ErrorKind::TimedOut.into();
            return Err(Error::File { action: "freeze", path, source });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether any process is in the cgroup or below.
pub(crate) fn populated(dir: &Path) -> Result<bool> {
    Ok(read(&dir.join("cgroup.events"))?.lines().any(|l| l == "populated 1"))
}

/// Removes a cgroup whose processes have ended.
///
/// A killed process may need a moment to leave.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done.map_err(file("remove the control group", path)),
        }
    }
}

/// Removes the cgroups above `path` that have nothing in them any more, up to the slice: an ended
/// parent's whose last child has gone, a tenant's without agents.
pub(crate) fn remove_empty_above(path: &Path, slice: &Path) {
    for above in path.ancestors().skip(1) {
        if above == slice || !above.starts_with(slice) || fs::remove_dir(above).is_err() {
            return;
        }
    }
}

/// The ids of this process's cgroup and of those above it, without the root.
pub(crate) fn own_chain(root: &Path) -> Result<Vec<u64>> {
    let text = read(Path::new("/proc/self/cgroup"))?;
    let own = text.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default();
    let mut path: PathBuf = root.join(own);
    let mut chain = Vec::new();
    while path != root && path.starts_with(root) {
        chain.push(id(&path)?);
        path.pop();
    }
    Ok(chain)
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(file("read", path))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { action, path: path.to_owned(), source }
}
