//! The audit vocabulary: what a record says, before the log gives it a place in the chain.

use crate::AgentId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u32)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant = $code,)+ }
        impl $name {
            /// Every value, in order of its code.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The name that people and scripts see.
            pub const fn name(self) -> &'static str { match self { $($name::$variant => $text,)+ } }
        }
        impl TryFrom<u32> for $name {
            type Error = u32;
            fn try_from(code: u32) -> Result<Self, u32> {
                match code { $($code => Ok($name::$variant),)+ other => Err(other) }
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text { $($text => Ok($name::$variant),)+ other => Err(other.to_owned()) }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.name()) }
        }
    };
}

vocabulary! {
    /// What happened. Codes are kept for ever; a reader that meets an unknown one shows its number.
    Kind {
        /// The daemon started and sealed the policy.
        Boot = 1 => "boot",
        /// The daemon stopped in order.
        Shutdown = 2 => "shutdown",
        /// An agent was made; the object is its command, the detail its manifest's digest and signer.
        Spawn = 3 => "spawn",
        /// An agent moved from one lifecycle state to another.
        State = 4 => "state",
        /// An agent ended; the detail is its wait status.
        Exit = 5 => "exit",
        /// A capability was given.
        Grant = 6 => "grant",
        /// A capability was taken away.
        Revoke = 7 => "revoke",
        /// The kernel or the daemon refused.
        Denial = 8 => "denial",
        /// A capability was used.
        Use = 9 => "use",
        /// A program was started.
        Exec = 10 => "exec",
        /// A model was asked; the detail holds model and token counts.
        Inference = 11 => "inference",
        /// A weight or budget was changed.
        Lane = 12 => "lane",
        /// Somebody outside every agent tried to break the seal.
        Seal = 13 => "seal",
        /// Events are known to be missing; the detail says how many and where.
        Gap = 14 => "gap",
        /// Something is weaker than it should be, or was allowed by a flag such as `--allow-unsigned`.
        Degraded = 15 => "degraded",
        /// A syscall (kept for the records of every syscall).
        Syscall = 16 => "syscall",
    }
}

vocabulary! {
    /// The capability that a record is about.
    Capability {
        /// None: lifecycle records.
        None = 0 => "-",
        /// Read files.
        FsRead = 1 => "fs.read",
        /// Write files.
        FsWrite = 2 => "fs.write",
        /// Make files.
        FsCreate = 3 => "fs.create",
        /// Delete files.
        FsDelete = 4 => "fs.delete",
        /// Start programs.
        FsExec = 5 => "fs.exec",
        /// Open connections.
        NetConnect = 6 => "net.connect",
        /// Bind and listen.
        NetBind = 7 => "net.bind",
        /// Raw and packet sockets.
        NetRaw = 8 => "net.raw",
        /// UNIX sockets of others.
        IpcUnix = 9 => "ipc.unix",
        /// Ask models.
        Infer = 10 => "infer",
        /// Spawn agents.
        AgentSpawn = 11 => "agent.spawn",
        /// Signal other agents.
        AgentSignal = 12 => "agent.signal",
        /// Device nodes.
        Device = 13 => "device",
        /// Read the audit log.
        AuditRead = 14 => "audit.read",
        /// What no capability allows: bpf, ptrace of others, mounts, modules…
        Forbidden = 15 => "forbidden",
    }
}

vocabulary! {
    /// What was decided.
    Verdict {
        /// Nothing was to be decided.
        None = 0 => "-",
        /// Allowed.
        Allow = 1 => "allow",
        /// Refused.
        Deny = 2 => "deny",
    }
}

/// One event as its producer tells it. The log adds sequence number and chain hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The agent in the hot path; [`AgentId::NOBODY`] for the daemon's own records.
    pub aid: u64,
    /// The agent outside; nil for the daemon's own records.
    pub agent: Uuid,
    /// The agent's parent; nil for none.
    pub parent: Uuid,
    /// The tenant that pays.
    pub tenant: String,
    /// What happened.
    pub kind: Kind,
    /// Which capability it is about.
    pub capability: Capability,
    /// What was decided.
    pub verdict: Verdict,
    /// Path, address, model, state…
    pub object: String,
    /// Everything else, as `key=value` words.
    pub detail: String,
}

impl Entry {
    /// The agent's hot-path id.
    pub const fn agent_id(&self) -> AgentId {
        AgentId(self.aid)
    }
}
