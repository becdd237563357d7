//! What went wrong, with what was tried and what a person can do about it.

use std::io;
use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kernel's side of an agent could not be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The running kernel lacks something that the policy needs.
    #[error("this kernel cannot carry agents: {what}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The kernel programs could not be opened, verified, attached or pinned.
    #[error("cannot {action} the kernel programs")]
    Bpf {
        /// Verb of the message.
        action: &'static str,
        /// The loader's own words.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A map refused a key or value.
    #[error("cannot {action} in the kernel map {map}")]
    Map {
        /// Verb of the message.
        action: &'static str,
        /// The map's name.
        map: &'static str,
        /// The loader's own words.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A file of the control group hierarchy or of procfs refused.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Verb of the message.
        action: &'static str,
        /// What was touched.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file cannot carry rights.
    #[error("no right can be given on {}", path.display())]
    Path {
        /// Where it lies.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A rule pairs a capability with a scope that has no meaning for it.
    #[error("rule {rule}: {capability} does not take {scope}")]
    Rule {
        /// Its place in the set, from 1.
        rule: u32,
        /// The capability's name.
        capability: &'static str,
        /// The scope, in words.
        scope: String,
    },
    /// The policy is in the kernel and sealed, and this process is not the one that was let in.
    #[error(
        "the policy is sealed, and the kernel has not let this process in as its daemon: there is another \
         one, or this one is not the measured coconutd as PID 1 starts it"
    )]
    NotAdmitted,
    /// The programs in the kernel are of a version that keeps its maps otherwise.
    #[error(
        "the policy in the kernel was loaded by another version of coconutd, whose tables this one does not read"
    )]
    OtherLayout,
    /// No agent has this id (any more).
    #[error("no agent has the id {0:?}")]
    NoSuchAgent(abi::AgentId),
    /// An agent with this id, or with this cgroup, exists.
    #[error("an agent with the id {0:?} exists already")]
    AgentExists(abi::AgentId),
    /// The process could not be brought to its program.
    #[error("spawn: {step} failed")]
    Spawn {
        /// Which step refused.
        step: SpawnStep,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A system call outside all of the above failed.
    #[error("cannot {action}")]
    System {
        /// Verb of the message.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An argument cannot be given to the kernel.
    #[error("invalid argument: {0}")]
    Invalid(String),
}

impl Error {
    /// What a person can do about it, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported { hint, .. } => Some(hint),
            Self::Bpf { .. } => Some(
                "boot a kernel with `lsm=…,bpf` and run as root; a policy that is sealed already \
                 stays until the machine restarts",
            ),
            Self::Map { source, .. } if source.kind() == libbpf_rs::ErrorKind::OutOfMemory => {
                Some("raise the limits in `LoadOptions` (files, grants, addresses)")
            }
            Self::Map { .. } => None,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("mount cgroup v2 at /sys/fs/cgroup and boot without cgroup v1")
            }
            Self::Path { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                Some("put it on ext4, xfs, tmpfs or erofs; /var/tmp and /srv usually are")
            }
            Self::NotAdmitted => Some(
                "`systemctl restart coconutd` starts it; `coconut audit query --kind seal` says why it was refused",
            ),
            Self::OtherLayout => Some(
                "install the version that ran before, or restart the machine, which ends every agent",
            ),
            Self::Spawn { step, .. } => step.hint(),
            _ => None,
        }
    }
}

macro_rules! steps {
    ($($(#[$meta:meta])* $variant:ident = $code:literal => $text:literal, $hint:expr;)+) => {
        /// One step on the way from clone to program; the child tells the number of the one that failed.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum SpawnStep { $($(#[$meta])* $variant = $code,)+ }

        impl SpawnStep {
            /// Every step, in the order in which they are taken.
            pub const ALL: &'static [SpawnStep] = &[$(SpawnStep::$variant,)+];

            /// The step in words.
            pub const fn name(self) -> &'static str {
                match self { $(SpawnStep::$variant => $text,)+ }
            }

            /// What a person can do when it fails.
            pub const fn hint(self) -> Option<&'static str> {
                match self { $(SpawnStep::$variant => $hint,)+ }
            }
        }
    };
}

steps! {
    /// Pipes and the child's stack.
    Prepare = 1 => "preparing", None;
    /// `clone3` into the cgroup with new namespaces.
    Clone = 2 => "cloning into the agent's cgroup", Some("the agent may have reached its `pids` limit");
    /// A small table of descriptors of its own.
    Table = 20 => "copying descriptors", None;
    /// A session of its own.
    Session = 3 => "making a session", None;
    /// Mount propagation off.
    Private = 4 => "making mounts private", None;
    /// Into the IPC namespace that it shares.
    Ipc = 19 => "joining the shared IPC namespace", None;
    /// Private `/proc`.
    Proc = 5 => "mounting a private /proc", None;
    /// Private `/tmp`.
    Tmp = 6 => "mounting a private /tmp", None;
    /// `/dev/shm`.
    Shm = 22 => "mounting a private /dev/shm", None;
    /// `/dev/pts` and `/dev/ptmx`.
    Terminals = 23 => "making private terminals", None;
    /// Telling the daemon what was mounted.
    Report = 7 => "reporting the private mounts", None;
    /// The daemon's answer.
    Await = 8 => "waiting for the grants", None;
    /// Standard streams.
    Stdio = 9 => "setting up standard input and output", None;
    /// Capabilities away from the bounding set.
    Bounding = 10 => "dropping the capability bounding set", None;
    /// Supplementary groups.
    Groups = 11 => "setting the groups", None;
    /// Group.
    Gid = 12 => "setting the group id", None;
    /// User.
    Uid = 13 => "setting the user id", None;
    /// Capabilities.
    Caps = 14 => "dropping capabilities", None;
    /// `no_new_privs`.
    NoNewPrivs = 15 => "setting no_new_privs", None;
    /// A filter of system calls, for a strict agent.
    Filter = 21 => "filtering system calls", Some("`exec = \"strict\"` needs a kernel with CONFIG_SECCOMP_FILTER");
    /// Working directory.
    Chdir = 16 => "changing to the working directory", Some("create the directory, or name another one");
    /// The daemon wrote the grants of the private mounts and switched checks on.
    Grants = 17 => "granting the private mounts", None;
    /// The program.
    Exec = 18 => "starting the program",
        Some("the command must exist, be executable, and be covered by `fs.exec`");
}

impl std::fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl TryFrom<u32> for SpawnStep {
    type Error = u32;
    fn try_from(code: u32) -> std::result::Result<Self, u32> {
        Self::ALL.iter().copied().find(|s| *s as u32 == code).ok_or(code)
    }
}
