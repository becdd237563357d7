//! The daemon's own state, for `coconut doctor`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of coconutd.
    pub version: String,
    /// Process id of coconutd.
    pub pid: u32,
    /// Nanoseconds since the UNIX epoch.
    pub started_ns: u64,
    /// Nobody but the daemon can change the policy now.
    pub sealed: bool,
    /// Names of the kernel programs that are attached.
    pub programs: Vec<String>,
    /// What the kernel and machine offer, and what is weaker for want of it.
    pub features: Vec<Feature>,
    /// Running agents.
    pub agents_live: u64,
    /// Agents since the daemon started.
    pub agents_total: u64,
    /// Records in the log.
    pub records: u64,
    /// Origin of the log, and the first bytes of its key's hash, as in a checkpoint's signature
    /// line.
    pub log_key: String,
    /// A broker holds the lane stream open.
    pub broker_connected: bool,
    /// What keeps the log from being written now: a full disk. Nothing that must be recorded begins meanwhile.
    #[serde(default)]
    pub log_stuck: Option<String>,
    /// What keeps changes from being written down for the next daemon: it would end the agents that they are of.
    #[serde(default)]
    pub registry_stuck: Option<String>,
    /// How far the log was verified since the daemon started.
    #[serde(default)]
    #[schema(default = LogCheck::default)]
    pub log_check: LogCheck,
    /// Kernel events that are known to be lost since start; each gap is a record.
    pub events_lost: u64,
    /// Names of the keys that may sign manifests.
    pub trusted_keys: Vec<String>,
    /// What happened at start that weakens something.
    pub degraded: Vec<String>,
}

/// What the daemon found when it verified its log, which it does beside everything else once it has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogCheck {
    /// How far it is.
    pub state: LogState,
    /// Leaves that were verified.
    pub leaves: u64,
    /// What is wrong, or why it could not be told.
    pub found: Option<String>,
}

/// How far a verification is: it goes on (`running`), every record is what was signed (`sound`), something is not
/// (`violated`), the log could not be read (`failed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogState {
    /// It goes on.
    #[default]
    Running,
    /// Every record is what was signed.
    Sound,
    /// Something is not.
    Violated,
    /// The log could not be read.
    Failed,
}

/// How far something that Coconut wants is there: as it should be (`ok`), Coconut runs with less protection or fairness
/// (`weaker`), it cannot run without it (`missing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Coconut runs, with less protection or fairness.
    Weaker,
    /// Coconut cannot run without it.
    Missing,
}

/// One thing that Coconut wants of kernel or machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Feature {
    /// Short name, stable for scripts: `bpf-lsm`, `btf`…
    pub name: String,
    /// How far it is there.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// Why it matters and what to do, where it is not [`Level::Ok`].
    pub advice: Option<String>,
}
