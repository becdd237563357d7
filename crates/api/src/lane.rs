//! Lanes: the one weight of a tenant and of an agent within it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Weight of a tenant or agent that nobody gave one.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Smallest and largest weight (those of `cpu.weight`).
pub const WEIGHT_RANGE: std::ops::RangeInclusive<u32> = 1..=10_000;

/// One tenant's lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantLane {
    /// The tenant.
    pub tenant: String,
    /// Its weight among tenants.
    pub weight: u32,
    /// Tokens read and written by its agents since the daemon started.
    pub tokens: u64,
    /// Inference calls, refused ones included.
    pub calls: u64,
    /// Refused inference calls.
    pub refused: u64,
    /// Its running agents, children after their parents, the heaviest of siblings first.
    pub agents: Vec<AgentLane>,
}

/// One agent's lane within its tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentLane {
    /// The agent.
    pub aid: Uuid,
    /// Its name.
    pub name: String,
    /// Its weight within the tenant, or beside its siblings and its parent's own work.
    pub weight: u32,
    /// How many running agents are above it.
    pub depth: u32,
    /// Its part of what the tenant gets, 0 to 1, while all of the tenant's agents want more than they get.
    pub share: f64,
    /// Tokens read and written since it started.
    pub tokens: u64,
    /// Inference calls, refused ones included.
    pub calls: u64,
    /// It may ask models.
    pub infer: bool,
}

/// `GET /v1/lanes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneList {
    /// In order of their names.
    pub tenants: Vec<TenantLane>,
}

/// `PUT /v1/lanes`: one weight, in the CPU scheduler and in the broker. Members that are not named here are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "of", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LaneChange {
    /// A tenant's weight among tenants.
    Tenant {
        /// The tenant.
        tenant: String,
        /// 1 to 10000.
        weight: u32,
    },
    /// An agent's weight within its tenant.
    Agent {
        /// UUID, unique suffix, or name.
        agent: String,
        /// 1 to 10000.
        weight: u32,
    },
}
