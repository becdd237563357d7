//! A caller, as the kernel and the user database name it.

use abi::AgentId;
use uuid::Uuid;

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root, or a member of the operators' group.
    Operator {
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
    /// The broker's own user.
    Broker {
        /// User id.
        uid: u32,
    },
    /// Any other user of this machine.
    User {
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
    /// A process inside an agent, whatever its user is.
    Agent {
        /// The agent.
        aid: AgentId,
        /// The agent, outside.
        uuid: Uuid,
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
}

impl Caller {
    /// The user id of the calling process.
    pub const fn uid(&self) -> u32 {
        match self {
            Self::Operator { uid, .. }
            | Self::Broker { uid }
            | Self::User { uid, .. }
            | Self::Agent { uid, .. } => *uid,
        }
    }

    /// True for root and the operators' group.
    pub const fn is_operator(&self) -> bool {
        matches!(self, Self::Operator { .. })
    }

    /// As audit records name it.
    pub fn name(&self) -> String {
        match self {
            Self::Agent { uuid, .. } => format!("agent {uuid}"),
            other => format!("uid {}", other.uid()),
        }
    }
}
