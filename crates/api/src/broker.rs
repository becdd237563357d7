//! What the broker asks coconutd and tells it. Only the broker's own user and root may call these.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/broker/lanes` | endless NDJSON of [`LaneEvent`]: every live lane, `Synced`, then changes |
//! | `GET /v1/broker/peer?client=IP:PORT&server=IP:PORT` | [`Peer`], from the kernel; 404 if no agent owns the client end |
//! | `POST /v1/broker/waiting` with [`Waiting`] | 204: from now on those agents wait for a model, or no longer |
//! | `POST /v1/broker/usage` with [`SettledCalls`] | 204 once the records are in the log, each once however often it is sent |

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Where coconutd listens.
pub const API_SOCKET: &str = "/run/coconut/api.sock";
/// Where the broker listens for agents.
pub const BROKER_SOCKET: &str = "/run/coconut/broker.sock";
/// Where the broker listens on loopback; `OPENAI_BASE_URL` is `http://127.0.0.1:11700/v1`.
pub const BROKER_PORT: u16 = 11700;

/// Who owns the client end of a TCP connection, told by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// The agent's outside id; its lane comes from the stream of [`LaneEvent`].
    pub agent: Uuid,
}

/// What an agent may ask of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InferLimits {
    /// Model names; `*` is any.
    pub models: Vec<String>,
    /// Prompt and completion tokens a minute; none is unlimited.
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight at once; none is unlimited.
    pub concurrency: Option<u32>,
    /// Longest prompt plus completion, in tokens; none is the model's.
    pub context: Option<u32>,
}

/// An agent above another, by their births: the lower one's part is of the upper one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Above {
    /// The agent; it may have ended.
    pub agent: Uuid,
    /// Its weight, or the last it had.
    pub weight: u32,
}

/// One agent's lane: tenant first, agent within it, one weight each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lane {
    /// The agent.
    pub agent: Uuid,
    /// Its name, for people.
    pub name: String,
    /// The tenant that pays.
    pub tenant: String,
    /// Weight of the tenant among tenants.
    pub tenant_weight: u32,
    /// Weight of the agent within its tenant, or beside its siblings where others are above it.
    pub weight: u32,
    /// Who is above it, the topmost first.
    #[serde(default)]
    #[schema(default = json!([]))]
    pub above: Vec<Above>,
    /// None: the agent holds no `infer` capability, so every request is refused.
    pub infer: Option<InferLimits>,
}

/// A change of the lanes that the broker must know at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LaneEvent {
    /// The lane is new or different.
    Set {
        /// The whole lane.
        lane: Lane,
    },
    /// The agent has ended: refuse what it still sends.
    Gone {
        /// The agent.
        agent: Uuid,
    },
    /// Every lane that was live at the start of the stream has been sent.
    Synced,
}

/// Whose calls are under way: the agents that wait for a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Nobody waits but those named here: the broker begins anew.
    pub afresh: bool,
    /// Wait from now on.
    pub began: Vec<Uuid>,
    /// Wait no longer.
    pub ended: Vec<Uuid>,
}

/// Calls that are over, in the order in which they were settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettledCalls {
    /// The broker's journal, which numbers them.
    pub journal: Uuid,
    /// Number of the first of these; the others follow. A number that coconutd has on record is not recorded
    /// again: what may have arrived is sent again.
    pub first: u64,
    /// The calls.
    pub calls: Vec<Usage>,
}

/// One finished or refused inference call, for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The call; its answer carried this id as `x-request-id`.
    #[serde(default)]
    pub call: Uuid,
    /// The agent; nil for a caller that is no agent.
    pub agent: Uuid,
    /// The lane's tenant.
    pub tenant: String,
    /// Model that answered or was asked for.
    pub model: String,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Nanoseconds since the UNIX epoch at which the request came.
    pub time_ns: u64,
    /// Microseconds in the fair queue.
    pub queued_us: u64,
    /// Microseconds to the first token after admission.
    pub first_token_us: u64,
    /// Steps of the engine from the request's arrival to its first token, the one under way included.
    #[serde(default)]
    #[schema(default = 0)]
    pub steps: u64,
    /// Of these, the steps in which nothing was computed for the request's tenant: it waited for others.
    #[serde(default)]
    #[schema(default = 0)]
    pub passed_steps: u64,
    /// Tokens computed for other tenants in all of these steps.
    #[serde(default)]
    #[schema(default = 0)]
    pub others_tokens: u64,
    /// None: served. Otherwise why it was refused or broken off.
    pub refused: Option<String>,
}
