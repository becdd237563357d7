//! What callers say to the kernel: agents, sets of rules, programs to start; and what they hear.

use crate::{Handle, Uses};
use abi::{AgentId, Capability};
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Where things are pinned and made, and how large tables are.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Mount point of cgroup v2.
    pub cgroup_root: PathBuf,
    /// Path of the slice below it; at any depth.
    pub slice: String,
    /// Folder on a bpffs for the pins; made if it is missing.
    pub pin_dir: PathBuf,
    /// Files that have rules, all sets together.
    pub max_files: u32,
    /// Entries of the file rights table, all sets together.
    pub max_grants: u32,
    /// Entries of the address table, all sets together.
    pub max_addresses: u32,
    /// Bytes of the audit ring; a power of two.
    pub ring_bytes: u32,
    /// How long agents may run without a daemon.
    pub grace: Duration,
    /// Layout of what lies in the kernel: another daemon's is not taken over.
    pub layout: u64,
}

impl Default for LoadOptions {
    /// Sized for 16,384 agents: each has its own `/proc`, `/tmp`, output file and a few rules of its
    /// own; tables take memory as they are filled.
    fn default() -> Self {
        LoadOptions {
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            slice: "coconut.slice".to_owned(),
            pin_dir: PathBuf::from("/sys/fs/bpf/coconut"),
            max_files: 1 << 18,
            max_grants: 1 << 20,
            max_addresses: 1 << 18,
            ring_bytes: 16 << 20,
            grace: Duration::from_secs(10),
            layout: crate::object::LAYOUT,
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
    /// [`AgentId::NOBODY`] for none. A child's cgroup lies below its parent's, whose limits hold for it.
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
    /// It may have children: its own processes are put into a cgroup beside theirs.
    pub may_spawn: bool,
    /// Its code comes from files that it may execute or [`KernelRule::code`] names. Its children's does, too.
    pub strict: bool,
    /// What it has to itself beside its PID, mount and UTS namespaces.
    pub namespaces: Namespaces,
}

/// Whose `/proc`, `/tmp` and IPC namespace an agent uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespaces {
    /// Its own.
    Own {
        /// Size of `/tmp` in bytes.
        tmp_size: u64,
    },
    /// Those of all that share: `/proc/self` and what lies below, a folder of one tmpfs, no System V or
    /// POSIX queues. For thousands of agents: each `/proc`, `/tmp` and IPC namespace costs every other agent.
    Shared,
}

/// What an agent may still have of rights that were taken from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Remains {
    /// Nothing: each further use is refused.
    Nothing,
    /// Mappings, of which [`crate::Kernel::live_mappings`] tells.
    Mapped,
    /// What nobody can look at or take back: pages of a file in a pipe or a socket, a watch, a descriptor that
    /// came over a connection. Got by a right to read, or to connect.
    Kept,
    /// Pages of what it had mapped, mapped or not: to read, or to write as well.
    Pinned,
}

/// A set of rules in the kernel maps. Never given out twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetId(pub u32);

/// Most sets that one agent may hold, beside the one of its own mounts and standard files.
pub const SETS_MAX: usize = 16;

/// One line of what a set allows; its number is its place in the set, from 1.
#[derive(Clone, Debug)]
pub struct KernelRule {
    /// What.
    pub capability: Capability,
    /// Where.
    pub scope: KernelScope,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
    pub expires_ns: u64,
    /// What it lets read may be mapped as code by a strict agent.
    pub code: bool,
    /// It may be used so often and no more; none for as often as one likes.
    pub uses: Option<Uses>,
}

/// Where a capability holds.
#[derive(Clone, Debug)]
pub enum KernelScope {
    /// A file, or a directory and everything below. For [`Capability::IpcUnix`] a socket's file.
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
    /// No narrower scope exists ([`Capability::NetRaw`], [`Capability::AgentSignal`]: all descendants).
    Everything,
    /// The kernel has nothing to decide, or the file is not there; the number is taken all the same.
    Nothing,
}

/// A program to start inside an agent.
#[derive(Debug)]
pub struct Launch {
    /// The very file that was hashed, open for reading.
    pub program: OwnedFd,
    /// It is a script, and this is the file that interprets it: then it is started by `argv[0]`'s path, as
    /// scripts expect, and only if that leads to these two files.
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
    /// Standard input, output and error: the agent may do with these files what the descriptors were
    /// opened for, and nothing more.
    pub stdio: [OwnedFd; 3],
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
    /// `s_dev` of the file (major << 20 | minor), as `maps` shows it.
    pub dev: u64,
    /// Inode number, as `maps` shows it.
    pub ino: u64,
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
