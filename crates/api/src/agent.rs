//! Agents: spawning them, what is shown of them, and what is done to them.

use abi::{AgentState, Capability};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /v1/agents`: what to run, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// Where the agent's rights come from.
    pub source: SpawnSource,
    /// Replaces the arguments after the manifest's program, or is the whole command of an ad-hoc
    /// spawn.
    #[serde(default)]
    #[schema(default = json!([]))]
    pub args: Vec<String>,
    /// Working directory; none is its own `/tmp`.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Further environment variables, `NAME=value`; what the daemon sets wins.
    #[serde(default)]
    #[schema(default = json!([]))]
    pub env: Vec<String>,
    /// Run although no trusted key signed the manifest. Operators only; recorded as `degraded`.
    #[serde(default)]
    #[schema(default = false)]
    pub allow_unsigned: bool,
    /// The terminal and files of a foreground agent; none writes to the agent's log file.
    #[serde(default)]
    pub stdio: Option<Stdio>,
}

/// Where an agent's rights come from. Members that are not named here are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SpawnSource {
    /// A manifest's text, and the DSSE envelope that signs exactly these bytes.
    Manifest {
        /// Where it was read, for messages only.
        path: String,
        /// The TOML text.
        text: String,
        /// The `.sig` beside it, if there is one.
        #[serde(default)]
        signature: Option<String>,
        /// Replaces the tenant; operators only.
        #[serde(default)]
        tenant: Option<String>,
        /// Replaces the name.
        #[serde(default)]
        name: Option<String>,
        /// More capabilities, as in [`SpawnSource::AdHoc`]; then the caller authorizes the whole.
        #[serde(default)]
        #[schema(default = json!([]))]
        capabilities: Vec<String>,
    },
    /// The caller's own command line: the caller authorizes it and is recorded as authorizer.
    AdHoc {
        /// The tenant that pays.
        tenant: String,
        /// A name for people; none is the program's.
        #[serde(default)]
        name: Option<String>,
        /// `fs.read=/srv/input`, as on the command line.
        capabilities: Vec<String>,
        /// Weight in its tenant's lane; none is 100.
        #[serde(default)]
        weight: Option<u32>,
    },
}

/// Descriptors 0, 1 and 2 that were sent to [`crate::STDIO_SOCKET`] before the spawn.
///
/// The sender writes the 16 bytes of a random token with the three descriptors (`SCM_RIGHTS`) and
/// waits for one byte. A token is good once, and for the same user only. The agent is killed when
/// the connection that brought the token is closed before the agent's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// The token.
    pub token: Uuid,
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// Exit status, if it exited.
    pub status: Option<i32>,
    /// Signal number, if a signal ended it.
    pub signal: Option<i32>,
    /// Who or what ended it, where that was not the program itself.
    pub reason: Option<String>,
    /// The terminal state's name.
    #[serde(with = "state")]
    #[schema(value_type = String)]
    pub state: AgentState,
}

impl Exit {
    /// What a shell would show in `$?`.
    pub fn shell_status(&self) -> u8 {
        match (self.status, self.signal) {
            (Some(status), _) => status.clamp(0, 255) as u8,
            (None, Some(signal)) => 128u8.saturating_add(signal.clamp(0, 127) as u8),
            (None, None) => 1,
        }
    }
}

/// One agent, as in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// The agent's id (UUIDv7).
    pub aid: Uuid,
    /// Its name, for people; not unique.
    pub name: String,
    /// The tenant that pays.
    pub tenant: String,
    /// The agent that spawned it.
    pub parent: Option<Uuid>,
    /// Lifecycle state.
    #[serde(with = "state")]
    #[schema(value_type = String)]
    pub state: AgentState,
    /// Its first process, in the initial PID namespace; none once it has ended.
    pub pid: Option<u32>,
    /// The user it runs as.
    pub uid: u32,
    /// The user, or nobody for an agent's child, that asked for it.
    pub owner: u32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Weight within its tenant.
    pub weight: u32,
    /// Nanoseconds since the UNIX epoch.
    pub started_ns: u64,
    /// Nanoseconds since the UNIX epoch; none while it runs.
    pub ended_ns: Option<u64>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Denials so far, kernel and daemon together, as recorded in the log.
    pub denials: u64,
    /// Uses of capabilities so far, as recorded in the log.
    pub uses: u64,
}

/// `GET /v1/agents`: a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// Oldest first.
    pub agents: Vec<Agent>,
    /// Given as `after`, it asks for the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Where a right of an agent comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCapability {
    /// Rule number, as in audit records; 0 for what it has at its launch, which no rule names.
    pub rule: u32,
    /// `fs.read=/srv/input`.
    pub capability: String,
    /// The capability's kind.
    #[schema(value_type = String)]
    pub kind: Capability,
    /// `line 12`, `command line`, `@base`, `command`, `infer`, `grant`, `launch`…
    pub source: String,
    /// Nanoseconds since the UNIX epoch after which it is void.
    pub expires_ns: Option<u64>,
    /// How often it may still be used, where that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u64>,
}

/// `GET /v1/agents/{id}/capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityList {
    /// In order of their rule numbers.
    pub capabilities: Vec<HeldCapability>,
}

/// Counters that must be equal when nothing is in flight, side by side so that anybody can check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Denials counted in the kernel's own storage.
    pub kernel_denials: u64,
    /// Denial records in the log that came from kernel events.
    pub log_kernel_denials: u64,
    /// Denial records in the log that came from the daemon (refused API calls).
    pub log_daemon_denials: u64,
    /// Uses counted in the kernel's own storage.
    pub kernel_uses: u64,
    /// Use and exec records in the log.
    pub log_uses: u64,
}

/// Who signed the manifest, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// Path of the manifest, or `command line`.
    pub path: String,
    /// SHA-256 of the manifest's bytes, in hex.
    pub digest: String,
    /// Name of the trusted key that signed it, or `uid N` for an operator's own command line.
    pub authorizer: String,
    /// False: it ran only because of `--allow-unsigned`.
    pub signed: bool,
}

/// `GET /v1/agents/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentDetail {
    /// What a list shows.
    pub agent: Agent,
    /// Slot and generation in the kernel, `3.1`.
    pub slot: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Where its rights come from.
    pub origin: Provenance,
    /// What it may do now.
    pub capabilities: Vec<HeldCapability>,
    /// Kernel and log, side by side.
    pub counters: Counters,
    /// Agents that it spawned.
    pub children: Vec<Uuid>,
    /// SHA-256 of the program that was started, in hex.
    pub program_digest: Option<String>,
    /// File that its output goes to; none for a foreground agent.
    pub log_file: Option<String>,
    /// Bytes of its output that are not kept.
    #[serde(default)]
    #[schema(default = 0)]
    pub log_dropped: u64,
}

/// `GET /v1/agents/{id}/evidence`: an agent and all below it, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Nanoseconds since the UNIX epoch.
    pub taken_ns: u64,
    /// Records in the log at that moment; what came later has no part in it.
    pub records: u64,
    /// The agent itself first, parents before their children.
    pub agents: Vec<EvidenceOf>,
}

/// One agent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceOf {
    /// What it is, and what it may do.
    pub detail: AgentDetail,
    /// Its last denials.
    pub denials: ExplanationList,
    /// Its processes; none of one that has ended.
    pub processes: Vec<EvidenceProcess>,
}

/// A process, as proc(5) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceProcess {
    /// In the machine's PID namespace.
    pub pid: u32,
    /// Program and arguments, secrets masked as in the log.
    pub command: Vec<String>,
    /// The program's file.
    pub program: String,
    /// Working directory.
    pub cwd: String,
    /// Open descriptors by number, and what they are.
    pub open: BTreeMap<u32, String>,
    /// `status`.
    pub status: String,
    /// `maps`.
    pub maps: String,
    /// Where each thread waits in the kernel.
    pub waits_in: BTreeMap<u32, String>,
}

/// `POST /v1/agents/{id}/grant` and `/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityChange {
    /// `fs.read=/srv/input`, as in a manifest.
    pub capability: String,
    /// Grants only: milliseconds after which it is void.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// Grants only: how often it may be used; more where it is held, counted, already.
    #[serde(default)]
    pub uses: Option<u32>,
}

/// What a grant or revocation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeReport {
    /// Every agent whose set changed: the named one, and its descendants for a revocation.
    pub changed: Vec<Uuid>,
    /// Agents that were ended because they still had what was revoked: mapped, or in a way that cannot be taken back.
    pub ended: Vec<Uuid>,
    /// Microseconds from the request to the last map update.
    pub took_us: u64,
}

/// `POST /v1/agents/{id}/signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Signal number; goes to the agent's first process.
    pub signal: i32,
}

/// One denial, and what would have allowed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Nanoseconds since the UNIX epoch of the last time.
    pub time_ns: u64,
    /// How often the same was refused.
    pub count: u64,
    /// What was tried, for people: `open /home/maya/.ssh/id_ed25519 for reading`.
    pub tried: String,
    /// Name of the program that tried it.
    pub program: String,
    /// Which rule refused, for people.
    pub refused_by: String,
    /// The errno that the program saw, by name.
    pub errno: String,
    /// The capability that it is about.
    #[schema(value_type = String)]
    pub capability: Capability,
    /// Path, address, signal target.
    pub object: String,
    /// The line that would allow it in a manifest; none where nothing can.
    pub manifest_line: Option<String>,
    /// The command that would allow it now; none where nothing can.
    pub command: Option<String>,
}

/// `GET /v1/agents/{id}/denials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationList {
    /// The agent.
    pub aid: Uuid,
    /// Its name.
    pub name: String,
    /// Its denials in all; older ones than `denials` holds are in the log.
    pub total: u64,
    /// Newest first.
    pub denials: Vec<Explanation>,
}

/// [`AgentState`] by its name, on the wire.
pub mod state {
    use super::AgentState;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the name.
    pub fn serialize<S: Serializer>(state: &AgentState, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(state.name())
    }

    /// Reads the name.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<AgentState, D::Error> {
        let name = String::deserialize(input)?;
        AgentState::ALL
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| D::Error::custom(format!("{name:?} is no lifecycle state")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: Option<i32>, signal: Option<i32>) -> Exit {
        Exit { status, signal, reason: None, state: AgentState::TerminatedFailed }
    }

    #[test]
    fn shell_status_is_that_of_a_shell() {
        assert_eq!(exit(Some(0), None).shell_status(), 0);
        assert_eq!(exit(Some(42), None).shell_status(), 42);
        assert_eq!(exit(None, Some(9)).shell_status(), 137);
        assert_eq!(exit(None, None).shell_status(), 1);
    }

    #[test]
    fn an_unknown_field_in_a_request_is_refused() {
        let text = r#"{"capability":"fs.read=/x","for_ever":true}"#;
        assert!(serde_json::from_str::<CapabilityChange>(text).is_err());
    }

    #[test]
    fn states_travel_by_name() {
        let text = serde_json::to_string(&exit(Some(1), None)).unwrap();
        assert!(text.contains("\"terminated-failed\""), "{text}");
        assert_eq!(serde_json::from_str::<Exit>(&text).unwrap(), exit(Some(1), None));
    }
}
