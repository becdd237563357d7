//! Agents whose rows say less than what was done to them, because a write to the registry failed. They are marked in
//! the service manager's store of files, which needs no room on a disk; the next daemon ends them, for what they may
//! do is not known to it. Nobody gets a right back that way that was taken away.

use super::Line;
use super::keeper::Keeper;
use abi::AgentId;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;

/// Who is marked, and why.
pub(super) struct Stale {
    /// What is kept as a mark: any file.
    mark: File,
    agents: BTreeSet<AgentId>,
    why: Option<String>,
}

impl Stale {
    pub fn new(mark: File) -> Self {
        Stale { mark, agents: BTreeSet::new(), why: None }
    }

    /// Why nothing can be written now.
    pub const fn why(&self) -> Option<&String> {
        self.why.as_ref()
    }

    /// What was done to these is not written. True where what was before is.
    pub fn failed(
        &mut self,
        keeper: &dyn Keeper,
        agents: impl IntoIterator<Item = AgentId>,
        why: String,
    ) -> bool {
        for agent in agents {
            if self.agents.insert(agent) {
                keeper.keep(&Line::Stale.name(agent), self.mark.as_fd());
            }
        }
        self.why.replace(why).is_none()
    }

    /// An earlier daemon has marked it.
    pub fn was(&mut self, agent: AgentId) {
        self.agents.insert(agent);
    }

    /// Everything is written. True where something was not.
    pub fn written(&mut self, keeper: &dyn Keeper) -> bool {
        for agent in std::mem::take(&mut self.agents) {
            keeper.forget(&Line::Stale.name(agent));
        }
        self.why.take().is_some()
    }
}
