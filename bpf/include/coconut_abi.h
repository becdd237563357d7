/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Generated from crates/abi by its test `header`; do not edit. */
#pragma once

/**
 * Pages of a file in a pipe or a socket.
 */
#define KEPT_PAGES 1

/**
 * A watch on a file or folder.
 */
#define KEPT_WATCH 2

/**
 * A descriptor that came over a connection.
 */
#define KEPT_DESCRIPTOR 3

/**
 * In place of a file: several of them, or none that can be named.
 */
#define KEPT_BY_SEVERAL 4294967294

/**
 * In place of a file: an abstract UNIX name.
 */
#define KEPT_BY_ABSTRACT 4294967293

/**
 * Words of [`KernelAgent::mapped`].
 */
#define MAPPED_WORDS 4

/**
 * The daemon's own set-up code runs in the agent's cgroup: checks are skipped until it is cleared.
 */
#define FLAG_SETUP 1

/**
 * Stopped because the audit ring is nearly full: the agent may not send itself SIGCONT.
 */
#define FLAG_THROTTLED 2

/**
 * Its first program is still to be started, and must be [`KernelAgent::program`].
 */
#define FLAG_EXPECT 4

/**
 * Entries of `kept` are about it.
 */
#define FLAG_KEEPS 16

/**
 * It had the kernel hold on to pages of its memory, which may be those of a file that is mapped no more.
 */
#define FLAG_PINS 32

/**
 * It moves pages by io_uring: what it reads may stay in a pipe.
 */
#define FLAG_SPLICES 64

/**
 * Its code comes from files that it may execute or [`crate::caps::RIGHT_LOAD`], and from no memory of its own.
 */
#define FLAG_STRICT 128

/**
 * Its `/proc` is one that other agents use too: it may not be listed.
 */
#define FLAG_SHARES 8

/**
 * Read contents, list a directory, map.
 */
#define RIGHT_READ 1

/**
 * Change contents or attributes.
 */
#define RIGHT_WRITE 2

/**
 * Execute as a program (`execve`).
 */
#define RIGHT_EXEC 4

/**
 * Make new names below a directory.
 */
#define RIGHT_CREATE 8

/**
 * Remove names below a directory, or rename them away.
 */
#define RIGHT_DELETE 16

/**
 * Connect or send to a UNIX socket with this path.
 */
#define RIGHT_UNIX 32

/**
 * `stat` of exactly this inode: given on the ancestors of what was granted, never inherited.
 */
#define RIGHT_TRAVERSE 64

/**
 * Write at the end only: no read, no cut, no overwrite. What a standard file opened with `O_APPEND`
 * gives; no capability does.
 */
#define RIGHT_APPEND 128

/**
 * Code may be mapped from it by an agent whose code comes from such files alone ([`crate::agent::FLAG_STRICT`]):
 * what a profile lets it read.
 */
#define RIGHT_LOAD 512

/**
 * It may be used so often and no more: each use is taken from the rule's counter ([`CountedKey`]), and what was got
 * by it ([`TakenFile`]) may be used on.
 */
#define RIGHT_COUNTED (1 << 30)

/**
 * The same set has another grant on the same file in the next layer; see [`GrantKey::layer`].
 */
#define RIGHT_MORE (1 << 31)

/**
 * Most grants that one set may hold on one file.
 */
#define GRANT_LAYERS 8

/**
 * Places in a [`RightsList`].
 */
#define LIST_SETS 20

/**
 * [`FileKey::dev`]: `ino` is an address, good while the file is kept open.
 */
#define FILE_IN_MEMORY 4294967296

/**
 * Entries of `counters`; a power of two. The first is nobody's.
 */
#define COUNTERS (1 << 14)

/**
 * Slots of `opened_files`; a power of two.
 */
#define OPENED_SLOTS (1 << 16)

/**
 * `NetKey::op`: the agent opens a connection or sends a datagram to the address.
 */
#define NET_CONNECT 1

/**
 * `NetKey::op`: the agent binds or listens on the address.
 */
#define NET_BIND 2

/**
 * Where the prefix length lies in [`Grant::rights`] of `net_caps`: when the longest prefix has
 * expired, the kernel asks for the next shorter one.
 */
#define NET_PREFIX_SHIFT 8

/**
 * Bits of [`NetKey`] in front of the address.
 */
#define NET_KEY_FIXED_BITS 64

/**
 * Longest abstract UNIX socket name (`sun_path` without its leading NUL).
 */
#define ABSTRACT_NAME_MAX 107

/**
 * [`PlainKey::what`]: raw, packet and ping sockets.
 */
#define PLAIN_NET_RAW 1

/**
 * [`PlainKey::what`]: signals to descendants.
 */
#define PLAIN_SIGNAL 2

/**
 * Agents above one another, at most, that a signal is allowed through.
 */
#define TREE_DEPTH 64

/**
 * Connections of one agent to servers on this machine whose owner is remembered.
 */
#define PEERS_MAX 512

/**
 * Folders above a file that the kernel tells the daemon of.
 */
#define ABOVE_MAX 40

/**
 * Ancestors of the daemon's cgroup that are guarded.
 */
#define GUARDED_CGROUPS 8

/**
 * Folders that are the daemon's own.
 */
#define OWN_FOLDERS 4

/**
 * Folders on the way to them, a power of two.
 */
#define OWN_ABOVE 16

/**
 * File systems that those lie on.
 */
#define OWN_DEVICES 8

/**
 * Disks and partitions beneath the daemon's own folders, a power of two.
 */
#define OWN_DISKS 16

/**
 * Slots of [`Policy::own_passthrough`]; a power of two.
 */
#define OWN_PASSTHROUGH 32

/**
 * Why a measured program is not let in as the daemon ([`crate::event::Hook::Admission`]'s `wanted`): PID 1
 * did not start it.
 */
#define ADMISSION_NOT_BY_INIT 1

/**
 * It is traced, or shares what another process can change.
 */
#define ADMISSION_SHARED 2

/**
 * It runs under a system call filter, which could answer in the kernel's place.
 */
#define ADMISSION_FILTERED 3

/**
 * Its mounts, its root, its control groups or its user namespace are not PID 1's.
 */
#define ADMISSION_NAMESPACES 4

/**
 * A variable of its environment puts other code into it (`LD_*`, `GLIBC_TUNABLES`), or there are too many
 * to look through.
 */
#define ADMISSION_ENVIRONMENT 5

/**
 * The daemon maps a program from another file system than its own.
 */
#define ADMISSION_LIBRARY 6

/**
 * [`Control::op`]: sets [`crate::agent::KernelAgent::state`] to `value`.
 */
#define CONTROL_SET_STATE 1

/**
 * [`Control::op`]: sets the bits `value` in [`crate::agent::KernelAgent::flags`].
 */
#define CONTROL_SET_FLAGS 2

/**
 * [`Control::op`]: clears the bits `value` in [`crate::agent::KernelAgent::flags`].
 */
#define CONTROL_CLEAR_FLAGS 3

/**
 * [`Control::op`]: sets [`crate::agent::KernelAgent::list`] to `value`.
 */
#define CONTROL_SET_LIST 4

/**
 * [`Control::op`]: remembers where the cgroup `cgroup` lies, as the slice.
 */
#define CONTROL_LEARN_SLICE 5

/**
 * [`Control::op`]: voids verdicts that rest on the file with the number `value`.
 */
#define CONTROL_VOID_FILE 6

/**
 * [`Control::op`]: gives the number `value` to `file`, with `sets` for its sets; zeroes for nobody's.
 */
#define CONTROL_SET_FILE 7

/**
 * [`Control::op`]: sets the rights of `grant` to `value`.
 */
#define CONTROL_SET_RIGHTS 8

/**
 * [`Control::op`]: sets the parent of the agent `cgroup` to the agent `value`.
 */
#define CONTROL_SET_PARENT 9

/**
 * [`Control::op`]: the agent may start `file` and `interpreter` only, until one of them runs
 * ([`crate::agent::FLAG_EXPECT`]).
 */
#define CONTROL_EXPECT 10

/**
 * [`Control::op`]: adds `value` uses to the counter with the number `number`.
 */
#define CONTROL_ADD_USES 11

/**
 * [`Resolved::flags`]: there are more folders above than `above` can hold.
 */
#define RESOLVED_CUT 1

/**
 * [`Resolved::flags`]: it lies on a mount of the kernel's own and needs no right: a pipe, a socket.
 */
#define RESOLVED_INTERNAL 2

/**
 * [`Resolved::flags`]: the programs saw it.
 */
#define RESOLVED_SEEN 4

/**
 * Bytes of an object's name in an event; a longer path is cut at the front and begins with `...`.
 */
#define OBJECT_MAX 256

/**
 * The kernel said no. Exactly one per refused operation.
 */
#define EVENT_DENIAL 1

/**
 * A capability was used: a file opened, a program started, a connection made.
 */
#define EVENT_USE 2

/**
 * A task outside every agent, root included, tried something that the seal forbids.
 */
#define EVENT_SEAL 3

/**
 * An agent's process started a program.
 */
#define EVENT_EXEC 4

/**
 * A syscall (a later issue fills this kind; its number is kept).
 */
#define EVENT_SYSCALL 6

/**
 * Lifecycle state, kept in the kernel and read by the LSM programs. `u32` on the wire.
 */
enum AgentState
#if __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // __STDC_VERSION__ >= 202311L
 {
  /**
   * The daemon's own code still prepares the process: namespaces, mounts, credentials.
   */
  AGENT_STATE_SPAWNING = 1,
  /**
   * Manifest signature and code digest were verified; nothing of the agent's has run.
   */
  AGENT_STATE_ATTESTED = 2,
  /**
   * Running.
   */
  AGENT_STATE_ACTIVE = 3,
  /**
   * Waiting for the broker.
   */
  AGENT_STATE_INFERENCE_BLOCKED = 4,
  /**
   * Running; its last decision was a denial.
   */
  AGENT_STATE_CAP_DENIED = 5,
  /**
   * Frozen; everything it tries is denied.
   */
  AGENT_STATE_QUARANTINED = 6,
  /**
   * Ended by itself with status 0, or by `kill` as asked.
   */
  AGENT_STATE_TERMINATED_CLEAN = 7,
  /**
   * Ended because a right that it was using was revoked.
   */
  AGENT_STATE_TERMINATED_REVOKED = 8,
  /**
   * Ended with another status or by a signal of its own.
   */
  AGENT_STATE_TERMINATED_FAILED = 9,
};
#if __STDC_VERSION__ >= 202311L
typedef enum AgentState AgentState;
#else
typedef uint32_t AgentState;
#endif // __STDC_VERSION__ >= 202311L

/**
 * Which operation a program decided; `u32` in [`Event::hook`]. The discriminants are kept for ever.
 */
enum Hook
#if __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // __STDC_VERSION__ >= 202311L
 {
  HOOK_FILE_OPEN = 1,
  HOOK_FILE_PERMISSION = 2,
  HOOK_MMAP_FILE = 3,
  HOOK_FILE_MPROTECT = 4,
  HOOK_FILE_RECEIVE = 5,
  HOOK_FILE_TRUNCATE = 6,
  HOOK_INODE_GETATTR = 7,
  HOOK_INODE_SETATTR = 8,
  HOOK_PATH_MKNOD = 9,
  HOOK_PATH_MKDIR = 10,
  HOOK_PATH_UNLINK = 11,
  HOOK_PATH_RMDIR = 12,
  HOOK_PATH_RENAME = 13,
  HOOK_PATH_LINK = 14,
  HOOK_PATH_SYMLINK = 15,
  HOOK_PATH_CHMOD = 16,
  HOOK_PATH_CHOWN = 17,
  HOOK_PATH_TRUNCATE = 18,
  HOOK_BPRM_CHECK = 19,
  HOOK_SOCKET_CREATE = 20,
  HOOK_SOCKET_CONNECT = 21,
  HOOK_SOCKET_BIND = 22,
  HOOK_SOCKET_LISTEN = 23,
  HOOK_SOCKET_SENDMSG = 24,
  HOOK_SOCKET_RECVMSG = 25,
  HOOK_UNIX_FIND = 26,
  HOOK_UNIX_STREAM_CONNECT = 27,
  HOOK_UNIX_MAY_SEND = 28,
  HOOK_TASK_KILL = 29,
  HOOK_PTRACE_ACCESS = 30,
  HOOK_PTRACE_TRACEME = 31,
  HOOK_URING_SQPOLL = 32,
  HOOK_URING_OVERRIDE_CREDS = 33,
  HOOK_URING_CMD = 34,
  HOOK_BPF = 35,
  HOOK_SB_MOUNT = 36,
  HOOK_SB_UMOUNT = 37,
  HOOK_MOVE_MOUNT = 38,
  HOOK_PERF_EVENT_OPEN = 39,
  HOOK_KERNEL_MODULE = 40,
  HOOK_KEY_PERMISSION = 41,
  HOOK_USERNS_CREATE = 42,
  HOOK_CGROUP_WRITE = 43,
  HOOK_QUARANTINE = 44,
  HOOK_FILE_IOCTL = 45,
  HOOK_INODE_XATTR = 46,
  HOOK_LOCKDOWN = 47,
  HOOK_TASK_PRCTL = 48,
  HOOK_SYSCTL = 49,
  HOOK_CAPABLE = 50,
  HOOK_TASK_CONTROL = 51,
  HOOK_SOCKET_ACCEPT = 52,
  HOOK_PATH_NOTIFY = 53,
  HOOK_INODE_READLINK = 54,
  HOOK_CGROUP_MOVE = 55,
  HOOK_PIVOTROOT = 56,
  HOOK_ADMISSION = 57,
  HOOK_FILE_SIGIO = 58,
  HOOK_FILE_LOCK = 59,
  HOOK_FILE_FCNTL = 60,
  HOOK_SB_STATFS = 61,
  HOOK_SOCKET_SETSOCKOPT = 62,
  HOOK_SYSLOG = 63,
  HOOK_SB_REMOUNT = 64,
  HOOK_TUN_DEVICE = 65,
  HOOK_SCTP_BIND_CONNECT = 66,
  HOOK_KERNEL_LOAD = 67,
  HOOK_PROC_WRITE = 68,
  HOOK_FILE_IOCTL_CHANGE = 69,
  HOOK_CODE_MEMORY = 70,
  HOOK_PROC_READ = 71,
  HOOK_EGRESS = 72,
};
#if __STDC_VERSION__ >= 202311L
typedef enum Hook Hook;
#else
typedef uint32_t Hook;
#endif // __STDC_VERSION__ >= 202311L

/**
 * Key of `files`: a file on which some set has a rule. The value is its number, an index into
 * `file_nodes`.
 *
 * `dev` is the kernel's `s_dev` (major << 20 | minor), not the `st_dev` of user space. Where inode
 * numbers are no identity (overlayfs, btrfs, bcachefs) it has [`FILE_IN_MEMORY`], and `ino` is the
 * address of the inode in memory: unique, and lasting as long as somebody keeps the file open.
 */
struct FileKey {
  /**
   * Kernel device number of the superblock; [`FILE_IN_MEMORY`].
   */
  uint64_t dev;
  /**
   * Inode number, or the inode's address.
   */
  uint64_t ino;
};

/**
 * Value of the `agents` cgroup-storage map: one per agent cgroup.
 */
struct KernelAgent {
  /**
   * [`AgentId`].
   */
  uint64_t aid;
  /**
   * Key into `lists`: what the agent holds. A new number, never used before, at every change of its
   * rights, which voids what was remembered of it.
   */
  uint64_t list;
  /**
   * [`AgentState`].
   */
  uint32_t state;
  /**
   * Bit set of `FLAG_*`.
   */
  uint32_t flags;
  /**
   * Denials decided by the kernel for this agent; equals its denial records in the log.
   */
  uint64_t denials;
  /**
   * Allowed uses of a capability that were reported to the ring.
   */
  uint64_t uses;
  /**
   * The program that was hashed, while [`FLAG_EXPECT`] is set: nothing else may be started.
   */
  struct FileKey program;
  /**
   * Its interpreter; zeroes for none.
   */
  struct FileKey interpreter;
  /**
   * Numbers of the files whose rules let it map something, modulo 256: a bit is never taken back. What
   * several files gave together, or none that can be named, sets all of them.
   */
  uint64_t mapped[MAPPED_WORDS];
  /**
   * Its first process, by its number in the first PID namespace; 0 until its program runs.
   */
  uint32_t main;
  /**
   * 1 once that process has ended.
   */
  uint32_t ended;
  /**
   * How it ended, as `wait(2)` tells it: whoever was its parent then may be gone.
   */
  uint32_t status;
  /**
   * [`crate::control::Policy::round`] at its last event.
   */
  uint32_t round;
  /**
   * Its events in that round.
   */
  uint32_t burst;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
};

/**
 * Value of `lists`, by a number that is never used twice: the sets that an agent holds.
 *
 * A list is never changed: an agent is given another one, in one store, so that a check sees the
 * old rights or the new ones and never a mixture.
 */
struct RightsList {
  /**
   * Ids of sets, never reused; `count` of them.
   */
  uint32_t sets[LIST_SETS];
  /**
   * How many.
   */
  uint32_t count;
  /**
   * Bit *i*: the set in place *i* has entries in `net_caps`.
   */
  uint32_t net;
  /**
   * Bit *i*: the set in place *i* has entries in `unix_abstract_caps`.
   */
  uint32_t abstracts;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
};

/**
 * Value of `file_nodes`, by the file's number.
 *
 * Memory of the hash table `files` may serve another entry while a check still looks at it; here
 * nothing moves, and a number is given out again only when no check can have it any more. So a
 * check compares `file` with what it asked for.
 */
struct FileNode {
  /**
   * Whose number it is; zeroes for nobody's.
   */
  struct FileKey file;
  /**
   * Bit `id & 63` of every set with a right here that reaches what lies below. Most folders on a
   * way upward have none, and no set is asked.
   */
  uint64_t sets;
  /**
   * Raised when something moves out from below; voids verdicts that rest on this file.
   */
  uint64_t epoch;
};

/**
 * Key of `fs_caps`: what a set allows on a file and below it.
 */
struct GrantKey {
  /**
   * The set.
   */
  uint32_t set;
  /**
   * The file's number.
   */
  uint32_t file;
  /**
   * Grants that differ in rule or expiry lie in layers 0 to [`GRANT_LAYERS`] − 1.
   */
  uint32_t layer;
};

/**
 * Value of every capability map.
 */
struct Grant {
  /**
   * Bit set of `RIGHT_*`; in `net_caps` 1 plus the prefix length (8 bits) shifted by [`NET_PREFIX_SHIFT`],
   * in the other maps 1; [`RIGHT_COUNTED`] in all of them.
   */
  uint32_t rights;
  /**
   * Number of the rule within its set, from 1; 0 for what no rule names.
   */
  uint32_t rule;
  /**
   * `CLOCK_BOOTTIME` nanoseconds after which it is void; 0 is never.
   */
  uint64_t expires_ns;
};

/**
 * Value of `opened_files`, by a hash of the file's address: the last verdict on an open file.
 *
 * It holds for one list of rights, and until something moves out of the folder that gave the
 * right (`stamp`); it goes with the file. Five words cannot be read or written at once, so the
 * last is a check of the others: a mixture of two writers is no verdict.
 */
struct OpenedFile {
  /**
   * Address of the `struct file`; 0 for none.
   */
  uint64_t file;
  /**
   * [`crate::agent::KernelAgent::list`].
   */
  uint64_t list;
  /**
   * [`crate::control::Policy::epoch`] plus the epoch of the file that gave the right.
   */
  uint64_t stamp;
  /**
   * Number of the file that gave the right.
   */
  uint32_t by;
  /**
   * `RIGHT_*`.
   */
  uint32_t rights;
  /**
   * Over what stands before, and the inode's number.
   */
  uint64_t check;
};

/**
 * Key of `counted`: a rule of a set that is counted.
 */
struct CountedKey {
  /**
   * The set.
   */
  uint32_t set;
  /**
   * [`Grant::rule`].
   */
  uint32_t rule;
};

/**
 * Value of `counted`.
 */
struct Counted {
  /**
   * [`Grant::expires_ns`].
   */
  uint64_t expires_ns;
  /**
   * Index into `counters`.
   */
  uint32_t counter;
  /**
   * [`Grant::rights`] where it is about files; one use is for all of them.
   */
  uint32_t rights;
};

/**
 * Value of `counters`: how often a rule may still be used, whichever sets it is in.
 */
struct UseCounter {
  /**
   * Never given to another counter; 0 for nobody's.
   */
  uint64_t id;
  /**
   * Uses that are left; below zero for as long as a use that is not there is asked for.
   */
  int64_t left;
};

/**
 * By which use of a counted rule something was got.
 */
struct Taken {
  /**
   * [`UseCounter::id`]; 0 for none.
   */
  uint64_t id;
  /**
   * Index into `counters`.
   */
  uint32_t counter;
  /**
   * [`Grant::rule`].
   */
  uint32_t rule;
  /**
   * `RIGHT_*` that it was taken for.
   */
  uint32_t rights;
  /**
   * Number of the file that the rule stood on.
   */
  uint32_t by;
};

/**
 * Value of `taken`, by the address of an open file: it was got by these uses, and may be used on while the rules are
 * held.
 */
struct TakenFile {
  /**
   * The uses; a file that is read and written may be got by two.
   */
  struct Taken uses[2];
};

/**
 * Key of `net_caps`, a longest-prefix-match trie. IPv4 is IPv4-mapped IPv6 (RFC 4291 §2.5.5.2).
 *
 * `prefix_len` counts bits after itself: 64 fixed ones (set, operation, port) plus the address
 * prefix, so 64 + 96 + n for an IPv4 /n. Port 0 is any port; the kernel asks twice.
 */
struct NetKey {
  /**
   * Bits that count.
   */
  uint32_t prefix_len;
  /**
   * The set.
   */
  uint32_t set;
  /**
   * [`NET_CONNECT`] or [`NET_BIND`].
   */
  uint16_t op;
  /**
   * Host byte order; 0 is any.
   */
  uint16_t port;
  /**
   * Network byte order.
   */
  uint8_t addr[16];
};

/**
 * Key of `unix_abstract_caps`: an abstract socket name that a set allows to connect to.
 */
struct AbstractKey {
  /**
   * The set.
   */
  uint32_t set;
  /**
   * Bytes of `name` that count.
   */
  uint32_t len;
  /**
   * Name, zero padded, without the leading NUL.
   */
  uint8_t name[108];
};

/**
 * Key of `plain_caps`: capabilities that have no narrower scope than yes or no.
 */
struct PlainKey {
  /**
   * The set.
   */
  uint32_t set;
  /**
   * [`PLAIN_NET_RAW`] or [`PLAIN_SIGNAL`].
   */
  uint32_t what;
};

/**
 * Key of `tcp_peers`: who owns the client end of an established TCP connection on this machine.
 *
 * Filled when the client's socket becomes established, before the server can accept; removed
 * when it closes. Addresses as in [`NetKey`], ports in host byte order.
 */
struct TcpPeerKey {
  /**
   * The client's own address.
   */
  uint8_t client_addr[16];
  /**
   * The server's address.
   */
  uint8_t server_addr[16];
  /**
   * The client's own port.
   */
  uint16_t client_port;
  /**
   * The server's port.
   */
  uint16_t server_port;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
};

/**
 * Key of `kept`: something that an agent has by the rules on a file, that outlives them and that nobody can look at.
 */
struct KeptKey {
  /**
   * [`AgentId`].
   */
  uint64_t aid;
  /**
   * The file's number in `file_nodes`, or `KEPT_BY_*`.
   */
  uint32_t file;
  /**
   * `KEPT_*`.
   */
  uint32_t kind;
};

/**
 * One event in the ring; fixed size, so that a reader needs no parser.
 */
struct Event {
  /**
   * `CLOCK_BOOTTIME` nanoseconds.
   */
  uint64_t time_ns;
  /**
   * Who; zero for [`EVENT_SEAL`].
   */
  uint64_t aid;
  /**
   * Per-CPU sequence number: a gap in it is a lost event.
   */
  uint64_t sequence;
  /**
   * `EVENT_*`.
   */
  uint32_t kind;
  /**
   * CPU that `sequence` counts on.
   */
  uint32_t cpu;
  /**
   * Thread-group id in the initial PID namespace.
   */
  uint32_t pid;
  /**
   * [`Hook`].
   */
  uint32_t hook;
  /**
   * Negative errno for a denial, 0 for a use.
   */
  int32_t verdict;
  /**
   * `RIGHT_*` wanted, or the signal number, address family, syscall command…
   */
  uint32_t wanted;
  /**
   * Rule that allowed it ([`crate::caps::Grant::rule`]), within `set`; 0 on a denial.
   */
  uint32_t rule;
  /**
   * Set that the rule is in; 0 on a denial, and for what no rule names.
   */
  uint32_t set;
  /**
   * Bytes of `object` that count.
   */
  uint32_t object_len;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
  /**
   * Kernel device number of the object, if it is a file.
   */
  uint64_t dev;
  /**
   * Inode number of the object, if it is a file; the target's [`crate::AgentId`] for signals and ptrace.
   */
  uint64_t ino;
  /**
   * Command name of the task.
   */
  uint8_t comm[16];
  /**
   * Path, or a printable address (`AF` byte, port, address as in [`SockObject`]).
   */
  uint8_t object[OBJECT_MAX];
};

/**
 * How a socket address lies in [`Event::object`].
 */
struct SockObject {
  /**
   * `AF_*`.
   */
  uint16_t family;
  /**
   * Host byte order.
   */
  uint16_t port;
  /**
   * `SOCK_*` type.
   */
  uint32_t kind;
  /**
   * As in [`crate::caps::NetKey`].
   */
  uint8_t addr[16];
};

/**
 * Switches that the programs read on every decision; one instance, mapped into the daemon.
 */
struct Policy {
  /**
   * 1 once the seal is closed.
   */
  uint32_t sealed;
  /**
   * Thread-group id of the daemon: a quick look before its task storage is asked.
   */
  uint32_t daemon_tgid;
  /**
   * Raised by changes of mounts outside of agents: voids every remembered verdict.
   */
  uint64_t epoch;
  /**
   * Level of the slice's cgroup below the root of the hierarchy.
   */
  uint32_t slice_level;
  /**
   * Level of an agent's cgroup that is no other agent's child.
   */
  uint32_t agent_level;
  /**
   * Id of the slice's cgroup.
   */
  uint64_t slice_id;
  /**
   * Address of the slice's cgroup, learned by [`CONTROL_LEARN_SLICE`].
   */
  uint64_t slice_address;
  /**
   * Bytes in the ring above which agents are stopped.
   */
  uint64_t high_water;
  /**
   * Bytes in the ring above which seal events are only counted as lost.
   */
  uint64_t seal_water;
  /**
   * Raised before verdicts are voided because something has moved.
   */
  uint64_t moves;
  /**
   * Renames that have begun and are not known to have ended: while there are any, nothing that was remembered counts.
   */
  uint64_t moving;
  /**
   * How many times an agent was stopped because the ring was nearly full.
   */
  uint64_t throttles;
  /**
   * Address of the daemon's mount namespace, learned when it looks at a file.
   */
  uint64_t mount_namespace;
  /**
   * Ids of the daemon's cgroup and of those above it, without the root; 0 where there are fewer.
   */
  uint64_t guarded[GUARDED_CGROUPS];
  /**
   * The program that may become the daemon when there is none: it was measured by the last one.
   */
  struct FileKey successor;
  /**
   * `CLOCK_BOOTTIME` nanoseconds at which the daemon ended; 0 while there is one.
   */
  uint64_t gone_ns;
  /**
   * Nanoseconds that agents may run without a daemon.
   */
  uint64_t grace_ns;
  /**
   * 1 from the end of that time until a daemon has taken the agents over: they are stopped, again and again,
   * and nobody lets them go on.
   */
  uint32_t halted;
  /**
   * How many daemons were let in after the first.
   */
  uint32_t admissions;
  /**
   * The daemon's own note for the next: the number that the next list of rights gets.
   */
  uint64_t next_list;
  /**
   * Bytes in the ring above which those are stopped that made more than `share` events in this round.
   */
  uint64_t share_water;
  /**
   * Events of one agent.
   */
  uint32_t share;
  /**
   * Raised by the reader whenever the ring is nearly empty.
   */
  uint32_t round;
  /**
   * As `next_list`, of the next set.
   */
  uint64_t next_set;
  /**
   * As `next_list`: lost events that are on record.
   */
  uint64_t lost_told;
  /**
   * Which layout of all this the programs were made for: a daemon of another takes nothing over.
   */
  uint64_t layout;
  /**
   * A file that nobody but the daemon opens: the log's secret key.
   */
  struct FileKey secret;
  /**
   * Folders in which only the daemon changes anything.
   */
  struct FileKey own[OWN_FOLDERS];
  /**
   * Folders above them, which stay where they are.
   */
  struct FileKey own_above[OWN_ABOVE];
  /**
   * Device numbers (`s_dev`) of the file systems of both; what lies elsewhere needs no look.
   */
  uint32_t own_devices[OWN_DEVICES];
  /**
   * Block devices (`major << 20 | minor`) beneath, to which nobody writes.
   */
  uint32_t own_disks[OWN_DISKS];
  /**
   * Character devices (as `own_disks`) that hand those disks commands as they are; nobody opens them.
   */
  uint32_t own_passthrough[OWN_PASSTHROUGH];
  /**
   * 1 once a rule was counted: until then nobody looks for one.
   */
  uint32_t counted;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
};

/**
 * A command to the `control` program. It changes one field in place: counters which the kernel
 * raises at the same time are not overwritten, and a check that is looking at the value sees it
 * before or after, never memory that serves another entry meanwhile.
 */
struct Control {
  /**
   * `CONTROL_*`.
   */
  uint32_t op;
  /**
   * Reserved, zero.
   */
  uint32_t reserved;
  /**
   * Argument.
   */
  uint64_t value;
  /**
   * Id of the agent's cgroup.
   */
  uint64_t cgroup;
  /**
   * For [`CONTROL_SET_FILE`] and [`CONTROL_EXPECT`].
   */
  struct FileKey file;
  /**
   * For [`CONTROL_EXPECT`]: a script's interpreter.
   */
  struct FileKey interpreter;
  /**
   * For [`CONTROL_SET_FILE`]: [`crate::caps::FileNode::sets`].
   */
  uint64_t sets;
  /**
   * For [`CONTROL_SET_RIGHTS`].
   */
  struct GrantKey grant;
  /**
   * For [`CONTROL_ADD_USES`].
   */
  uint32_t number;
};

/**
 * What the kernel calls a file: the answer to a `stat` by the daemon, keyed by its thread.
 *
 * `stat` of user space is no substitute: overlayfs and btrfs report other numbers there, and the
 * programs know files of those by their inodes in memory.
 */
struct Resolved {
  /**
   * The file itself.
   */
  struct FileKey file;
  /**
   * How many of `above` are filled.
   */
  uint32_t depth;
  /**
   * Bit set of `RESOLVED_*`.
   */
  uint32_t flags;
  /**
   * Every folder above it, mounts crossed, the nearest first.
   */
  struct FileKey above[ABOVE_MAX];
};

/**
 * Every state, in the order of the design's diagram.
 */
#define AgentState_ALL { AgentState_Spawning, AgentState_Attested, AgentState_Active, AgentState_InferenceBlocked, AgentState_CapDenied, AgentState_Quarantined, AgentState_TerminatedClean, AgentState_TerminatedRevoked, AgentState_TerminatedFailed, }

/**
 * Every hook, in order of its number.
 */
#define Hook_ALL { Hook_FileOpen, Hook_FilePermission, Hook_MmapFile, Hook_FileMprotect, Hook_FileReceive, Hook_FileTruncate, Hook_InodeGetattr, Hook_InodeSetattr, Hook_PathMknod, Hook_PathMkdir, Hook_PathUnlink, Hook_PathRmdir, Hook_PathRename, Hook_PathLink, Hook_PathSymlink, Hook_PathChmod, Hook_PathChown, Hook_PathTruncate, Hook_BprmCheck, Hook_SocketCreate, Hook_SocketConnect, Hook_SocketBind, Hook_SocketListen, Hook_SocketSendmsg, Hook_SocketRecvmsg, Hook_UnixFind, Hook_UnixStreamConnect, Hook_UnixMaySend, Hook_TaskKill, Hook_PtraceAccess, Hook_PtraceTraceme, Hook_UringSqpoll, Hook_UringOverrideCreds, Hook_UringCmd, Hook_Bpf, Hook_SbMount, Hook_SbUmount, Hook_MoveMount, Hook_PerfEventOpen, Hook_KernelModule, Hook_KeyPermission, Hook_UsernsCreate, Hook_CgroupWrite, Hook_Quarantine, Hook_FileIoctl, Hook_InodeXattr, Hook_Lockdown, Hook_TaskPrctl, Hook_Sysctl, Hook_Capable, Hook_TaskControl, Hook_SocketAccept, Hook_PathNotify, Hook_InodeReadlink, Hook_CgroupMove, Hook_Pivotroot, Hook_Admission, Hook_FileSigio, Hook_FileLock, Hook_FileFcntl, Hook_SbStatfs, Hook_SocketSetsockopt, Hook_Syslog, Hook_SbRemount, Hook_TunDevice, Hook_SctpBindConnect, Hook_KernelLoad, Hook_ProcWrite, Hook_FileIoctlChange, Hook_CodeMemory, Hook_ProcRead, Hook_Egress, }
