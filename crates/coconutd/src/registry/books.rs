//! What the tables have, and how they come to say what is so.

use super::files::KeptFiles;
use super::keeper::Keeper;
use super::owed;
use super::rows::{AgentRow, FootingRow, InfoRow, SetRow, TargetRow, TenantRow};
use crate::port::Target;
use crate::rights::KernelSet;
use abi::AgentId;
use kernel::Handle;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use supervisor::{SavedAgent, SavedSet};
use uuid::Uuid;

/// What the tables have, so that each set lies there once and each file is kept once.
#[derive(Default)]
pub(super) struct Books {
    /// Sets that each agent's row names.
    held: HashMap<AgentId, Vec<u64>>,
    sets: HashMap<u64, SetBook>,
    files: KeptFiles,
    /// Of each agent, what its footing needs.
    footings: HashMap<AgentId, Vec<Arc<Handle>>>,
    tenants: HashMap<String, TenantRow>,
    journals: BTreeMap<Uuid, u64>,
    meta: (u32, u64),
    owed: owed::Book,
    /// What an earlier daemon wrote goes with the next change.
    anew: bool,
}

struct SetBook {
    agents: u32,
    handles: Vec<Arc<Handle>>,
}

/// What is to be written.
pub(super) struct News {
    pub changed: Vec<Changed>,
    pub gone: Vec<AgentId>,
    pub tenants: HashMap<String, TenantRow>,
    /// Up to which number each journal's calls are booked.
    pub journals: BTreeMap<Uuid, u64>,
    /// The highest generation that was given out, and how many agents there were.
    pub meta: (u32, u64),
    pub owed: owed::Owed,
    /// Records that the log had before it was asked what it is owed.
    pub behind: u64,
}

/// An agent as it is now.
pub(super) struct Changed {
    pub aid: AgentId,
    pub agent: SavedAgent,
    pub info: InfoRow,
    pub sets: Vec<Arc<KernelSet>>,
    /// Where those are gone, what they said.
    pub held: Vec<SavedSet>,
    pub footing: Option<kernel::Footing>,
}

impl Books {
    /// Everything is written anew, and these files are kept already.
    pub fn adopt(&mut self, files: impl Iterator<Item = (String, Arc<Handle>)>) {
        self.anew = true;
        files.for_each(|(name, handle)| self.files.take_up(name, handle));
    }

    /// Whether everything is to be written.
    pub const fn are_empty(&self) -> bool {
        self.anew
    }

    /// Has the tables say it.
    ///
    /// # Errors
    /// When it could not be written: then [`Books::begin_again`].
    pub fn write(
        &mut self,
        database: &mut Connection,
        keeper: &dyn Keeper,
        news: News,
    ) -> Result<(), rusqlite::Error> {
        let News { changed, gone, tenants, journals, meta, owed, behind } = news;
        let changes = database.transaction()?;
        if self.anew {
            changes.execute_batch(
                "DELETE FROM agents; DELETE FROM sets; DELETE FROM tenants; DELETE FROM owed; \
                 DELETE FROM journals;",
            )?;
        }
        for one in changed {
            self.agent(&changes, keeper, one)?;
        }
        for aid in gone {
            changes.prepare_cached("DELETE FROM agents WHERE aid = ?1")?.execute([key(aid.0)])?;
            self.holds(&changes, aid, Vec::new())?;
            self.stands(keeper, aid, Vec::new());
        }
        for (name, row) in tenants {
            if self.tenants.get(&name) != Some(&row) {
                let put = "INSERT OR REPLACE INTO tenants VALUES (?1, ?2)";
                changes.prepare_cached(put)?.execute(params![name, json(&row)])?;
                self.tenants.insert(name, row);
            }
        }
        for id in self.journals.keys().filter(|id| !journals.contains_key(id)) {
            let drop = "DELETE FROM journals WHERE id = ?1";
            changes.prepare_cached(drop)?.execute([id.to_string()])?;
        }
        for (id, through) in journals.iter().filter(|(id, n)| self.journals.get(id) != Some(n)) {
            let put = "INSERT OR REPLACE INTO journals VALUES (?1, ?2)";
            changes.prepare_cached(put)?.execute(params![id.to_string(), key(*through)])?;
        }
        self.journals = journals;
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
        self.files.part(keeper);
        Ok(())
    }

    /// Nothing of it is written, and everything is to be. What lies in the tables names files still.
    pub fn begin_again(&mut self) {
        self.files.begin_again();
        self.sets.clear();
        self.footings.clear();
        self.held.clear();
        self.tenants.clear();
        self.journals.clear();
        (self.meta, self.owed, self.anew) = ((0, 0), owed::Book::default(), true);
    }

    fn agent(
        &mut self,
        changes: &Connection,
        keeper: &dyn Keeper,
        one: Changed,
    ) -> Result<(), rusqlite::Error> {
        let Changed { aid, agent, mut info, sets, held, footing } = one;
        // New sets before what names them, and old ones after.
        self.sets(changes, keeper, &sets)?;
        let named = match held.is_empty() {
            true => agent.sets.iter().map(|held| held.key).collect(),
            false => Vec::new(),
        };
        if let Some(footing) = footing {
            let handles = footing.handles.iter().map(|h| self.files.name(keeper, h)).collect();
            self.stands(keeper, aid, footing.handles);
            let private = footing.private.iter().map(|(f, rights)| (f.dev, f.ino, *rights));
            let (folder, private) = (footing.folder, private.collect());
            info.footing = Some(FootingRow { folder, private, handles });
        } else {
            self.stands(keeper, aid, Vec::new());
        }
        let put = "INSERT OR REPLACE INTO agents VALUES (?1, ?2)";
        let body = json(&AgentRow { agent, info, held });
        changes.prepare_cached(put)?.execute(params![key(aid.0), body])?;
        self.holds(changes, aid, named)
    }

    fn sets(
        &mut self,
        changes: &Connection,
        keeper: &dyn Keeper,
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
                        self.files.hold(keeper, handle)
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
                handles.iter().for_each(|handle| self.files.let_go(handle));
            }
        }
        Ok(())
    }

    /// What an agent's own mounts and standard files need.
    fn stands(&mut self, keeper: &dyn Keeper, aid: AgentId, handles: Vec<Arc<Handle>>) {
        let same = |a: &[Arc<Handle>], b: &[Arc<Handle>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if self.footings.get(&aid).is_some_and(|before| same(before, &handles)) {
            return;
        }
        handles.iter().for_each(|handle| {
            self.files.hold(keeper, handle);
        });
        let before = match handles.is_empty() {
            true => self.footings.remove(&aid),
            false => self.footings.insert(aid, handles),
        };
        before.iter().flatten().for_each(|handle| self.files.let_go(handle));
    }
}

/// SQLite's integers are signed.
fn key(value: u64) -> i64 {
    value.cast_signed()
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps with keys that are no texts and numbers that are none are not among what is written.
    serde_json::to_string(value).unwrap_or_default()
}
