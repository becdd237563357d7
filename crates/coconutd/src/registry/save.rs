//! What has changed is written: agents with the sets that they hold, and no others.

use super::books::{Changed, News};
use super::rows::{EndingRow, InfoRow, TenantRow};
use super::{Line, Open, Registry};
use crate::sink::own;
use crate::state::{Daemon, Info, Inner};
use abi::{AgentId, AgentState, Kind};
use record::body::Degraded;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::sync::Weak;
use std::time::Duration;
use supervisor::{SavedAgent, SavedSet};

/// How long a change that nobody waits for may be unwritten.
const SOON: Duration = Duration::from_secs(1);

const UNWRITTEN: &str =
    "changes cannot be written down: a restart would end the agents that they are of";

/// Whether tenants are looked at: there may be many, and most changes are of agents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tenants {
    /// Not this time.
    Left,
    /// These.
    Of(BTreeSet<String>),
    /// Those that have changed.
    Written,
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
            if open.books.are_empty() {
                all.extend(inner.info.keys());
            }
            let (changed, gone) = look(&inner, all);
            let tenants = match tenants {
                Tenants::Left if !open.books.are_empty() => HashMap::new(),
                Tenants::Of(some) if !open.books.are_empty() => some_of(&inner, some),
                _ => tenants_of(&inner),
            };
            let journals = inner.journals.all().clone();
            let meta = (inner.supervisor.generation(), inner.admitted);
            // Under the same lock: what is booked and its records are written together.
            let behind = daemon.sink.records();
            let owed = daemon.sink.owed().all();
            (News { changed, gone, tenants, journals, meta, behind, owed }, since)
        };
        let Open { database, books, stale } = &mut *open;
        match books.write(database, self.keeper.as_ref(), news) {
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

    /// Has the journal begin anew: what an earlier daemon wrote is in it still.
    pub fn compact(&self) {
        let open = self.open_now();
        if open.stale.why().is_some() {
            return;
        }
        let done = open.database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the registry's journal stays as long as it is");
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

    /// The same, with the sums of these tenants.
    pub fn remember_of(&self, tenants: BTreeSet<String>) {
        self.write(Tenants::Of(tenants));
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

fn some_of(inner: &Inner, some: BTreeSet<String>) -> HashMap<String, TenantRow> {
    let of = |name: &str| {
        let used = *inner.tenants.get(name)?;
        Some(TenantRow::of(inner.supervisor.weight_given(name), used))
    };
    some.into_iter().filter_map(|name| of(&name).map(|row| (name, row))).collect()
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
        held_with: info.held_with,
        strict: info.exec == manifest::Exec::Strict,
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
