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
        for child in agent.children.iter().filter_map(|child| self.agents.get(child)) {
            match agent.children_policy {
                Children::End => self.plan_below(child, heir, plan),
                Children::Reparent => plan.reparented.push((child.aid, heir)),
            }
        }
        plan.end.push(agent.aid);
    }

    fn living_ancestor(&self, mut parent: Option<AgentId>) -> Option<AgentId> {
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
            let old = std::mem::replace(&mut self.get_mut(*child)?.parent, *heir);
            if let Some(old) = old.and_then(|aid| self.agents.get_mut(&aid)) {
                old.children.retain(|aid| aid != child);
            }
            if let Some(heir) = heir.and_then(|aid| self.agents.get_mut(&aid)) {
                heir.children.push(*child);
            }
        }
        Ok(())
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
            let children = self.agents.get(&aid).map_or(&[][..], |agent| agent.children());
            list.extend_from_slice(children);
            next.extend_from_slice(children);
        }
        list
    }
}
