//! An earlier daemon's agents are taken up: what the registry says is made true in the kernel.

use super::files::number;
use super::rows::{AgentRow, FootingRow, InfoRow, SetRow, TenantRow, capability};
use super::sets::{Files, Sets, restore_sets};
use super::stale::Stale;
use super::{Line, Open, Registry, owed};
use crate::change::sets;
use crate::journals::Journals;
use crate::owner::Owner;
use crate::port::EventSource;
use crate::rights::KernelSet;
use crate::rights::launch::Given;
use crate::sink::own;
use crate::state::{Daemon, Ending, Info};
use crate::tree::Tree;
use abi::caps::FileKey;
use abi::{AgentId, AgentState, Kind};
use anyhow::Context;
use kernel::{Counters, Footing, Found, Process, SetId, Standing};
use manifest::{Exec, Namespaces};
use record::{Entry, body};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use supervisor::{End, RuleSet};

/// An agent that was taken up and has not ended.
pub struct Adopted {
    /// Who.
    pub aid: AgentId,
    /// Its first process, if that runs.
    pub process: Option<Process>,
    /// The reading end of its output.
    pub output: Option<OwnedFd>,
    /// The connection of whoever lent it a terminal.
    pub leash: Option<OwnedFd>,
}

/// All that was taken up.
#[derive(Default)]
pub struct Adoption {
    /// To be watched.
    pub agents: Vec<Adopted>,
    /// What has to be on record.
    pub entries: Vec<Entry>,
}

/// What lies in the registry.
struct Rows {
    owed: owed::Left,
    agents: Vec<AgentRow>,
    sets: Vec<SetRow>,
    tenants: HashMap<String, TenantRow>,
    journals: Journals,
    generation: u32,
    admitted: u64,
}

impl Registry {
    fn rows(&self) -> anyhow::Result<Rows> {
        let open = self.open_now();
        let bodies = |query: &str| -> anyhow::Result<Vec<String>> {
            let mut query = open.database.prepare(query)?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let meta = |name: &str| -> u64 {
            let query = "SELECT value FROM meta WHERE name = ?1";
            let found = open.database.query_row(query, [name], |row| row.get::<_, i64>(0));
            found.map_or(0, i64::cast_unsigned)
        };
        let parse = |body: &String| serde_json::from_str(body).context("a row of the registry");
        let agents = bodies("SELECT body FROM agents")?;
        let mut agents: Vec<AgentRow> = agents.iter().map(parse).collect::<Result<_, _>>()?;
        // Whoever made another is older.
        agents.sort_by_key(|row| row.agent.uuid);
        let parse = |body: &String| serde_json::from_str(body).context("a row of the registry");
        let sets = bodies("SELECT body FROM sets ORDER BY key")?;
        let sets = sets.iter().map(parse).collect::<Result<_, _>>()?;
        let mut query = open.database.prepare("SELECT name, body FROM tenants")?;
        let tenants = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        let tenants = tenants
            .filter_map(Result::ok)
            .filter_map(|(name, body)| Some((name, serde_json::from_str(&body).ok()?)))
            .collect();
        let generation = u32::try_from(meta("generation")).unwrap_or(u32::MAX);
        let owed = owed::read(&open.database)?;
        let mut query = open.database.prepare("SELECT id, through FROM journals")?;
        let journals =
            query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let journals = journals
            .filter_map(Result::ok)
            .filter_map(|(id, through)| Some((id.parse().ok()?, through.cast_unsigned())))
            .collect();
        let journals = Journals::restored(journals);
        Ok(Rows { owed, agents, sets, tenants, journals, generation, admitted: meta("admitted") })
    }
}

/// Takes up everything that the registry has. The agents stand still until [`finish`].
///
/// # Errors
/// When the registry cannot be read.
pub async fn restore(daemon: &Arc<Daemon>) -> anyhow::Result<Adoption> {
    let rows = daemon.registry.rows()?;
    // Before anything is written to the registry, which has them until the log does.
    let owed = owed::missing(rows.owed, &daemon.config.audit).context("what the log is owed")?;
    daemon.sink.record_all(owed);
    let mut files = Files::of(daemon);
    let kept = files.open.remove(Stale::NAME);
    daemon.registry.take_up_stale(kept).context("who is not as the registry says")?;
    let mut adoption = Adoption::default();
    {
        let mut inner = daemon.inner();
        inner.supervisor.reserve_generations(rows.generation);
        inner.admitted = rows.admitted;
        inner.journals = rows.journals;
        for (name, row) in &rows.tenants {
            if let Some(weight) = row.weight
                && let Err(error) = inner.supervisor.set_tenant_weight(name, weight)
            {
                tracing::error!(%error, name, "a tenant's weight");
            }
            inner.tenants.insert(name.clone(), row.used());
        }
    }
    let sets = restore_sets(daemon, rows.sets, &mut files, &mut adoption.entries).await;
    for row in rows.agents {
        let (uuid, name) = (row.agent.uuid, row.agent.name.clone());
        if let Err(error) = restore_agent(daemon, row, &sets, &mut files, &mut adoption) {
            tracing::error!(%uuid, name, error = format!("{error:#}"), "an agent is not taken up");
            let what = format!("agent {uuid} was not taken up and is ended: {error:#}");
            adoption.entries.push(own(
                Kind::Degraded,
                what,
                body::Degraded { name, ..Default::default() },
            ));
        }
    }
    daemon.registry.begin_anew(&files);
    Ok(adoption)
}

impl Registry {
    /// An earlier daemon could not write down what was decided of it.
    fn is_stale(&self, agent: AgentId) -> bool {
        self.open_now().stale.has(agent)
    }

    /// The tables are written anew with the next change; files keep the names that they are kept under.
    fn begin_anew(&self, files: &Files) {
        let mut open = self.open_now();
        let Open { books, .. } = &mut *open;
        books.adopt(files.handles.iter().map(|(name, handle)| (name.clone(), handle.clone())));
        // Nobody needs the rest.
        let ours = |name: &&String| number(name).is_some() || Line::is_one(name);
        for name in files.open.keys().filter(ours) {
            self.keeper.forget(name);
        }
    }
}

fn restore_agent(
    daemon: &Arc<Daemon>,
    row: AgentRow,
    sets: &Sets,
    files: &mut Files,
    adoption: &mut Adoption,
) -> anyhow::Result<()> {
    let AgentRow { agent, info, held: gone } = row;
    let held: Vec<Arc<KernelSet>> =
        agent.sets.iter().filter_map(|held| sets.get(&held.key).cloned()).collect();
    let mut rules: HashMap<u64, Arc<RuleSet>> = agent
        .sets
        .iter()
        .filter_map(|held| Some((held.key, sets.get(&held.key)?.set().clone())))
        .collect();
    for set in gone {
        rules.insert(set.key, RuleSet::restored(daemon.rights.keys().fresh(), None, set));
    }
    let (uuid, tenant) = (agent.uuid, agent.tenant.clone());
    let state = AgentState::try_from(agent.state).unwrap_or(AgentState::TerminatedFailed);
    let namespaces = if info.shares { Namespaces::Shared } else { Namespaces::Own };
    // A start that was not over is undone: its books would not know it as running, and nothing could stop it.
    let started = state != AgentState::Attested;
    let footing = info.footing.clone().filter(|_| started);
    let footing = footing.map(|row| footing_of(daemon, row, files));
    let (pid, ended) = (info.pid, info.exit.is_some());
    let aid = {
        let mut inner = daemon.inner();
        let aid = inner.supervisor.restore(agent, &rules)?;
        let parent = inner.supervisor.get(aid).ok().and_then(|agent| agent.parent);
        let tree = parent.and_then(|parent| inner.info.get(&parent)).map(|info| info.tree.clone());
        let info = of_row(uuid, info, tree.unwrap_or_default(), held.clone(), footing.clone());
        inner.enter(aid, info);
        aid
    };
    if ended && state.is_terminal() {
        return Ok(());
    }
    let found = take_over(daemon, aid, &tenant, namespaces, pid, &held, footing);
    let mut line = |line: Line| files.open.remove(&line.name(aid));
    let (output, leash) = (line(Line::Output), line(Line::Leash));
    if daemon.registry.is_stale(aid) {
        doom(daemon, aid);
    }
    let (process, outcome) = match found {
        Ok(Found::Running(process)) => (Some(process), Ok(())),
        Ok(Found::Ended(_) | Found::Gone) => (None, Ok(())),
        // Its end is booked by whoever watches it; the kernel ends what it was not told to keep.
        Err(error) => (None, Err(error.into())),
    };
    adoption.agents.push(Adopted { aid, process, output, leash });
    outcome
}

/// Ends one whose row does not say what was done to it last.
fn doom(daemon: &Daemon, aid: AgentId) {
    let why = "it was changed, and that could not be written down before coconutd ended";
    if let Some(info) = daemon.inner().info.get_mut(&aid) {
        info.ending.get_or_insert(Ending::new(End::Failed, why));
    }
    // It stands still; what fails here is tried again when it is watched.
    if let Err(error) = daemon.kernel.kill(aid) {
        tracing::warn!(?aid, %error, "cannot kill yet");
    }
}

fn take_over(
    daemon: &Daemon,
    aid: AgentId,
    tenant: &str,
    namespaces: Namespaces,
    pid: Option<u32>,
    held: &[Arc<KernelSet>],
    footing: Option<Footing>,
) -> kernel::Result<Found> {
    let Some(footing) = footing else { return Ok(Found::Gone) };
    let ids = sets::ids(held)?;
    let agent = daemon.uuid_of(aid).unwrap_or_default();
    let namespaces = match namespaces {
        Namespaces::Own => kernel::Namespaces::Own { tmp_size: daemon.config.tmp_size },
        Namespaces::Shared => kernel::Namespaces::Shared,
    };
    let standing = Standing { aid, agent, tenant: tenant.to_owned(), namespaces, pid, footing };
    let found = daemon.kernel.adopt_agent(&standing, &ids)?;
    let parent = daemon.inner().supervisor.get(aid).ok().and_then(|agent| agent.parent);
    if matches!(found, Found::Running(_)) {
        // An earlier daemon may have booked another one that it had no time to tell.
        daemon.kernel.set_parent(aid, parent.unwrap_or(AgentId::NOBODY))?;
    }
    let mut inner = daemon.inner();
    let books = inner.supervisor.get(aid).map(|agent| agent.sets().to_vec()).unwrap_or_default();
    if let Some(info) = inner.info.get_mut(&aid) {
        sets::remember(info, &books, held, &ids);
        info.pid = None;
        if let Found::Running(process) = &found {
            info.pid = Some(process.pid);
            info.pidfd = process.pidfd.try_clone().ok().map(Arc::new);
        }
    }
    Ok(found)
}

fn footing_of(daemon: &Daemon, row: FootingRow, files: &mut Files) -> Footing {
    let private = row.private.into_iter().map(|(dev, ino, rights)| (FileKey { dev, ino }, rights));
    Footing {
        folder: row.folder,
        private: private.collect(),
        handles: row.handles.iter().filter_map(|name| files.handle(daemon, name)).collect(),
    }
}

fn of_row(
    uuid: uuid::Uuid,
    row: InfoRow,
    tree: Arc<Tree>,
    sets: Vec<Arc<KernelSet>>,
    footing: Option<Footing>,
) -> Info {
    let given = |(kind, object): (u32, String)| Given { kind: capability(kind), object };
    let numbers =
        row.numbers.into_iter().map(|(id, first, all)| (SetId(id), first, Arc::from(all)));
    Info {
        uuid,
        command: row.command,
        uid: row.uid,
        owner: row.owner,
        pid: row.pid,
        pidfd: None,
        tree,
        kernel: Arc::new(Owner::default()),
        sets,
        numbers: numbers.collect(),
        namespaces: if row.shares { Namespaces::Shared } else { Namespaces::Own },
        held_with: row.held_with,
        exec: if row.strict { Exec::Strict } else { Exec::Readable },
        launch: row.launch.into_iter().map(given).collect(),
        started_ns: row.started_ns,
        ended_ns: row.ended_ns,
        origin: row.origin,
        program_digest: row.program_digest,
        log_file: row.log_file,
        ending: row.ending.map(Into::into),
        kernel_denials: row.kernel_denials,
        daemon_denials: row.daemon_denials,
        uses: row.uses,
        last_counters: row.counters.map(|(denials, uses)| Counters { denials, uses }),
        tokens: row.tokens,
        calls: row.calls,
        exited: row.exited.map(|(status, signal)| kernel::Exited { status, signal }),
        exit: row.exit,
        footing,
    }
}

/// Books what is in the log and what still waits in the ring, and lets the agents go on.
///
/// # Errors
/// When the kernel does not let them.
pub fn finish(
    daemon: &Daemon,
    adoption: &mut Adoption,
    source: &dyn EventSource,
    logged: u64,
) -> kernel::Result<()> {
    let waiting = source.waiting(logged);
    for adopted in &adoption.agents {
        let Ok(counted) = daemon.kernel.counters(adopted.aid) else { continue };
        let left = waiting.get(&adopted.aid).copied().unwrap_or_default();
        if let Some(info) = daemon.inner().info.get_mut(&adopted.aid) {
            // Agents stand still: what is not in the ring is in the log.
            info.kernel_denials = counted.denials.saturating_sub(left.denials);
            info.uses = counted.uses.saturating_sub(left.uses);
        }
    }
    for adopted in &adoption.agents {
        let owner = daemon.inner().info.get(&adopted.aid).map(|info| info.kernel.clone());
        if let Some(owner) = owner
            && let Err(error) = owner.tell_now(daemon, adopted.aid)
        {
            tracing::debug!(%error, "an agent that is gone");
        }
    }
    let strangers = daemon.kernel.adoption_done()?;
    let running = adoption.agents.iter().filter(|adopted| adopted.process.is_some()).count();
    let detail = body::Boot {
        running: Some(running as u64),
        ended: Some((adoption.agents.len() - running) as u64),
        strangers: Some(strangers.len() as u64),
        ..Default::default()
    };
    adoption.entries.insert(0, own(Kind::Boot, "agents taken over", detail));
    Ok(())
}
