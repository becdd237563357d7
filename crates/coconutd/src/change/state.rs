//! Kill, signal, wait.

use super::{blocking, whole};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::reap;
use crate::state::{Daemon, Ending};
use abi::AgentId;
use api::Exit;
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use supervisor::End;

/// Ends an agent and returns when nothing of it is left; its end is durable then.
///
/// # Errors
/// When it is not known any more.
pub async fn kill(daemon: &Arc<Daemon>, caller: Caller, aid: AgentId) -> Answer<Exit> {
    let worker = daemon.clone();
    whole(&daemon.clone(), async move {
        let reason = format!("killed by {}", caller.name());
        blocking(|| reap::end(&worker, aid, &Ending::new(End::Clean, reason)));
        Ok(())
    })
    .await?;
    wait(daemon, aid).await
}

/// Returns when an agent has ended.
///
/// # Errors
/// When it is not known any more.
pub async fn wait(daemon: &Daemon, aid: AgentId) -> Answer<Exit> {
    let exit = daemon.inner().end_of(aid);
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
    let process = daemon.inner().info.get(&aid).and_then(|info| info.pidfd.clone());
    let process = process.ok_or_else(|| Refusal::failed("it has ended"))?;
    if ends_by_default(signal) && !is_handled(&process, number) {
        let reason = format!("signal {number} from {}", caller.name());
        blocking(|| {
            reap::end(daemon, aid, &Ending { end: End::Failed, reason, signal: Some(number) })
        });
        return Ok(());
    }
    pidfd_send_signal(&process, signal)
        .map_err(|e| Refusal::failed(format!("cannot signal its first process: {e}")))
}

fn ends_by_default(signal: Signal) -> bool {
    !matches!(signal, Signal::CHILD | Signal::CONT | Signal::URG | Signal::WINCH | Signal::STOP)
}

/// True if the process catches or ignores the signal; `/proc/<pid>/status` shows both as bit sets.
fn is_handled(process: &OwnedFd, number: i32) -> bool {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let info = read(format!("/proc/self/fdinfo/{}", process.as_raw_fd()));
    let Some(pid) = info.lines().find_map(|line| line.strip_prefix("Pid:")) else { return false };
    let status = read(format!("/proc/{}/status", pid.trim()));
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let bit = u32::try_from(number - 1).ok().and_then(|n| 1u64.checked_shl(n)).unwrap_or(0);
    (set("SigCgt:") | set("SigIgn:")) & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    #[test]
    fn what_a_process_handles_is_read_from_its_status() {
        let me = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        // Rust programs ignore SIGPIPE; nothing handles SIGUSR2 here.
        assert!(is_handled(&me, 13));
        assert!(!is_handled(&me, 12));
    }
}
