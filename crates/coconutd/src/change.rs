//! Rights that change while agents run: grant, revoke, expire. A revocation bites at once.

use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::state::{Daemon, Ending, Inner};
use crate::{clock, paths, reap, rules, translate};
use abi::{AgentId, Entry, Kind, Verdict};
use api::agent::ChangeReport;
use api::broker::LaneEvent;
use manifest::{AbsPath, FsRight, Rule, Scope};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{Change, End, GrantError, Removal, RevokeError};

/// How often, and how many times, a broker that has come is asked whether it listens yet.
const BROKER_LOOK: Duration = Duration::from_millis(200);
const BROKER_LOOKS: u32 = 300;

/// Gives an agent a right until it ends or the right expires. The policy lock is held by the
/// caller.
///
/// # Errors
/// When the agent's parent does not hold it, its path does not exist, or the kernel refuses.
pub fn grant(daemon: &Daemon, caller: &Caller, aid: AgentId, rule: &Rule) -> Answer<ChangeReport> {
    let started = Instant::now();
    let rule = &paths::real(rule.clone());
    let id = daemon.inner().supervisor.grant(aid, rule, clock::boot_ns()).map_err(|error| {
        let text = error.to_string();
        match error {
            GrantError::Unknown(_) => Refusal::new(api::ErrorCode::NotFound, text),
            GrantError::Amplifies(_) => Refusal::denied(text),
            GrantError::Ended | GrantError::TooMany => Refusal::failed(text),
        }
    })?;
    let agent = daemon.inner().supervisor.get(aid)?.clone();
    let applied = rules::check(&agent)
        .map_err(|text| Refusal::usage(text).hint("create the path first"))
        .and_then(|()| apply(daemon, aid));
    if let Err(refusal) = applied {
        // Nothing may stay that the kernel does not enforce.
        let _ = daemon.inner().supervisor.revoke(aid, rule, clock::boot_ns());
        if let Err(error) = apply(daemon, aid) {
            tracing::error!(?aid, error = error.0.error, "cannot take a failed grant back");
        }
        return Err(refusal);
    }
    let mut entry = daemon.inner().entry(aid, Kind::Grant);
    entry.capability = rule.capability();
    entry.verdict = Verdict::Allow;
    entry.object = rule.value();
    entry.detail = format!("rule={id} from=grant authorizer={}", translate::word(&caller.name()));
    daemon.sink.record(entry);
    tell_lanes(daemon, &[aid]);
    daemon.expiry.notify_one();
    Ok(report(daemon, &[aid], &[], started))
}

/// Takes a right from an agent and all its descendants. The policy lock is held by the caller.
///
/// # Errors
/// When the agent does not hold it.
pub fn revoke(daemon: &Daemon, caller: &Caller, aid: AgentId, rule: &Rule) -> Answer<ChangeReport> {
    let started = Instant::now();
    // What it was given as may not be there any more.
    let real = paths::real(rule.clone());
    let revoke = |rule: &Rule| daemon.inner().supervisor.revoke(aid, rule, clock::boot_ns());
    let done = match revoke(&real) {
        Err(RevokeError::NotHeld(_)) => revoke(rule),
        other => other,
    };
    let done = done.map_err(|error| {
        let text = error.to_string();
        match error {
            RevokeError::Unknown(_) | RevokeError::NotHeld(_) => {
                Refusal::new(api::ErrorCode::NotFound, text)
                    .hint("`coconut cap ls` shows what it holds")
            }
            RevokeError::PartOf { wider, .. } => {
                Refusal::usage(text).hint(format!("coconut cap revoke … '{wider}'"))
            }
        }
    })?;
    let (ended, took) = enforce(daemon, &done.changes, &caller.name(), started);
    let changed: Vec<AgentId> = done.changes.iter().map(|change| change.aid).collect();
    let mut report = report(daemon, &changed, &ended, started);
    report.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Writes changed sets to the kernel, records each removal, and ends who had mapped what is gone.
///
/// The maps of all of them come first: from then on no check allows it.
fn enforce(
    daemon: &Daemon,
    changes: &[Change],
    by: &str,
    started: Instant,
) -> (Vec<AgentId>, Duration) {
    for change in changes {
        if let Err(refusal) = apply(daemon, change.aid) {
            // An agent whose rights cannot be narrowed must not go on with them.
            tracing::error!(aid = ?change.aid, error = refusal.0.error, "cannot revoke; the agent is ended");
            let reason = "a right could not be taken from it".to_owned();
            reap::end(daemon, change.aid, &Ending::new(End::Revoked, reason));
        }
    }
    let took = started.elapsed();
    for change in changes {
        let entries = removal_entries(&daemon.inner(), change, by);
        entries.into_iter().for_each(|entry| daemon.sink.record(entry));
    }
    let mut ended = Vec::new();
    for change in changes {
        if let Some(path) = still_mapped(daemon, change) {
            let reason = format!("it had mapped {path}, which was revoked");
            reap::end(daemon, change.aid, &Ending::new(End::Revoked, reason));
            ended.push(change.aid);
        }
    }
    let changed: Vec<AgentId> = changes.iter().map(|change| change.aid).collect();
    tell_lanes(daemon, &changed);
    (ended, took)
}

fn removal_entries(inner: &Inner, change: &Change, by: &str) -> Vec<Entry> {
    let why = match change.removal {
        Removal::Revoked => "revoked",
        Removal::RevokedAbove => "revoked-from-ancestor",
        Removal::Expired => "expired",
    };
    let entry = |held: &supervisor::Held| {
        let mut entry = inner.entry(change.aid, Kind::Revoke);
        entry.capability = held.rule.capability();
        entry.object = held.rule.value();
        entry.detail = format!("rule={} why={why} authorizer={}", held.id, translate::word(by));
        entry
    };
    change.removed.iter().map(entry).collect()
}

/// Writes an agent's whole set to the kernel.
fn apply(daemon: &Daemon, aid: AgentId) -> Answer<()> {
    let (agent, below) = {
        let inner = daemon.inner();
        (inner.supervisor.get(aid)?.clone(), inner.supervisor.descendants(aid))
    };
    let rules = rules::kernel_rules(daemon, &agent, &below).map_err(Refusal::failed)?;
    Ok(daemon.kernel.apply(aid, &rules)?)
}

/// A mapping of what was revoked that nothing else allows: shared memory cannot be checked again.
///
/// The agent is frozen while it is looked at, and thawed unless there is one.
fn still_mapped(daemon: &Daemon, change: &Change) -> Option<String> {
    let paths: Vec<&AbsPath> = change
        .removed
        .iter()
        .filter_map(|held| match &held.rule.scope {
            Scope::Fs { path, .. } | Scope::Device(path) => Some(path),
            _ => None,
        })
        .collect();
    if paths.is_empty() {
        return None;
    }
    let agent = daemon.inner().supervisor.get(change.aid).ok()?.clone();
    if let Err(error) = daemon.kernel.freeze(change.aid) {
        tracing::error!(%error, "cannot freeze; the agent is ended");
        return Some("something that cannot be seen".into());
    }
    let found = paths.iter().find_map(|path| {
        match daemon.kernel.mappings_below(change.aid, Path::new(path.as_str())) {
            Ok(found) => found.iter().find(|mapping| !is_allowed(&agent, mapping)).map(shown),
            Err(error) => {
                tracing::error!(%error, "cannot see its mappings; the agent is ended");
                Some(path.to_string())
            }
        }
    });
    let quarantined = agent.state() == abi::AgentState::Quarantined;
    if found.is_none()
        && !quarantined
        && let Err(error) = daemon.kernel.thaw(change.aid)
    {
        tracing::error!(%error, "cannot thaw");
    }
    found
}

fn shown(mapping: &kernel::Mapping) -> String {
    mapping.path.display().to_string()
}

fn is_allowed(agent: &supervisor::Agent, mapping: &kernel::Mapping) -> bool {
    let Some(path) = mapping.path.to_str().and_then(|path| AbsPath::parse(path).ok()) else {
        return false;
    };
    let holds = |right| {
        let wanted = Scope::Fs { right, path: path.clone() };
        agent.held().iter().any(|held| held.rule.scope.covers(&wanted))
    };
    let readable = holds(FsRight::Read) || holds(FsRight::Exec);
    readable && (!(mapping.shared && mapping.writable) || holds(FsRight::Write))
}

fn tell_lanes(daemon: &Daemon, agents: &[AgentId]) {
    let inner = daemon.inner();
    let lanes: Vec<_> =
        agents.iter().filter_map(|aid| inner.lane(*aid, clock::boot_ns())).collect();
    drop(inner);
    lanes.into_iter().for_each(|lane| daemon.lanes.tell(LaneEvent::Set { lane }));
}

fn report(
    daemon: &Daemon,
    changed: &[AgentId],
    ended: &[AgentId],
    started: Instant,
) -> ChangeReport {
    let uuids = |agents: &[AgentId]| agents.iter().filter_map(|aid| daemon.uuid_of(*aid)).collect();
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    ChangeReport { changed: uuids(changed), ended: uuids(ended), took_us }
}

/// Whoever may signal its descendants must be told to the kernel whom it has now.
pub fn refresh_signals(daemon: &Daemon, parent: Option<AgentId>) {
    let holders = {
        let inner = daemon.inner();
        let mut holders = Vec::new();
        let mut next = parent;
        while let Some(agent) = next.and_then(|aid| inner.supervisor.get(aid).ok()) {
            let signals = agent.held().iter().any(|held| held.rule.scope == Scope::Signal);
            if signals && !agent.state().is_terminal() {
                holders.push(agent.aid);
            }
            next = agent.parent;
        }
        holders
    };
    for aid in holders {
        if let Err(refusal) = apply(daemon, aid) {
            tracing::error!(?aid, error = refusal.0.error, "cannot renew its signal rights");
        }
    }
}

/// A broker that has come anew listens on a socket of its own making: whoever may ask models must be
/// told to the kernel with that one.
pub async fn renew_infer(daemon: Arc<Daemon>) {
    let socket = daemon.config.broker_socket();
    for _ in 0..BROKER_LOOKS {
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            break;
        }
        tokio::time::sleep(BROKER_LOOK).await;
    }
    daemon.paths.forget(&socket);
    let _one_at_a_time = daemon.policy.lock().await;
    let asks = |agent: &&supervisor::Agent| {
        agent.held().iter().any(|held| matches!(held.rule.scope, Scope::Infer(_)))
    };
    let holders: Vec<AgentId> = {
        let inner = daemon.inner();
        inner.supervisor.living().into_iter().filter(asks).map(|agent| agent.aid).collect()
    };
    for aid in holders {
        if let Err(refusal) = apply(&daemon, aid) {
            tracing::error!(?aid, error = refusal.0.error, "cannot renew its way to the broker");
        }
    }
}

/// Takes away what has expired, as long as the daemon runs. The kernel refuses by itself from the
/// moment on; this makes the record.
pub async fn expire(daemon: Arc<Daemon>) {
    loop {
        let sooner = daemon.expiry.notified();
        let next = daemon.inner().supervisor.next_expiry();
        let wait = next.map(|at| Duration::from_nanos(at.saturating_sub(clock::boot_ns())));
        tokio::select! {
            () = sleep_for(wait) => {}
            () = sooner => continue,
        }
        let _one_at_a_time = daemon.policy.lock().await;
        let worker = daemon.clone();
        let done = tokio::task::spawn_blocking(move || {
            let changes = worker.inner().supervisor.expire(clock::boot_ns());
            enforce(&worker, &changes, "expiry", Instant::now());
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "cannot take away what has expired");
        }
    }
}

/// Without an end where nothing expires.
async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
