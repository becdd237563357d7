//! All agents: admission, lookup, lifecycle events, removal.

use crate::agent::Agent;
use crate::denials::{Attempt, Noted};
use crate::lifecycle::{Event, IllegalTransition, Transition};
use crate::names::Names;
use crate::news::News;
use crate::sets::SetKeys;
use crate::slots::Slots;
use crate::unwritten::Unwritten;
use crate::weights::Weights;
use abi::AgentId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// How many agents there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Alive at once.
    pub agents: u32,
    /// Ended ones that are remembered for `ps --all`, `explain` and `wait`.
    pub ended: usize,
    /// Sets that one agent may hold.
    pub sets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { agents: 16_384, ended: 1_024, sets: 16 }
    }
}

/// No such agent, or it has been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no agent {0:?}")]
pub struct UnknownAgent(pub AgentId);

/// Every agent of a node. A copy goes its own way from there: that is how every way on from a state is tried.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(crate) agents: HashMap<AgentId, Agent>,
    by_uuid: HashMap<Uuid, AgentId>,
    pub(crate) living: Names,
    pub(crate) ended: Names,
    /// Of each agent, when the first of its rules expires.
    pub(crate) expiries: BTreeSet<(u64, AgentId)>,
    pub(crate) slots: Slots,
    /// Those whose slot is free again, the oldest first.
    gone: VecDeque<AgentId>,
    pub(crate) limits: Limits,
    /// Of tenants.
    pub(crate) weights: Weights,
    pub(crate) keys: Arc<SetKeys>,
    /// What is not written down.
    pub(crate) unwritten: Unwritten,
    /// What was not told yet.
    pub(crate) news: News,
    /// Whose denials have reached a limit, and nobody was told.
    pub(crate) overstepped: Vec<AgentId>,
}

impl Supervisor {
    /// No agents yet.
    pub fn new(limits: Limits, keys: Arc<SetKeys>) -> Self {
        Supervisor {
            agents: HashMap::new(),
            by_uuid: HashMap::new(),
            living: Names::default(),
            ended: Names::default(),
            expiries: BTreeSet::new(),
            slots: Slots::new(limits.agents),
            gone: VecDeque::new(),
            limits,
            weights: Weights::default(),
            keys,
            unwritten: Unwritten::default(),
            news: News::default(),
            overstepped: Vec::new(),
        }
    }

    /// Books an admitted agent.
    pub(crate) fn enter(&mut self, agent: Agent) {
        let (aid, uuid, parent) = (agent.aid, agent.uuid, agent.parent);
        if let Some(parent) = parent.and_then(|parent| self.agents.get_mut(&parent)) {
            parent.children.insert((uuid, aid));
        }
        self.count_below(parent, true);
        self.by_uuid.insert(uuid, aid);
        self.living.insert(&agent);
        self.agents.insert(aid, agent);
        self.touch(aid);
        self.news.lanes.push(aid);
        self.note_expiry(aid);
    }

    /// Books an agent of an earlier daemon's.
    pub(crate) fn take_up(&mut self, agent: Agent) {
        if !agent.state().is_terminal() {
            return self.enter(agent);
        }
        self.touch(agent.aid);
        self.by_uuid.insert(agent.uuid, agent.aid);
        self.ended.insert(&agent);
        if agent.released {
            self.gone.push_back(agent.aid);
        }
        self.agents.insert(agent.aid, agent);
    }

    /// Puts an agent in its place among the expiries.
    pub(crate) fn note_expiry(&mut self, aid: AgentId) {
        let Some(agent) = self.agents.get_mut(&aid) else { return };
        let due = if agent.state().is_terminal() { None } else { agent.earliest() };
        let before = std::mem::replace(&mut agent.due, due);
        if before == due {
            return;
        }
        if let Some(at) = before {
            self.expiries.remove(&(at, aid));
        }
        if let Some(at) = due {
            self.expiries.insert((at, aid));
        }
    }

    /// An agent leaves the living: its parent, its ancestors' budgets, the names of the living.
    fn leave(&mut self, aid: AgentId) {
        let Some(agent) = self.agents.get(&aid) else { return };
        let (entry, parent) = ((agent.uuid, aid), agent.parent);
        self.living.remove(agent);
        if let Some(parent) = parent.and_then(|parent| self.agents.get_mut(&parent)) {
            parent.children.remove(&entry);
        }
        self.count_below(parent, false);
        self.news.lanes.push(aid);
    }

    /// What has changed since this was last asked.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// There is something to ask for.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// An agent, living or remembered.
    pub fn get(&self, aid: AgentId) -> Result<&Agent, UnknownAgent> {
        self.agents.get(&aid).ok_or(UnknownAgent(aid))
    }

    pub(crate) fn get_mut(&mut self, aid: AgentId) -> Result<&mut Agent, UnknownAgent> {
        self.touch(aid);
        self.agents.get_mut(&aid).ok_or(UnknownAgent(aid))
    }

    /// To count what it did: what it may do is as it was.
    fn counted(&mut self, aid: AgentId) -> Result<&mut Agent, UnknownAgent> {
        self.note(aid);
        self.agents.get_mut(&aid).ok_or(UnknownAgent(aid))
    }

    /// An agent by its outside id.
    pub fn by_uuid(&self, uuid: Uuid) -> Option<&Agent> {
        self.by_uuid.get(&uuid).and_then(|aid| self.agents.get(aid))
    }

    /// Living agents in the order of their birth, those after `after`.
    pub fn living_since(&self, after: Option<Uuid>) -> impl Iterator<Item = &Agent> {
        self.living.since(after).filter_map(|(_, aid)| self.agents.get(&aid))
    }

    /// Living agents in the order of their birth.
    pub fn living(&self) -> impl Iterator<Item = &Agent> {
        self.living_since(None)
    }

    /// How many agents live.
    pub fn living_count(&self) -> usize {
        self.living.len()
    }

    /// Every agent in the order of their birth, ended ones included, those after `after`.
    pub fn all_since(&self, after: Option<Uuid>) -> impl Iterator<Item = &Agent> {
        let (mut living, mut ended) =
            (self.living.since(after).peekable(), self.ended.since(after).peekable());
        let next = move || match (living.peek(), ended.peek()) {
            (Some(a), Some(b)) if a < b => living.next(),
            (_, Some(_)) => ended.next(),
            _ => living.next(),
        };
        std::iter::from_fn(next).filter_map(|(_, aid)| self.agents.get(&aid))
    }

    /// Living agents that a tenant pays for, in the order of their birth.
    pub fn paying(&self, tenant: &str) -> impl Iterator<Item = &Agent> {
        self.living.paying(tenant).filter_map(|aid| self.agents.get(&aid))
    }

    /// Moves an agent on in its life; `None` if the event leaves its state as it is.
    ///
    /// A terminated agent keeps its slot until [`Supervisor::release_slot`].
    pub fn event(
        &mut self,
        aid: AgentId,
        event: Event,
    ) -> Result<Result<Option<Transition>, IllegalTransition>, UnknownAgent> {
        let agent = if event.is_its_own() { self.counted(aid)? } else { self.get_mut(aid)? };
        let step = agent.lifecycle.apply(event);
        if event == Event::Release && step.is_ok() {
            agent.refused = 0;
        }
        if let Ok(Some(step)) = &step
            && step.to.is_terminal()
        {
            self.leave(aid);
            self.note_expiry(aid);
            if let Some(agent) = self.agents.get(&aid) {
                self.ended.insert(agent);
            }
        }
        Ok(step)
    }

    /// Books a denial: counts it, keeps it for `explain`, moves the agent to `CapDenied`.
    pub fn deny(&mut self, aid: AgentId, attempt: Attempt) -> Result<Noted, UnknownAgent> {
        let agent = self.counted(aid)?;
        agent.denials.note(attempt);
        let transition = agent.lifecycle.apply(Event::Deny).unwrap_or(None);
        let total = agent.denials.total();
        self.count_refused(aid);
        Ok(Noted { transition, total })
    }

    /// Frees the slot of an ended agent, once the kernel has nothing of it left; whoever is
    /// forgotten for it. Its record stays until [`Limits::ended`] others have ended.
    pub fn release_slot(&mut self, aid: AgentId) -> Result<Option<AgentId>, UnknownAgent> {
        let agent = self.get_mut(aid)?;
        if !agent.state().is_terminal() || std::mem::replace(&mut agent.released, true) {
            return Ok(None);
        }
        self.slots.put_back(aid);
        self.gone.push_back(aid);
        if self.gone.len() <= self.limits.ended {
            return Ok(None);
        }
        let oldest = self.gone.pop_front();
        oldest.into_iter().for_each(|oldest| self.forget(oldest));
        Ok(oldest)
    }

    /// Takes back an admission that failed before anything ran: nothing of it is left.
    pub fn withdraw(&mut self, aid: AgentId) -> Result<(), UnknownAgent> {
        let agent = self.get(aid)?;
        let (ended, released) = (agent.state().is_terminal(), agent.released);
        if !ended {
            self.leave(aid);
        }
        if released {
            self.gone.retain(|gone| *gone != aid);
        } else {
            self.slots.put_back(aid);
        }
        self.forget(aid);
        Ok(())
    }

    /// Children that still live go to whoever is left above.
    fn forget(&mut self, aid: AgentId) {
        let Some(agent) = self.agents.get(&aid) else { return };
        let children: Vec<AgentId> = agent.children().collect();
        let heir = self.living_ancestor(agent.parent);
        for child in children {
            let _ = self.hand_over(child, heir);
        }
        self.touch(aid);
        if let Some(agent) = self.agents.remove(&aid) {
            self.ended.remove(&agent);
            self.by_uuid.remove(&agent.uuid);
            if let Some(at) = agent.due {
                self.expiries.remove(&(at, aid));
            }
        }
    }
}
