//! Names that are followed when something else is put there: an atomic save of `/etc/hosts`, the
//! socket of a service that was restarted.
//!
//! Only for rules of system origin. What an agent or a tenant may write to is never followed, or
//! the name would become a right on whatever they put there.
//!
//! Every directory on the way to the file is watched for the one name that is looked up in it, links
//! included, so `/etc/alternatives` is. First [`Following::add`], then open: what changes in between
//! is told. Told is that a name *may* lead elsewhere; open it again and compare.
//!
//! Not told: what is mounted over a name, and changes that the kernel does not see (network file
//! systems).

use manifest::AbsPath;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Links that one path may have, as in the kernel (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// Events that are read before what they tell is passed on: whoever writes beside a followed file
/// without end holds nothing up.
const EVENTS: usize = 1024;

/// Why a path cannot be followed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum FollowError {
    #[error("{path} is not followed: {most} folders are watched already")]
    Full { path: AbsPath, most: usize },
    #[error("{path} is not followed\nhint: raise fs.inotify.max_user_watches if it is used up")]
    Io {
        path: AbsPath,
        #[source]
        source: io::Error,
    },
}

/// A name in a watched directory.
type Step = (i32, OsString);

#[derive(Default)]
struct State {
    /// Per watch, the names that matter and for which paths.
    watches: BTreeMap<i32, BTreeMap<OsString, BTreeSet<AbsPath>>>,
    paths: BTreeMap<AbsPath, Vec<Step>>,
    changed: VecDeque<AbsPath>,
}

/// Tells which of a set of paths may lead elsewhere.
pub struct Following {
    inotify: AsyncFd<OwnedFd>,
    most: usize,
    state: Mutex<State>,
}

impl Following {
    /// Within a tokio runtime; at most `most` directories are watched.
    ///
    /// # Errors
    /// When the kernel gives no more.
    pub fn new(most: usize) -> io::Result<Following> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // Its successor is `unsafe`, which no crate but `kernel` may be; an `OwnedFd` keeps what
        // that one asks for.
        #[allow(deprecated)]
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        Ok(Following { inotify, most, state: Mutex::default() })
    }

    /// From now on a change of where `path` leads is told. A path that leads nowhere is told when
    /// it does. Adding it again changes nothing.
    ///
    /// # Errors
    /// When too many directories are watched; then nothing is added.
    pub fn add(&self, path: &AbsPath) -> Result<(), FollowError> {
        let mut state = self.lock();
        if state.paths.contains_key(path) {
            return Ok(());
        }
        state.paths.insert(path.clone(), Vec::new());
        let walked = self.walk(&mut state, path);
        if walked.is_err() {
            self.forget(&mut state, path);
        }
        walked
    }

    /// Stops following a path.
    pub fn remove(&self, path: &AbsPath) {
        self.forget(&mut self.lock(), path);
    }

    /// How many directories are watched.
    pub fn watched(&self) -> usize {
        self.lock().watches.len()
    }

    /// The next path that may lead elsewhere. What is told is followed anew already, so whoever
    /// opens it now misses nothing. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of reading from the kernel.
    pub async fn changed(&self) -> io::Result<AbsPath> {
        loop {
            if let Some(path) = self.lock().changed.pop_front() {
                return Ok(path);
            }
            let mut ready = self.inotify.readable().await?;
            if self.take_events()? {
                ready.clear_ready();
            }
        }
    }

    /// True if there are no more.
    fn take_events(&self) -> io::Result<bool> {
        let mut state = self.lock();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let (mut affected, mut seen) = (Vec::new(), BTreeSet::new());
        let mut taken = 0;
        // What is in the buffer is lost with it.
        let drained = loop {
            if taken >= EVENTS && reader.is_buffer_empty() {
                break false;
            }
            match reader.next() {
                Ok(event) => {
                    let paths = state.affected(&event).into_iter();
                    affected.extend(paths.filter(|path| seen.insert(path.clone())));
                }
                Err(Errno::AGAIN) => break true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            taken += 1;
        };
        for path in affected {
            if let Err(error) = self.walk(&mut state, &path) {
                // What could be watched is; the rest is told when that changes.
                tracing::warn!(%error, "a path is followed in part");
            }
            if !state.changed.contains(&path) {
                state.changed.push_back(path);
            }
        }
        Ok(drained)
    }

    /// Watches the directories on the way of a path that is in the set, and no others for it.
    fn walk(&self, state: &mut State, path: &AbsPath) -> Result<(), FollowError> {
        let old = state.paths.insert(path.clone(), Vec::new()).unwrap_or_default();
        let walked = self.steps(state, path);
        let new = state.paths.get(path).cloned().unwrap_or_default();
        self.unwatch(state, path, old.into_iter().filter(|step| !new.contains(step)));
        walked
    }

    fn steps(&self, state: &mut State, path: &AbsPath) -> Result<(), FollowError> {
        let failed = |errno: Errno| FollowError::Io { path: path.clone(), source: errno.into() };
        let mut todo = names(path.as_path());
        let mut dir = root().map_err(failed)?;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                dir = look(&dir, &name).map_err(failed)?;
                continue;
            }
            // The watch first: what happens after the look is then told.
            self.watch(state, path, &dir, &name)?;
            let Ok(found) = look(&dir, &name) else { return Ok(()) };
            match FileType::from_raw_mode(fstat(&found).map_err(failed)?.st_mode) {
                FileType::Directory => dir = found,
                FileType::Symlink if links < LINKS => {
                    links += 1;
                    let target = readlinkat(&found, "", Vec::new()).map_err(failed)?.into_bytes();
                    let target = OsString::from_vec(target);
                    if Path::new(&target).is_absolute() {
                        dir = root().map_err(failed)?;
                    }
                    todo.extend(names(Path::new(&target)));
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn watch(
        &self,
        state: &mut State,
        path: &AbsPath,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> Result<(), FollowError> {
        let mask = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        // By descriptor: the directory that the name is looked up in, whatever its own name leads to.
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let watch = inotify::add_watch(self.inotify.get_ref(), link, mask)
            .map_err(|errno| FollowError::Io { path: path.clone(), source: errno.into() })?;
        if !state.watches.contains_key(&watch) && state.watches.len() >= self.most {
            let _ = inotify::remove_watch(self.inotify.get_ref(), watch);
            return Err(FollowError::Full { path: path.clone(), most: self.most });
        }
        let names = state.watches.entry(watch).or_default();
        names.entry(name.to_owned()).or_default().insert(path.clone());
        state.paths.entry(path.clone()).or_default().push((watch, name.to_owned()));
        Ok(())
    }

    fn forget(&self, state: &mut State, path: &AbsPath) {
        let steps = state.paths.remove(path).unwrap_or_default();
        self.unwatch(state, path, steps);
        state.changed.retain(|other| other != path);
    }

    fn unwatch(&self, state: &mut State, path: &AbsPath, steps: impl IntoIterator<Item = Step>) {
        for (watch, name) in steps {
            let Some(names) = state.watches.get_mut(&watch) else { continue };
            if let Some(paths) = names.get_mut(&name) {
                paths.remove(path);
            }
            names.retain(|_, paths| !paths.is_empty());
            if names.is_empty() {
                state.watches.remove(&watch);
                let _ = inotify::remove_watch(self.inotify.get_ref(), watch);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The paths that an event may lead elsewhere.
    fn affected(&mut self, event: &inotify::Event<'_>) -> Vec<AbsPath> {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.paths.keys().cloned().collect();
        }
        if event.events().contains(ReadFlags::IGNORED) {
            let names = self.watches.remove(&event.wd()).unwrap_or_default();
            return names.into_values().flatten().collect();
        }
        let Some(names) = self.watches.get(&event.wd()) else { return Vec::new() };
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        name.and_then(|name| names.get(name)).into_iter().flatten().cloned().collect()
    }
}

/// The names in a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let text = path.as_os_str().as_bytes();
    let names = text.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

fn root() -> Result<OwnedFd, Errno> {
    openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn look(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests;
