//! What was revoked and is mapped still: the kernel cannot ask about memory again.

use crate::reap;
use crate::state::{Daemon, Ending};
use abi::AgentId;
use kernel::Mapping;
use manifest::{AbsPath, FsRight, Scope};
use supervisor::{End, Taken};

/// Shared memory cannot be checked again: whoever has mapped what was taken is ended. `taken` has parents before
/// their children. One after another: each is frozen, read and thawed, which keeps a processor busy, and several at
/// once took as long. Children are looked at before their parents, whose end is theirs too: each that had it mapped
/// is ended for that.
pub(super) fn end_who_has_it_mapped(
    daemon: &Daemon,
    taken: &[(AgentId, Vec<Taken>)],
) -> Vec<AgentId> {
    let mut ended = Vec::new();
    for (aid, taken) in taken.iter().rev() {
        if let Some(path) = still_mapped(daemon, *aid, taken) {
            let reason = format!("it had mapped {path}, which was revoked");
            reap::end(daemon, *aid, &Ending::new(End::Revoked, reason));
            ended.push(*aid);
        }
    }
    ended.reverse();
    ended
}

/// A mapping of what was taken that nothing else allows. The agent is frozen while it is looked at.
fn still_mapped(daemon: &Daemon, aid: AgentId, taken: &[Taken]) -> Option<String> {
    let paths: Vec<&AbsPath> = taken
        .iter()
        .filter_map(|taken| match &taken.rule.scope {
            Scope::Fs { path, .. } | Scope::Device(path) => Some(path),
            _ => None,
        })
        .collect();
    if paths.is_empty() {
        return None;
    }
    let (agent, owner) = {
        let inner = daemon.inner();
        let agent = inner.supervisor.get(aid).ok().filter(|a| !a.state().is_terminal())?.clone();
        (agent, inner.info.get(&aid)?.kernel.clone())
    };
    let below = |mapping: &&Mapping| {
        let path = mapping.path.to_str().and_then(|path| AbsPath::parse(path).ok());
        path.is_none_or(|path| paths.iter().any(|taken| path.is_below(taken)))
    };
    let looked = owner.while_frozen(daemon, aid, || daemon.kernel.live_mappings(aid));
    match looked.and_then(|found| found) {
        Ok(found) => {
            let found = found.iter().filter(below).find(|mapping| !is_allowed(&agent, mapping));
            found.map(|mapping| mapping.path.display().to_string())
        }
        Err(error) => {
            tracing::error!(?aid, %error, "cannot see its mappings; the agent is ended");
            Some("something that cannot be seen".into())
        }
    }
}

fn is_allowed(agent: &supervisor::Agent, mapping: &Mapping) -> bool {
    let Some(path) = mapping.path.to_str().and_then(|path| AbsPath::parse(path).ok()) else {
        return false;
    };
    let holds = |right| {
        let wanted = Scope::Fs { right, path: path.clone() };
        agent.held().any(|held| held.rule.rule.scope.covers(&wanted))
    };
    let readable = holds(FsRight::Read) || holds(FsRight::Exec);
    readable && (!(mapping.shared && mapping.writable) || holds(FsRight::Write))
}
