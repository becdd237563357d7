//! The files of agents' output, all of them within one limit and each within its own.
//!
//! An agent's output is two files, the newer one and the one before; when the newer one is half of what the
//! agent may keep, it takes the place of the older one. Over the limit for all, the tenant that keeps most
//! loses first: what its ended agents wrote, the oldest end first, then the older files of those that run,
//! then their newer ones.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use uuid::Uuid;

/// Most bytes of output that are kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one agent.
    pub each: u64,
    /// Of all agents that were.
    pub all: u64,
    /// Most agents, ended ones among them, of which there is anything.
    pub agents: usize,
}

/// All output files.
pub struct Shelf {
    folder: PathBuf,
    limits: Limits,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    agents: HashMap<Uuid, Held>,
    tenants: BTreeMap<String, Tenant>,
    bytes: u64,
}

#[derive(Default)]
struct Tenant {
    bytes: u64,
    /// The oldest end first.
    ended: VecDeque<Uuid>,
    running: HashSet<Uuid>,
}

#[derive(Default)]
struct Held {
    tenant: String,
    newer: u64,
    older: u64,
    dropped: u64,
}

/// An agent's place on the shelf; when it goes, the agent has ended, or never was.
pub struct Kept {
    shelf: Arc<Shelf>,
    agent: Uuid,
    file: File,
    /// It came to be; else nothing stays.
    pub stays: bool,
}

impl Shelf {
    /// The shelf in a folder; what lies there already is of nobody that runs.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path, limits: Limits) -> std::io::Result<Arc<Shelf>> {
        let mut found: Vec<(SystemTime, Uuid)> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let named = name.to_str().and_then(|name| name.split_once('.'));
            let agent = named.and_then(|(agent, rest)| Some((agent.parse().ok()?, rest)));
            let Some((agent, rest)) = agent else { continue };
            if matches!(rest, "fresh" | "aside") {
                // The daemon ended while it turned a file over.
                std::fs::remove_file(entry.path())?;
                continue;
            }
            let changed = entry.metadata().and_then(|data| data.modified());
            found.extend(changed.ok().map(|changed| (changed, agent)));
        }
        found.sort();
        let shelf = Shelf { folder: folder.to_owned(), limits, books: Mutex::default() };
        {
            let mut books = shelf.books();
            for (_, agent) in found {
                if books.agents.contains_key(&agent) {
                    continue;
                }
                let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |data| data.len());
                let (newer, older) = (size(shelf.newer(agent)), size(shelf.older(agent)));
                books.tenants.entry(String::new()).or_default().ended.push_back(agent);
                books.agents.insert(agent, Held::default());
                books.set(agent, |held| (held.newer, held.older) = (newer, older));
            }
            shelf.make_room(&mut books);
        }
        Ok(Arc::new(shelf))
    }

    /// A place for a new agent's output.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn keep(self: &Arc<Self>, agent: Uuid, tenant: &str) -> std::io::Result<Kept> {
        let file = create(&self.newer(agent))?;
        let mut books = self.books();
        books.agents.insert(agent, Held { tenant: tenant.to_owned(), ..Held::default() });
        books.tenants.entry(tenant.to_owned()).or_default().running.insert(agent);
        Ok(Kept { shelf: self.clone(), agent, file, stays: false })
    }

    /// The place of an agent whose output an earlier daemon took: what comes is added.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub fn go_on(self: &Arc<Self>, agent: Uuid, tenant: &str) -> std::io::Result<Kept> {
        let newer = self.newer(agent);
        if !newer.exists() {
            return self.keep(agent, tenant);
        }
        let file = OpenOptions::new().append(true).open(&newer)?;
        let mut books = self.books();
        let (newer, older) = books.agents.get(&agent).map_or((0, 0), |h| (h.newer, h.older));
        books.forget(agent);
        books.agents.insert(agent, Held { tenant: tenant.to_owned(), ..Held::default() });
        books.tenants.entry(tenant.to_owned()).or_default().running.insert(agent);
        books.set(agent, |held| (held.newer, held.older) = (newer, older));
        drop(books);
        Ok(Kept { shelf: self.clone(), agent, file, stays: true })
    }

    /// The file that an agent's output goes to.
    pub fn newer(&self, agent: Uuid) -> PathBuf {
        self.folder.join(format!("{agent}.log"))
    }

    /// The file with what it wrote before that.
    pub fn older(&self, agent: Uuid) -> PathBuf {
        self.folder.join(format!("{agent}.log.1"))
    }

    /// Bytes of an agent's output that are not kept.
    pub fn dropped(&self, agent: Uuid) -> u64 {
        self.books().agents.get(&agent).map_or(0, |held| held.dropped)
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.books().bytes
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Down to seven eighths of the limit, so that it is not looked for with every line. Files of the ended
    /// have a limit of their own, or who writes nothing would fill the folder.
    fn make_room(&self, books: &mut Books) {
        while books.agents.len() > self.limits.agents && self.drop_ended(books).is_some() {}
        if books.bytes <= self.limits.all {
            return;
        }
        let goal = self.limits.all - self.limits.all / 8;
        while books.bytes > goal && self.drop_most(books).is_some() {}
    }

    /// Drops what the oldest ended agent wrote of the tenant that has most of them.
    fn drop_ended(&self, books: &mut Books) -> Option<()> {
        let tenant = books.tenants.values_mut().max_by_key(|tenant| tenant.ended.len())?;
        self.remove(tenant.ended.pop_front()?, books);
        Some(())
    }

    /// Drops something of the tenant that keeps most.
    fn drop_most(&self, books: &mut Books) -> Option<()> {
        let tenant = books.tenants.values_mut().max_by_key(|tenant| tenant.bytes)?;
        if let Some(agent) = tenant.ended.pop_front() {
            self.remove(agent, books);
            return Some(());
        }
        let agents = &books.agents;
        let most = |of: fn(&Held) -> u64| {
            let sized =
                tenant.running.iter().filter_map(|agent| Some((of(agents.get(agent)?), *agent)));
            sized.filter(|(bytes, _)| *bytes > 0).max()
        };
        let (older, agent) = match (most(|held| held.older), most(|held| held.newer)) {
            (Some((_, agent)), _) => (true, agent),
            (None, newer) => (false, newer?.1),
        };
        let done = match older {
            true => std::fs::remove_file(self.older(agent)),
            false => {
                OpenOptions::new().write(true).truncate(true).open(self.newer(agent)).map(drop)
            }
        };
        if let Err(error) = done {
            tracing::warn!(%agent, %error, "an agent's output cannot be dropped");
        }
        books.set(agent, |held| {
            let gone = if older { &mut held.older } else { &mut held.newer };
            held.dropped += std::mem::take(gone);
        });
        Some(())
    }

    fn remove(&self, agent: Uuid, books: &mut Books) {
        books.forget(agent);
        let _ = std::fs::remove_file(self.newer(agent));
        let _ = std::fs::remove_file(self.older(agent));
    }
}

impl Books {
    /// Changes what is known of an agent, and the sums with it.
    fn set(&mut self, agent: Uuid, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.agents.get_mut(&agent) else { return };
        let before = held.newer + held.older;
        change(held);
        let now = held.newer + held.older;
        self.bytes = self.bytes - before + now;
        if let Some(tenant) = self.tenants.get_mut(&held.tenant) {
            tenant.bytes = tenant.bytes - before + now;
        }
    }

    /// Forgets an agent; its tenant, too, if that was the last of it.
    fn forget(&mut self, agent: Uuid) {
        self.set(agent, |held| (held.newer, held.older) = (0, 0));
        let Some(held) = self.agents.remove(&agent) else { return };
        let empty = |tenant: &Tenant| tenant.ended.is_empty() && tenant.running.is_empty();
        if self.tenants.get(&held.tenant).is_some_and(empty) {
            self.tenants.remove(&held.tenant);
        }
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

impl Kept {
    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.shelf.newer(self.agent)
    }

    /// Keeps these bytes; where the disk has no room for them, notes that they are not kept.
    pub fn write(&mut self, bytes: &[u8]) {
        let (shelf, count) = (self.shelf.clone(), bytes.len() as u64);
        let newer = shelf.books().agents.get(&self.agent).map_or(0, |held| held.newer);
        if newer > 0 && newer + count > shelf.limits.each / 2 {
            self.turn();
        }
        // It may wait for a disk, so the books are open for others meanwhile; what the file has then is true.
        let written = self.file.write_all(bytes);
        let mut books = shelf.books();
        let Some(held) = books.agents.get(&self.agent) else { return };
        let before = held.newer;
        let now = self.file.metadata().map_or(before, |data| data.len());
        let lost = (before + count).saturating_sub(now);
        if let (Err(error), 0) = (written, held.dropped) {
            tracing::warn!(agent = %self.agent, %error, "output of an agent is not kept");
        }
        books.set(self.agent, |held| (held.newer, held.dropped) = (now, held.dropped + lost));
        shelf.make_room(&mut books);
    }

    /// The newer file takes the older one's place. Its name is never without a file.
    fn turn(&mut self) {
        let (shelf, agent) = (self.shelf.clone(), self.agent);
        let mut books = shelf.books();
        match self.replace() {
            Ok(file) => {
                self.file = file;
                books.set(agent, |held| {
                    held.dropped += std::mem::replace(&mut held.older, held.newer);
                    held.newer = 0;
                });
            }
            // Nothing new can be made: what is there makes room for it.
            Err(error) => {
                tracing::warn!(%agent, %error, "an agent's output cannot be turned over");
                if self.file.set_len(0).is_ok() {
                    books.set(agent, |held| held.dropped += std::mem::take(&mut held.newer));
                }
            }
        }
    }

    fn replace(&self) -> std::io::Result<File> {
        let (newer, older) = (self.shelf.newer(self.agent), self.shelf.older(self.agent));
        let [fresh, aside] = ["fresh", "aside"].map(|name| newer.with_extension(name));
        let replaced = create(&fresh).and_then(|file| {
            std::fs::hard_link(&newer, &aside)?;
            std::fs::rename(&aside, &older)?;
            std::fs::rename(&fresh, &newer)?;
            Ok(file)
        });
        if replaced.is_err() {
            let _ = std::fs::remove_file(&fresh);
            let _ = std::fs::remove_file(&aside);
        }
        replaced
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut books = self.shelf.books();
        let Some(held) = books.agents.get(&self.agent) else { return };
        let tenant = held.tenant.clone();
        if let Some(entry) = books.tenants.get_mut(&tenant) {
            entry.running.remove(&self.agent);
            if self.stays {
                entry.ended.push_back(self.agent);
            }
        }
        if self.stays {
            self.shelf.make_room(&mut books);
        } else {
            books.forget(self.agent);
            let _ = std::fs::remove_file(self.shelf.newer(self.agent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(each: u64, all: u64) -> (tempfile::TempDir, Arc<Shelf>) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), Limits { each, all, agents: 1_000 }).unwrap();
        (dir, shelf)
    }

    fn on_disk(dir: &tempfile::TempDir) -> u64 {
        let files = std::fs::read_dir(dir.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    fn kept(shelf: &Arc<Shelf>, n: u128, tenant: &str) -> Kept {
        let mut kept = shelf.keep(Uuid::from_u128(n), tenant).unwrap();
        kept.stays = true;
        kept
    }

    #[test]
    fn the_newest_half_of_what_one_may_keep_is_always_there() {
        let (dir, shelf) = shelf(1_000, u64::MAX);
        let mut agent = kept(&shelf, 1, "maya");
        let mut written = String::new();
        for n in 0..400 {
            let line = format!("line {n}\n");
            agent.write(line.as_bytes());
            written.push_str(&line);
            assert!(on_disk(&dir) <= 1_000 && on_disk(&dir) == shelf.bytes());
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let id = Uuid::from_u128(1);
            let all = read(shelf.older(id)) + &read(shelf.newer(id));
            assert!(written.ends_with(&all));
            assert!(all.len() >= written.len().min(450), "{} of {}", all.len(), written.len());
            assert_eq!(shelf.dropped(id) as usize, written.len() - all.len());
        }
    }

    #[test]
    fn the_tenant_that_keeps_most_loses_first() {
        let (dir, shelf) = shelf(400, 2_000);
        drop(
            (1..=3)
                .map(|n| {
                    let mut quiet = kept(&shelf, n, "quiet");
                    quiet.write(&[b'q'; 100]);
                    quiet
                })
                .collect::<Vec<_>>(),
        );
        let mut running = kept(&shelf, 9, "quiet");
        running.write(&[b'q'; 100]);
        for n in 10..200 {
            let mut flood = kept(&shelf, n, "flood");
            (0..9).for_each(|_| flood.write(&[b'f'; 60]));
            assert!(on_disk(&dir) <= 2_000 && on_disk(&dir) == shelf.bytes());
        }
        for n in [1, 2, 3, 9] {
            assert_eq!(std::fs::read(shelf.newer(Uuid::from_u128(n))).unwrap(), [b'q'; 100]);
        }
        assert!(
            !shelf.newer(Uuid::from_u128(10)).exists()
                && shelf.newer(Uuid::from_u128(199)).exists()
        );
        // Many that run, none of which has ended: they lose what they wrote first.
        let mut all: Vec<Kept> = (300..330).map(|n| kept(&shelf, n, "flood")).collect();
        for _ in 0..20 {
            all.iter_mut().for_each(|flood| flood.write(&[b'g'; 60]));
            assert!(on_disk(&dir) <= 2_000 && on_disk(&dir) == shelf.bytes());
        }
        assert_eq!(shelf.dropped(Uuid::from_u128(9)), 0);
        assert!(shelf.newer(Uuid::from_u128(1)).exists());
    }

    #[test]
    fn what_lay_there_before_counts_and_what_never_ran_leaves_nothing() {
        let (dir, shelf) = shelf(1_000, 500);
        kept(&shelf, 1, "maya").write(&[b'x'; 300]);
        drop(shelf.keep(Uuid::from_u128(2), "maya").unwrap());
        assert!(!shelf.newer(Uuid::from_u128(2)).exists());
        drop(shelf);
        let again = Shelf::open(dir.path(), Limits { each: 1_000, all: 500, agents: 9 }).unwrap();
        assert_eq!(again.bytes(), 300);
        let mut new = kept(&again, 3, "omar");
        new.write(&[b'y'; 250]);
        assert!(!again.newer(Uuid::from_u128(1)).exists(), "it is of nobody that runs");
        assert_eq!((again.bytes(), on_disk(&dir)), (250, 250));
    }

    #[test]
    fn who_writes_nothing_leaves_no_files_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { each: 1_000, all: 1 << 20, agents: 20 };
        let shelf = Shelf::open(dir.path(), limits).unwrap();
        kept(&shelf, 1, "quiet").write(b"kept");
        (2..500).for_each(|n| drop(kept(&shelf, n, "flood")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 20);
        assert!(shelf.newer(Uuid::from_u128(1)).exists(), "another's goes on");
    }

    #[test]
    fn what_a_full_disk_took_is_not_counted_as_kept() {
        let (dir, shelf) = shelf(1_000, 1 << 20);
        let mut agent = kept(&shelf, 1, "maya");
        agent.write(&[b'x'; 100]);
        // A file that takes nothing any more stands for the disk.
        agent.file = File::open(agent.path()).unwrap();
        agent.write(&[b'y'; 100]);
        let id = Uuid::from_u128(1);
        assert_eq!((shelf.bytes(), on_disk(&dir), shelf.dropped(id)), (100, 100, 100));
        // Turned over all the same, it takes again.
        agent.turn();
        agent.write(&[b'z'; 100]);
        assert_eq!((shelf.bytes(), on_disk(&dir), shelf.dropped(id)), (200, 200, 100));
    }
}
