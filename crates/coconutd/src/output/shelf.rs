//! The files of agents' output, all of them within one limit and each within its own.
//!
//! An agent's output is two files, the newer one and the one before; when the newer one is half of what the
//! agent may keep, it takes the place of the older one. Over the limit for all, the tenant that keeps most
//! loses first: what its ended agents wrote, the oldest end first, then the older files of those that run,
//! then their newer ones.

use std::collections::{BTreeMap, HashMap, VecDeque};
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
    running: Vec<Uuid>,
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
            let agent = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
            let changed = entry.metadata().and_then(|data| data.modified());
            found.extend(agent.zip(changed.ok()).map(|(agent, changed)| (changed, agent)));
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
                books.agents.insert(agent, Held { newer, older, ..Held::default() });
                let nobody = books.tenants.entry(String::new()).or_default();
                nobody.ended.push_back(agent);
                nobody.bytes += newer + older;
                books.bytes += newer + older;
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
        books.tenants.entry(tenant.to_owned()).or_default().running.push(agent);
        Ok(Kept { shelf: self.clone(), agent, file, stays: false })
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

    /// Down to seven eighths of the limit, so that it is not looked for with every line.
    fn make_room(&self, books: &mut Books) {
        if books.bytes <= self.limits.all {
            return;
        }
        let goal = self.limits.all - self.limits.all / 8;
        while books.bytes > goal && self.drop_one(books).is_some() {}
    }

    fn drop_one(&self, books: &mut Books) -> Option<()> {
        let tenant = books.tenants.values_mut().max_by_key(|tenant| tenant.bytes)?;
        if let Some(agent) = tenant.ended.pop_front() {
            let held = books.agents.remove(&agent)?;
            books.take(&held.tenant, held.newer + held.older);
            let _ = std::fs::remove_file(self.newer(agent));
            let _ = std::fs::remove_file(self.older(agent));
            return Some(());
        }
        let agents = &books.agents;
        let most = |of: fn(&Held) -> u64| {
            let sized =
                tenant.running.iter().filter_map(|agent| Some((of(agents.get(agent)?), *agent)));
            sized.filter(|(bytes, _)| *bytes > 0).max()
        };
        let (older, (bytes, agent)) = match (most(|held| held.older), most(|held| held.newer)) {
            (Some(older), _) => (true, older),
            (None, newer) => (false, newer?),
        };
        let held = books.agents.get_mut(&agent)?;
        held.dropped += bytes;
        let tenant = held.tenant.clone();
        let done = if older {
            held.older = 0;
            std::fs::remove_file(self.older(agent))
        } else {
            held.newer = 0;
            OpenOptions::new().write(true).truncate(true).open(self.newer(agent)).map(drop)
        };
        if let Err(error) = done {
            tracing::warn!(%agent, %error, "an agent's output cannot be dropped");
        }
        books.take(&tenant, bytes);
        Some(())
    }
}

impl Books {
    fn take(&mut self, tenant: &str, bytes: u64) {
        self.bytes -= bytes;
        let Some(entry) = self.tenants.get_mut(tenant) else { return };
        entry.bytes -= bytes;
        if entry.ended.is_empty() && entry.running.is_empty() {
            self.tenants.remove(tenant);
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
        let half = self.shelf.limits.each / 2;
        let newer = self.shelf.books().agents.get(&self.agent).map_or(0, |held| held.newer);
        if newer > 0 && newer + bytes.len() as u64 > half {
            self.turn();
        }
        let written = self.file.write_all(bytes);
        let shelf = self.shelf.clone();
        let mut books = shelf.books();
        let Some(held) = books.agents.get_mut(&self.agent) else { return };
        let count = bytes.len() as u64;
        if let Err(error) = written {
            if held.dropped == 0 {
                tracing::warn!(agent = %self.agent, %error, "output of an agent is not kept");
            }
            held.dropped += count;
            return;
        }
        held.newer += count;
        let tenant = held.tenant.clone();
        books.bytes += count;
        if let Some(tenant) = books.tenants.get_mut(&tenant) {
            tenant.bytes += count;
        }
        shelf.make_room(&mut books);
    }

    /// The newer file takes the older one's place.
    fn turn(&mut self) {
        let (newer, older) = (self.shelf.newer(self.agent), self.shelf.older(self.agent));
        let turned = std::fs::rename(&newer, &older).and_then(|()| create(&newer));
        let shelf = self.shelf.clone();
        let mut books = shelf.books();
        let Some(held) = books.agents.get_mut(&self.agent) else { return };
        let gone = match turned {
            Ok(file) => {
                self.file = file;
                std::mem::replace(&mut held.older, std::mem::take(&mut held.newer))
            }
            // Nothing new can be made: what is there makes room for it.
            Err(error) => {
                tracing::warn!(agent = %self.agent, %error, "an agent's output cannot be turned over");
                let _ = self.file.set_len(0);
                std::mem::take(&mut held.newer)
            }
        };
        held.dropped += gone;
        let tenant = held.tenant.clone();
        books.take(&tenant, gone);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut books = self.shelf.books();
        let Some(held) = books.agents.get(&self.agent) else { return };
        let (tenant, bytes) = (held.tenant.clone(), held.newer + held.older);
        if let Some(entry) = books.tenants.get_mut(&tenant) {
            entry.running.retain(|agent| *agent != self.agent);
            if self.stays {
                entry.ended.push_back(self.agent);
            }
        }
        if !self.stays {
            books.agents.remove(&self.agent);
            books.take(&tenant, bytes);
            let _ = std::fs::remove_file(self.shelf.newer(self.agent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(each: u64, all: u64) -> (tempfile::TempDir, Arc<Shelf>) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), Limits { each, all }).unwrap();
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
        let again = Shelf::open(dir.path(), Limits { each: 1_000, all: 500 }).unwrap();
        assert_eq!(again.bytes(), 300);
        let mut new = kept(&again, 3, "omar");
        new.write(&[b'y'; 250]);
        assert!(!again.newer(Uuid::from_u128(1)).exists(), "it is of nobody that runs");
        assert_eq!((again.bytes(), on_disk(&dir)), (250, 250));
    }
}
