//! `GET /v1/feed`: what there is, then every change of it, one JSON document a line.
//!
//! The first line is a [`Snapshot`] with the number 0, each further one a [`Delta`] with the next number. A caller that
//! reads too slowly misses nothing unnoticed: its last line is [`FeedLine::End`], and it may ask anew. Everybody sees
//! what is theirs, as in `GET /v1/agents`.

use crate::agent::{Agent, Exit, state};
use abi::AgentState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// One line of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FeedLine {
    /// The first line.
    Snapshot {
        /// 0.
        number: u64,
        /// What the deltas change.
        snapshot: Snapshot,
    },
    /// Each further one.
    Delta {
        /// Of this stream: that of the line before and one.
        number: u64,
        /// What has changed.
        delta: Delta,
    },
    /// The last one of a stream that is cut off.
    End {
        /// Why.
        end: FeedEnd,
    },
}

/// Why a feed was cut off: more has changed than is kept for one who does not read; he asks for a new snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum FeedEnd {
    /// More has changed than is kept for one who does not read: ask for a new snapshot.
    #[serde(rename = "too slow")]
    TooSlow,
}

/// What the caller may see at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Running agents, the oldest first; with `?all=true` ended ones that are remembered, too.
    pub agents: Vec<Agent>,
    /// Weights that tenants were given; for operators.
    #[serde(default)]
    #[schema(default = json!({}))]
    pub tenants: BTreeMap<String, u32>,
}

/// One change. The counters of an agent (`denials`, `uses`) are as they were when it was last shown whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Delta {
    /// An agent is new.
    Added {
        /// The whole of it.
        agent: Agent,
    },
    /// One of these is different.
    Changed {
        /// The agent.
        aid: Uuid,
        /// Its state; a terminal one leaves the list of those that run.
        #[serde(with = "state")]
        #[schema(value_type = String)]
        state: AgentState,
        /// Its first process.
        pid: Option<u32>,
        /// The agent above it.
        parent: Option<Uuid>,
        /// Its weight.
        weight: u32,
        /// Nanoseconds since the UNIX epoch; none while it runs.
        ended_ns: Option<u64>,
    },
    /// Nothing of an agent is left, and its end is in the log.
    Ended {
        /// The agent.
        aid: Uuid,
        /// Its terminal state.
        #[serde(with = "state")]
        #[schema(value_type = String)]
        state: AgentState,
        /// Nanoseconds since the UNIX epoch.
        ended_ns: Option<u64>,
        /// How it ended.
        exit: Exit,
    },
    /// An agent is not remembered any more, also not as the parent of others; or it is not the caller's any more.
    Gone {
        /// The agent.
        aid: Uuid,
    },
    /// The weight of a tenant was set; for operators.
    Tenant {
        /// The tenant.
        tenant: String,
        /// Its weight among tenants.
        weight: u32,
    },
}
