//! One capability with its scope, and its text form: `fs.read=/srv/input;expires=10m`.

use crate::net::{Endpoint, EndpointError};
use crate::path::{AbsPath, PathError, is_ambiguous};
use crate::{limits, units};
use abi::Capability;
use abi::caps::{RIGHT_CREATE, RIGHT_DELETE, RIGHT_EXEC, RIGHT_READ, RIGHT_WRITE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What may be done to files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // named as the capabilities
pub enum FsRight {
    Read,
    Write,
    Create,
    Delete,
    Exec,
}

impl FsRight {
    /// Every right.
    pub const ALL: [FsRight; 5] = [Self::Read, Self::Write, Self::Create, Self::Delete, Self::Exec];

    /// The kernel's bits (`abi::caps::RIGHT_*`): writing may also make files, executing also reads.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Read => RIGHT_READ,
            Self::Write => RIGHT_WRITE | RIGHT_CREATE,
            Self::Create => RIGHT_CREATE,
            Self::Delete => RIGHT_DELETE,
            Self::Exec => RIGHT_EXEC | RIGHT_READ,
        }
    }

    /// The capability of the audit vocabulary.
    pub const fn capability(self) -> Capability {
        match self {
            Self::Read => Capability::FsRead,
            Self::Write => Capability::FsWrite,
            Self::Create => Capability::FsCreate,
            Self::Delete => Capability::FsDelete,
            Self::Exec => Capability::FsExec,
        }
    }
}

/// What may be done to the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NetRight {
    /// Open connections and send datagrams.
    Connect,
    /// Bind and listen.
    Bind,
}

/// A UNIX socket of somebody else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UnixAddress {
    /// The socket file, or every socket below the directory.
    Path(AbsPath),
    /// An abstract name, without its leading NUL; written `@name`.
    Abstract(String),
}

/// Which models an agent may ask, and how much.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InferScope {
    /// Model names; `*` is any and then stands alone. Never empty.
    pub models: BTreeSet<String>,
    /// Prompt and completion tokens a minute; none is unlimited.
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight at once; none is unlimited.
    pub concurrency: Option<u32>,
    /// Longest prompt plus completion, in tokens; none is the model's.
    pub context: Option<u32>,
}

impl InferScope {
    /// Any model, without limits.
    pub fn any() -> Self {
        let models = BTreeSet::from(["*".to_owned()]);
        InferScope { models, tokens_per_minute: None, concurrency: None, context: None }
    }

    /// The names with everything that `*` makes superfluous taken out.
    pub(crate) fn least_names(models: BTreeSet<String>) -> BTreeSet<String> {
        if models.contains("*") { InferScope::any().models } else { models }
    }

    /// True if every model is covered.
    pub fn any_model(&self) -> bool {
        self.models.contains("*")
    }
}

/// Whose audit records may be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AuditScope {
    /// The agent's own.
    Own,
    /// Its own and its descendants'.
    Descendants,
    /// Everybody's.
    All,
}

impl AuditScope {
    /// Every scope, from the least.
    pub const ALL: [AuditScope; 3] = [Self::Own, Self::Descendants, Self::All];

    /// As written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Descendants => "descendants",
            Self::All => "all",
        }
    }
}

/// What a rule allows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// A file, or everything below a directory.
    Fs {
        /// Which right.
        right: FsRight,
        /// File or root of the subtree.
        path: AbsPath,
    },
    /// Hosts and port.
    Net {
        /// Which right.
        right: NetRight,
        /// Where.
        endpoint: Endpoint,
    },
    /// Raw and packet sockets.
    NetRaw,
    /// A UNIX socket of somebody else.
    Unix(UnixAddress),
    /// Models and limits.
    Infer(InferScope),
    /// Agents that may be alive as its children at once.
    Spawn {
        /// How many.
        count: u32,
    },
    /// Signal its descendants.
    Signal,
    /// A device node, or every node below a directory.
    Device(AbsPath),
    /// Whose audit records.
    AuditRead(AuditScope),
}

/// One capability: what, until when, and how often. The unit of granting and revoking.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// What it allows.
    pub scope: Scope,
    /// How long after the grant it is void; none is never.
    pub expires: Option<Duration>,
    /// How often it may be used: what is got by a use may be used on. None is as often as one likes.
    pub uses: Option<u32>,
}

/// Why a text is no [`Rule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RuleError {
    #[error("`{0}` has no `=`; write a capability as `fs.read=/srv/input`")]
    NoValue(String),
    #[error("unknown capability `{0}`")]
    Unknown(String),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("`{0}` is no duration; write 250ms, 90s, 10m, 2h or 7d")]
    Duration(String),
    #[error("`{0}` is no number of uses; write 1 to {most}", most = limits::USES)]
    Uses(String),
    #[error(
        "uses of {0} are not counted; of fs.*, device, net.connect, net.bind and ipc.unix they are"
    )]
    Uncountable(Capability),
    #[error("`{0}` cannot be granted: {1}")]
    Value(String, &'static str),
}

impl Rule {
    /// A rule that never expires and is not counted.
    pub fn new(scope: Scope) -> Self {
        Rule { scope, expires: None, uses: None }
    }

    /// A file right, for code that has a checked path.
    pub fn fs(right: FsRight, path: AbsPath) -> Self {
        Rule::new(Scope::Fs { right, path })
    }

    /// The capability of the audit vocabulary.
    pub fn capability(&self) -> Capability {
        match &self.scope {
            Scope::Fs { right, .. } => right.capability(),
            Scope::Net { right: NetRight::Connect, .. } => Capability::NetConnect,
            Scope::Net { right: NetRight::Bind, .. } => Capability::NetBind,
            Scope::NetRaw => Capability::NetRaw,
            Scope::Unix(_) => Capability::IpcUnix,
            Scope::Infer(_) => Capability::Infer,
            Scope::Spawn { .. } => Capability::AgentSpawn,
            Scope::Signal => Capability::AgentSignal,
            Scope::Device(_) => Capability::Device,
            Scope::AuditRead(_) => Capability::AuditRead,
        }
    }

    /// Reads the value of one list entry of `capability`, as a manifest or `--cap` has it.
    pub fn parse_value(capability: Capability, value: &str) -> Result<Self, RuleError> {
        let (mut value, mut expires, mut uses) = (value, None, None);
        // The last two words, in either order.
        while let Some((before, last)) = value.rsplit_once(';') {
            if let (Some(text), None) = (last.strip_prefix("expires="), expires) {
                let span = units::parse_duration(text);
                expires = Some(span.ok_or_else(|| RuleError::Duration(text.to_owned()))?);
            } else if let (Some(text), None) = (last.strip_prefix("uses="), uses) {
                uses = Some(parse_uses(text)?);
            } else {
                break;
            }
            value = before;
        }
        Rule { scope: parse_scope(capability, value)?, expires, uses: None }.counted(uses)
    }

    /// The value alone, without the capability's name: what stands in a manifest's list.
    pub fn value(&self) -> String {
        let value = match &self.scope {
            Scope::Fs { path, .. } | Scope::Device(path) => path.to_string(),
            Scope::Net { endpoint, .. } => endpoint.to_string(),
            Scope::NetRaw => "true".to_owned(),
            Scope::Unix(UnixAddress::Path(path)) => path.to_string(),
            Scope::Unix(UnixAddress::Abstract(name)) => format!("@{name}"),
            Scope::Infer(infer) => print_infer(infer),
            Scope::Spawn { count } => count.to_string(),
            Scope::Signal => "descendants".to_owned(),
            Scope::AuditRead(scope) => scope.name().to_owned(),
        };
        let uses = self.uses.map(|uses| format!(";uses={uses}")).unwrap_or_default();
        let expires = self.expires.map(|span| format!(";expires={}", units::print_duration(span)));
        format!("{value}{uses}{}", expires.unwrap_or_default())
    }
}

fn parse_uses(text: &str) -> Result<u32, RuleError> {
    let uses = text.parse().ok().filter(|uses| (1..=limits::USES).contains(uses));
    uses.filter(|_| !text.starts_with('+')).ok_or_else(|| RuleError::Uses(text.to_owned()))
}

fn parse_scope(capability: Capability, value: &str) -> Result<Scope, RuleError> {
    let wrong = |why| RuleError::Value(format!("{capability}={value}"), why);
    Ok(match capability {
        Capability::NetConnect => Scope::Net { right: NetRight::Connect, endpoint: value.parse()? },
        Capability::NetBind => Scope::Net { right: NetRight::Bind, endpoint: value.parse()? },
        Capability::NetRaw if value == "true" => Scope::NetRaw,
        Capability::NetRaw => return Err(wrong("its only value is `true`")),
        Capability::IpcUnix => Scope::Unix(parse_unix(value)?),
        Capability::Infer => Scope::Infer(parse_infer(value).map_err(wrong)?),
        Capability::AgentSpawn => match value.parse() {
            Ok(count) if (1..=limits::CHILDREN).contains(&count) => Scope::Spawn { count },
            _ => return Err(wrong("the count of children is a number from 1 to 10000")),
        },
        Capability::AgentSignal if value == "descendants" => Scope::Signal,
        Capability::AgentSignal => return Err(wrong("its only value is `descendants`")),
        Capability::Device => Scope::Device(AbsPath::parse(value)?),
        Capability::AuditRead => {
            let scope = AuditScope::ALL.into_iter().find(|s| s.name() == value);
            Scope::AuditRead(scope.ok_or_else(|| wrong("write own, descendants or all"))?)
        }
        other => match FsRight::ALL.into_iter().find(|r| r.capability() == other) {
            Some(right) => Scope::Fs { right, path: AbsPath::parse(value)? },
            None => return Err(RuleError::Unknown(other.name().to_owned())),
        },
    })
}

fn parse_unix(value: &str) -> Result<UnixAddress, RuleError> {
    let Some(name) = value.strip_prefix('@') else {
        return Ok(UnixAddress::Path(AbsPath::parse(value)?));
    };
    let long = name.is_empty() || name.len() > abi::caps::ABSTRACT_NAME_MAX;
    if long || name.chars().any(char::is_control) || is_ambiguous(name) {
        let why = "an abstract socket's name has 1 to 107 printable bytes";
        return Err(RuleError::Value(format!("ipc.unix={value}"), why));
    }
    Ok(UnixAddress::Abstract(name.to_owned()))
}

/// True if `name` can be a model's name in the text form.
pub(crate) fn is_model_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    name == "*" || (!name.is_empty() && name.len() <= 200 && name.chars().all(plain))
}

fn parse_infer(value: &str) -> Result<InferScope, &'static str> {
    let mut parts = value.split(';');
    let models: BTreeSet<String> =
        parts.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    if !models.iter().all(|m| is_model_name(m)) {
        return Err("write model names with commas between them, or `*`");
    }
    if models.len() > limits::LIST_ENTRIES {
        return Err("too many models");
    }
    let models = InferScope::least_names(models);
    let mut scope = InferScope { models, ..InferScope::any() };
    for part in parts {
        let (key, number) = part.split_once('=').ok_or("write a limit as name=number")?;
        let positive = number.parse::<u64>().ok().filter(|n| *n > 0);
        let number = positive.ok_or("a limit is a whole number above zero")?;
        let small = || u32::try_from(number).map_err(|_| "the limit is too large");
        match key {
            "tokens_per_minute" if scope.tokens_per_minute.is_none() => {
                scope.tokens_per_minute = Some(number);
            }
            "concurrency" if scope.concurrency.is_none() => scope.concurrency = Some(small()?),
            "context" if scope.context.is_none() => scope.context = Some(small()?),
            _ => {
                return Err("the limits are tokens_per_minute, concurrency and context, once each");
            }
        }
    }
    Ok(scope)
}

fn print_infer(scope: &InferScope) -> String {
    let mut text = scope.models.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let limits = [
        ("tokens_per_minute", scope.tokens_per_minute),
        ("concurrency", scope.concurrency.map(u64::from)),
        ("context", scope.context.map(u64::from)),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            text.push_str(&format!(";{name}={limit}"));
        }
    }
    text
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}={}", self.capability(), self.value()))
    }
}

impl FromStr for Rule {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| RuleError::NoValue(text.to_owned()))?;
        let name = name.trim().trim_matches('"');
        let capability = name.parse().map_err(RuleError::Unknown)?;
        Rule::parse_value(capability, value.trim())
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;
    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.to_string()
    }
}
