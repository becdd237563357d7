//! All agents: admission, lookup, lifecycle events, removal.

use crate::agent::{Agent, Held};
use crate::denials::{Attempt, Denials, Noted};
use crate::grants;
use crate::lanes::Lanes;
use crate::lifecycle::{Event, IllegalTransition, Lifecycle, Transition};
use crate::slots::Slots;
use abi::AgentId;
use manifest::{Children, EffectiveRule, Rule, Scope};
use std::collections::{HashMap, HashSet, VecDeque};
use uuid::Uuid;

/// How many agents there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Alive at once.
    pub agents: u32,
    /// Ended ones that are remembered for `ps --all`, `explain` and `wait`.
    pub ended: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { agents: 16_384, ended: 1_024 }
    }
}

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
    /// Weight within its tenant.
    pub weight: u32,
    /// All that it will hold.
    pub rules: Vec<EffectiveRule>,
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
    #[error("the parent has {0} children and may not have more")]
    TooManyChildren(u32),
    #[error("the parent pays as tenant `{parent}` and cannot spawn for tenant `{wanted}`")]
    Tenant { parent: String, wanted: String },
    #[error(
        "the parent does not hold {}{}",
        .0.iter().take(3).map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", "),
        if .0.len() > 3 { format!(" and {} more", .0.len() - 3) } else { String::new() }
    )]
    Amplifies(Vec<Rule>),
}

/// No such agent, or it has been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no agent {0:?}")]
pub struct UnknownAgent(pub AgentId);

/// Every agent of a node.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) agents: HashMap<AgentId, Agent>,
    by_uuid: HashMap<Uuid, AgentId>,
    slots: Slots,
    ended: VecDeque<AgentId>,
    limits: Limits,
    pub(crate) lanes: Lanes,
}

impl Supervisor {
    /// No agents yet.
    pub fn new(limits: Limits) -> Self {
        Supervisor {
            agents: HashMap::new(),
            by_uuid: HashMap::new(),
            slots: Slots::new(limits.agents),
            ended: VecDeque::new(),
            limits,
            lanes: Lanes::default(),
        }
    }

    /// Checks a new agent against its parent and gives it an id; its state is `Spawning`.
    ///
    /// A child's rules never outlive the parent's rules that cover them.
    pub fn admit(&mut self, new: Admission, now_ns: u64) -> Result<AgentId, AdmitError> {
        if self.by_uuid.contains_key(&new.uuid) {
            return Err(AdmitError::Known(new.uuid));
        }
        let held = self.check(&new, now_ns)?;
        let aid = self.slots.take().ok_or(AdmitError::Full(self.limits.agents))?;
        let mut agent = Agent {
            aid,
            uuid: new.uuid,
            name: new.name,
            tenant: new.tenant,
            parent: new.parent,
            children_policy: new.children,
            weight: new.weight,
            born_ns: now_ns,
            lifecycle: Lifecycle::default(),
            held: Vec::with_capacity(held.len()),
            next_rule: 1,
            removed: VecDeque::new(),
            children: Vec::new(),
            denials: Denials::default(),
        };
        for (effective, expires_ns) in held {
            agent.give(effective.rule, effective.origin, expires_ns);
        }
        if let Some(parent) = new.parent.and_then(|parent| self.agents.get_mut(&parent)) {
            parent.children.push(aid);
        }
        self.by_uuid.insert(agent.uuid, aid);
        self.agents.insert(aid, agent);
        Ok(aid)
    }

    /// The rules with their absolute expiry, if the parent may give them.
    fn check(
        &self,
        new: &Admission,
        now_ns: u64,
    ) -> Result<Vec<(EffectiveRule, Option<u64>)>, AdmitError> {
        let Some(parent) = new.parent else {
            let with_expiry = |effective: &EffectiveRule| {
                (grants::timeless(effective), grants::absolute(&effective.rule, now_ns))
            };
            return Ok(new.rules.iter().map(with_expiry).collect());
        };
        let parent = self.agents.get(&parent).filter(|p| grants::can_give(p));
        let parent = parent.ok_or(AdmitError::Parent)?;
        let allowed = spawn_count(parent.held(), now_ns).ok_or(AdmitError::MayNotSpawn)?;
        if parent.children.len() as u64 >= u64::from(allowed) {
            return Err(AdmitError::TooManyChildren(allowed));
        }
        if parent.tenant != new.tenant {
            let (parent, wanted) = (parent.tenant.clone(), new.tenant.clone());
            return Err(AdmitError::Tenant { parent, wanted });
        }
        let exact: HashSet<&Rule> =
            parent.held().iter().filter(|h| h.expires_ns.is_none()).map(|h| &h.rule).collect();
        let (mut list, mut excess) = (Vec::with_capacity(new.rules.len()), Vec::new());
        for effective in &new.rules {
            let wanted = grants::absolute(&effective.rule, now_ns);
            let timeless = grants::timeless(effective);
            if exact.contains(&timeless.rule) {
                list.push((timeless, wanted));
                continue;
            }
            match grants::delegable(parent.held(), &timeless.rule, wanted, now_ns) {
                Some(expires_ns) => list.push((timeless, expires_ns)),
                None => excess.push(effective.rule.clone()),
            }
        }
        if excess.is_empty() { Ok(list) } else { Err(AdmitError::Amplifies(excess)) }
    }

    /// An agent, living or remembered.
    pub fn get(&self, aid: AgentId) -> Result<&Agent, UnknownAgent> {
        self.agents.get(&aid).ok_or(UnknownAgent(aid))
    }

    pub(crate) fn get_mut(&mut self, aid: AgentId) -> Result<&mut Agent, UnknownAgent> {
        self.agents.get_mut(&aid).ok_or(UnknownAgent(aid))
    }

    /// An agent by its outside id.
    pub fn by_uuid(&self, uuid: Uuid) -> Option<&Agent> {
        self.by_uuid.get(&uuid).and_then(|aid| self.agents.get(aid))
    }

    /// Living agents in the order of their birth.
    pub fn living(&self) -> Vec<&Agent> {
        self.list(|agent| !agent.state().is_terminal())
    }

    /// Every agent, ended ones included, in the order of their birth.
    pub fn all(&self) -> Vec<&Agent> {
        self.list(|_| true)
    }

    fn list(&self, wanted: impl Fn(&Agent) -> bool) -> Vec<&Agent> {
        let mut list: Vec<&Agent> = self.agents.values().filter(|agent| wanted(agent)).collect();
        list.sort_by_key(|agent| (agent.born_ns, agent.uuid));
        list
    }

    /// Moves an agent on in its life; `None` if the event leaves its state as it is.
    ///
    /// A terminated agent keeps its slot until [`Supervisor::release_slot`].
    pub fn event(
        &mut self,
        aid: AgentId,
        event: Event,
    ) -> Result<Result<Option<Transition>, IllegalTransition>, UnknownAgent> {
        let agent = self.get_mut(aid)?;
        let step = agent.lifecycle.apply(event);
        if let (Ok(Some(step)), Some(parent)) = (&step, agent.parent)
            && step.to.is_terminal()
            && let Some(parent) = self.agents.get_mut(&parent)
        {
            parent.children.retain(|child| *child != aid);
        }
        Ok(step)
    }

    /// Books a denial: counts it, keeps it for `explain`, moves the agent to `CapDenied`.
    pub fn deny(&mut self, aid: AgentId, attempt: Attempt) -> Result<Noted, UnknownAgent> {
        let agent = self.get_mut(aid)?;
        agent.denials.note(attempt);
        let transition = agent.lifecycle.apply(Event::Deny).unwrap_or(None);
        Ok(Noted { transition, total: agent.denials.total() })
    }

    /// Frees the slot of an ended agent, once the kernel has nothing of it left. Its record stays
    /// until [`Limits::ended`] others have ended.
    pub fn release_slot(&mut self, aid: AgentId) -> Result<(), UnknownAgent> {
        let agent = self.get(aid)?;
        if !agent.state().is_terminal() || self.ended.contains(&aid) {
            return Ok(());
        }
        self.slots.put_back(aid);
        self.ended.push_back(aid);
        while self.ended.len() > self.limits.ended {
            if let Some(oldest) = self.ended.pop_front() {
                self.forget(oldest);
            }
        }
        Ok(())
    }

    /// Takes back an admission that failed before anything ran: nothing of it is left.
    pub fn withdraw(&mut self, aid: AgentId) -> Result<(), UnknownAgent> {
        let parent = self.get(aid)?.parent;
        if let Some(parent) = parent.and_then(|parent| self.agents.get_mut(&parent)) {
            parent.children.retain(|child| *child != aid);
        }
        if !self.ended.contains(&aid) {
            self.slots.put_back(aid);
        }
        self.ended.retain(|ended| *ended != aid);
        self.forget(aid);
        Ok(())
    }

    fn forget(&mut self, aid: AgentId) {
        if let Some(agent) = self.agents.remove(&aid) {
            self.by_uuid.remove(&agent.uuid);
        }
    }
}

/// How many living children the rules allow; none without `agent.spawn`.
fn spawn_count(held: &[Held], now_ns: u64) -> Option<u32> {
    held.iter()
        .filter(|held| held.expires_ns.is_none_or(|at| at > now_ns))
        .filter_map(|held| match held.rule.scope {
            Scope::Spawn { count } => Some(count),
            _ => None,
        })
        .max()
}
