//! What callers say to the kernel: agents, rules, programs to start; and what they hear.

use abi::{AgentId, Capability};
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use uuid::Uuid;

/// Where things are pinned and made, and how large tables are.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Mount point of cgroup v2.
    pub cgroup_root: PathBuf,
    /// Name of the slice below it.
    pub slice: String,
    /// Folder on a bpffs for the pins; made if it is missing.
    pub pin_dir: PathBuf,
    /// Entries of the file rights table, all agents together.
    pub max_grants: u32,
    /// Entries of the address table, all agents together.
    pub max_addresses: u32,
    /// Bytes of the audit ring; a power of two.
    pub ring_bytes: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            slice: "coconut.slice".to_owned(),
            pin_dir: PathBuf::from("/sys/fs/bpf/coconut"),
            max_grants: 1 << 19,
            max_addresses: 1 << 17,
            ring_bytes: 16 << 20,
        }
    }
}

/// An agent to be made.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// Hot-path id; the caller never reuses one.
    pub aid: AgentId,
    /// Outside id; names the cgroup.
    pub agent: Uuid,
    /// [`AgentId::NOBODY`] for none.
    pub parent: AgentId,
    /// Names the cgroup above; letters, digits, `-`, `_` and `.`.
    pub tenant: String,
    /// CPU weight, 1 to 10,000.
    pub weight: u32,
    /// `memory.max` in bytes.
    pub ram_max: Option<u64>,
    /// `memory.swap.max` in bytes.
    pub swap_max: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

/// One line of what an agent may do.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Rule {
    /// Comes back in [`abi::event::Event::rule`]; 1 to 65,535 are cached in the hot path.
    pub id: u32,
    /// What.
    pub capability: Capability,
    /// Where.
    pub scope: Scope,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
    pub expires_ns: u64,
}

/// Where a capability holds.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Scope {
    /// A file, or a directory and everything below. For [`Capability::IpcUnix`] a socket's path.
    ///
    /// Resolved (symbolic links followed) to device and inode when the rule is applied.
    Path(PathBuf),
    /// A file or subtree by kernel device (`major << 20 | minor`) and inode.
    Inode {
        /// `s_dev`.
        dev: u64,
        /// `i_ino`.
        ino: u64,
    },
    /// Addresses and one port; port 0 is any.
    Net {
        /// First address.
        addr: IpAddr,
        /// Bits that count: 0–32 or 0–128.
        prefix: u8,
        /// Host byte order.
        port: u16,
    },
    /// An abstract UNIX socket's name without its leading NUL.
    UnixAbstract(Vec<u8>),
    /// Another agent, for [`Capability::AgentSignal`].
    Signal(AgentId),
    /// No narrower scope exists ([`Capability::NetRaw`]).
    Everything,
}

/// A program to start inside an agent.
#[derive(Debug)]
pub struct Launch {
    /// `argv[0]` is the absolute path of the program.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; reached as the agent's user.
    pub cwd: PathBuf,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Standard input, output and error; granted to the agent by exact inode.
    pub stdio: [OwnedFd; 3],
    /// Size of the private `/tmp` in bytes.
    pub tmp_size: u64,
}

/// A started program.
#[derive(Debug)]
pub struct Process {
    /// In the daemon's PID namespace.
    pub pid: u32,
    /// Becomes readable when the process has ended; `waitid(P_PIDFD)` reaps it.
    pub pidfd: OwnedFd,
}

/// A live file mapping of an agent's process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Process.
    pub pid: u32,
    /// As `/proc/<pid>/maps` shows it.
    pub path: PathBuf,
    /// Shared with the file: what the file holds later is seen, and writes reach it.
    pub shared: bool,
    /// The process may store through it.
    pub writable: bool,
}

/// What the kernel counted for one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Denials; each has its event.
    pub denials: u64,
    /// Reported uses of a capability.
    pub uses: u64,
}
