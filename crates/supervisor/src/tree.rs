//! Who made whom, and what happens to the children of an agent that ends.

use crate::agent::Agent;
use crate::registry::{Supervisor, UnknownAgent};
use abi::AgentId;
use manifest::Children;

/// What ending an agent means for its tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndPlan {
    /// Agents to end, the deepest first, the asked one last.
    pub end: Vec<AgentId>,
    /// Agents that live on, with their new parent.
    pub reparented: Vec<(AgentId, Option<AgentId>)>,
}

impl Supervisor {
    /// What must happen if `aid` is to end; changes nothing.
    pub fn plan_end(&self, aid: AgentId) -> Result<EndPlan, UnknownAgent> {
        let agent = self.get(aid)?;
        let mut plan = EndPlan::default();
        self.plan_below(agent, self.living_ancestor(agent.parent), &mut plan);
        Ok(plan)
    }

    fn plan_below(&self, agent: &Agent, heir: Option<AgentId>, plan: &mut EndPlan) {
        for child in agent.children().filter_map(|child| self.agents.get(&child)) {
            match agent.children_policy {
                Children::End => self.plan_below(child, heir, plan),
                Children::Reparent => plan.reparented.push((child.aid, heir)),
            }
        }
        plan.end.push(agent.aid);
    }

    pub(crate) fn living_ancestor(&self, mut parent: Option<AgentId>) -> Option<AgentId> {
        while let Some(agent) = parent.and_then(|aid| self.agents.get(&aid)) {
            if !agent.state().is_terminal() {
                return Some(agent.aid);
            }
            parent = agent.parent;
        }
        None
    }

    /// Carries the re-parenting of a plan out. A child stays a subset of its new parent, because
    /// every agent is a subset of each of its ancestors.
    pub fn reparent(&mut self, plan: &EndPlan) -> Result<(), UnknownAgent> {
        for (child, heir) in &plan.reparented {
            self.hand_over(*child, *heir)?;
        }
        Ok(())
    }

    pub(crate) fn hand_over(
        &mut self,
        child: AgentId,
        heir: Option<AgentId>,
    ) -> Result<(), UnknownAgent> {
        let agent = self.get_mut(child)?;
        let entry = (agent.uuid, child);
        let old = std::mem::replace(&mut agent.parent, heir);
        if let Some(old) = old.and_then(|aid| self.agents.get_mut(&aid)) {
            old.children.remove(&entry);
        }
        if let Some(heir) = heir.and_then(|aid| self.agents.get_mut(&aid)) {
            heir.children.insert(entry);
        }
        Ok(())
    }

    /// Tells everybody above that one more agent lives below them, or one less.
    pub(crate) fn count_below(&mut self, parent: Option<AgentId>, more: bool) {
        let mut next = parent;
        while let Some(agent) = next.and_then(|aid| self.agents.get_mut(&aid)) {
            agent.below = if more { agent.below + 1 } else { agent.below.saturating_sub(1) };
            next = agent.parent;
        }
    }

    /// True if `below` was made by `above`, directly or through others.
    pub fn is_descendant(&self, below: AgentId, above: AgentId) -> bool {
        let mut at = self.agents.get(&below).and_then(|agent| agent.parent);
        while let Some(aid) = at {
            if aid == above {
                return true;
            }
            at = self.agents.get(&aid).and_then(|agent| agent.parent);
        }
        false
    }

    /// The living descendants of an agent, parents before children.
    pub fn descendants(&self, aid: AgentId) -> Vec<AgentId> {
        let mut list = Vec::new();
        let mut next = vec![aid];
        while let Some(aid) = next.pop() {
            let Some(agent) = self.agents.get(&aid) else { continue };
            list.extend(agent.children());
            next.extend(agent.children());
        }
        list
    }
}
