//! Rights that change while agents run: grant, revoke, expire. A revocation bites at once.
//!
//! The kernel is told from the leaves up: at no moment does a child hold what its parent lacks.

use super::children::{processes, spawn_count};
use super::remains::{Left, decide_again, end_who_keeps};
use super::sets::{self, Made};
use super::{blocking, lock, whole};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::rights::wanted;
use crate::sink::{Due, Durable};
use crate::state::{Daemon, Ending, Inner};
use crate::{clock, reap};
use abi::{AgentId, AgentState, Capability, Kind, Verdict};
use api::agent::ChangeReport;
use manifest::{Rule, Scope};
use record::{Entry, body};
use resolve::targets::Absent;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{
    Change, Counter, End, GrantError, Granting, Removal, Revocation, RevokeError, SetRule, Taken,
};

/// How long the daemon waits before it tries again to take away what has expired.
const AGAIN: Duration = Duration::from_secs(1);

/// Gives an agent a right until it ends or the right expires.
///
/// # Errors
/// When the agent's parent does not hold it, its path does not exist, or the kernel refuses; then
/// nothing has changed.
pub async fn grant(
    daemon: &Arc<Daemon>,
    caller: Caller,
    aid: AgentId,
    rule: Rule,
) -> Answer<ChangeReport> {
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let started = Instant::now();
        let tenant = daemon.inner().supervisor.get(aid)?.tenant.clone();
        let (rule, target) = wanted::one(&daemon, &tenant, &rule).await?;
        let room = daemon.sink.room().await?;
        let (changed, records, took) = {
            let _tree = lock(&daemon, aid).await?;
            blocking(|| -> Answer<_> {
                let scope = rule.rule.scope.clone();
                let (granting, granted) = planned(&daemon, aid, rule)?;
                let more = granting.more;
                if let Scope::Spawn { count } = scope {
                    make_room(&daemon, aid, count)?;
                }
                let changes = granting.changes;
                let changed: Vec<AgentId> = changes.iter().map(|change| change.aid).collect();
                let by = caller.name();
                let due = given(&daemon, changes, &target, |inner, made| {
                    let mut entries = removals(inner, made, &by);
                    entries.extend(granted.iter().map(|one| grant_entry(inner, aid, one, &by)));
                    room.owe(entries)
                })?;
                if let Some(Counter { key, uses }) = more
                    && !daemon.kernel.add_uses(key, uses)?
                {
                    return Err(Refusal::failed("the kernel has no counter for the rule"));
                }
                let took = started.elapsed();
                daemon.remember();
                Ok((changed, room.pay(due), took))
            })?
        };
        records.written().await?;
        daemon.expiry.notify_one();
        let changed = if changed.is_empty() { vec![aid] } else { changed };
        Ok(report(&daemon, &changed, &[], took))
    })
    .await
}

/// A rule that is given: its number, and where it comes from, for the log.
type Granted = (u32, Rule, String);

fn grant_entry(inner: &Inner, aid: AgentId, (id, rule, from): &Granted, by: &str) -> Entry {
    let mut entry = inner.entry(aid, Kind::Grant);
    (entry.capability, entry.verdict) = (rule.capability(), Verdict::Allow);
    entry.object = rule.value();
    let (rule, from, authorizer) = (Some((*id).into()), from.clone(), by.to_owned());
    entry.body = body::Grant { rule, from, authorizer, ..Default::default() }.into();
    entry
}

/// A grant with what the right is of no use without.
fn planned(daemon: &Daemon, aid: AgentId, rule: SetRule) -> Answer<(Granting, Vec<Granted>)> {
    let now = clock::boot_ns();
    let kind = rule.rule.capability();
    let own = rule.rule.clone();
    let inner = daemon.inner();
    let plan = inner.supervisor.plan_grant(aid, rule, now);
    let mut granting = plan.map_err(|error| grant_refusal(&error))?;
    let mut granted = vec![(granting.id, own, "grant".to_owned())];
    if let Some(set) = daemon.system.implied(kind) {
        let given = inner.supervisor.plan_implied(&mut granting, set.set(), now);
        let given = given.map_err(|error| grant_refusal(&error))?;
        granted.extend(given.into_iter().map(|(id, rule)| (id, rule, kind.name().to_owned())));
    }
    Ok((granting, granted))
}

/// Where children's limits will lie; one that was started without children gets room for them.
fn make_room(daemon: &Daemon, aid: AgentId, count: u32) -> Answer<()> {
    let (most, owner) = {
        let inner = daemon.inner();
        let held = inner.supervisor.get(aid)?.held_of(Capability::AgentSpawn);
        let most = held.filter_map(spawn_count).fold(count, u32::max);
        (most, inner.info.get(&aid).map(|info| info.kernel.clone()))
    };
    let Some(owner) = owner else { return Ok(()) };
    let pids = Some(processes(daemon.config.pids_max, Some(most)));
    match owner.while_frozen(daemon, aid, || daemon.kernel.make_room(aid, pids)) {
        Ok(made) => Ok(made?),
        Err(error) => {
            // It may be frozen still, and nobody asked for that.
            if let Err(error) = owner.tell_now(daemon, aid) {
                tracing::error!(?aid, %error, "cannot thaw it; the agent is ended");
                let reason = "it could not be thawed".to_owned();
                reap::end(daemon, aid, &Ending::new(End::Failed, reason));
            }
            Err(error.into())
        }
    }
}

fn grant_refusal(error: &GrantError) -> Refusal {
    let text = error.to_string();
    match error {
        GrantError::Unknown(_) => Refusal::new(api::ErrorCode::NotFound, text),
        GrantError::Amplifies(_) => Refusal::denied(text),
        GrantError::Ended | GrantError::TooMany => Refusal::failed(text),
    }
}

/// Has the kernel decide by a grant, or leaves everything as it was.
fn given(
    daemon: &Daemon,
    changes: Vec<Change>,
    target: &crate::port::Target,
    owe: impl FnOnce(&Inner, &[Change]) -> Due,
) -> Answer<Due> {
    let first = changes.first().map(|change| change.aid);
    let mut made = Vec::with_capacity(changes.len());
    for change in changes {
        let added = (Some(change.aid) == first).then_some(target);
        made.push(sets::make(daemon, change, added)?);
    }
    // What goes from below goes first.
    for (done, one) in made.iter().rev().enumerate() {
        let Err(error) = sets::assign(daemon, one) else { continue };
        let undone = made.iter().rev().take(done).rev();
        undone.for_each(|back| take_back(daemon, back.aid()));
        return Err(error.into());
    }
    let changes: Vec<Change> = made.iter().map(|made| made.change.clone()).collect();
    Ok(sets::book(daemon, made, clock::boot_ns(), |inner| owe(inner, &changes)))
}

/// Nothing may stay that the books do not have.
fn take_back(daemon: &Daemon, aid: AgentId) {
    if let Err(error) = sets::assign_back(daemon, aid) {
        tracing::error!(?aid, %error, "cannot take a failed grant back; the agent is ended");
        let reason = "a right that was not given could not be taken from it".to_owned();
        reap::end(daemon, aid, &Ending::new(End::Failed, reason));
    }
}

/// Takes a right from an agent and all its descendants.
///
/// # Errors
/// When the agent does not hold it; then nothing has changed. An agent from which the right cannot be
/// taken is ended.
pub async fn revoke(
    daemon: &Arc<Daemon>,
    caller: Caller,
    aid: AgentId,
    rule: Rule,
) -> Answer<ChangeReport> {
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let started = Instant::now();
        let rule = as_held(&daemon, aid, rule).await?;
        let room = daemon.sink.room().await?;
        let done = {
            let _tree = lock(&daemon, aid).await?;
            blocking(|| -> Answer<Done> {
                let now = clock::boot_ns();
                let plan = daemon.inner().supervisor.plan_revoke(aid, &rule, now);
                let Revocation { changes, .. } = plan.map_err(revoke_refusal)?;
                Ok(enforce(&daemon, changes, &caller.name(), room, started))
            })?
        };
        let Done { changes, left, records, took } = done;
        records.written().await?;
        let ended = blocking(|| {
            let mut ended = decide_again(&daemon, &changes);
            ended.extend(end_who_keeps(&daemon, &left));
            ended
        });
        let changed: Vec<AgentId> = changes.iter().map(|change| change.aid).collect();
        Ok(report(&daemon, &changed, &ended, took))
    })
    .await
}

/// The rule as the agent holds it: by its own words, or by what they lead to.
async fn as_held(daemon: &Daemon, aid: AgentId, rule: Rule) -> Answer<Rule> {
    let held = |rule: &Rule| {
        let inner = daemon.inner();
        let agent = inner.supervisor.get(aid)?;
        let within = |held: supervisor::Held<'_>| {
            let scope = &held.rule.rule.scope;
            rule.scope.covers(scope) || scope.covers(&rule.scope)
        };
        Answer::Ok(agent.held().any(within))
    };
    let is_path = !matches!(&rule.scope, Scope::Net { .. });
    if held(&rule)? || !is_path {
        return Ok(rule);
    }
    let found = daemon.lookup.rules("", &[(rule.clone(), Absent::LeftOut)]).await;
    let real = found.ok().and_then(|found| found.into_iter().next()).map(|found| found.rule);
    Ok(real.unwrap_or(rule))
}

fn revoke_refusal(error: RevokeError) -> Refusal {
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
}

/// What a change took, once the kernel decides by it.
struct Done {
    changes: Vec<Change>,
    /// What was taken of those who may still have it.
    left: Vec<Left>,
    records: Durable,
    took: Duration,
}

/// Takes rights away, from the leaves up. From then on no check allows them; an agent from which they
/// cannot be taken must not go on with them. The tree's lock is held.
fn enforce(
    daemon: &Daemon,
    changes: Vec<Change>,
    by: &str,
    room: crate::sink::Room,
    started: Instant,
) -> Done {
    let mut made: Vec<Made> = Vec::with_capacity(changes.len());
    let (mut left, mut failed) = (Vec::new(), Vec::new());
    for change in changes.into_iter().rev() {
        let aid = change.aid;
        let done = sets::make(daemon, change.clone(), None);
        match done.and_then(|one| sets::assign(daemon, &one).map(|remains| (one, remains))) {
            Ok((one, remains)) => {
                left.extend(Left::of(&one.change, remains));
                made.push(one);
            }
            Err(error) => {
                tracing::error!(?aid, %error, "cannot take a right away; the agent is ended");
                // Everything is denied to it from now on, until it is gone.
                let _ = daemon.kernel.set_state(aid, AgentState::Quarantined);
                let reason = "a right could not be taken from it".to_owned();
                reap::end(daemon, aid, &Ending::new(End::Revoked, reason));
                failed.push(change);
            }
        }
    }
    let took = started.elapsed();
    made.reverse();
    left.reverse();
    let changes: Vec<Change> = made.iter().map(|made| made.change.clone()).collect();
    let now = clock::boot_ns();
    let due = sets::book(daemon, made, now, |inner| {
        let mut entries = removals(inner, &changes, by);
        entries.extend(removals(inner, &failed, by));
        room.owe(entries)
    });
    // The books say what its end will make true.
    daemon.inner().supervisor.commit(&failed, now);
    daemon.remember();
    Done { changes, left, records: room.pay(due), took }
}

fn removals(inner: &Inner, changes: &[Change], by: &str) -> Vec<Entry> {
    changes.iter().flat_map(|change| entries_of(inner, change, by)).collect()
}

fn entries_of(inner: &Inner, change: &Change, by: &str) -> Vec<Entry> {
    let entry = |taken: &Taken| {
        let why = match taken.removal {
            Removal::Revoked => "revoked",
            Removal::RevokedAbove => "revoked-from-ancestor",
            Removal::Expired => "expired",
            Removal::Replaced => "replaced",
        };
        let mut entry = inner.entry(change.aid, Kind::Revoke);
        entry.capability = taken.rule.capability();
        entry.object = taken.rule.value();
        let (rule, why, authorizer) = (Some(taken.id.into()), why.to_owned(), by.to_owned());
        entry.body = body::Revoke { rule, why, authorizer }.into();
        entry
    };
    change.removed.iter().map(entry).collect()
}

fn report(daemon: &Daemon, changed: &[AgentId], ended: &[AgentId], took: Duration) -> ChangeReport {
    let uuids = |agents: &[AgentId]| agents.iter().filter_map(|aid| daemon.uuid_of(*aid)).collect();
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    ChangeReport { changed: uuids(changed), ended: uuids(ended), took_us }
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
        let due = daemon.inner().supervisor.due(clock::boot_ns());
        // Trees do not wait for each other.
        let expiring: Vec<_> =
            due.into_iter().map(|aid| tokio::spawn(expire_one(daemon.clone(), aid))).collect();
        let mut failed = false;
        for one in expiring {
            failed |= !matches!(one.await, Ok(Ok(())));
        }
        if failed {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn expire_one(daemon: Arc<Daemon>, aid: AgentId) -> Answer<()> {
    let room = daemon.sink.room().await?;
    let done = {
        let _tree = lock(&daemon, aid).await?;
        blocking(|| -> Answer<_> {
            let plan = daemon.inner().supervisor.plan_expire(aid, clock::boot_ns())?;
            let Some(change) = plan else { return Ok(None) };
            let made = sets::make(&daemon, change, None)?;
            let left: Vec<Left> =
                Left::of(&made.change, sets::assign(&daemon, &made)?).into_iter().collect();
            let change = made.change.clone();
            let due = sets::book(&daemon, vec![made], clock::boot_ns(), |inner| {
                room.owe(removals(inner, std::slice::from_ref(&change), "expiry"))
            });
            daemon.remember();
            Ok(Some((change, left, room.pay(due))))
        })?
    };
    let Some((change, left, records)) = done else { return Ok(()) };
    records.written().await?;
    blocking(|| {
        decide_again(&daemon, &[change]);
        end_who_keeps(&daemon, &left);
    });
    Ok(())
}

/// Without an end where nothing expires.
async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
