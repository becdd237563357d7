//! What the kernel programs put into the audit ring.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of an object's name in an event; a longer path is cut at the front and begins with `...`.
pub const OBJECT_MAX: usize = 256;

/// The kernel said no. Exactly one per refused operation.
pub const EVENT_DENIAL: u32 = 1;
/// A capability was used: a file opened, a program started, a connection made.
pub const EVENT_USE: u32 = 2;
/// A task outside every agent, root included, tried something that the seal forbids.
pub const EVENT_SEAL: u32 = 3;
/// An agent's process started a program.
pub const EVENT_EXEC: u32 = 4;
/// A syscall (a later issue fills this kind; its number is kept).
pub const EVENT_SYSCALL: u32 = 6;

/// Which operation a program decided; `u32` in [`Event::hook`]. The discriminants are kept for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
#[allow(missing_docs)] // the names are those of the LSM hooks
pub enum Hook {
    FileOpen = 1,
    FilePermission = 2,
    MmapFile = 3,
    FileMprotect = 4,
    FileReceive = 5,
    FileTruncate = 6,
    InodeGetattr = 7,
    InodeSetattr = 8,
    PathMknod = 9,
    PathMkdir = 10,
    PathUnlink = 11,
    PathRmdir = 12,
    PathRename = 13,
    PathLink = 14,
    PathSymlink = 15,
    PathChmod = 16,
    PathChown = 17,
    PathTruncate = 18,
    BprmCheck = 19,
    SocketCreate = 20,
    SocketConnect = 21,
    SocketBind = 22,
    SocketListen = 23,
    SocketSendmsg = 24,
    SocketRecvmsg = 25,
    UnixFind = 26,
    UnixStreamConnect = 27,
    UnixMaySend = 28,
    TaskKill = 29,
    PtraceAccess = 30,
    PtraceTraceme = 31,
    UringSqpoll = 32,
    UringOverrideCreds = 33,
    UringCmd = 34,
    Bpf = 35,
    SbMount = 36,
    SbUmount = 37,
    MoveMount = 38,
    PerfEventOpen = 39,
    KernelModule = 40,
    KeyPermission = 41,
    UsernsCreate = 42,
    CgroupWrite = 43,
    Quarantine = 44,
    FileIoctl = 45,
    InodeXattr = 46,
    Lockdown = 47,
    TaskPrctl = 48,
    Sysctl = 49,
    Capable = 50,
    TaskControl = 51,
    SocketAccept = 52,
    PathNotify = 53,
    InodeReadlink = 54,
    CgroupMove = 55,
    Pivotroot = 56,
    Admission = 57,
    FileSigio = 58,
    FileLock = 59,
    FileFcntl = 60,
    SbStatfs = 61,
    SocketSetsockopt = 62,
    Syslog = 63,
    SbRemount = 64,
    TunDevice = 65,
    SctpBindConnect = 66,
    KernelLoad = 67,
    ProcWrite = 68,
    FileIoctlChange = 69,
    CodeMemory = 70,
    ProcRead = 71,
    Egress = 72,
}

impl Hook {
    /// Every hook, in order of its number.
    pub const ALL: [Hook; 72] = [
        Self::FileOpen,
        Self::FilePermission,
        Self::MmapFile,
        Self::FileMprotect,
        Self::FileReceive,
        Self::FileTruncate,
        Self::InodeGetattr,
        Self::InodeSetattr,
        Self::PathMknod,
        Self::PathMkdir,
        Self::PathUnlink,
        Self::PathRmdir,
        Self::PathRename,
        Self::PathLink,
        Self::PathSymlink,
        Self::PathChmod,
        Self::PathChown,
        Self::PathTruncate,
        Self::BprmCheck,
        Self::SocketCreate,
        Self::SocketConnect,
        Self::SocketBind,
        Self::SocketListen,
        Self::SocketSendmsg,
        Self::SocketRecvmsg,
        Self::UnixFind,
        Self::UnixStreamConnect,
        Self::UnixMaySend,
        Self::TaskKill,
        Self::PtraceAccess,
        Self::PtraceTraceme,
        Self::UringSqpoll,
        Self::UringOverrideCreds,
        Self::UringCmd,
        Self::Bpf,
        Self::SbMount,
        Self::SbUmount,
        Self::MoveMount,
        Self::PerfEventOpen,
        Self::KernelModule,
        Self::KeyPermission,
        Self::UsernsCreate,
        Self::CgroupWrite,
        Self::Quarantine,
        Self::FileIoctl,
        Self::InodeXattr,
        Self::Lockdown,
        Self::TaskPrctl,
        Self::Sysctl,
        Self::Capable,
        Self::TaskControl,
        Self::SocketAccept,
        Self::PathNotify,
        Self::InodeReadlink,
        Self::CgroupMove,
        Self::Pivotroot,
        Self::Admission,
        Self::FileSigio,
        Self::FileLock,
        Self::FileFcntl,
        Self::SbStatfs,
        Self::SocketSetsockopt,
        Self::Syslog,
        Self::SbRemount,
        Self::TunDevice,
        Self::SctpBindConnect,
        Self::KernelLoad,
        Self::ProcWrite,
        Self::FileIoctlChange,
        Self::CodeMemory,
        Self::ProcRead,
        Self::Egress,
    ];
}

impl TryFrom<u32> for Hook {
    type Error = u32;
    fn try_from(value: u32) -> Result<Self, u32> {
        Self::ALL.into_iter().find(|h| *h as u32 == value).ok_or(value)
    }
}

/// One event in the ring; fixed size, so that a reader needs no parser.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub time_ns: u64,
    /// Who; zero for [`EVENT_SEAL`].
    pub aid: u64,
    /// Per-CPU sequence number: a gap in it is a lost event.
    pub sequence: u64,
    /// `EVENT_*`.
    pub kind: u32,
    /// CPU that `sequence` counts on.
    pub cpu: u32,
    /// Thread-group id in the initial PID namespace.
    pub pid: u32,
    /// [`Hook`].
    pub hook: u32,
    /// Negative errno for a denial, 0 for a use.
    pub verdict: i32,
    /// `RIGHT_*` wanted, or the signal number, address family, syscall command…
    pub wanted: u32,
    /// Rule that allowed it ([`crate::caps::Grant::rule`]), within `set`; 0 on a denial.
    pub rule: u32,
    /// Set that the rule is in; 0 on a denial, and for what no rule names.
    pub set: u32,
    /// Bytes of `object` that count.
    pub object_len: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// Kernel device number of the object, if it is a file.
    pub dev: u64,
    /// Inode number of the object, if it is a file; the target's [`crate::AgentId`] for signals and ptrace.
    pub ino: u64,
    /// Command name of the task.
    pub comm: [u8; 16],
    /// Path, or a printable address (`AF` byte, port, address as in [`SockObject`]).
    pub object: [u8; OBJECT_MAX],
}

/// How a socket address lies in [`Event::object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockObject {
    /// `AF_*`.
    pub family: u16,
    /// Host byte order.
    pub port: u16,
    /// `SOCK_*` type.
    pub kind: u32,
    /// As in [`crate::caps::NetKey`].
    pub addr: [u8; 16],
}
