//! What lies in the registry, row by row.
//!
//! A reader skips fields that it does not know and gives those that it misses a default.

use crate::port::Target;
use crate::state::{Ending, TenantUse};
use abi::Capability;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use supervisor::{End, SavedAgent, SavedSet};

/// An agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentRow {
    pub agent: SavedAgent,
    pub info: InfoRow,
    /// What one that has ended held: nothing stands on anything any more.
    #[serde(default)]
    pub held: Vec<SavedSet>,
}

/// What belongs to an agent on this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InfoRow {
    pub command: Vec<String>,
    pub uid: u32,
    pub owner: u32,
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub shares: bool,
    #[serde(default)]
    pub strict: bool,
    #[serde(default)]
    pub held_with: Option<uuid::Uuid>,
    #[serde(default)]
    pub launch: Vec<(u32, String)>,
    pub started_ns: u64,
    #[serde(default)]
    pub ended_ns: Option<u64>,
    pub origin: api::agent::Provenance,
    #[serde(default)]
    pub program_digest: Option<String>,
    #[serde(default)]
    pub log_file: Option<String>,
    #[serde(default)]
    pub ending: Option<EndingRow>,
    #[serde(default)]
    pub kernel_denials: u64,
    #[serde(default)]
    pub daemon_denials: u64,
    #[serde(default)]
    pub uses: u64,
    #[serde(default)]
    pub counters: Option<(u64, u64)>,
    #[serde(default)]
    pub tokens: u64,
    #[serde(default)]
    pub calls: u64,
    #[serde(default)]
    pub exit: Option<api::Exit>,
    /// What its first process returned, and the signal that ended it.
    #[serde(default)]
    pub exited: Option<(Option<i32>, Option<i32>)>,
    /// Kernel sets that its events may name: id, first number, positions.
    #[serde(default)]
    pub numbers: Vec<(u32, u32, Vec<u32>)>,
    #[serde(default)]
    pub footing: Option<FootingRow>,
}

/// Its place in the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FootingRow {
    pub folder: PathBuf,
    /// Device, inode and rights.
    #[serde(default)]
    pub private: Vec<(u64, u64, u32)>,
    /// Names of what is kept open.
    #[serde(default)]
    pub handles: Vec<String>,
}

/// How somebody ends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndingRow {
    /// 0 clean, 1 revoked, 2 failed.
    pub end: u8,
    pub reason: String,
    #[serde(default)]
    pub signal: Option<i32>,
}

/// A set, and what its rules stand on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetRow {
    pub set: SavedSet,
    pub targets: Vec<TargetRow>,
}

/// What a rule stands on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetRow {
    Nothing,
    Everything,
    /// Under this name it is kept open.
    File(String),
    Addresses(Vec<(IpAddr, u8, u16)>),
    Abstract(Vec<u8>),
}

/// A tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantRow {
    #[serde(default)]
    pub weight: Option<u32>,
    #[serde(default)]
    pub tokens: u64,
    #[serde(default)]
    pub calls: u64,
    #[serde(default)]
    pub refused: u64,
}

const ENDS: [End; 3] = [End::Clean, End::Revoked, End::Failed];

impl From<&Ending> for EndingRow {
    fn from(ending: &Ending) -> Self {
        let end = ENDS.iter().position(|end| *end == ending.end).unwrap_or(2);
        EndingRow {
            end: u8::try_from(end).unwrap_or(2),
            reason: ending.reason.clone(),
            signal: ending.signal,
        }
    }
}

impl From<EndingRow> for Ending {
    fn from(row: EndingRow) -> Self {
        let end = ENDS.get(usize::from(row.end)).copied().unwrap_or(End::Failed);
        Ending { end, reason: row.reason, signal: row.signal }
    }
}

impl TenantRow {
    pub fn of(weight: Option<u32>, used: TenantUse) -> Self {
        let TenantUse { tokens, calls, refused } = used;
        TenantRow { weight, tokens, calls, refused }
    }

    pub fn used(&self) -> TenantUse {
        TenantUse { tokens: self.tokens, calls: self.calls, refused: self.refused }
    }
}

impl TargetRow {
    /// `name` is what the file is kept as.
    pub fn of(target: &Target, name: impl FnOnce() -> String) -> Self {
        match target {
            Target::File(_) => TargetRow::File(name()),
            Target::Addresses(all) => TargetRow::Addresses(all.clone()),
            Target::Abstract(name) => TargetRow::Abstract(name.clone()),
            Target::Everything => TargetRow::Everything,
            Target::Nothing => TargetRow::Nothing,
        }
    }
}

/// A capability by its code.
pub fn capability(code: u32) -> Capability {
    Capability::try_from(code).unwrap_or(Capability::None)
}
