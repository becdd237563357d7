//! The agent as the kernel knows it: identity, state and the value in cgroup local storage.

use crate::caps::FileKey;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An agent's identity in the hot path: slot in the low 32 bits, generation in the high 32.
///
/// A reused slot has a new generation, so an old id never names a new agent. Zero is nobody:
/// a task outside every agent. Outside the hot path an agent is named by a UUIDv7 (RFC 9562).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct AgentId(pub u64);

impl AgentId {
    /// A task that belongs to no agent.
    pub const NOBODY: AgentId = AgentId(0);

    /// Builds an id; generations start at 1, so that no agent is [`AgentId::NOBODY`].
    pub const fn new(slot: u32, generation: u32) -> Self {
        AgentId((generation as u64) << 32 | slot as u64)
    }

    /// Index into per-slot tables.
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// How often the slot had been given out when this id was made.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}

/// Lifecycle state, kept in the kernel and read by the LSM programs. `u32` on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum AgentState {
    /// The daemon's own code still prepares the process: namespaces, mounts, credentials.
    Spawning = 1,
    /// Manifest signature and code digest were verified; nothing of the agent's has run.
    Attested = 2,
    /// Running.
    Active = 3,
    /// Waiting for the broker.
    InferenceBlocked = 4,
    /// Running; its last decision was a denial.
    CapDenied = 5,
    /// Frozen; everything it tries is denied.
    Quarantined = 6,
    /// Ended by itself with status 0, or by `kill` as asked.
    TerminatedClean = 7,
    /// Ended because a right that it was using was revoked.
    TerminatedRevoked = 8,
    /// Ended with another status or by a signal of its own.
    TerminatedFailed = 9,
}

impl AgentState {
    /// Every state, in the order of the design's diagram.
    pub const ALL: [AgentState; 9] = [
        Self::Spawning,
        Self::Attested,
        Self::Active,
        Self::InferenceBlocked,
        Self::CapDenied,
        Self::Quarantined,
        Self::TerminatedClean,
        Self::TerminatedRevoked,
        Self::TerminatedFailed,
    ];

    /// The name that people and scripts see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spawning => "spawning",
            Self::Attested => "attested",
            Self::Active => "active",
            Self::InferenceBlocked => "inference-blocked",
            Self::CapDenied => "cap-denied",
            Self::Quarantined => "quarantined",
            Self::TerminatedClean => "terminated-clean",
            Self::TerminatedRevoked => "terminated-revoked",
            Self::TerminatedFailed => "terminated-failed",
        }
    }

    /// True once the agent has ended, however it did.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::TerminatedClean | Self::TerminatedRevoked | Self::TerminatedFailed)
    }
}

impl TryFrom<u32> for AgentState {
    type Error = u32;
    fn try_from(value: u32) -> Result<Self, u32> {
        Self::ALL.into_iter().find(|s| *s as u32 == value).ok_or(value)
    }
}

/// Value of the `agents` cgroup-storage map: one per agent cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelAgent {
    /// [`AgentId`].
    pub aid: u64,
    /// Key into `lists`: what the agent holds. A new number, never used before, at every change of its
    /// rights, which voids what was remembered of it.
    pub list: u64,
    /// [`AgentState`].
    pub state: u32,
    /// Bit set of `FLAG_*`.
    pub flags: u32,
    /// Denials decided by the kernel for this agent; equals its denial records in the log.
    pub denials: u64,
    /// Allowed uses of a capability that were reported to the ring.
    pub uses: u64,
    /// The program that was hashed, while [`FLAG_EXPECT`] is set: nothing else may be started.
    pub program: FileKey,
    /// Its interpreter; zeroes for none.
    pub interpreter: FileKey,
    /// Numbers of the files whose rules let it map something, modulo 256: a bit is never taken back. What
    /// several files gave together, or none that can be named, sets all of them.
    pub mapped: [u64; MAPPED_WORDS],
    /// Its first process, by its number in the first PID namespace; 0 until its program runs.
    pub main: u32,
    /// 1 once that process has ended.
    pub ended: u32,
    /// How it ended, as `wait(2)` tells it: whoever was its parent then may be gone.
    pub status: u32,
    /// [`crate::control::Policy::round`] at its last event.
    pub round: u32,
    /// Its events in that round.
    pub burst: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Key of `kept`: something that an agent has by the rules on a file, that outlives them and that nobody can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeptKey {
    /// [`AgentId`].
    pub aid: u64,
    /// The file's number in `file_nodes`, or `KEPT_BY_*`.
    pub file: u32,
    /// `KEPT_*`.
    pub kind: u32,
}

/// Pages of a file in a pipe or a socket.
pub const KEPT_PAGES: u32 = 1;
/// A watch on a file or folder.
pub const KEPT_WATCH: u32 = 2;
/// A descriptor that came over a connection.
pub const KEPT_DESCRIPTOR: u32 = 3;
/// In place of a file: several of them, or none that can be named.
pub const KEPT_BY_SEVERAL: u32 = 0xffff_fffe;
/// In place of a file: an abstract UNIX name.
pub const KEPT_BY_ABSTRACT: u32 = 0xffff_fffd;

/// Words of [`KernelAgent::mapped`].
pub const MAPPED_WORDS: usize = 4;

/// The daemon's own set-up code runs in the agent's cgroup: checks are skipped until it is cleared.
pub const FLAG_SETUP: u32 = 1;
/// Stopped because the audit ring is nearly full: the agent may not send itself SIGCONT.
pub const FLAG_THROTTLED: u32 = 2;
/// Its first program is still to be started, and must be [`KernelAgent::program`].
pub const FLAG_EXPECT: u32 = 4;
/// Entries of `kept` are about it.
pub const FLAG_KEEPS: u32 = 16;
/// It had the kernel hold on to pages of its memory, which may be those of a file that is mapped no more.
pub const FLAG_PINS: u32 = 32;
/// It moves pages by io_uring: what it reads may stay in a pipe.
pub const FLAG_SPLICES: u32 = 64;
/// Its code comes from files that it may execute or [`crate::caps::RIGHT_LOAD`], and from no memory of its own.
pub const FLAG_STRICT: u32 = 128;
/// Its `/proc` is one that other agents use too: it may not be listed.
pub const FLAG_SHARES: u32 = 8;
