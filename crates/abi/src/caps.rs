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
/// Write at the end only: no read, no cut, no overwrite. What a standard file opened with `O_APPEND`
/// gives; no capability does.
pub const RIGHT_APPEND: u32 = 128;
/// Code may be mapped from it by an agent whose code comes from such files alone ([`crate::agent::FLAG_STRICT`]):
/// what a profile lets it read.
pub const RIGHT_LOAD: u32 = 512;
/// It may be used so often and no more: each use is taken from the rule's counter ([`CountedKey`]), and what was got
/// by it ([`TakenFile`]) may be used on.
pub const RIGHT_COUNTED: u32 = 1 << 30;
/// The same set has another grant on the same file in the next layer; see [`GrantKey::layer`].
pub const RIGHT_MORE: u32 = 1 << 31;

/// Most grants that one set may hold on one file.
pub const GRANT_LAYERS: u32 = 8;

/// Places in a [`RightsList`].
pub const LIST_SETS: usize = 20;

/// Value of `lists`, by a number that is never used twice: the sets that an agent holds.
///
/// A list is never changed: an agent is given another one, in one store, so that a check sees the
/// old rights or the new ones and never a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RightsList {
    /// Ids of sets, never reused; `count` of them.
    pub sets: [u32; LIST_SETS],
    /// How many.
    pub count: u32,
    /// Bit *i*: the set in place *i* has entries in `net_caps`.
    pub net: u32,
    /// Bit *i*: the set in place *i* has entries in `unix_abstract_caps`.
    pub abstracts: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Key of `files`: a file on which some set has a rule. The value is its number, an index into
/// `file_nodes`.
///
/// `dev` is the kernel's `s_dev` (major << 20 | minor), not the `st_dev` of user space. Where inode
/// numbers are no identity (overlayfs, btrfs, bcachefs) it has [`FILE_IN_MEMORY`], and `ino` is the
/// address of the inode in memory: unique, and lasting as long as somebody keeps the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileKey {
    /// Kernel device number of the superblock; [`FILE_IN_MEMORY`].
    pub dev: u64,
    /// Inode number, or the inode's address.
    pub ino: u64,
}

/// [`FileKey::dev`]: `ino` is an address, good while the file is kept open.
pub const FILE_IN_MEMORY: u64 = 0x1_0000_0000;

/// Value of `file_nodes`, by the file's number.
///
/// Memory of the hash table `files` may serve another entry while a check still looks at it; here
/// nothing moves, and a number is given out again only when no check can have it any more. So a
/// check compares `file` with what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileNode {
    /// Whose number it is; zeroes for nobody's.
    pub file: FileKey,
    /// Bit `id & 63` of every set with a right here that reaches what lies below. Most folders on a
    /// way upward have none, and no set is asked.
    pub sets: u64,
    /// Raised when something moves out from below; voids verdicts that rest on this file.
    pub epoch: u64,
}

/// Key of `fs_caps`: what a set allows on a file and below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantKey {
    /// The set.
    pub set: u32,
    /// The file's number.
    pub file: u32,
    /// Grants that differ in rule or expiry lie in layers 0 to [`GRANT_LAYERS`] − 1.
    pub layer: u32,
}

/// Value of every capability map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// Bit set of `RIGHT_*`; in `net_caps` 1 plus the prefix length (8 bits) shifted by [`NET_PREFIX_SHIFT`],
    /// in the other maps 1; [`RIGHT_COUNTED`] in all of them.
    pub rights: u32,
    /// Number of the rule within its set, from 1; 0 for what no rule names.
    pub rule: u32,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
    pub expires_ns: u64,
}

/// Key of `counted`: a rule of a set that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CountedKey {
    /// The set.
    pub set: u32,
    /// [`Grant::rule`].
    pub rule: u32,
}

/// Value of `counted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counted {
    /// [`Grant::expires_ns`].
    pub expires_ns: u64,
    /// Index into `counters`.
    pub counter: u32,
    /// [`Grant::rights`] where it is about files; one use is for all of them.
    pub rights: u32,
}

/// Entries of `counters`; a power of two. The first is nobody's.
pub const COUNTERS: u32 = 1 << 14;

/// Value of `counters`: how often a rule may still be used, whichever sets it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UseCounter {
    /// Never given to another counter; 0 for nobody's.
    pub id: u64,
    /// Uses that are left; below zero for as long as a use that is not there is asked for.
    pub left: i64,
}

/// By which use of a counted rule something was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Taken {
    /// [`UseCounter::id`]; 0 for none.
    pub id: u64,
    /// Index into `counters`.
    pub counter: u32,
    /// [`Grant::rule`].
    pub rule: u32,
    /// `RIGHT_*` that it was taken for.
    pub rights: u32,
    /// Number of the file that the rule stood on.
    pub by: u32,
}

/// Value of `taken`, by the address of an open file: it was got by these uses, and may be used on while the rules are
/// held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TakenFile {
    /// The uses; a file that is read and written may be got by two.
    pub uses: [Taken; 2],
}

/// Slots of `opened_files`; a power of two.
pub const OPENED_SLOTS: u32 = 1 << 16;

/// Value of `opened_files`, by a hash of the file's address: the last verdict on an open file.
///
/// It holds for one list of rights, and until something moves out of the folder that gave the
/// right (`stamp`); it goes with the file. Five words cannot be read or written at once, so the
/// last is a check of the others: a mixture of two writers is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenedFile {
    /// Address of the `struct file`; 0 for none.
    pub file: u64,
    /// [`crate::agent::KernelAgent::list`].
    pub list: u64,
    /// [`crate::control::Policy::epoch`] plus the epoch of the file that gave the right.
    pub stamp: u64,
    /// Number of the file that gave the right.
    pub by: u32,
    /// `RIGHT_*`.
    pub rights: u32,
    /// Over what stands before, and the inode's number.
    pub check: u64,
}

/// `NetKey::op`: the agent opens a connection or sends a datagram to the address.
pub const NET_CONNECT: u16 = 1;
/// `NetKey::op`: the agent binds or listens on the address.
pub const NET_BIND: u16 = 2;
/// Where the prefix length lies in [`Grant::rights`] of `net_caps`: when the longest prefix has
/// expired, the kernel asks for the next shorter one.
pub const NET_PREFIX_SHIFT: u32 = 8;

/// Key of `net_caps`, a longest-prefix-match trie. IPv4 is IPv4-mapped IPv6 (RFC 4291 §2.5.5.2).
///
/// `prefix_len` counts bits after itself: 64 fixed ones (set, operation, port) plus the address
/// prefix, so 64 + 96 + n for an IPv4 /n. Port 0 is any port; the kernel asks twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NetKey {
    /// Bits that count.
    pub prefix_len: u32,
    /// The set.
    pub set: u32,
    /// [`NET_CONNECT`] or [`NET_BIND`].
    pub op: u16,
    /// Host byte order; 0 is any.
    pub port: u16,
    /// Network byte order.
    pub addr: [u8; 16],
}

/// Bits of [`NetKey`] in front of the address.
pub const NET_KEY_FIXED_BITS: u32 = 64;

/// Longest abstract UNIX socket name (`sun_path` without its leading NUL).
pub const ABSTRACT_NAME_MAX: usize = 107;

/// Key of `unix_abstract_caps`: an abstract socket name that a set allows to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AbstractKey {
    /// The set.
    pub set: u32,
    /// Bytes of `name` that count.
    pub len: u32,
    /// Name, zero padded, without the leading NUL.
    pub name: [u8; 108],
}

/// Key of `plain_caps`: capabilities that have no narrower scope than yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlainKey {
    /// The set.
    pub set: u32,
    /// [`PLAIN_NET_RAW`] or [`PLAIN_SIGNAL`].
    pub what: u32,
}

/// [`PlainKey::what`]: raw, packet and ping sockets.
pub const PLAIN_NET_RAW: u32 = 1;
/// [`PlainKey::what`]: signals to descendants.
pub const PLAIN_SIGNAL: u32 = 2;

/// Agents above one another, at most, that a signal is allowed through.
pub const TREE_DEPTH: u32 = 64;

/// Connections of one agent to servers on this machine whose owner is remembered.
pub const PEERS_MAX: u32 = 512;

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
