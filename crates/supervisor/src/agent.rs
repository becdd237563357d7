//! What the daemon knows about one agent.

use crate::denials::Denials;
use crate::lifecycle::Lifecycle;
use crate::sets::{Held, HeldSet, RuleSet};
use abi::{AgentId, AgentState, Capability};
use manifest::{Children, DenialLimit, Memory, Rule, Scope};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// How many removed rules an agent remembers for `explain`.
const REMOVED_KEPT: usize = 64;

/// Why a rule is no longer held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// Revoked from this agent.
    Revoked,
    /// Revoked from an ancestor.
    RevokedAbove,
    /// Its time was over.
    Expired,
    /// Granted anew, for the file that its name leads to now.
    Replaced,
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

/// An agent above another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Above {
    /// Its id outside.
    pub uuid: Uuid,
    /// Its weight, or the last it had.
    pub weight: u32,
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
    /// Weight within its tenant, or beside its siblings where others are above it.
    pub weight: u32,
    /// Whose part its own is of, by birth, the topmost first: also those that have ended and left it to
    /// their parents, or nobody's part would be bounded who has children and ends.
    pub above: Vec<Above>,
    /// What it and all below it may use: its own limit, or that of whoever is above.
    pub memory: Memory,
    /// `CLOCK_BOOTTIME` nanoseconds at which it was admitted.
    pub born_ns: u64,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) sets: Vec<HeldSet>,
    pub(crate) next_rule: u32,
    /// Under which time it stands among the expiries.
    pub(crate) due: Option<u64>,
    pub(crate) removed: VecDeque<RemovedRule>,
    /// In the order of their birth.
    pub(crate) children: BTreeSet<(Uuid, AgentId)>,
    /// Living agents below it, however deep.
    pub(crate) below: u32,
    pub(crate) denials: Denials,
    /// What its denials lead to.
    pub(crate) denial_limit: Option<DenialLimit>,
    /// Denials that count for it: its own and of all below it, since its last release.
    pub(crate) refused: u64,
    pub(crate) released: bool,
}

impl Agent {
    /// Where it is in its life.
    pub fn state(&self) -> AgentState {
        self.lifecycle.state()
    }

    /// The sets that it holds.
    pub fn sets(&self) -> &[HeldSet] {
        &self.sets
    }

    /// What it holds, in the order in which it was given.
    pub fn held(&self) -> impl Iterator<Item = Held<'_>> {
        self.sets.iter().flat_map(HeldSet::held)
    }

    /// What it holds of one kind, without looking at sets that have none of it.
    pub fn held_of(&self, kind: Capability) -> impl Iterator<Item = Held<'_>> {
        let sets = self.sets.iter().filter(move |held| held.set.has_kind(kind));
        sets.flat_map(HeldSet::held).filter(move |held| held.rule.rule.capability() == kind)
    }

    /// True if it holds a right of this kind at that time.
    pub fn holds(&self, kind: Capability, now_ns: u64) -> bool {
        self.held_of(kind).any(|held| held.rule.is_alive(now_ns))
    }

    /// Its living children, in the order of their birth.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = AgentId> {
        self.children.iter().map(|(_, aid)| *aid)
    }

    /// How many living agents are below it.
    pub fn below(&self) -> u32 {
        self.below
    }

    /// What it was refused.
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// Rules that it no longer holds, the newest last.
    pub fn removed(&self) -> impl DoubleEndedIterator<Item = &RemovedRule> {
        self.removed.iter()
    }

    /// How many agents may live below it; none without `agent.spawn`.
    pub(crate) fn spawn_count(&self, now_ns: u64) -> Option<u32> {
        let alive = self.held_of(Capability::AgentSpawn).filter(|held| held.rule.is_alive(now_ns));
        let counts = alive.filter_map(|held| match held.rule.rule.scope {
            Scope::Spawn { count } => Some(count),
            _ => None,
        });
        counts.max()
    }

    /// When the first of its rules expires.
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.sets.iter().filter_map(|held| held.set.earliest()).min()
    }

    /// The set as this agent would hold it, with numbers of its own.
    pub(crate) fn numbered(
        set: Arc<RuleSet>,
        first: u32,
        since_ns: u64,
        granted: bool,
    ) -> (HeldSet, u32) {
        let next = first + u32::try_from(set.positions().len()).unwrap_or(u32::MAX);
        (HeldSet { set, first, since_ns, granted }, next)
    }

    pub(crate) fn remember(&mut self, rule: Rule, removal: Removal, at_ns: u64) {
        if self.removed.len() == REMOVED_KEPT {
            self.removed.pop_front();
        }
        self.removed.push_back(RemovedRule { rule, removal, at_ns });
    }
}
