//! What a manifest says, once it has been checked.

use crate::limits;
use crate::path::AbsPath;
use crate::rule::Rule;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A validated manifest. Not yet resolved: profiles are named, host names are names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Who runs what.
    pub agent: Agent,
    /// The capabilities as written, in the order of the text.
    pub rules: Vec<Declared>,
    /// The profiles named in `fs.*` lists, each once.
    pub profiles: Vec<ProfileUse>,
    /// Weight of the agent within its tenant, 1 to 10000; 100 if the manifest is silent.
    pub weight: u32,
    /// Memory tiers.
    pub memory: Memory,
    /// What a number of denials leads to; none is nothing.
    pub denials: Option<DenialLimit>,
}

/// The `[agent]` section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Its name, for people.
    pub name: String,
    /// The tenant that pays.
    pub tenant: String,
    /// Program (an absolute path) and arguments.
    pub command: Vec<String>,
    /// System user to run as; none is the caller's.
    pub user: Option<String>,
    /// Working directory; none is its own `/tmp`.
    pub cwd: Option<AbsPath>,
    /// Environment beside what the system sets.
    pub env: BTreeMap<String, String>,
    /// What happens to its children when it ends.
    pub children: Children,
    /// Whose `/proc`, `/tmp` and IPC namespace it uses.
    pub namespaces: Namespaces,
    /// Where its machine code may come from.
    pub exec: Exec,
    /// SHA-256 of the program's file; none is not checked.
    pub digest: Option<Digest>,
}

/// What happens to an agent's children when it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Children {
    /// They end with it.
    #[default]
    End,
    /// They go to its parent.
    Reparent,
}

impl Children {
    /// As written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Reparent => "reparent",
        }
    }
}

/// Whose `/proc`, `/tmp` and IPC namespace an agent uses. Its PID, mount and UTS namespaces are its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Namespaces {
    /// Its own.
    #[default]
    Own,
    /// Those of all that share: of `/proc` it has `self`, of a tmpfs a folder, of queues none.
    Shared,
}

impl Namespaces {
    /// As written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }
}

/// Where an agent's machine code may come from. An interpreter that it may execute reads what it may read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub enum Exec {
    /// From every file that it may read, and from memory that it writes.
    #[default]
    Readable,
    /// From files that it may execute or its profiles let it read: no other is mapped as code, and no memory that was
    /// written becomes code (W^X). Its children's too.
    Strict,
}

impl Exec {
    /// As written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Strict => "strict",
        }
    }
}

/// The `[denials]` section: so many denials, of the agent's own and of all below it, lead to something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct DenialLimit {
    /// How many; counted anew after a release.
    pub count: u64,
    /// What they lead to.
    pub then: Consequence,
}

/// What happens to an agent that reaches a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Consequence {
    /// It and all below it stand still until somebody releases it.
    #[default]
    Quarantine,
    /// It is ended.
    End,
}

impl Consequence {
    /// As written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::End => "end",
        }
    }
}

/// The `[memory]` section, in bytes; none is the machine's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// GPU memory and the engine's KV cache.
    pub hbm: Option<u64>,
    /// Main memory.
    pub ram: Option<u64>,
    /// Memory extended onto SSD.
    pub ssd: Option<u64>,
}

/// One capability and where it stands in the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declared {
    /// What it allows.
    pub rule: Rule,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
}

/// A profile that the manifest names as `@name`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileUse {
    /// Without the `@`.
    pub name: String,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
}

/// A SHA-256, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = ();
    /// Reads 64 hex digits, with or without `sha256:` in front.
    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut digest = [0; 32];
        for (i, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| ())?;
        }
        Ok(Digest(digest))
    }
}

/// True if `text` may name an agent, tenant or profile: it becomes a directory's name.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && text.len() <= limits::NAME_BYTES && text.bytes().all(plain)
}
