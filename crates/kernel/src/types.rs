//! What callers say to the kernel: agents, rules, programs to start; and what they hear.

use abi::{AgentId, Capability};
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
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
    /// It may have children: its cgroup has room for theirs below.
    pub may_spawn: bool,
}

/// A set of rules in the kernel maps. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// Most sets that one agent may hold beside the one of its own mounts and standard files.
pub const SETS_MAX: usize = 16;

/// What a file is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// `s_dev`.
    pub dev: u64,
    /// `i_ino`.
    pub ino: u64,
    /// Everything below is meant too.
    pub directory: bool,
}

/// A file as the kernel programs know it, kept open: its inode cannot become another file's while
/// this lives.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    node: Node,
    above: Vec<Node>,
}

impl Handle {
    /// What it is known by.
    pub fn node(&self) -> Node {
        self.node
    }

    /// The directories above it, the nearest first.
    pub fn above(&self) -> &[Node] {
        &self.above
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For kernels that only remember.
    #[doc(hidden)]
    pub fn for_tests(fd: OwnedFd, node: Node, above: Vec<Node>) -> Handle {
        Handle { fd, node, above }
    }
}

/// One line of what a set allows; its number is its position in the set, from 1.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What.
    pub capability: Capability,
    /// Where.
    pub scope: Scope,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
    pub expires_ns: u64,
}

/// Where a capability holds.
#[derive(Clone, Debug)]
pub enum Scope {
    /// A file, or a directory and everything below; for [`Capability::IpcUnix`] a socket's path.
    File(Arc<Handle>),
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
    /// No narrower scope exists.
    Everything,
    /// No meaning for the kernel; keeps the numbering.
    Nothing,
}

/// A program to start inside an agent.
#[derive(Debug)]
pub struct Launch {
    /// The very file that was hashed, open for reading; executed by descriptor.
    pub program: OwnedFd,
    /// The program is a script: executed by `argv[0]`'s path, and refused unless that leads to this
    /// very inode and interpreter.
    pub interpreter: Option<OwnedFd>,
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
    /// Standard input, output and error; given exactly as they were opened.
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
    /// As `/proc/<pid>/maps` shows it.
    pub path: PathBuf,
    /// `s_dev`.
    pub dev: u64,
    /// `i_ino`.
    pub ino: u64,
    /// Shared with the file: what the file holds later is seen, and writes reach it.
    pub shared: bool,
    /// The process may store through it.
    pub writable: bool,
    /// Process.
    pub pid: u32,
}

/// What the kernel counted for one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Denials; each has its event.
    pub denials: u64,
    /// Reported uses of a capability.
    pub uses: u64,
}
