//! Kill, signal, quarantine, release.

use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::reap;
use crate::state::{Daemon, Ending};
use abi::{AgentId, AgentState};
use api::Exit;
use rustix::process::{Pid, Signal, kill_process};
use supervisor::{End, Event};

/// Ends an agent and returns when nothing of it is left.
///
/// # Errors
/// When it is not known any more.
pub async fn kill(daemon: &Daemon, caller: &Caller, aid: AgentId) -> Answer<Exit> {
    let reason = format!("killed by {}", caller.name());
    reap::end(daemon, aid, &Ending::new(End::Clean, reason));
    wait(daemon, aid).await
}

/// Returns when an agent has ended.
///
/// # Errors
/// When it is not known any more.
pub async fn wait(daemon: &Daemon, aid: AgentId) -> Answer<Exit> {
    let exit = daemon.inner().info.get(&aid).map(|info| info.exit.subscribe());
    let mut exit =
        exit.ok_or_else(|| Refusal::new(api::ErrorCode::NotFound, "it has been forgotten"))?;
    let ended = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
    ended.ok().flatten().ok_or_else(|| Refusal::failed("its end was not seen"))
}

/// Sends a signal to an agent's first process.
///
/// That process is the first of its PID namespace, which no signal ends that it does not catch; a
/// person who presses Ctrl-C means it to end all the same, so then the agent is ended.
///
/// # Errors
/// When there is no such signal or process.
pub fn signal(daemon: &Daemon, caller: &Caller, aid: AgentId, number: i32) -> Answer<()> {
    let signal = Signal::from_named_raw(number)
        .ok_or_else(|| Refusal::usage(format!("{number} is no signal that can be sent")))?;
    let pid = daemon.inner().info.get(&aid).and_then(|info| info.pid);
    let pid = pid.ok_or_else(|| Refusal::failed("it has ended"))?;
    if ends_by_default(signal) && !is_handled(pid, number) {
        let reason = format!("signal {number} from {}", caller.name());
        reap::end(daemon, aid, &Ending { end: End::Failed, reason, signal: Some(number) });
        return Ok(());
    }
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| Refusal::failed("it has ended"))?;
    kill_process(target, signal)
        .map_err(|e| Refusal::failed(format!("cannot signal pid {pid}: {e}")))
}

fn ends_by_default(signal: Signal) -> bool {
    !matches!(signal, Signal::CHILD | Signal::CONT | Signal::URG | Signal::WINCH | Signal::STOP)
}

/// True if the process catches or ignores the signal; `/proc/<pid>/status` shows both as bit sets.
fn is_handled(pid: u32, number: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let bit = u32::try_from(number - 1).ok().and_then(|n| 1u64.checked_shl(n)).unwrap_or(0);
    (set("SigCgt:") | set("SigIgn:")) & bit != 0
}

/// Freezes an agent; everything that it tries is denied until its release.
///
/// # Errors
/// When it cannot be frozen in its state.
pub fn quarantine(daemon: &Daemon, caller: &Caller, aid: AgentId) -> Answer<()> {
    step(daemon, caller, aid, Event::Quarantine)?;
    daemon.kernel.set_state(aid, AgentState::Quarantined)?;
    Ok(daemon.kernel.freeze(aid)?)
}

/// Ends a quarantine.
///
/// # Errors
/// When it is not quarantined.
pub fn release(daemon: &Daemon, caller: &Caller, aid: AgentId) -> Answer<()> {
    step(daemon, caller, aid, Event::Release)?;
    daemon.kernel.set_state(aid, AgentState::Active)?;
    Ok(daemon.kernel.thaw(aid)?)
}

fn step(daemon: &Daemon, caller: &Caller, aid: AgentId, event: Event) -> Answer<()> {
    let mut inner = daemon.inner();
    let done = inner.supervisor.event(aid, event)?;
    let done = done.map_err(|illegal| Refusal::usage(illegal.to_string()))?;
    let entry = done.map(|step| {
        let mut entry = inner.state_entry(aid, step);
        entry.detail.push_str(&format!(" by={}", crate::translate::word(&caller.name())));
        entry
    });
    drop(inner);
    entry.into_iter().for_each(|entry| daemon.sink.record(entry));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_handles_is_read_from_its_status() {
        let me = std::process::id();
        // Rust programs ignore SIGPIPE; nothing handles SIGUSR2 here.
        assert!(is_handled(me, 13));
        assert!(!is_handled(me, 12));
    }
}
