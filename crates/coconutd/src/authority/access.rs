//! Who may do what to whom, and the record of every refusal of an agent.

use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::state::{Daemon, Inner};
use abi::{AgentId, Capability};
use manifest::{AuditScope, Scope};

/// What a caller wants to do to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// See it, its rights, its denials, its output; wait for it.
    See,
    /// End, signal, freeze it.
    Control,
    /// Give it a right.
    Grant,
    /// Take a right away.
    Revoke,
}

/// The agent that `text` means, if `caller` may do `act` to it. An agent's refusal is a denial
/// record.
///
/// # Errors
/// When there is no such agent, or the caller may not.
pub fn agent(daemon: &Daemon, caller: &Caller, text: &str, act: Act) -> Answer<AgentId> {
    let inner = daemon.inner();
    let aid = inner.supervisor.resolve(text).map_err(Refusal::from);
    let allowed = aid.and_then(|aid| may(&inner, caller, aid, act).map(|()| aid));
    drop(inner);
    let object = format!("{} {text}", act.verb());
    allowed.map_err(|refusal| recorded(daemon, caller, act.capability(), &object, refusal))
}

impl Act {
    const fn verb(self) -> &'static str {
        match self {
            Self::See => "show",
            Self::Control => "control",
            Self::Grant => "grant a right to",
            Self::Revoke => "revoke a right of",
        }
    }

    const fn capability(self) -> Capability {
        match self {
            Self::Control => Capability::AgentSignal,
            Self::See | Self::Grant | Self::Revoke => Capability::AgentSpawn,
        }
    }
}

fn may(inner: &Inner, caller: &Caller, target: AgentId, act: Act) -> Answer<()> {
    let refuse = |why: &str| Err(Refusal::denied(format!("{} may not: {why}", caller.name())));
    match caller {
        Caller::Operator { .. } => Ok(()),
        Caller::Broker { .. } => refuse("the broker has its own routes"),
        Caller::User { uid, .. } => {
            let own = inner.info.get(&target).is_some_and(|info| info.owner == *uid);
            match (own, act) {
                (true, Act::Grant) => refuse("granting is for operators"),
                (true, _) => Ok(()),
                (false, _) => refuse("it is somebody else's agent"),
            }
        }
        Caller::Agent { aid, .. } if *aid == target && act == Act::See => Ok(()),
        Caller::Agent { aid, .. } => {
            if !inner.supervisor.is_descendant(target, *aid) {
                return refuse("it is not one of its descendants");
            }
            let needed = act.capability();
            let see = act == Act::See;
            match see || holds(inner, *aid, needed) {
                true => Ok(()),
                false => refuse(&format!("it does not hold {needed}")),
            }
        }
    }
}

/// True if an agent holds a right of this kind now.
pub fn holds(inner: &Inner, aid: AgentId, capability: Capability) -> bool {
    let now = crate::clock::boot_ns();
    inner.supervisor.get(aid).is_ok_and(|agent| agent.holds(capability, now))
}

/// Whose records a caller may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// Every record.
    All,
    /// Those of agents that a user started.
    OwnedBy(u32),
    /// An agent's own.
    Own(AgentId),
    /// An agent's own and its descendants'.
    Descendants(AgentId),
}

/// Whose records `caller` may read.
///
/// # Errors
/// When an agent holds no `audit.read`.
pub fn audit(daemon: &Daemon, caller: &Caller) -> Answer<Readable> {
    match caller {
        Caller::Operator { .. } => Ok(Readable::All),
        Caller::User { uid, .. } => Ok(Readable::OwnedBy(*uid)),
        Caller::Broker { .. } => Err(Refusal::denied("the broker does not read the log")),
        Caller::Agent { aid, .. } => {
            let inner = daemon.inner();
            let now = crate::clock::boot_ns();
            let held = inner.supervisor.get(*aid)?.held_of(Capability::AuditRead);
            let scopes =
                held.filter(|held| held.rule.is_alive(now)).filter_map(|held| {
                    match held.rule.rule.scope {
                        Scope::AuditRead(scope) => Some(scope),
                        _ => None,
                    }
                });
            let widest = scopes.max();
            drop(inner);
            match widest {
                Some(AuditScope::All) => Ok(Readable::All),
                Some(AuditScope::Descendants) => Ok(Readable::Descendants(*aid)),
                Some(AuditScope::Own) => Ok(Readable::Own(*aid)),
                None => {
                    let refusal = Refusal::denied("reading the log needs audit.read")
                        .hint("in the manifest: \"audit.read\" = \"own\"");
                    Err(recorded(daemon, caller, Capability::AuditRead, "read the log", refusal))
                }
            }
        }
    }
}

/// True if a record of `agent` is among the readable ones.
pub fn reads(inner: &Inner, readable: Readable, agent: uuid::Uuid) -> bool {
    let target = || inner.supervisor.by_uuid(agent).map(|agent| agent.aid);
    match readable {
        Readable::All => true,
        Readable::OwnedBy(uid) => {
            target().and_then(|aid| inner.info.get(&aid)).is_some_and(|info| info.owner == uid)
        }
        Readable::Own(aid) => target() == Some(aid),
        Readable::Descendants(aid) => {
            target().is_some_and(|at| at == aid || inner.supervisor.is_descendant(at, aid))
        }
    }
}

/// Only operators.
///
/// # Errors
/// For everybody else.
pub fn operator(daemon: &Daemon, caller: &Caller, what: &str) -> Answer<()> {
    if caller.is_operator() {
        return Ok(());
    }
    let refusal =
        Refusal::denied(format!("{} may not {what}: that is for operators", caller.name()))
            .hint("as root, or as a member of the group coconut");
    Err(recorded(daemon, caller, Capability::Forbidden, what, refusal))
}

/// Records a refusal if the caller is an agent: exactly one record for each refused call.
pub fn recorded(
    daemon: &Daemon,
    caller: &Caller,
    capability: Capability,
    object: &str,
    refusal: Refusal,
) -> Refusal {
    if let Caller::Agent { aid, .. } = caller
        && refusal.0.code == api::ErrorCode::Denied
    {
        let entries = daemon.inner().refusal(*aid, capability, object, &refusal.0.error);
        daemon.sink.record_all(entries);
        daemon.overstepped.notify_one();
    }
    refusal
}
