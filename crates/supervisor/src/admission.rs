//! A new agent's place in the tree: within its parent's rights and budgets.

use crate::agent::{Above, Agent};
use crate::denials::Denials;
use crate::grants;
use crate::lifecycle::Lifecycle;
use crate::narrow::Narrowing;
use crate::registry::Supervisor;
use crate::sets::{Fate, HeldSet, RuleSet};
use crate::weights::DEFAULT_WEIGHT;
use abi::AgentId;
use manifest::{Children, DenialLimit, Memory, Rule, limits, print_size};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// A new agent, all of it checked but its place in the tree.
#[derive(Clone, Debug)]
pub struct Admission {
    /// UUIDv7 that the caller made.
    pub uuid: Uuid,
    /// Who asks for it; none for an operator.
    pub parent: Option<AgentId>,
    /// For people.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// What happens to its children when it ends.
    pub children: Children,
    /// Weight within its tenant. The default is no wish: a lighter parent's child is as light.
    pub weight: u32,
    /// What it and all below it may use.
    pub memory: Memory,
    /// What its denials lead to.
    pub denial_limit: Option<DenialLimit>,
    /// All that it will hold, in the order of its rules' numbers.
    pub sets: Vec<Arc<RuleSet>>,
}

/// Why a new agent is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AdmitError {
    #[error("all {0} places for agents are taken")]
    Full(u32),
    #[error("there is an agent with the id {0}")]
    Known(Uuid),
    #[error("the parent is not a running agent")]
    Parent,
    #[error("the parent holds no `agent.spawn`")]
    MayNotSpawn,
    #[error("`{name}` may have {count} agents below it at once, and has")]
    TooManyBelow { name: String, count: u32 },
    #[error("the parent pays as tenant `{parent}` and cannot spawn for tenant `{wanted}`")]
    Tenant { parent: String, wanted: String },
    #[error(
        "the parent does not hold {}{}",
        .0.iter().take(3).map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", "),
        if .0.len() > 3 { format!(" and {} more", .0.len() - 3) } else { String::new() }
    )]
    Amplifies(Vec<Rule>),
    #[error("the parent may use {} of {tier}, the child asks for {}", print_size(*.parent), print_size(*.wanted))]
    Memory { tier: &'static str, parent: u64, wanted: u64 },
    #[error("the parent has the weight {parent}, the child asks for {wanted}")]
    Weight { parent: u32, wanted: u32 },
    #[error("the agent would hold more than {} rules", limits::RULES)]
    TooManyRules,
    #[error("the agent would hold {0} sets of rules; name fewer profiles")]
    TooManySets(usize),
}

/// What a parent leaves to its child.
struct Within {
    sets: Vec<Arc<RuleSet>>,
    weight: u32,
    above: Vec<Above>,
    memory: Memory,
}

impl Supervisor {
    /// Checks a new agent against its parent and gives it an id; its state is `Spawning`. What it
    /// holds then is [`Agent::sets`].
    ///
    /// A child's rules never outlive the parent's rules that cover them.
    pub fn admit(&mut self, new: Admission, now_ns: u64) -> Result<AgentId, AdmitError> {
        if self.by_uuid(new.uuid).is_some() {
            return Err(AdmitError::Known(new.uuid));
        }
        let within = self.within(&new, now_ns)?;
        if within.sets.len() > self.limits.sets {
            return Err(AdmitError::TooManySets(within.sets.len()));
        }
        if within.sets.iter().map(|set| set.len()).sum::<usize>() > limits::RULES {
            return Err(AdmitError::TooManyRules);
        }
        let aid = self.slots.take().ok_or(AdmitError::Full(self.limits.agents))?;
        let (mut sets, mut next_rule) = (Vec::with_capacity(within.sets.len()), 1);
        for set in within.sets {
            let (held, next) = Agent::numbered(set, next_rule, now_ns, false);
            sets.push(held);
            next_rule = next;
        }
        self.enter(Agent {
            aid,
            uuid: new.uuid,
            name: new.name,
            tenant: new.tenant,
            parent: new.parent,
            children_policy: new.children,
            weight: within.weight,
            above: within.above,
            memory: within.memory,
            born_ns: now_ns,
            lifecycle: Lifecycle::default(),
            sets,
            next_rule,
            due: None,
            removed: VecDeque::new(),
            children: BTreeSet::new(),
            below: 0,
            denials: Denials::default(),
            denial_limit: new.denial_limit,
            refused: 0,
            released: false,
        });
        Ok(aid)
    }

    fn within(&self, new: &Admission, now_ns: u64) -> Result<Within, AdmitError> {
        let Some(parent) = new.parent else {
            let sets = new.sets.iter().filter(|set| !set.is_empty()).cloned().collect();
            let above = Vec::new();
            return Ok(Within { sets, weight: new.weight, above, memory: new.memory });
        };
        let parent = self.get(parent).ok().filter(|p| grants::can_give(p));
        let parent = parent.ok_or(AdmitError::Parent)?;
        self.check_count(parent, now_ns)?;
        if parent.tenant != new.tenant {
            let (parent, wanted) = (parent.tenant.clone(), new.tenant.clone());
            return Err(AdmitError::Tenant { parent, wanted });
        }
        let weight = match new.weight {
            wanted if wanted <= parent.weight => wanted,
            DEFAULT_WEIGHT => parent.weight,
            wanted => return Err(AdmitError::Weight { parent: parent.weight, wanted }),
        };
        let memory = Memory {
            hbm: least("hbm", parent.memory.hbm, new.memory.hbm)?,
            ram: least("ram", parent.memory.ram, new.memory.ram)?,
            ssd: least("ssd", parent.memory.ssd, new.memory.ssd)?,
        };
        let sets = self.attenuate(&new.sets, &parent.sets, now_ns)?;
        let mut above = parent.above.clone();
        above.push(Above { uuid: parent.uuid, weight: parent.weight });
        Ok(Within { sets, weight, above, memory })
    }

    /// An agent's count is one for all below it: whoever is above must have room too.
    fn check_count(&self, parent: &Agent, now_ns: u64) -> Result<(), AdmitError> {
        let mut next = Some(parent);
        while let Some(agent) = next {
            let count = agent.spawn_count(now_ns).ok_or(AdmitError::MayNotSpawn)?;
            if agent.below >= count {
                return Err(AdmitError::TooManyBelow { name: agent.name.clone(), count });
            }
            next = agent.parent.and_then(|above| self.agents.get(&above));
        }
        Ok(())
    }

    /// The sets as a child of whoever holds `above` may have them.
    fn attenuate(
        &self,
        sets: &[Arc<RuleSet>],
        above: &[HeldSet],
        now_ns: u64,
    ) -> Result<Vec<Arc<RuleSet>>, AdmitError> {
        let mut narrowing = Narrowing::new(&self.keys, now_ns);
        let (mut within, mut excess) = (Vec::with_capacity(sets.len()), Vec::new());
        for set in sets {
            let fates = narrowing.within(set, above);
            let gone = set.rules().filter(|(at, _)| fates[*at] == Fate::Gone);
            excess.extend(gone.map(|(_, rule)| rule.rule.clone()));
            let (held, _) = Agent::numbered(set.clone(), 0, now_ns, false);
            let left = narrowing.apply(&held, &fates).filter(|held| !held.set.is_empty());
            within.extend(left.map(|held| held.set));
        }
        if excess.is_empty() { Ok(within) } else { Err(AdmitError::Amplifies(excess)) }
    }
}

/// A child's own limit must fit into its parent's; none is its parent's.
fn least(
    tier: &'static str,
    parent: Option<u64>,
    wanted: Option<u64>,
) -> Result<Option<u64>, AdmitError> {
    match (parent, wanted) {
        (Some(parent), Some(wanted)) if wanted > parent => {
            Err(AdmitError::Memory { tier, parent, wanted })
        }
        (parent, wanted) => Ok(wanted.or(parent)),
    }
}
