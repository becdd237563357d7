//! The end of an agent: its process is waited for without a thread, then nothing of it is left.

use crate::change::blocking;
use crate::clock;
use crate::handed::Leash;
use crate::output::{Output, Pump};
use crate::registry::Line;
use crate::registry::restore::Adopted;
use crate::state::{Daemon, Ending};
use abi::{AgentId, AgentState, Kind};
use api::Exit;
use kernel::Exited;
use record::body;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervisor::{End, Event};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// Longest pause between two looks at processes that were killed.
const SLOW: Duration = Duration::from_millis(50);

/// Waits for the agent's first process, and for the one who lent it a terminal.
pub fn watch(
    daemon: &Arc<Daemon>,
    aid: AgentId,
    process: kernel::Process,
    leash: Option<Leash>,
    output: Option<Pump>,
) {
    let (waiter, leashed) = (daemon.clone(), leash.is_some());
    tokio::spawn(async move {
        let waited = wait(process.pidfd).await;
        finish(&waiter, aid, waited, output, leashed).await;
    });
    if let Some(leash) = leash {
        let holder = daemon.clone();
        tokio::spawn(async move { hold(&holder, aid, leash).await });
    }
}

/// Goes on with an agent of an earlier daemon's.
pub fn take_up(daemon: &Arc<Daemon>, adopted: Adopted) {
    let Adopted { aid, process, output, leash } = adopted;
    let leash = leash.and_then(|connection| {
        let inherited = Leash::inherited(connection);
        inherited.inspect_err(|error| tracing::error!(?aid, %error, "an agent's leash")).ok()
    });
    let pump = output.and_then(|pipe| go_on(daemon, aid, pipe));
    if let Some(process) = process {
        let doomed = daemon.inner().info.get(&aid).is_some_and(|info| info.ending.is_some());
        watch(daemon, aid, process, leash, pump);
        // Whoever ended it may have come no further than to say so.
        if doomed {
            blocking(|| kill(daemon, aid));
        }
        return;
    }
    let (waiter, leashed) = (daemon.clone(), leash.is_some());
    tokio::spawn(async move { finish(&waiter, aid, Exited::default(), pump, leashed).await });
}

fn go_on(daemon: &Arc<Daemon>, aid: AgentId, pipe: OwnedFd) -> Option<Pump> {
    let (uuid, tenant) = {
        let inner = daemon.inner();
        let agent = inner.supervisor.get(aid).ok()?;
        (agent.uuid, agent.tenant.clone())
    };
    match daemon.shelf.go_on(uuid, &tenant) {
        Ok(kept) => Some(Output::of(pipe, kept).start()),
        Err(error) => {
            tracing::error!(%uuid, %error, "an agent's output is not kept any more");
            None
        }
    }
}

/// Ends a foreground agent whose terminal's owner has gone.
async fn hold(daemon: &Arc<Daemon>, aid: AgentId, leash: Leash) {
    let Some(mut ended) = daemon.inner().end_of(aid) else { return };
    tokio::select! {
        () = leash.closed() => {
            let why = Ending::new(End::Failed, "its foreground command was ended");
            blocking(|| end(daemon, aid, &why));
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
    let reparented = plan.reparented;
    for target in plan.end {
        let alive = inner.supervisor.get(target).is_ok_and(|a| !a.state().is_terminal());
        let Some(info) = inner.info.get_mut(&target).filter(|_| alive) else { continue };
        let reason = match target == aid {
            true => ending.clone(),
            false => Ending::new(ending.end, "its parent was ended"),
        };
        info.ending.get_or_insert(reason);
        inner.supervisor.touch(target);
        doomed.push(target);
    }
    drop(inner);
    tell_parents(daemon, &reparented);
    daemon.remember();
    doomed.iter().for_each(|target| kill(daemon, *target));
    !doomed.is_empty()
}

/// Kills all of an agent, or else its first process, which takes its PID namespace with it; who is left then is
/// killed by the reaper.
fn kill(daemon: &Daemon, aid: AgentId) {
    // A frozen cgroup is killed all the same; thawing first would let it run.
    let Err(error) = daemon.kernel.kill(aid) else { return };
    let process = daemon.inner().info.get(&aid).and_then(|info| info.pidfd.clone());
    let Some(process) = process else { return };
    match pidfd_send_signal(&process, Signal::KILL) {
        // It had ended by itself, and its reaper was here before.
        Err(Errno::SRCH) => {}
        Ok(()) => tracing::error!(?aid, %error, "cannot kill; its first process was ended"),
        Err(first) => {
            tracing::error!(?aid, %error, %first, "cannot kill, and cannot end its first process");
        }
    }
}

async fn wait(pidfd: OwnedFd) -> Exited {
    let unknown = Exited::default();
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
                return Exited {
                    status: status.exit_status(),
                    signal: status.terminating_signal(),
                };
            }
            Ok(None) => ready.clear_ready(),
            Err(_) => return unknown,
        }
    }
}

/// Everything that an agent's end brings with it, in this order: nobody of it runs, what it wrote is kept, its
/// last events are in the log, its end is booked, with what the log is owed of it, the kernel has forgotten it, the
/// log has its end, whoever waits is told.
async fn finish(
    daemon: &Arc<Daemon>,
    aid: AgentId,
    waited: Exited,
    output: Option<Pump>,
    leashed: bool,
) {
    blocking(|| end_children(daemon, aid));
    clear_cgroup(daemon, aid).await;
    let kept = output.is_some();
    if let Some(output) = output {
        output.finish().await;
    }
    settle(daemon, aid).await;
    let exit = book_end(daemon, aid, known(daemon, aid, waited));
    remove(daemon, aid).await;
    daemon.sink.flush().await;
    let_go(daemon, aid, exit);
    blocking(|| daemon.remember());
    if kept {
        daemon.registry.forget(Line::Output, aid);
    }
    if leashed {
        daemon.registry.forget(Line::Leash, aid);
    }
}

/// Of a process whose parent was an earlier daemon the kernel has noted how it ended; or that daemon had booked it.
fn known(daemon: &Daemon, aid: AgentId, waited: Exited) -> Exited {
    if waited != Exited::default() {
        return waited;
    }
    if let Some(booked) = daemon.inner().info.get(&aid).and_then(|info| info.exited) {
        return booked;
    }
    let noted = daemon.kernel.exit_of(aid).ok().flatten().unwrap_or_default();
    Exited { status: noted.status, signal: noted.signal }
}

/// Takes an agent without processes out of the kernel, however often that has to be tried: its slot
/// must not be another's before.
pub async fn remove(daemon: &Daemon, aid: AgentId) {
    let mut pause = Duration::from_millis(1);
    while let Err(error) = blocking(|| remove_now(daemon, aid)) {
        tracing::error!(?aid, %error, "cannot remove the agent's kernel state; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// One attempt to kill what is left of an agent and to remove it. That the kernel has none is fine.
///
/// # Errors
/// When something is left.
pub fn remove_now(daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
    if let Err(error) = daemon.kernel.kill(aid) {
        tracing::debug!(?aid, %error, "removing an agent: kill");
    }
    match daemon.kernel.remove_agent(aid) {
        Err(kernel::Error::NoSuchAgent(_)) => Ok(()),
        other => other,
    }
}

/// Frees the slot and the sets; then its end is known to whoever waits.
fn let_go(daemon: &Daemon, aid: AgentId, exit: Exit) {
    let dropped = {
        let mut inner = daemon.inner();
        let forgotten = inner.supervisor.release_slot(aid).ok().flatten();
        let forgotten = forgotten.and_then(|oldest| inner.forget(oldest));
        let mut sets = Vec::new();
        if let Some(info) = inner.info.get_mut(&aid) {
            sets = std::mem::take(&mut info.sets);
            info.numbers.clear();
            info.pidfd = None;
        }
        (sets, forgotten)
    };
    // The kernel is told outside of the lock, and before whoever waits.
    blocking(|| drop(dropped));
    let mut inner = daemon.inner();
    if let Some(info) = inner.info.get_mut(&aid) {
        info.exit = Some(exit);
    }
    inner.supervisor.touch(aid);
}

/// The children of an agent that ended by itself, as its manifest says.
fn end_children(daemon: &Daemon, aid: AgentId) {
    let plan = {
        let mut inner = daemon.inner();
        let Ok(plan) = inner.supervisor.plan_end(aid) else { return };
        if let Err(error) = inner.supervisor.reparent(&plan) {
            tracing::warn!(%error, "cannot re-parent");
        }
        plan
    };
    tell_parents(daemon, &plan.reparented);
    for child in plan.end.into_iter().filter(|target| *target != aid) {
        end(daemon, child, &Ending::new(End::Clean, "its parent has ended"));
    }
}

/// Whose descendants they are now decides whose signals reach them.
fn tell_parents(daemon: &Daemon, reparented: &[(AgentId, Option<AgentId>)]) {
    for (child, heir) in reparented {
        let heir = heir.unwrap_or(AgentId::NOBODY);
        if let Err(error) = daemon.kernel.set_parent(*child, heir) {
            tracing::error!(aid = ?child, %error, "its ancestors' signals may be decided by the old tree");
        }
    }
}

/// Kills until nobody is left. A process that the kernel does not let go of keeps its agent.
async fn clear_cgroup(daemon: &Daemon, aid: AgentId) {
    let mut pause = Duration::from_micros(200);
    let mut said = false;
    loop {
        match blocking(|| daemon.kernel.populated(aid)) {
            Ok(false) | Err(kernel::Error::NoSuchAgent(_)) => return,
            Ok(true) => {}
            Err(error) => tracing::debug!(%error, "cannot ask for the agent's processes"),
        }
        if let Err(error) = blocking(|| daemon.kernel.kill(aid)) {
            tracing::error!(?aid, %error, "cannot kill the agent's processes");
        }
        if pause >= SLOW && !said {
            said = true;
            tracing::error!(?aid, "processes of an ended agent do not go away");
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOW);
    }
}

/// Waits until the log has as many denials and uses as the kernel counted; a denial that is missing when
/// the ring is empty is a gap. (A use that found no room did not happen.)
async fn settle(daemon: &Daemon, aid: AgentId) {
    let mut empty = false;
    loop {
        let (drained, emptied) = (daemon.drained.notified(), daemon.emptied.notified());
        let Ok(counters) = daemon.kernel.counters(aid) else { return };
        let (logged, all) = {
            let mut inner = daemon.inner();
            let Some(info) = inner.info.get_mut(&aid) else { return };
            info.last_counters = Some(counters);
            let all = info.kernel_denials >= counters.denials && info.uses >= counters.uses;
            (info.kernel_denials, all)
        };
        if all {
            // They are booked; their records are before its end's when the batch is whole.
            drop(blocking(|| daemon.batch.lock()));
            return;
        }
        if empty && logged >= counters.denials {
            return;
        }
        if empty {
            let missing = counters.denials - logged;
            daemon.lost.fetch_add(missing, Ordering::AcqRel);
            let mut entry = daemon.inner().entry(aid, Kind::Gap);
            entry.object = "denials".into();
            let (missing, kernel, log) = (Some(missing), Some(counters.denials), Some(logged));
            entry.body = body::Gap { missing, kernel, log, ..Default::default() }.into();
            daemon.sink.record(entry);
            return;
        }
        daemon.kernel.read_events_now();
        tokio::select! {
            () = drained => {}
            // Nothing of it runs any more, so nothing more comes.
            () = emptied => empty = true,
        }
    }
}

fn book_end(daemon: &Daemon, aid: AgentId, waited: Exited) -> Exit {
    let mut inner = daemon.inner();
    let ending = inner.info.get(&aid).and_then(|info| info.ending.clone());
    let asked = ending.as_ref().and_then(|ending| ending.signal);
    let waited = Exited { signal: asked.or(waited.signal), ..waited };
    let end = match (&ending, waited.status) {
        (Some(ending), _) => ending.end,
        (None, Some(0)) => End::Clean,
        (None, _) => End::Failed,
    };
    let state = inner.supervisor.get(aid).map(supervisor::Agent::state);
    let started = !matches!(state, Ok(AgentState::Spawning | AgentState::Attested));
    // An earlier daemon may have come as far as this.
    let booked = state.is_ok_and(AgentState::is_terminal);
    let mut entry = inner.entry(aid, Kind::Exit);
    entry.object = match (waited.status, waited.signal) {
        (Some(status), _) => format!("status {status}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ if !started => "never started".into(),
        _ => "unknown".into(),
    };
    if let Some(ending) = &ending {
        let reason = ending.reason.to_string();
        entry.body = body::Exit { reason, ..Default::default() }.into();
    }
    let step = inner.step(aid, Event::Terminate(end));
    let state = step.as_ref().map_or(abi::AgentState::TerminatedFailed, |(state, _)| *state);
    if let Some(info) = inner.info.get_mut(&aid) {
        info.ended_ns.get_or_insert_with(clock::wall_ns);
        (info.pid, info.exited) = (None, Some(waited));
    }
    let entries = std::iter::once(entry).chain(step.map(|(_, entry)| entry));
    let due = (!booked).then(|| daemon.sink.owe(entries.collect()));
    inner.supervisor.touch(aid);
    drop(inner);
    blocking(|| {
        daemon.remember();
        due.into_iter().for_each(|due| daemon.sink.pay(due));
    });
    Exit {
        status: waited.status,
        signal: waited.signal,
        reason: ending.map(|ending| ending.reason),
        state,
    }
}
