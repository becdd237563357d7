//! Why something was refused, and the manifest line that would allow it.

use crate::agent::{Agent, Removal, RemovedRule};
use crate::denials::Attempt;
use crate::registry::{Supervisor, UnknownAgent};
use crate::sets::Held;
use abi::{AgentId, AgentState, Capability};
use manifest::{FsRight, Rule, Scope};
use std::fmt;

/// `EXDEV` (rename(2), link(2)).
const EXDEV: i32 = 18;

/// Why an attempt was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No rule covers it. The closest that the agent holds, if there is one.
    NotHeld {
        /// Same object with another right, or same kind with another object.
        nearest: Option<Rule>,
    },
    /// A rule covered it and is gone.
    Removed(RemovedRule),
    /// A rule covers it that may be used so often and no more.
    UsedUp(Rule),
    /// Such a rule covers it, and this goes on with something that none of its uses got, or is no use of it.
    NoUse(Rule),
    /// A rule covers it by now: it was given after the attempt.
    HeldNow(Rule),
    /// A rule covered its name then too: the name leads to something else than when the rule was
    /// given.
    Replaced(Rule),
    /// No capability can allow it.
    Forbidden,
    /// The list of all processes, in a `/proc` that it shares.
    SharedList,
    /// Under its new name it would have rights that it has not under the old one.
    WouldGain,
    /// Its manifest holds its code to files.
    Strict,
    /// The agent is frozen: everything it tries is denied.
    Quarantined,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld { nearest: None } => f.write_str("no rule of this agent covers it"),
            Self::NotHeld { nearest: Some(rule) } => {
                write!(f, "no rule of this agent covers it; the nearest is {rule}")
            }
            Self::Removed(gone) => match gone.removal {
                Removal::Revoked => write!(f, "{} was revoked", gone.rule),
                Removal::RevokedAbove => write!(f, "{} was revoked from an ancestor", gone.rule),
                Removal::Expired => write!(f, "{} has expired", gone.rule),
                Removal::Replaced => write!(f, "{} was granted anew since", gone.rule),
            },
            Self::UsedUp(rule) => write!(f, "every use of {rule} that it was given is used up"),
            Self::NoUse(rule) => write!(
                f,
                "{rule} is for so many uses, and what this goes on with was got by none of them"
            ),
            Self::HeldNow(rule) => write!(f, "it was not held then; {rule} allows it now"),
            Self::Replaced(rule) => write!(
                f,
                "{rule} is held for what had this name when it was given; that was replaced since"
            ),
            Self::SharedList => f.write_str(
                "it shares /proc with others: its own processes are there, the list of all is not",
            ),
            Self::WouldGain => f.write_str(
                "the file would have rights there that it has not where it is: a copy has none of its own (EXDEV, at which mv and git copy)",
            ),
            Self::Strict => f.write_str(
                "its manifest says exec = \"strict\": code comes from files that it may execute, and from no memory",
            ),
            Self::Forbidden => f.write_str("no capability allows it to an agent"),
            Self::Quarantined => f.write_str("the agent is quarantined: everything is refused"),
        }
    }
}

/// Operations that get nothing: they go on with what is open, connected or bound.
const GOES_ON: [&str; 13] = [
    "egress",
    "file_fcntl",
    "file_ioctl",
    "file_ioctl_change",
    "file_lock",
    "file_mprotect",
    "file_permission",
    "file_receive",
    "file_truncate",
    "mmap_file",
    "path_notify",
    "socket_accept",
    "socket_recvmsg",
];

/// One refused attempt, explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// What was tried.
    pub attempt: Attempt,
    /// Why it was refused.
    pub reason: Reason,
    /// The rule that would allow it; none if nothing can.
    pub allow: Option<Rule>,
    /// The same as a line of a manifest: `"fs.read" = ["/etc/shadow"]`.
    pub manifest_line: Option<String>,
}

impl Supervisor {
    /// The latest refused attempts of an agent, the newest first.
    pub fn explain(&self, aid: AgentId) -> Result<Vec<Explanation>, UnknownAgent> {
        let agent = self.get(aid)?;
        Ok(agent.denials.latest().rev().map(|attempt| explain(agent, attempt)).collect())
    }
}

fn explain(agent: &Agent, attempt: &Attempt) -> Explanation {
    let wanted = Rule::parse_value(attempt.capability, &attempt.object).ok();
    let reason = reason(agent, attempt, wanted.as_ref());
    let allow = match reason {
        Reason::Forbidden
        | Reason::SharedList
        | Reason::Strict
        | Reason::WouldGain
        | Reason::Quarantined
        | Reason::HeldNow(_) => None,
        // The same words again, for what the name leads to now.
        Reason::Replaced(ref rule) => Some(rule.clone()),
        _ => wanted.map(on_what_is_there),
    };
    let manifest_line = match reason {
        Reason::SharedList => Some("namespaces = \"own\"".to_owned()),
        Reason::Strict => Some("exec = \"readable\"".to_owned()),
        _ => allow.as_ref().map(Rule::manifest_line),
    };
    Explanation { attempt: attempt.clone(), reason, allow, manifest_line }
}

/// A rule stands on something that exists: what was to be made is allowed by the folder that it goes into.
fn on_what_is_there(mut rule: Rule) -> Rule {
    if let Scope::Fs { right: FsRight::Create, path } = &mut rule.scope
        && let Some(parent) = path.parent()
    {
        *path = parent;
    }
    rule
}

fn reason(agent: &Agent, attempt: &Attempt, wanted: Option<&Rule>) -> Reason {
    if agent.state() == AgentState::Quarantined || attempt.operation == "quarantine" {
        return Reason::Quarantined;
    }
    if attempt.errno == -EXDEV {
        return Reason::WouldGain;
    }
    if attempt.operation == "code_memory" {
        return Reason::Strict;
    }
    // Whoever opens a file is told to have no right, and never that it is forbidden; but for this one.
    if attempt.capability == Capability::Forbidden && attempt.operation == "file_open" {
        return Reason::SharedList;
    }
    if attempt.capability == Capability::Forbidden {
        return Reason::Forbidden;
    }
    let Some(wanted) = wanted else { return Reason::NotHeld { nearest: None } };
    let covers = |held: &Held<'_>| held.rule.rule.scope.covers(&wanted.scope);
    let order = |held: &Held<'_>| (held.rule.counter.is_some(), held.since_ns);
    let covering = agent.held().filter(covers).min_by_key(order);
    if let Some(held) = covering {
        let rule = held.rule.rule.clone();
        let then = held.since_ns <= attempt.boot_ns && held.rule.is_alive(attempt.boot_ns);
        if then && held.rule.counter.is_some() {
            return match GOES_ON.contains(&attempt.operation.as_str()) {
                true => Reason::NoUse(rule),
                false => Reason::UsedUp(rule),
            };
        }
        return if then { Reason::Replaced(rule) } else { Reason::HeldNow(rule) };
    }
    let mut gone = agent.removed.iter().rev();
    match gone.find(|gone| gone.rule.scope.covers(&wanted.scope)) {
        Some(gone) => Reason::Removed(gone.clone()),
        None => Reason::NotHeld { nearest: nearest(agent, &wanted.scope) },
    }
}

/// The rule that comes closest: the same place with another right, else the longest common path.
fn nearest(agent: &Agent, wanted: &Scope) -> Option<Rule> {
    let closeness = |scope: &Scope| match (scope, wanted) {
        (Scope::Fs { path, .. }, Scope::Fs { path: sought, .. }) if sought.is_below(path) => {
            10_000 + path.as_str().len()
        }
        (Scope::Fs { path, right }, Scope::Fs { path: sought, right: needed })
            if right == needed =>
        {
            let pairs = path.as_str().split('/').zip(sought.as_str().split('/'));
            pairs.skip(1).take_while(|(a, b)| a == b).map(|(a, _)| a.len() + 1).sum()
        }
        (Scope::Net { endpoint, right }, Scope::Net { endpoint: sought, right: needed })
            if right == needed =>
        {
            1 + 2 * usize::from(endpoint.host.contains(&sought.host))
                + usize::from(endpoint.port == sought.port)
        }
        (Scope::Unix(_), Scope::Unix(_)) | (Scope::Infer(_), Scope::Infer(_)) => 1,
        _ => 0,
    };
    agent
        .held()
        .map(|held| (closeness(&held.rule.rule.scope), &held.rule.rule))
        .filter(|(close, _)| *close > 0)
        .max_by_key(|(close, _)| *close)
        .map(|(_, rule)| rule.clone())
}
