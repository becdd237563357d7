//! A number of denials that leads to something: an agent's own, and those of all below it, so that nobody tries on through
//! children.

use crate::agent::Agent;
use crate::registry::Supervisor;
use abi::{AgentId, AgentState};
use manifest::DenialLimit;

impl Agent {
    /// Its limit, if its denials have reached it and it goes on.
    fn overstepped(&self) -> Option<DenialLimit> {
        let runs = !self.state().is_terminal() && self.state() != AgentState::Quarantined;
        self.denial_limit.filter(|limit| runs && self.refused >= limit.count)
    }
}

impl Supervisor {
    /// Counts a denial for the agent and all above it.
    pub(crate) fn count_refused(&mut self, aid: AgentId) {
        let mut next = Some(aid);
        while let Some(agent) = next.and_then(|aid| self.agents.get_mut(&aid)) {
            agent.refused += 1;
            if agent.overstepped().is_some() && !self.overstepped.contains(&agent.aid) {
                self.overstepped.push(agent.aid);
            }
            next = agent.parent;
        }
    }

    /// Somebody has reached a limit, and nobody was told.
    pub fn has_overstepped(&self) -> bool {
        !self.overstepped.is_empty()
    }

    /// Those whose denials have reached their limit, each once. One that goes on is named again with its next denial.
    pub fn take_overstepped(&mut self) -> Vec<(AgentId, DenialLimit)> {
        let all = std::mem::take(&mut self.overstepped);
        let limit = |aid: AgentId| Some((aid, self.agents.get(&aid)?.overstepped()?));
        all.into_iter().filter_map(limit).collect()
    }
}
