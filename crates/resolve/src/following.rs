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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Scene {
        _dir: tempfile::TempDir,
        root: PathBuf,
        following: Following,
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        Scene { _dir: dir, root, following: Following::new(64).unwrap() }
    }

    impl Scene {
        fn path(&self, name: &str) -> AbsPath {
            AbsPath::parse(self.root.join(name).to_str().unwrap()).unwrap()
        }

        fn follow(&self, name: &str) -> AbsPath {
            let path = self.path(name);
            self.following.add(&path).unwrap();
            path
        }

        fn write(&self, name: &str) {
            fs::write(self.root.join(name), name).unwrap();
        }

        /// What is told before a file is that is made now.
        async fn told(&self) -> Vec<AbsPath> {
            let last = (0..).map(|n| format!("last-{n}")).find(|n| !self.root.join(n).exists());
            let last = self.follow(&last.unwrap());
            fs::write(last.as_path(), "").unwrap();
            let mut told = Vec::new();
            loop {
                let path = self.following.changed().await.unwrap();
                if path == last {
                    self.following.remove(&last);
                    return told;
                }
                told.push(path);
            }
        }
    }

    #[tokio::test]
    async fn a_save_by_rename_is_told() {
        let scene = scene();
        scene.write("hosts");
        let hosts = scene.follow("hosts");
        scene.write("hosts.new");
        fs::rename(scene.root.join("hosts.new"), scene.root.join("hosts")).unwrap();
        assert_eq!(scene.told().await, [hosts]);
    }

    #[tokio::test]
    async fn a_socket_that_is_made_again_is_told() {
        let scene = scene();
        scene.write("socket");
        let socket = scene.follow("socket");
        fs::remove_file(scene.root.join("socket")).unwrap();
        assert_eq!(scene.following.changed().await.unwrap(), socket);
        scene.write("socket");
        assert_eq!(scene.told().await, [socket]);
    }

    #[tokio::test]
    async fn so_is_one_whose_folder_is_made_again() {
        let scene = scene();
        fs::create_dir(scene.root.join("run")).unwrap();
        scene.write("run/socket");
        let socket = scene.follow("run/socket");
        fs::remove_dir_all(scene.root.join("run")).unwrap();
        assert_eq!(scene.told().await, std::slice::from_ref(&socket));
        fs::create_dir(scene.root.join("run")).unwrap();
        assert_eq!(scene.following.changed().await.unwrap(), socket);
        scene.write("run/socket");
        assert_eq!(scene.told().await, [socket]);
    }

    #[tokio::test]
    async fn every_link_on_the_way_is_followed() {
        let scene = scene();
        for folder in ["bin", "etc", "lib"] {
            fs::create_dir(scene.root.join(folder)).unwrap();
        }
        scene.write("lib/editor-1");
        scene.write("lib/editor-2");
        symlink("../etc/editor", scene.root.join("bin/editor")).unwrap();
        symlink(scene.root.join("lib/editor-1"), scene.root.join("etc/editor")).unwrap();
        let editor = scene.follow("bin/editor");

        scene.write("etc/editor.new");
        fs::remove_file(scene.root.join("etc/editor.new")).unwrap();
        symlink(scene.root.join("lib/editor-2"), scene.root.join("etc/editor.new")).unwrap();
        fs::rename(scene.root.join("etc/editor.new"), scene.root.join("etc/editor")).unwrap();
        assert_eq!(scene.told().await, std::slice::from_ref(&editor));

        // The new way is watched, the old one no longer.
        fs::remove_file(scene.root.join("lib/editor-1")).unwrap();
        assert!(scene.told().await.is_empty());
        fs::remove_file(scene.root.join("lib/editor-2")).unwrap();
        assert_eq!(scene.told().await, [editor]);
    }

    #[tokio::test]
    async fn what_others_do_beside_it_is_not_told() {
        let scene = scene();
        scene.write("hosts");
        scene.follow("hosts");
        scene.write("other");
        fs::remove_file(scene.root.join("other")).unwrap();
        fs::write(scene.root.join("hosts"), "written in place: the same file").unwrap();
        assert!(scene.told().await.is_empty());
        scene.following.remove(&scene.path("hosts"));
        fs::remove_file(scene.root.join("hosts")).unwrap();
        assert!(scene.told().await.is_empty(), "no longer followed");
        assert_eq!(scene.following.watched(), 0);
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_told_when_it_comes() {
        let scene = scene();
        let late = scene.follow("a/b");
        fs::create_dir(scene.root.join("a")).unwrap();
        assert_eq!(scene.following.changed().await.unwrap(), late);
        scene.write("a/b");
        assert_eq!(scene.told().await, [late]);
    }

    #[tokio::test]
    async fn watches_are_bounded() {
        let mut scene = scene();
        // `/`, and each folder down to this one.
        let depth = scene.root.components().count();
        scene.following = Following::new(depth + 1).unwrap();
        for folder in ["a", "b"] {
            fs::create_dir(scene.root.join(folder)).unwrap();
        }
        scene.follow("a/x");
        scene.follow("a/y");
        let error = scene.following.add(&scene.path("b/x")).unwrap_err();
        assert!(matches!(error, FollowError::Full { .. }), "{error}");
        assert_eq!(scene.following.watched(), depth + 1, "nothing is left of what was refused");
        scene.following.remove(&scene.path("a/x"));
        scene.following.remove(&scene.path("a/y"));
        scene.follow("b/x");
    }

    #[tokio::test]
    async fn a_flood_of_events_tells_everything() {
        let scene = scene();
        scene.write("hosts");
        let hosts = scene.follow("hosts");
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        // Nobody reads meanwhile: the kernel drops what does not fit, the last one among them.
        for _ in 0..=most / 2 {
            fs::write(scene.root.join("flood"), "").unwrap();
            fs::remove_file(scene.root.join("flood")).unwrap();
        }
        fs::rename(scene.root.join("hosts"), scene.root.join("away")).unwrap();
        assert_eq!(scene.following.changed().await.unwrap(), hosts);
    }
}
