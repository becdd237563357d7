//! What has changed since somebody last asked, for those who are told of changes.

use abi::AgentId;

/// What may be shown differently from before. Whoever tells others compares: naming one twice, or one that is
/// as it was, does no harm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Agents that are new, changed or not there any more.
    pub agents: Vec<AgentId>,
    /// Agents whose lane is new, changed or not there any more.
    pub lanes: Vec<AgentId>,
    /// Tenants whose weight was set.
    pub tenants: Vec<String>,
}

impl News {
    /// There is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty() && self.lanes.is_empty() && self.tenants.is_empty()
    }

    /// One change names its agent several times in a row.
    pub(crate) fn agent(&mut self, aid: AgentId) {
        if self.agents.last() != Some(&aid) {
            self.agents.push(aid);
        }
    }
}
