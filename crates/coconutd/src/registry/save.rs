//! What has changed is written: agents with the sets that they hold, and no others.

use super::rows::{AgentRow, EndingRow, FootingRow, InfoRow, SetRow, TargetRow, TenantRow};
use super::{Line, Open, Registry, owed};
use crate::port::Target;
use crate::rights::KernelSet;
use crate::sink::own;
use crate::state::{Daemon, Info, Inner};
use abi::{AgentId, AgentState, Kind};
use kernel::Handle;
use record::body::Degraded;
use rusqlite::{Connection, params};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;
use supervisor::{SavedAgent, SavedSet};

/// How long a change that nobody waits for may be unwritten.
const SOON: Duration = Duration::from_secs(1);

const UNWRITTEN: &str =
    "changes cannot be written down: a restart would end the agents that they are of";

/// What the tables have, so that each set lies there once and each file is kept once.
#[derive(Default)]
pub(super) struct Books {
    /// Sets that each agent's row names.
    held: HashMap<AgentId, Vec<u64>>,
    sets: HashMap<u64, SetBook>,
    /// By the address of what is counted: it stays while it is held here.
    handles: HashMap<usize, HandleBook>,
    /// Of each agent, what its footing needs.
    footings: HashMap<AgentId, Vec<Arc<Handle>>>,
    next_name: u64,
    tenants: HashMap<String, TenantRow>,
    meta: (u32, u64),
    owed: owed::Book,
    /// What an earlier daemon wrote goes with the next change.
    anew: bool,
    /// Files that only what lies in the tables now may need, until what is to be there is.
    parting: HashMap<usize, Arc<Handle>>,
}

struct SetBook {
    agents: u32,
    handles: Vec<Arc<Handle>>,
}

struct HandleBook {
    name: String,
    users: u32,
}

/// Whether tenants are looked at: there may be many, and most changes are of agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenants {
    /// Not this time.
    Left,
    /// Those that have changed.
    Written,
}

/// What is to be written.
struct News {
    changed: Vec<Changed>,
    gone: Vec<AgentId>,
    tenants: HashMap<String, TenantRow>,
    /// The highest generation that was given out, and how many agents there were.
    meta: (u32, u64),
    owed: owed::Owed,
    /// Records that the log had before it was asked what it is owed.
    behind: u64,
}

/// An agent as it is now.
struct Changed {
    aid: AgentId,
    agent: SavedAgent,
    info: InfoRow,
    sets: Vec<Arc<KernelSet>>,
    /// Where those are gone, what they said.
    held: Vec<SavedSet>,
    footing: Option<kernel::Footing>,
}

impl Registry {
    /// Writes what has changed of agents since the last time, and of tenants where they are asked for. When it
    /// returns, the next daemon knows it.
    ///
    /// # Errors
    /// When it could not be written; it is tried again with the next change.
    pub fn flush(&self, daemon: &Daemon, tenants: Tenants) -> Result<(), rusqlite::Error> {
        let mut open = self.open_now();
        let (news, since) = {
            let mut inner = daemon.inner();
            let since = inner.supervisor.take_unwritten();
            let mut all = since.agents.clone();
            if open.books.anew {
                all.extend(inner.info.keys());
            }
            let (changed, gone) = look(&inner, all);
            let tenants = match tenants {
                Tenants::Left if !open.books.anew => HashMap::new(),
                _ => tenants_of(&inner),
            };
            let meta = (inner.supervisor.generation(), inner.admitted);
            // Under the same lock: what is booked and its records are written together.
            let behind = daemon.sink.records();
            (News { changed, gone, tenants, meta, behind, owed: daemon.sink.owed().all() }, since)
        };
        let Open { database, books, stale } = &mut *open;
        match books.write(database, self, news) {
            Ok(()) => {
                if stale.written() {
                    tracing::info!("what was changed is written down for the next daemon again");
                }
                Ok(())
            }
            Err(error) => {
                // Of what the books took for written nothing is there.
                books.begin_again();
                let mut inner = daemon.inner();
                let there = since.decided.iter().filter(|aid| inner.info.contains_key(aid));
                let first = stale.failed(there.copied(), error.to_string());
                inner.supervisor.still_unwritten(since);
                drop(inner);
                if first {
                    tracing::error!(%error, "{UNWRITTEN}");
                    let body = Degraded { found: error.to_string(), ..Degraded::default() };
                    daemon.sink.record(own(Kind::Degraded, UNWRITTEN, body));
                }
                Err(error)
            }
        }
    }

    /// Writes what nobody waits for, as long as the daemon runs.
    pub async fn keep_up(daemon: Weak<Daemon>) {
        loop {
            tokio::time::sleep(SOON).await;
            let Some(daemon) = daemon.upgrade() else { return };
            crate::change::blocking(|| daemon.remember_all());
        }
    }

    /// Keeps a line of an agent's open for the next daemon.
    pub fn keep(&self, line: Line, agent: AgentId, open: BorrowedFd<'_>) {
        self.keeper.keep(&line.name(agent), open);
    }

    /// It is at its end.
    pub fn forget(&self, line: Line, agent: AgentId) {
        self.keeper.forget(&line.name(agent));
    }
}

impl Daemon {
    /// Writes what has changed for the next daemon; what cannot be written is tried again.
    pub fn remember(&self) {
        self.write(Tenants::Left);
    }

    /// The same, with tenants' weights and sums.
    pub fn remember_all(&self) {
        self.write(Tenants::Written);
    }

    fn write(&self, tenants: Tenants) {
        // Said once, by who keeps the books.
        if let Err(error) = self.registry.flush(self, tenants) {
            tracing::debug!(%error, "the registry");
        }
    }
}

fn look(inner: &Inner, all: BTreeSet<AgentId>) -> (Vec<Changed>, Vec<AgentId>) {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for aid in all {
        match (inner.supervisor.saved(aid), inner.info.get(&aid)) {
            // The kernel ends one that the registry does not have, and nobody was told of it.
            (Some(agent), Some(_)) if !is_made(&agent) => {}
            (Some(agent), Some(info)) => changed.push(Changed {
                aid,
                agent,
                info: row(info),
                sets: info.sets.clone(),
                held: ended(inner, aid, info),
                footing: info.footing.clone(),
            }),
            _ => gone.push(aid),
        }
    }
    (changed, gone)
}

/// Whether it is made: its sets are in the kernel, and the log is owed what it was given.
fn is_made(agent: &SavedAgent) -> bool {
    !matches!(AgentState::try_from(agent.state), Ok(AgentState::Spawning))
}

fn ended(inner: &Inner, aid: AgentId, info: &Info) -> Vec<SavedSet> {
    let agent = inner.supervisor.get(aid).ok();
    let agent = agent.filter(|agent| info.sets.is_empty() && agent.state().is_terminal());
    agent.into_iter().flat_map(|agent| agent.sets()).map(|held| held.set.saved()).collect()
}

fn tenants_of(inner: &Inner) -> HashMap<String, TenantRow> {
    let mut all: HashMap<String, TenantRow> = HashMap::new();
    for (name, weight) in inner.supervisor.weighed() {
        all.entry(name.to_owned()).or_default().weight = Some(weight);
    }
    for (name, used) in &inner.tenants {
        let weight = all.get(name).and_then(|row| row.weight);
        all.insert(name.clone(), TenantRow::of(weight, *used));
    }
    all
}

fn row(info: &Info) -> InfoRow {
    let numbers = info.numbers.iter().map(|(id, first, all)| (id.0, *first, all.to_vec()));
    InfoRow {
        command: info.command.clone(),
        uid: info.uid,
        owner: info.owner,
        pid: info.pid,
        shares: info.namespaces == manifest::Namespaces::Shared,
        launch: info.launch.iter().map(|g| (g.kind as u32, g.object.clone())).collect(),
        started_ns: info.started_ns,
        ended_ns: info.ended_ns,
        origin: info.origin.clone(),
        program_digest: info.program_digest.clone(),
        log_file: info.log_file.clone(),
        ending: info.ending.as_ref().map(EndingRow::from),
        kernel_denials: info.kernel_denials,
        daemon_denials: info.daemon_denials,
        uses: info.uses,
        counters: info.last_counters.map(|c| (c.denials, c.uses)),
        tokens: info.tokens,
        calls: info.calls,
        exit: info.exit.clone(),
        exited: info.exited.map(|exited| (exited.status, exited.signal)),
        numbers: numbers.collect(),
        footing: None,
    }
}

impl Books {
    /// Everything is written anew, and these files are kept already.
    pub(super) fn adopt(&mut self, files: impl Iterator<Item = (String, Arc<Handle>)>) {
        self.anew = true;
        for (name, handle) in files {
            self.next_name = self.next_name.max(number(&name).unwrap_or(0));
            let at = Arc::as_ptr(&handle) as usize;
            self.handles.insert(at, HandleBook { name, users: 0 });
            self.parting.insert(at, handle);
        }
    }

    /// What was kept and nobody needs any more is kept no longer.
    fn part(&mut self, registry: &Registry) {
        for (at, _open) in std::mem::take(&mut self.parting) {
            if self.handles.get(&at).is_some_and(|book| book.users == 0)
                && let Some(book) = self.handles.remove(&at)
            {
                registry.keeper.forget(&book.name);
            }
        }
    }

    fn write(
        &mut self,
        database: &mut Connection,
        registry: &Registry,
        news: News,
    ) -> Result<(), rusqlite::Error> {
        let News { changed, gone, tenants, meta, owed, behind } = news;
        let changes = database.transaction()?;
        if self.anew {
            changes.execute_batch(
                "DELETE FROM agents; DELETE FROM sets; DELETE FROM tenants; DELETE FROM owed;",
            )?;
        }
        for one in changed {
            self.agent(&changes, registry, one)?;
        }
        for aid in gone {
            changes.prepare_cached("DELETE FROM agents WHERE aid = ?1")?.execute([key(aid.0)])?;
            self.holds(&changes, aid, Vec::new())?;
            self.stands(registry, aid, Vec::new());
        }
        for (name, row) in tenants {
            if self.tenants.get(&name) != Some(&row) {
                let put = "INSERT OR REPLACE INTO tenants VALUES (?1, ?2)";
                changes.prepare_cached(put)?.execute(params![name, json(&row)])?;
                self.tenants.insert(name, row);
            }
        }
        if self.meta != meta {
            for (name, value) in [("generation", u64::from(meta.0)), ("admitted", meta.1)] {
                let put = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
                changes.prepare_cached(put)?.execute(params![name, key(value)])?;
            }
            self.meta = meta;
        }
        let owed = self.owed.write(&changes, &owed, behind)?;
        changes.commit()?;
        self.owed = owed;
        self.anew = false;
        self.part(registry);
        Ok(())
    }

    /// Nothing of it is written, and everything is to be. What lies in the tables names files still.
    fn begin_again(&mut self) {
        let sets = std::mem::take(&mut self.sets).into_values().flat_map(|book| book.handles);
        let footings = std::mem::take(&mut self.footings).into_values().flatten();
        let handles = sets.chain(footings);
        self.parting.extend(handles.map(|handle| (Arc::as_ptr(&handle) as usize, handle)));
        self.handles.values_mut().for_each(|book| book.users = 0);
        self.held.clear();
        self.tenants.clear();
        (self.meta, self.owed, self.anew) = ((0, 0), owed::Book::default(), true);
    }

    fn agent(
        &mut self,
        changes: &Connection,
        registry: &Registry,
        one: Changed,
    ) -> Result<(), rusqlite::Error> {
        let Changed { aid, agent, mut info, sets, held, footing } = one;
        // New sets before what names them, and old ones after.
        self.sets(changes, registry, &sets)?;
        let named = match held.is_empty() {
            true => agent.sets.iter().map(|held| held.key).collect(),
            false => Vec::new(),
        };
        if let Some(footing) = footing {
            let handles = footing.handles.iter().map(|h| self.name(registry, h)).collect();
            self.stands(registry, aid, footing.handles);
            let private = footing.private.iter().map(|(f, rights)| (f.dev, f.ino, *rights));
            let (folder, private) = (footing.folder, private.collect());
            info.footing = Some(FootingRow { folder, private, handles });
        } else {
            self.stands(registry, aid, Vec::new());
        }
        let put = "INSERT OR REPLACE INTO agents VALUES (?1, ?2)";
        let body = json(&AgentRow { agent, info, held });
        changes.prepare_cached(put)?.execute(params![key(aid.0), body])?;
        self.holds(changes, aid, named)
    }

    fn sets(
        &mut self,
        changes: &Connection,
        registry: &Registry,
        sets: &[Arc<KernelSet>],
    ) -> Result<(), rusqlite::Error> {
        for set in sets {
            let own = set.set().key().0;
            if self.sets.contains_key(&own) {
                continue;
            }
            let targets: Vec<Target> =
                (0..set.set().positions().len()).filter_map(|at| set.target(at)).collect();
            let mut handles = Vec::new();
            let rows = targets.iter().map(|target| {
                TargetRow::of(target, || match target {
                    Target::File(handle) => {
                        handles.push(handle.clone());
                        self.hold(registry, handle)
                    }
                    _ => String::new(),
                })
            });
            let row = SetRow { targets: rows.collect(), set: set.set().saved() };
            self.sets.insert(own, SetBook { agents: 0, handles });
            let put = "INSERT OR REPLACE INTO sets VALUES (?1, ?2)";
            changes.prepare_cached(put)?.execute(params![key(own), json(&row)])?;
        }
        Ok(())
    }

    /// What an agent holds from now on; sets that nobody holds go.
    fn holds(
        &mut self,
        changes: &Connection,
        aid: AgentId,
        mut sets: Vec<u64>,
    ) -> Result<(), rusqlite::Error> {
        // What one that is ending held may be in the table no more.
        sets.retain(|set| self.sets.contains_key(set));
        for set in &sets {
            if let Some(book) = self.sets.get_mut(set) {
                book.agents += 1;
            }
        }
        let before = match sets.is_empty() {
            true => self.held.remove(&aid).unwrap_or_default(),
            false => self.held.insert(aid, sets).unwrap_or_default(),
        };
        for set in before {
            let Some(book) = self.sets.get_mut(&set) else { continue };
            book.agents -= 1;
            if book.agents == 0 {
                changes.prepare_cached("DELETE FROM sets WHERE key = ?1")?.execute([key(set)])?;
                let handles = self.sets.remove(&set).map(|book| book.handles).unwrap_or_default();
                handles.iter().for_each(|handle| self.let_go(handle));
            }
        }
        Ok(())
    }

    /// What an agent's own mounts and standard files need.
    fn stands(&mut self, registry: &Registry, aid: AgentId, handles: Vec<Arc<Handle>>) {
        let same = |a: &[Arc<Handle>], b: &[Arc<Handle>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if self.footings.get(&aid).is_some_and(|before| same(before, &handles)) {
            return;
        }
        handles.iter().for_each(|handle| {
            self.hold(registry, handle);
        });
        let before = match handles.is_empty() {
            true => self.footings.remove(&aid),
            false => self.footings.insert(aid, handles),
        };
        before.iter().flatten().for_each(|handle| self.let_go(handle));
    }

    fn name(&mut self, registry: &Registry, handle: &Arc<Handle>) -> String {
        let name = self.hold(registry, handle);
        self.let_go(handle);
        name
    }

    /// One user more; the name that it is kept under.
    fn hold(&mut self, registry: &Registry, handle: &Arc<Handle>) -> String {
        let next = &mut self.next_name;
        let book = self.handles.entry(Arc::as_ptr(handle) as usize).or_insert_with(|| {
            *next += 1;
            let name = short(*next);
            registry.keeper.keep(&name, handle.as_fd());
            HandleBook { name, users: 0 }
        });
        book.users += 1;
        book.name.clone()
    }

    /// One user less.
    fn let_go(&mut self, handle: &Arc<Handle>) {
        let at = Arc::as_ptr(handle) as usize;
        let Some(book) = self.handles.get_mut(&at) else { return };
        book.users -= 1;
        if book.users == 0 {
            self.parting.insert(at, handle.clone());
        }
    }
}

/// All names together are one variable of the next daemon's environment, which the kernel limits to 128 KiB
/// (`MAX_ARG_STRLEN`).
fn short(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = String::new();
    while number > 0 {
        name.insert(0, char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
    }
    name.insert(0, 'f');
    name
}

/// The number of a name that [`short`] made.
pub(super) fn number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix('f')?, 36).ok()
}

/// SQLite's integers are signed.
pub(super) fn key(value: u64) -> i64 {
    value.cast_signed()
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps with keys that are no texts and numbers that are none are not among what is written.
    serde_json::to_string(value).unwrap_or_default()
}
