//! How the daemon steers the kernel programs: shared switches, and commands that change one agent.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Depth of an agent's cgroup below the root of the hierarchy: slice, tenant, agent.
pub const AGENT_LEVEL: u32 = 3;

/// Ancestors of the daemon's cgroup that are guarded.
pub const GUARDED_CGROUPS: usize = 8;

/// Switches that the programs read on every decision; one instance, mapped into the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Policy {
    /// 1 once the seal is closed.
    pub sealed: u32,
    /// Voids every cached verdict: raised by renames, mounts and removals of hard links.
    pub epoch: u32,
    /// Thread-group id of the daemon: a quick look before its task storage is asked.
    pub daemon_tgid: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// Id of the slice's cgroup.
    pub slice_id: u64,
    /// Address of the slice's cgroup, learned by [`CONTROL_LEARN_SLICE`].
    pub slice_address: u64,
    /// Bytes in the ring above which agents are stopped.
    pub high_water: u64,
    /// Bytes in the ring above which seal events are only counted as lost.
    pub seal_water: u64,
    /// Address of the daemon's mount namespace, learned when it looks at a file.
    pub mount_namespace: u64,
    /// Ids of the daemon's cgroup and of those above it, without the root; 0 where there are fewer.
    pub guarded: [u64; GUARDED_CGROUPS],
}

/// [`Control::op`]: sets [`crate::agent::KernelAgent::state`] to `value`.
pub const CONTROL_SET_STATE: u32 = 1;
/// [`Control::op`]: sets the bits `value` in [`crate::agent::KernelAgent::flags`].
pub const CONTROL_SET_FLAGS: u32 = 2;
/// [`Control::op`]: clears the bits `value` in [`crate::agent::KernelAgent::flags`].
pub const CONTROL_CLEAR_FLAGS: u32 = 3;
/// [`Control::op`]: sets [`crate::agent::KernelAgent::cap_epoch`] to `value`.
pub const CONTROL_SET_EPOCH: u32 = 4;
/// [`Control::op`]: remembers where the cgroup `cgroup` lies, as the slice.
pub const CONTROL_LEARN_SLICE: u32 = 5;

/// A command to the `control` program. It changes one field in place, so that counters which the
/// kernel raises at the same time are not overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// `CONTROL_*`.
    pub op: u32,
    /// Argument.
    pub value: u32,
    /// Id of the agent's cgroup.
    pub cgroup: u64,
}

/// What the kernel calls a file: the answer to a `stat` by the daemon, keyed by its thread.
///
/// `stat` of user space is no substitute: overlayfs and btrfs report other numbers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resolved {
    /// `s_dev`.
    pub dev: u64,
    /// `i_ino`.
    pub ino: u64,
}
