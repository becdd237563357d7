//! What has changed since it was last written down.

use abi::AgentId;
use std::collections::BTreeSet;

/// What is not written down.
#[derive(Clone, Default, Debug)]
pub struct Unwritten {
    /// Agents that are not as they were.
    pub agents: BTreeSet<AgentId>,
    /// Those of them of which something was decided: what they may do, how heavy they are, whether they live. Of the
    /// rest something was counted.
    pub decided: BTreeSet<AgentId>,
}
