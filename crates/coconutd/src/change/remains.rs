//! What was revoked and is had still: mapped, or kept where the kernel is not asked again.

use crate::reap;
use crate::state::{Daemon, Ending};
use abi::AgentId;
use kernel::{Mapping, Remains};
use manifest::{AbsPath, FsRight, Scope};
use supervisor::{Change, End, Taken};

/// An agent that may still have something of what was taken from it.
pub(super) struct Left {
    aid: AgentId,
    taken: Vec<Taken>,
    remains: Remains,
}

impl Left {
    /// None where nothing is left.
    pub fn of(change: &Change, remains: Remains) -> Option<Left> {
        let left = Left { aid: change.aid, taken: change.removed.clone(), remains };
        (remains != Remains::Nothing).then_some(left)
    }
}

/// A call that waits was decided when it began: with what was taken gone it begins anew, and is decided by what is left.
/// One for whom that cannot be done is ended.
pub(super) fn decide_again(daemon: &Daemon, changes: &[Change]) -> Vec<AgentId> {
    let mut ended = Vec::new();
    for change in changes.iter().filter(|change| change.removed.iter().any(may_wait_by)) {
        let owner = daemon.inner().info.get(&change.aid).map(|info| info.kernel.clone());
        let Some(Err(error)) = owner.map(|owner| owner.interrupt(daemon, change.aid)) else {
            continue;
        };
        if !matches!(error, kernel::Error::NoSuchAgent(_)) {
            tracing::error!(aid = ?change.aid, %error, "cannot interrupt it; the agent is ended");
            let reason = "a call by a right that was revoked could not be interrupted".to_owned();
            reap::end(daemon, change.aid, &Ending::new(End::Revoked, reason));
            ended.push(change.aid);
        }
    }
    ended
}

/// Whether a call can wait by such a right: for a peer, or at a pipe, a terminal or another device.
fn may_wait_by(taken: &Taken) -> bool {
    matches!(
        taken.rule.scope,
        Scope::Fs { .. } | Scope::Net { .. } | Scope::NetRaw | Scope::Unix(_) | Scope::Device(_)
    )
}

/// Shared memory cannot be checked again, nor pages in a pipe, watches, or descriptors that came over a connection:
/// whoever has what was taken is ended. `left` has parents before their children. One after another: each that may
/// have something mapped is frozen, read and thawed, which keeps a processor busy, and several at once took as long.
/// Children are looked at before their parents, whose end is theirs too: each that had it is ended for that.
pub(super) fn end_who_keeps(daemon: &Daemon, left: &[Left]) -> Vec<AgentId> {
    let mut ended = Vec::new();
    for one in left.iter().rev() {
        if let Some(reason) = still_had(daemon, one) {
            reap::end(daemon, one.aid, &Ending::new(End::Revoked, reason));
            ended.push(one.aid);
        }
    }
    ended.reverse();
    ended
}

/// Why the agent cannot go on, if it cannot.
fn still_had(daemon: &Daemon, left: &Left) -> Option<String> {
    if left.remains == Remains::Mapped {
        if let Some(path) = still_mapped(daemon, left.aid, &left.taken) {
            return Some(format!("it had mapped {path}, which was revoked"));
        }
        // What it had mapped a moment ago it may have had held, and mapped no more, before it was looked at.
        match daemon.kernel.pins(left.aid) {
            Ok(false) | Err(kernel::Error::NoSuchAgent(_)) => return None,
            Ok(true) | Err(_) => {}
        }
    }
    let pinned = left.remains != Remains::Kept;
    let inner = daemon.inner();
    let agent = inner.supervisor.get(left.aid).ok().filter(|a| !a.state().is_terminal())?;
    let covered = |taken: &&Taken| {
        let scope = &taken.rule.scope;
        agent.held().any(|held| held.rule.rule.scope.covers(scope))
    };
    let may = left.taken.iter().filter(|taken| may_remain_of(&taken.rule.scope, pinned));
    let gone = may.filter(|taken| !covered(taken)).map(|taken| taken.rule.to_string()).next()?;
    Some(format!(
        "by {gone}, which was revoked, it may have what cannot be taken back: pages in a pipe or socket, a watch, \
         a descriptor that was sent"
    ))
}

/// Whether something that is kept can have come by such a right. Pages of memory can be written to.
fn may_remain_of(scope: &Scope, pinned: bool) -> bool {
    match scope {
        Scope::Fs { right: FsRight::Read | FsRight::Exec, .. } => true,
        Scope::Fs { right: FsRight::Write, .. } => pinned,
        Scope::Device(_) | Scope::Unix(_) => true,
        _ => false,
    }
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
