//! What the daemon knows about one agent.

use crate::denials::Denials;
use crate::lifecycle::Lifecycle;
use abi::{AgentId, AgentState};
use manifest::{Children, Origin, Rule};
use std::collections::VecDeque;
use uuid::Uuid;

/// How many removed rules an agent remembers for `explain`.
const REMOVED_KEPT: usize = 64;

/// A capability that an agent holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Number of the rule within its agent; never reused. `Grant::rule` in the kernel maps.
    pub id: u32,
    /// What it allows. Its relative expiry has become `expires_ns`.
    pub rule: Rule,
    /// Why the agent has it.
    pub origin: Origin,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; none is never.
    pub expires_ns: Option<u64>,
}

/// Why a rule is no longer held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// Revoked from this agent.
    Revoked,
    /// Revoked from an ancestor.
    RevokedAbove,
    /// Its time was over.
    Expired,
}

/// A rule that an agent once held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemovedRule {
    /// What it allowed.
    pub rule: Rule,
    /// Why it is gone.
    pub removal: Removal,
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub at_ns: u64,
}

/// One agent, living or ended.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its id in the hot path.
    pub aid: AgentId,
    /// Its id outside.
    pub uuid: Uuid,
    /// For people; not unique.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// Who made it; none for the top of a tree.
    pub parent: Option<AgentId>,
    /// What happens to its children when it ends.
    pub children_policy: Children,
    /// Weight within its tenant.
    pub weight: u32,
    /// `CLOCK_BOOTTIME` nanoseconds at which it was admitted.
    pub born_ns: u64,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) held: Vec<Held>,
    pub(crate) next_rule: u32,
    pub(crate) removed: VecDeque<RemovedRule>,
    pub(crate) children: Vec<AgentId>,
    pub(crate) denials: Denials,
}

impl Agent {
    /// Where it is in its life.
    pub fn state(&self) -> AgentState {
        self.lifecycle.state()
    }

    /// What it holds, in the order in which it was given.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// One of its rules by number, as the kernel reports uses.
    pub fn rule(&self, id: u32) -> Option<&Held> {
        self.held.iter().find(|held| held.id == id)
    }

    /// Its living children.
    pub fn children(&self) -> &[AgentId] {
        &self.children
    }

    /// What it was refused.
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// Rules that it no longer holds, the newest last.
    pub fn removed(&self) -> impl DoubleEndedIterator<Item = &RemovedRule> {
        self.removed.iter()
    }

    pub(crate) fn give(&mut self, rule: Rule, origin: Origin, expires_ns: Option<u64>) -> u32 {
        let id = self.next_rule;
        self.next_rule += 1;
        self.held.push(Held { id, rule, origin, expires_ns });
        id
    }

    /// Takes away the rules that `gone` names and remembers why.
    pub(crate) fn take(
        &mut self,
        now_ns: u64,
        removal: Removal,
        mut gone: impl FnMut(&Held) -> bool,
    ) -> Vec<Held> {
        let taken: Vec<Held> = self.held.extract_if(.., |held| gone(held)).collect();
        for held in &taken {
            if self.removed.len() == REMOVED_KEPT {
                self.removed.pop_front();
            }
            self.removed.push_back(RemovedRule { rule: held.rule.clone(), removal, at_ns: now_ns });
        }
        taken
    }
}
