//! Keys and values of the maps that hold what an agent may do.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Read contents, list a directory, map.
pub const RIGHT_READ: u32 = 1;
/// Change contents or attributes.
pub const RIGHT_WRITE: u32 = 2;
/// Execute as a program (`execve`).
pub const RIGHT_EXEC: u32 = 4;
/// Make new names below a directory.
pub const RIGHT_CREATE: u32 = 8;
/// Remove names below a directory, or rename them away.
pub const RIGHT_DELETE: u32 = 16;
/// Connect or send to a UNIX socket with this path.
pub const RIGHT_UNIX: u32 = 32;
/// `stat` of exactly this inode: given on the ancestors of what was granted, never inherited.
pub const RIGHT_TRAVERSE: u32 = 64;
/// The same inode has another grant in the next layer; see [`FsKey::dev`].
pub const RIGHT_MORE: u32 = 128;

/// Most grants that one agent may hold on one inode.
pub const GRANT_LAYERS: u32 = 8;

/// Key of `fs_caps`: a subtree's root or a single file, as (agent, device, inode).
///
/// `dev` is the kernel's `s_dev` (major << 20 | minor), not the `st_dev` of user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FsKey {
    /// [`crate::AgentId`].
    pub aid: u64,
    /// Kernel device number of the superblock in the low half, layer in the high half.
    ///
    /// Grants that differ in rule or expiry lie in layers 0 to [`GRANT_LAYERS`] − 1.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// Value of every capability map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// Bit set of `RIGHT_*`; in `net_caps` 1 plus the prefix length shifted by [`NET_PREFIX_SHIFT`],
    /// in the other maps 1.
    pub rights: u32,
    /// Index of the manifest line or grant that gave it, for `explain`.
    pub rule: u32,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
    pub expires_ns: u64,
}

/// `NetKey::op`: the agent opens a connection or sends a datagram to the address.
pub const NET_CONNECT: u16 = 1;
/// `NetKey::op`: the agent binds or listens on the address.
pub const NET_BIND: u16 = 2;
/// `NetKey::op`: the agent makes raw, packet and ping sockets; address and port are zero.
pub const NET_RAW: u16 = 3;

/// Where the prefix length lies in [`Grant::rights`] of `net_caps`: when the longest prefix has
/// expired, the kernel asks for the next shorter one.
pub const NET_PREFIX_SHIFT: u32 = 8;

/// Key of `net_caps`, a longest-prefix-match trie. IPv4 is IPv4-mapped IPv6 (RFC 4291 §2.5.5.2).
///
/// `prefix_len` counts bits after itself: 96 fixed ones (agent, operation, port) plus the address
/// prefix, so 96 + 96 + n for an IPv4 /n. Port 0 is any port; the kernel asks twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NetKey {
    /// Bits that count.
    pub prefix_len: u32,
    /// Low half of the [`crate::AgentId`].
    pub aid_slot: u32,
    /// High half of the [`crate::AgentId`].
    pub aid_generation: u32,
    /// [`NET_CONNECT`] or [`NET_BIND`].
    pub op: u16,
    /// Host byte order; 0 is any.
    pub port: u16,
    /// Network byte order.
    pub addr: [u8; 16],
}

/// Bits of [`NetKey`] in front of the address.
pub const NET_KEY_FIXED_BITS: u32 = 96;

/// Longest abstract UNIX socket name (`sun_path` without its leading NUL).
pub const ABSTRACT_NAME_MAX: usize = 107;

/// Key of `unix_abstract_caps`: an abstract socket name that an agent may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AbstractKey {
    /// [`crate::AgentId`].
    pub aid: u64,
    /// Bytes of `name` that count.
    pub len: u32,
    /// Name, zero padded, without the leading NUL.
    pub name: [u8; 108],
}

/// Key of `signal_caps`: `from` may signal every task of `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalKey {
    /// Sender's [`crate::AgentId`].
    pub from: u64,
    /// Receiver's [`crate::AgentId`].
    pub to: u64,
}

/// Key of `tcp_peers`: who owns the client end of an established TCP connection on this machine.
///
/// Filled when the client's socket becomes established, before the server can accept; removed
/// when it closes. Addresses as in [`NetKey`], ports in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpPeerKey {
    /// The client's own address.
    pub client_addr: [u8; 16],
    /// The server's address.
    pub server_addr: [u8; 16],
    /// The client's own port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// Reserved, zero.
    pub reserved: u32,
}
