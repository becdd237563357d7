//! What a verification found, for people and for scripts.

use serde::Serialize;
use std::fmt;
use uuid::Uuid;

/// What was done to a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationKind {
    /// There are tiles but no checkpoint.
    CheckpointMissing,
    /// The checkpoint's text is not what was signed, or is no checkpoint.
    CheckpointChanged,
    /// The checkpoint is signed with another key or under another name.
    KeySwapped,
    /// The log is shorter than a checkpoint that was seen before.
    RolledBack,
    /// The log is not a continuation of a checkpoint that was seen before.
    Forked,
    /// A bundle of records is gone or cut short.
    FileMissing,
    /// Records are gone.
    RecordsMissing,
    /// Records are not in their order, or there twice.
    RecordsReordered,
    /// A record is not what was signed.
    RecordChanged,
    /// A tile of hashes is not what it must be; the records are.
    TileDamaged,
    /// Records do not continue their agent's chain, and were signed so.
    ChainBroken,
    /// The records are not what was signed, and nothing tells which.
    RootMismatch,
    /// A state, from which the log is taken up, is not what it must be; the records are.
    StateDamaged,
    /// There are bytes that nothing refers to.
    Unreferenced,
    /// An earlier log of this machine was damaged and set aside.
    SetAside,
}

/// The first thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// What was done.
    pub kind: ViolationKind,
    /// Sequence number of the first bad or missing record.
    pub seq: Option<u64>,
    /// Other records of the same leaf that could be the first bad one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub or_seq: Vec<u64>,
    /// The agent of that record, as far as it can be told.
    pub agent: Option<Uuid>,
    /// Index of the leaf.
    pub leaf: Option<u64>,
    /// File below the log's directory.
    pub file: Option<String>,
    /// The rest, in words.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(kind: ViolationKind, detail: impl Into<String>) -> Self {
        let (seq, agent, leaf, file) = (None, None, None, None);
        Violation { kind, seq, or_seq: Vec::new(), agent, leaf, file, detail: detail.into() }
    }

    /// Says which file it is, below the log's directory.
    pub(crate) fn at(self, file: &str) -> Self {
        Violation { file: Some(file.to_owned()), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        let mut places = Vec::new();
        if let Some(seq) = self.seq {
            let others: Vec<String> = self.or_seq.iter().map(|seq| format!(" or {seq}")).collect();
            places.push(format!("record {seq}{}", others.concat()));
        }
        if let Some(agent) = self.agent {
            places.push(format!("agent {agent}"));
        }
        if let Some(leaf) = self.leaf {
            places.push(format!("leaf {leaf}"));
        }
        if let Some(file) = &self.file {
            places.push(file.clone());
        }
        if places.is_empty() { Ok(()) } else { write!(f, " ({})", places.join(", ")) }
    }
}

/// The result of a verification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// Id of the key that the checkpoint was checked with.
    pub key_id: String,
    /// Leaves that the checkpoint covers.
    pub leaves: u64,
    /// Root that the checkpoint signs, in hex.
    pub root: String,
    /// The first leaf that is kept; those before it were taken away by who has the key.
    pub minimum: u64,
    /// Leaves that the newest checkpoint covers and that a copy, made while the log was written, has not.
    pub incomplete: u64,
    /// Sequence number of the first record that is kept.
    pub first_record: u64,
    /// Records read.
    pub records: u64,
    /// Agents that have records, the daemon included.
    pub agents: u64,
    /// Records of the kind `denial`.
    pub denials: u64,
    /// Records of the kind `gap`: events that the log itself says are missing.
    pub gaps: u64,
    /// Time of the oldest record.
    pub first_time_ns: Option<u64>,
    /// Time of the newest record.
    pub last_time_ns: Option<u64>,
    /// What could not be checked, and why.
    pub warnings: Vec<String>,
    /// The first thing that is wrong; none if the log is sound.
    pub violation: Option<Violation>,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.violation.is_none()
    }
}
