//! What of an agent outlives the daemon: written down when it changes, taken up by the next one.
//!
//! Fields that a reader does not know are skipped and ones that it misses have a default, so that the next
//! version reads this one's and the other way round.

use crate::agent::{Above, Agent, Removal, RemovedRule};
use crate::denials::{Attempt, Denials};
use crate::lifecycle::Lifecycle;
use crate::registry::Supervisor;
use crate::sets::{Counter, HeldSet, Inode, Place, RuleSet, SetKey, SetRule};
use crate::unwritten::Unwritten;
use abi::{AgentId, AgentState, Capability};
use manifest::{Children, Consequence, DenialLimit, Memory, Origin, Rule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// One agent, living or ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `Agent`
pub struct SavedAgent {
    pub aid: u64,
    pub uuid: Uuid,
    pub name: String,
    pub tenant: String,
    #[serde(default)]
    pub parent: Option<u64>,
    #[serde(default)]
    pub reparents: bool,
    pub weight: u32,
    #[serde(default)]
    pub above: Vec<(Uuid, u32)>,
    /// `hbm`, `ram` and `ssd`.
    #[serde(default)]
    pub memory: [Option<u64>; 3],
    pub born_ns: u64,
    pub state: u32,
    pub sets: Vec<SavedHeld>,
    pub next_rule: u32,
    #[serde(default)]
    pub removed: Vec<(Rule, u32, u64)>,
    #[serde(default)]
    pub denials: u64,
    #[serde(default)]
    pub attempts: Vec<SavedAttempt>,
    /// How many denials lead to its end, or else to its quarantine.
    #[serde(default)]
    pub denial_limit: Option<(u64, bool)>,
    #[serde(default)]
    pub refused: u64,
    #[serde(default)]
    pub released: bool,
}

/// A set that an agent holds, by its key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `HeldSet`
pub struct SavedHeld {
    pub key: u64,
    pub first: u32,
    pub since_ns: u64,
    pub granted: bool,
}

/// A refused attempt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `Attempt`
pub struct SavedAttempt {
    pub time_ns: u64,
    pub boot_ns: u64,
    pub capability: u32,
    pub object: String,
    pub operation: String,
    pub program: String,
    pub errno: i32,
    pub count: u64,
}

/// One rule of a set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `SetRule`
pub struct SavedRule {
    pub rule: Rule,
    pub origin: Origin,
    #[serde(default)]
    pub expires_ns: Option<u64>,
    #[serde(default)]
    pub counter: Option<Counter>,
    pub place: SavedPlace,
    #[serde(default)]
    pub granted_ns: u64,
}

/// What a rule's name led to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // as in `Place`
pub enum SavedPlace {
    Free,
    Absent,
    File { nodes: Vec<(u64, u64)>, follows: bool },
    Hosts(Vec<IpAddr>),
}

/// A set of rules.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `RuleSet`
pub struct SavedSet {
    pub key: u64,
    #[serde(default)]
    pub from: Option<u64>,
    pub rules: Vec<Option<SavedRule>>,
}

/// Why an agent cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It names a set that is not there.
    #[error("it holds the set {0}, which is not there")]
    NoSet(u64),
    /// A later version's.
    #[error("it has the state {0}, which this version does not know")]
    State(u32),
    /// It is there already, or has an id that cannot be.
    #[error("its id was given out to another, or cannot be")]
    Id,
}

const REMOVALS: [Removal; 4] =
    [Removal::Revoked, Removal::RevokedAbove, Removal::Expired, Removal::Replaced];

impl From<&SetRule> for SavedRule {
    fn from(rule: &SetRule) -> Self {
        SavedRule {
            rule: rule.rule.clone(),
            origin: rule.origin.clone(),
            expires_ns: rule.expires_ns,
            counter: rule.counter,
            place: match &rule.place {
                Place::Free => SavedPlace::Free,
                Place::Absent => SavedPlace::Absent,
                Place::File { nodes, follows } => SavedPlace::File {
                    nodes: nodes.iter().map(|node| (node.dev, node.ino)).collect(),
                    follows: *follows,
                },
                Place::Hosts(hosts) => SavedPlace::Hosts(hosts.to_vec()),
            },
            granted_ns: rule.granted_ns,
        }
    }
}

impl From<SavedRule> for SetRule {
    fn from(saved: SavedRule) -> Self {
        SetRule {
            rule: saved.rule,
            origin: saved.origin,
            expires_ns: saved.expires_ns,
            counter: saved.counter,
            place: match saved.place {
                SavedPlace::Free => Place::Free,
                SavedPlace::Absent => Place::Absent,
                SavedPlace::File { nodes, follows } => Place::File {
                    nodes: nodes.into_iter().map(|(dev, ino)| Inode { dev, ino }).collect(),
                    follows,
                },
                SavedPlace::Hosts(hosts) => Place::Hosts(hosts.into()),
            },
            granted_ns: saved.granted_ns,
        }
    }
}

impl RuleSet {
    /// As it is written down.
    pub fn saved(&self) -> SavedSet {
        let rules = self.positions().iter().map(|rule| rule.as_ref().map(SavedRule::from));
        SavedSet { key: self.key().0, from: self.from().map(|key| key.0), rules: rules.collect() }
    }

    /// A set that an earlier daemon had, under a key of this one's; `from` is what it was made out of.
    pub fn restored(key: SetKey, from: Option<SetKey>, saved: SavedSet) -> Arc<RuleSet> {
        let rules = saved.rules.into_iter().map(|rule| rule.map(SetRule::from)).collect();
        RuleSet::build(key, from, rules)
    }
}

impl Supervisor {
    /// What is not as it was when this was last asked; of agents that are not there any more the rest may be
    /// forgotten.
    pub fn take_unwritten(&mut self) -> Unwritten {
        std::mem::take(&mut self.unwritten)
    }

    /// It could not be written.
    pub fn still_unwritten(&mut self, mut since: Unwritten) {
        self.unwritten.agents.append(&mut since.agents);
        self.unwritten.decided.append(&mut since.decided);
    }

    /// Something that belongs to an agent has changed elsewhere.
    pub fn touch(&mut self, aid: AgentId) {
        self.unwritten.decided.insert(aid);
        self.note(aid);
    }

    /// Of an agent something was counted.
    pub fn note(&mut self, aid: AgentId) {
        self.unwritten.agents.insert(aid);
        self.news.agent(aid);
    }

    /// The highest generation that an id was given out with.
    pub fn generation(&self) -> u32 {
        self.slots.highest()
    }

    /// An agent as it is written down.
    pub fn saved(&self, aid: AgentId) -> Option<SavedAgent> {
        let agent = self.agents.get(&aid)?;
        let held = |held: &HeldSet| SavedHeld {
            key: held.set.key().0,
            first: held.first,
            since_ns: held.since_ns,
            granted: held.granted,
        };
        let removal = |of: Removal| REMOVALS.iter().position(|known| *known == of).unwrap_or(0);
        let removed = |gone: &RemovedRule| {
            (gone.rule.clone(), u32::try_from(removal(gone.removal)).unwrap_or(0), gone.at_ns)
        };
        Some(SavedAgent {
            aid: agent.aid.0,
            uuid: agent.uuid,
            name: agent.name.clone(),
            tenant: agent.tenant.clone(),
            parent: agent.parent.map(|parent| parent.0),
            reparents: agent.children_policy == Children::Reparent,
            weight: agent.weight,
            above: agent.above.iter().map(|above| (above.uuid, above.weight)).collect(),
            memory: [agent.memory.hbm, agent.memory.ram, agent.memory.ssd],
            born_ns: agent.born_ns,
            state: agent.state() as u32,
            sets: agent.sets.iter().map(held).collect(),
            next_rule: agent.next_rule,
            removed: agent.removed.iter().map(removed).collect(),
            denials: agent.denials.total(),
            attempts: agent.denials.latest().map(saved_attempt).collect(),
            denial_limit: agent.denial_limit.map(|l| (l.count, l.then == Consequence::End)),
            refused: agent.refused,
            released: agent.released,
        })
    }

    /// No id that was given out up to this generation is given out again.
    pub fn reserve_generations(&mut self, highest: u32) {
        self.slots.start_above(highest);
    }

    /// Takes an agent up; those that it was made by come first.
    ///
    /// # Errors
    /// When it cannot be as it is written down; then there is nothing of it.
    pub fn restore(
        &mut self,
        saved: SavedAgent,
        sets: &HashMap<u64, Arc<RuleSet>>,
    ) -> Result<AgentId, RestoreError> {
        let aid = AgentId(saved.aid);
        let state =
            AgentState::try_from(saved.state).map_err(|_| RestoreError::State(saved.state))?;
        let mut held = Vec::with_capacity(saved.sets.len());
        for one in &saved.sets {
            let set = match sets.get(&one.key) {
                Some(set) => set.clone(),
                None if state.is_terminal() => continue,
                None => return Err(RestoreError::NoSet(one.key)),
            };
            let SavedHeld { first, since_ns, granted, .. } = *one;
            held.push(HeldSet { set, first, since_ns, granted });
        }
        let known = self.agents.contains_key(&aid) || self.by_uuid(saved.uuid).is_some();
        if known || !self.slots.occupy(aid, !saved.released) {
            return Err(RestoreError::Id);
        }
        let [hbm, ram, ssd] = saved.memory;
        let above = saved.above.into_iter().map(|(uuid, weight)| Above { uuid, weight });
        let removed = saved.removed.into_iter().map(|(rule, removal, at_ns)| {
            let removal = REMOVALS.get(removal as usize).copied().unwrap_or(Removal::Revoked);
            RemovedRule { rule, removal, at_ns }
        });
        let parent = saved.parent.map(AgentId).filter(|parent| self.agents.contains_key(parent));
        let agent = Agent {
            aid,
            uuid: saved.uuid,
            name: saved.name,
            tenant: saved.tenant,
            parent,
            children_policy: if saved.reparents { Children::Reparent } else { Children::End },
            weight: saved.weight,
            above: above.collect(),
            memory: Memory { hbm, ram, ssd },
            born_ns: saved.born_ns,
            lifecycle: Lifecycle::at(state),
            sets: held,
            next_rule: saved.next_rule,
            due: None,
            removed: removed.collect::<VecDeque<_>>(),
            children: BTreeSet::new(),
            below: 0,
            denials: Denials::at(saved.denials, saved.attempts.into_iter().map(attempt)),
            denial_limit: saved.denial_limit.map(limit),
            refused: saved.refused,
            released: saved.released,
        };
        self.take_up(agent);
        Ok(aid)
    }
}

fn limit((count, ends): (u64, bool)) -> DenialLimit {
    DenialLimit { count, then: if ends { Consequence::End } else { Consequence::Quarantine } }
}

fn saved_attempt(attempt: &Attempt) -> SavedAttempt {
    SavedAttempt {
        time_ns: attempt.time_ns,
        boot_ns: attempt.boot_ns,
        capability: attempt.capability as u32,
        object: attempt.object.clone(),
        operation: attempt.operation.clone(),
        program: attempt.program.clone(),
        errno: attempt.errno,
        count: attempt.count,
    }
}

fn attempt(saved: SavedAttempt) -> Attempt {
    Attempt {
        time_ns: saved.time_ns,
        boot_ns: saved.boot_ns,
        capability: Capability::try_from(saved.capability).unwrap_or(Capability::Forbidden),
        object: saved.object,
        operation: saved.operation,
        program: saved.program,
        errno: saved.errno,
        count: saved.count,
    }
}
