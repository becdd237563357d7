//! The audit vocabulary: what can happen, to which capability, and what was decided.

use serde::{Deserialize, Serialize};

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

/// A value of a vocabulary as a reader finds it: one that is newer than the reader is a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Code<T> {
    /// One that this reader knows.
    Known(T),
    /// One of a later writer.
    Unknown(u32),
}

impl<T: Copy> Code<T> {
    /// The value, if this reader knows it.
    pub fn known(self) -> Option<T> {
        match self {
            Code::Known(known) => Some(known),
            Code::Unknown(_) => None,
        }
    }
}

impl<T: TryFrom<u32, Error = u32>> From<u32> for Code<T> {
    fn from(code: u32) -> Self {
        T::try_from(code).map_or_else(Code::Unknown, Code::Known)
    }
}

impl<T: PartialEq> PartialEq<T> for Code<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Code::Known(own) if own == other)
    }
}

impl<T: std::fmt::Display> std::fmt::Display for Code<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Code::Known(known) => known.fmt(f),
            Code::Unknown(code) => f.pad(&code.to_string()),
        }
    }
}

impl<T: std::fmt::Display> Serialize for Code<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: std::str::FromStr> Deserialize<'de> for Code<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.parse(), text.parse()) {
            (Ok(known), _) => Ok(Code::Known(known)),
            (_, Ok(code)) => Ok(Code::Unknown(code)),
            _ => Err(serde::de::Error::custom(format!("`{text}` is neither a name nor a number"))),
        }
    }
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
        /// The log itself: its oldest records went, as its limit says.
        Log = 17 => "log",
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

impl Kind {
    /// A signed checkpoint must cover it at once: what is allowed, refused, begun, ended or missing. The
    /// rest is under one within a second.
    pub const fn is_urgent(self) -> bool {
        !matches!(self, Kind::Use | Kind::Exec | Kind::State | Kind::Inference | Kind::Syscall)
    }
}
