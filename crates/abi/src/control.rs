//! How the daemon steers the kernel programs: shared switches, and commands that change one agent.

use crate::caps::{FileKey, GrantKey};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Folders above a file that the kernel tells the daemon of.
pub const ABOVE_MAX: usize = 40;

/// Ancestors of the daemon's cgroup that are guarded.
pub const GUARDED_CGROUPS: usize = 8;

/// Folders that are the daemon's own.
pub const OWN_FOLDERS: usize = 4;
/// Folders on the way to them, a power of two.
pub const OWN_ABOVE: usize = 16;
/// File systems that those lie on.
pub const OWN_DEVICES: usize = 8;
/// Disks and partitions beneath the daemon's own folders, a power of two.
pub const OWN_DISKS: usize = 16;
/// Slots of [`Policy::own_passthrough`]; a power of two.
pub const OWN_PASSTHROUGH: usize = 32;

/// Switches that the programs read on every decision; one instance, mapped into the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Policy {
    /// 1 once the seal is closed.
    pub sealed: u32,
    /// Thread-group id of the daemon: a quick look before its task storage is asked.
    pub daemon_tgid: u32,
    /// Raised by changes of mounts outside of agents: voids every remembered verdict.
    pub epoch: u64,
    /// Level of the slice's cgroup below the root of the hierarchy.
    pub slice_level: u32,
    /// Level of an agent's cgroup that is no other agent's child.
    pub agent_level: u32,
    /// Id of the slice's cgroup.
    pub slice_id: u64,
    /// Address of the slice's cgroup, learned by [`CONTROL_LEARN_SLICE`].
    pub slice_address: u64,
    /// Bytes in the ring above which agents are stopped.
    pub high_water: u64,
    /// Bytes in the ring above which seal events are only counted as lost.
    pub seal_water: u64,
    /// Raised before verdicts are voided because something has moved.
    pub moves: u64,
    /// Renames that have begun and are not known to have ended: while there are any, nothing that was remembered counts.
    pub moving: u64,
    /// How many times an agent was stopped because the ring was nearly full.
    pub throttles: u64,
    /// Address of the daemon's mount namespace, learned when it looks at a file.
    pub mount_namespace: u64,
    /// Ids of the daemon's cgroup and of those above it, without the root; 0 where there are fewer.
    pub guarded: [u64; GUARDED_CGROUPS],
    /// The program that may become the daemon when there is none: it was measured by the last one.
    pub successor: FileKey,
    /// `CLOCK_BOOTTIME` nanoseconds at which the daemon ended; 0 while there is one.
    pub gone_ns: u64,
    /// Nanoseconds that agents may run without a daemon.
    pub grace_ns: u64,
    /// 1 from the end of that time until a daemon has taken the agents over: they are stopped, again and again,
    /// and nobody lets them go on.
    pub halted: u32,
    /// How many daemons were let in after the first.
    pub admissions: u32,
    /// The daemon's own note for the next: the number that the next list of rights gets.
    pub next_list: u64,
    /// Bytes in the ring above which those are stopped that made more than `share` events in this round.
    pub share_water: u64,
    /// Events of one agent.
    pub share: u32,
    /// Raised by the reader whenever the ring is nearly empty.
    pub round: u32,
    /// As `next_list`, of the next set.
    pub next_set: u64,
    /// As `next_list`: lost events that are on record.
    pub lost_told: u64,
    /// Which layout of all this the programs were made for: a daemon of another takes nothing over.
    pub layout: u64,
    /// A file that nobody but the daemon opens: the log's secret key.
    pub secret: FileKey,
    /// Folders in which only the daemon changes anything.
    pub own: [FileKey; OWN_FOLDERS],
    /// Folders above them, which stay where they are.
    pub own_above: [FileKey; OWN_ABOVE],
    /// Device numbers (`s_dev`) of the file systems of both; what lies elsewhere needs no look.
    pub own_devices: [u32; OWN_DEVICES],
    /// Block devices (`major << 20 | minor`) beneath, to which nobody writes.
    pub own_disks: [u32; OWN_DISKS],
    /// Character devices (as `own_disks`) that hand those disks commands as they are; nobody opens them.
    pub own_passthrough: [u32; OWN_PASSTHROUGH],
    /// 1 once a rule was counted: until then nobody looks for one.
    pub counted: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Why a measured program is not let in as the daemon ([`crate::event::Hook::Admission`]'s `wanted`): PID 1
/// did not start it.
pub const ADMISSION_NOT_BY_INIT: u32 = 1;
/// It is traced, or shares what another process can change.
pub const ADMISSION_SHARED: u32 = 2;
/// It runs under a system call filter, which could answer in the kernel's place.
pub const ADMISSION_FILTERED: u32 = 3;
/// Its mounts, its root, its control groups or its user namespace are not PID 1's.
pub const ADMISSION_NAMESPACES: u32 = 4;
/// A variable of its environment puts other code into it (`LD_*`, `GLIBC_TUNABLES`), or there are too many
/// to look through.
pub const ADMISSION_ENVIRONMENT: u32 = 5;
/// The daemon maps a program from another file system than its own.
pub const ADMISSION_LIBRARY: u32 = 6;

/// [`Control::op`]: sets [`crate::agent::KernelAgent::state`] to `value`.
pub const CONTROL_SET_STATE: u32 = 1;
/// [`Control::op`]: sets the bits `value` in [`crate::agent::KernelAgent::flags`].
pub const CONTROL_SET_FLAGS: u32 = 2;
/// [`Control::op`]: clears the bits `value` in [`crate::agent::KernelAgent::flags`].
pub const CONTROL_CLEAR_FLAGS: u32 = 3;
/// [`Control::op`]: sets [`crate::agent::KernelAgent::list`] to `value`.
pub const CONTROL_SET_LIST: u32 = 4;
/// [`Control::op`]: remembers where the cgroup `cgroup` lies, as the slice.
pub const CONTROL_LEARN_SLICE: u32 = 5;
/// [`Control::op`]: voids verdicts that rest on the file with the number `value`.
pub const CONTROL_VOID_FILE: u32 = 6;

/// [`Control::op`]: gives the number `value` to `file`, with `sets` for its sets; zeroes for nobody's.
pub const CONTROL_SET_FILE: u32 = 7;
/// [`Control::op`]: sets the rights of `grant` to `value`.
pub const CONTROL_SET_RIGHTS: u32 = 8;
/// [`Control::op`]: sets the parent of the agent `cgroup` to the agent `value`.
pub const CONTROL_SET_PARENT: u32 = 9;
/// [`Control::op`]: the agent may start `file` and `interpreter` only, until one of them runs
/// ([`crate::agent::FLAG_EXPECT`]).
pub const CONTROL_EXPECT: u32 = 10;

/// [`Control::op`]: adds `value` uses to the counter with the number `number`.
pub const CONTROL_ADD_USES: u32 = 11;

/// A command to the `control` program. It changes one field in place: counters which the kernel
/// raises at the same time are not overwritten, and a check that is looking at the value sees it
/// before or after, never memory that serves another entry meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// `CONTROL_*`.
    pub op: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// Argument.
    pub value: u64,
    /// Id of the agent's cgroup.
    pub cgroup: u64,
    /// For [`CONTROL_SET_FILE`] and [`CONTROL_EXPECT`].
    pub file: FileKey,
    /// For [`CONTROL_EXPECT`]: a script's interpreter.
    pub interpreter: FileKey,
    /// For [`CONTROL_SET_FILE`]: [`crate::caps::FileNode::sets`].
    pub sets: u64,
    /// For [`CONTROL_SET_RIGHTS`].
    pub grant: GrantKey,
    /// For [`CONTROL_ADD_USES`].
    pub number: u32,
}

/// [`Resolved::flags`]: there are more folders above than `above` can hold.
pub const RESOLVED_CUT: u32 = 1;
/// [`Resolved::flags`]: it lies on a mount of the kernel's own and needs no right: a pipe, a socket.
pub const RESOLVED_INTERNAL: u32 = 2;
/// [`Resolved::flags`]: the programs saw it.
pub const RESOLVED_SEEN: u32 = 4;

/// What the kernel calls a file: the answer to a `stat` by the daemon, keyed by its thread.
///
/// `stat` of user space is no substitute: overlayfs and btrfs report other numbers there, and the
/// programs know files of those by their inodes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resolved {
    /// The file itself.
    pub file: FileKey,
    /// How many of `above` are filled.
    pub depth: u32,
    /// Bit set of `RESOLVED_*`.
    pub flags: u32,
    /// Every folder above it, mounts crossed, the nearest first.
    pub above: [FileKey; ABOVE_MAX],
}
