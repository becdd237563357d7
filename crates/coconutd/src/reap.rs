//! The end of an agent: its process is waited for without a thread, then nothing of it is left.

use crate::clock;
use crate::sink::own;
use crate::state::{Daemon, Ending};
use crate::stdio;
use abi::{AgentId, Kind};
use api::Exit;
use api::broker::LaneEvent;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervisor::{End, Event};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long stragglers may take to go after they were killed.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// How long the last events may take from the ring to the log.
const EVENTS: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waited {
    status: Option<i32>,
    signal: Option<i32>,
}

/// Waits for the agent's first process, and for the one who lent it a terminal.
pub fn watch(
    daemon: &Arc<Daemon>,
    aid: AgentId,
    process: kernel::Process,
    leash: Option<stdio::Leash>,
) {
    let waiter = daemon.clone();
    tokio::spawn(async move {
        let waited = wait(process.pidfd).await;
        finish(&waiter, aid, waited).await;
    });
    if let Some(leash) = leash {
        let holder = daemon.clone();
        tokio::spawn(async move { hold(&holder, aid, leash).await });
    }
}

/// Ends a foreground agent whose terminal's owner has gone.
async fn hold(daemon: &Arc<Daemon>, aid: AgentId, leash: stdio::Leash) {
    let ended = daemon.inner().info.get(&aid).map(|info| info.exit.subscribe());
    let Some(mut ended) = ended else { return };
    tokio::select! {
        () = stdio::closed(leash) => {
            end(daemon, aid, &Ending::new(End::Failed, "its foreground command was ended"));
        }
        _ = ended.wait_for(Option::is_some) => {}
    }
}

/// Kills an agent and what its tree says goes with it; its reaper does the rest.
pub fn end(daemon: &Daemon, aid: AgentId, ending: &Ending) -> bool {
    let mut inner = daemon.inner();
    let Ok(plan) = inner.supervisor.plan_end(aid) else { return false };
    if let Err(error) = inner.supervisor.reparent(&plan) {
        tracing::warn!(%error, "cannot re-parent");
    }
    let mut doomed = Vec::new();
    for target in plan.end {
        let alive = inner.supervisor.get(target).is_ok_and(|a| !a.state().is_terminal());
        let Some(info) = inner.info.get_mut(&target).filter(|_| alive) else { continue };
        let reason = match target == aid {
            true => ending.clone(),
            false => Ending::new(ending.end, "its parent was ended"),
        };
        info.ending.get_or_insert(reason);
        doomed.push(target);
    }
    drop(inner);
    for target in &doomed {
        // A frozen cgroup is killed all the same; thawing first would let it run.
        if let Err(error) = daemon.kernel.kill(*target) {
            tracing::error!(aid = ?target, %error, "cannot kill");
        }
    }
    !doomed.is_empty()
}

async fn wait(pidfd: OwnedFd) -> Waited {
    let unknown = Waited { status: None, signal: None };
    // Its successor is `unsafe`, which no crate but `kernel` may be; an `OwnedFd` keeps what that
    // one asks for.
    #[allow(deprecated)]
    let Ok(readable) = AsyncFd::with_interest(pidfd, Interest::READABLE) else {
        return unknown;
    };
    loop {
        let Ok(mut ready) = readable.readable().await else { return unknown };
        let fd = readable.get_ref().as_fd();
        match waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => {
                return Waited {
                    status: status.exit_status(),
                    signal: status.terminating_signal(),
                };
            }
            Ok(None) => ready.clear_ready(),
            Err(_) => return unknown,
        }
    }
}

/// Everything that an agent's end brings with it, in this order: nobody of it runs, its last
/// events are in the log, its end is in the log, the kernel has forgotten it, whoever waits is
/// told.
async fn finish(daemon: &Arc<Daemon>, aid: AgentId, waited: Waited) {
    end_children(daemon, aid);
    clear_cgroup(daemon, aid).await;
    settle(daemon, aid).await;
    let exit = book_end(daemon, aid, waited);
    if let Err(error) = daemon.kernel.remove_agent(aid) {
        tracing::error!(?aid, %error, "cannot remove the agent's kernel state");
    }
    daemon.names.forget(aid.0);
    daemon.pins.forget(aid.0);
    daemon.sink.flush().await;
    let (agent, parent) = let_go(daemon, aid, exit);
    if let Some(agent) = agent {
        daemon.lanes.tell(LaneEvent::Gone { agent });
    }
    if parent.is_some() {
        let _one_at_a_time = daemon.policy.lock().await;
        crate::change::refresh_signals(daemon, parent);
    }
}

/// Frees the slot and tells whoever waits; who it was, and its parent.
fn let_go(daemon: &Daemon, aid: AgentId, exit: Exit) -> (Option<Uuid>, Option<AgentId>) {
    let mut inner = daemon.inner();
    let known = inner.supervisor.get(aid).ok().map(|agent| (agent.uuid, agent.parent));
    if let Err(error) = inner.supervisor.release_slot(aid) {
        tracing::warn!(%error, "cannot free the slot");
    }
    if let Some(info) = inner.info.get(&aid) {
        info.exit.send_replace(Some(exit));
    }
    inner.prune();
    (known.map(|(uuid, _)| uuid), known.and_then(|(_, parent)| parent))
}

/// The children of an agent that ended by itself, as its manifest says.
fn end_children(daemon: &Daemon, aid: AgentId) {
    let children = {
        let mut inner = daemon.inner();
        let Ok(plan) = inner.supervisor.plan_end(aid) else { return };
        if let Err(error) = inner.supervisor.reparent(&plan) {
            tracing::warn!(%error, "cannot re-parent");
        }
        plan.end.into_iter().filter(|target| *target != aid).collect::<Vec<_>>()
    };
    for child in children {
        end(daemon, child, &Ending::new(End::Clean, "its parent has ended"));
    }
}

async fn clear_cgroup(daemon: &Daemon, aid: AgentId) {
    let deadline = Instant::now() + STRAGGLERS;
    let mut pause = Duration::from_micros(200);
    loop {
        match daemon.kernel.processes(aid) {
            Ok(left) if left.is_empty() => return,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot list the agent's processes");
                return;
            }
        }
        if let Err(error) = daemon.kernel.kill(aid) {
            tracing::error!(?aid, %error, "cannot kill the agent's processes");
        }
        if Instant::now() > deadline {
            tracing::error!(?aid, "processes of an ended agent do not go away");
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until the log has as many denials as the kernel counted; what is missing then is a gap.
async fn settle(daemon: &Daemon, aid: AgentId) {
    let deadline = Instant::now() + EVENTS;
    loop {
        let drained = daemon.drained.notified();
        let Ok(counters) = daemon.kernel.counters(aid) else { return };
        let logged = {
            let mut inner = daemon.inner();
            let Some(info) = inner.info.get_mut(&aid) else { return };
            info.last_counters = Some(counters);
            info.kernel_denials
        };
        if logged >= counters.denials {
            return;
        }
        if Instant::now() > deadline {
            let missing = counters.denials - logged;
            daemon.lost.fetch_add(missing, Ordering::AcqRel);
            let mut entry = daemon.inner().entry(aid, Kind::Gap);
            entry.object = "denials".into();
            entry.detail = format!("missing={missing} kernel={} log={logged}", counters.denials);
            daemon.sink.record(entry);
            return;
        }
        tokio::select! {
            () = drained => {}
            () = sleep(Duration::from_millis(20)) => {}
        }
    }
}

fn book_end(daemon: &Daemon, aid: AgentId, waited: Waited) -> Exit {
    let mut inner = daemon.inner();
    let ending = inner.info.get(&aid).and_then(|info| info.ending.clone());
    let asked = ending.as_ref().and_then(|ending| ending.signal);
    let waited = Waited { signal: asked.or(waited.signal), ..waited };
    let end = match (&ending, waited.status) {
        (Some(ending), _) => ending.end,
        (None, Some(0)) => End::Clean,
        (None, _) => End::Failed,
    };
    let mut entry = inner.entry(aid, Kind::Exit);
    entry.object = match (waited.status, waited.signal) {
        (Some(status), _) => format!("status {status}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown".into(),
    };
    if let Some(ending) = &ending {
        entry.detail = format!("reason={}", crate::translate::word(&ending.reason));
    }
    let step = inner.step(aid, Event::Terminate(end));
    let state = step.as_ref().map_or(abi::AgentState::TerminatedFailed, |(state, _)| *state);
    if let Some(info) = inner.info.get_mut(&aid) {
        info.ended_ns = Some(clock::wall_ns());
        info.pid = None;
    }
    drop(inner);
    daemon.sink.record(entry);
    if let Some((_, entry)) = step {
        daemon.sink.record(entry);
    }
    Exit {
        status: waited.status,
        signal: waited.signal,
        reason: ending.map(|ending| ending.reason),
        state,
    }
}

/// Ends every agent, records it, and returns when all are gone.
pub async fn end_all(daemon: &Arc<Daemon>) {
    daemon.stopping.store(true, Ordering::Release);
    let living: Vec<AgentId> = {
        let _no_more_are_admitted = daemon.policy.lock().await;
        daemon.inner().supervisor.living().iter().map(|a| a.aid).collect()
    };
    let waits: Vec<_> = {
        let inner = daemon.inner();
        living
            .iter()
            .filter_map(|aid| inner.info.get(aid))
            .map(|info| info.exit.subscribe())
            .collect()
    };
    for aid in &living {
        end(daemon, *aid, &Ending::new(End::Clean, "coconutd stops"));
    }
    for mut wait in waits {
        if tokio::time::timeout(STRAGGLERS, wait.wait_for(Option::is_some)).await.is_err() {
            tracing::error!("an agent did not end in time");
        }
    }
    daemon.sink.record(own(Kind::Shutdown, "coconutd", format!("agents={}", living.len())));
    daemon.sink.flush().await;
}
