//! Kernel events in the audit log's words.

use crate::clock;
use abi::caps::{RIGHT_CREATE, RIGHT_DELETE, RIGHT_EXEC, RIGHT_READ, RIGHT_UNIX, RIGHT_WRITE};
use abi::event::{EVENT_DENIAL, EVENT_EXEC, EVENT_SEAL, EVENT_USE, Event, Hook, SockObject};
use abi::{Capability, Kind, Verdict};
use record::body::Attempt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use zerocopy::FromBytes;

const EPERM: i32 = 1;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// What an event says, before it is known whose name and tenant go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Kind of the record.
    pub kind: Kind,
    /// Capability that was used or would have been needed.
    pub capability: Capability,
    /// Allowed or refused.
    pub verdict: Verdict,
    /// Path, address, target.
    pub object: String,
    /// Nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// Name of the hook.
    pub operation: String,
    /// Command name of the task.
    pub program: String,
}

/// Reads an event; none for kinds that make no record of their own.
pub fn said(event: &Event) -> Option<Said> {
    let (kind, verdict) = match event.kind {
        EVENT_DENIAL => (Kind::Denial, Verdict::Deny),
        EVENT_USE => (Kind::Use, Verdict::Allow),
        EVENT_EXEC => (Kind::Exec, Verdict::Allow),
        EVENT_SEAL => (Kind::Seal, Verdict::Deny),
        _ => return None,
    };
    let hook = hook(event.hook);
    let capability = match (kind, hook) {
        (Kind::Seal, _) => Capability::Forbidden,
        (Kind::Exec, _) => Capability::FsExec,
        // What nothing allows is refused with EPERM, as POSIX has it; so is a signal, which a
        // right allows.
        (Kind::Denial, Some(hook)) if event.verdict == -EPERM && hook != Hook::TaskKill => {
            Capability::Forbidden
        }
        (_, Some(hook)) => capability(hook, event.wanted),
        (_, None) => Capability::Forbidden,
    };
    Some(Said {
        kind,
        capability,
        verdict,
        object: object(event, hook),
        time_ns: clock::wall_of(event.time_ns),
        operation: operation(event.hook),
        program: text(&event.comm),
    })
}

/// The body of an event's record; `rule` is the number within the agent.
pub fn body(event: &Event, said: &Said, rule: Option<u32>) -> Attempt {
    let errno = match event.verdict {
        0 => String::new(),
        code => errno_name(code).to_string(),
    };
    Attempt {
        op: said.operation.clone(),
        comm: said.program.clone(),
        // A packet is sent on by nobody.
        pid: (event.pid != 0).then(|| event.pid.into()),
        errno,
        rule: rule.map(u64::from),
        ..Attempt::default()
    }
}

fn hook(code: u32) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| *hook as u32 == code)
}

/// `file_open`, as the kernel spells it.
fn operation(code: u32) -> String {
    let Some(hook) = hook(code) else { return format!("hook_{code}") };
    let mut out = String::new();
    for c in format!("{hook:?}").chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The capability that would have allowed the operation.
fn capability(hook: Hook, wanted: u32) -> Capability {
    use Hook::*;
    match hook {
        SocketBind | SocketSendmsg | SocketRecvmsg if wanted == u32::from(AF_UNIX) => {
            Capability::IpcUnix
        }
        SocketConnect | SocketSendmsg | SocketRecvmsg | Egress => Capability::NetConnect,
        SocketBind | SocketListen | SocketAccept => Capability::NetBind,
        SocketCreate => Capability::NetRaw,
        UnixFind | UnixStreamConnect | UnixMaySend => Capability::IpcUnix,
        TaskKill => Capability::AgentSignal,
        BprmCheck => Capability::FsExec,
        FileOpen | FilePermission | MmapFile | FileMprotect | FileReceive | FileTruncate
        | InodeSetattr | InodeXattr | PathMknod | PathMkdir | PathUnlink | PathRmdir
        | PathRename | PathLink | PathSymlink | PathChmod | PathChown | PathTruncate | FileLock
        | FileFcntl => file_capability(wanted),
        InodeGetattr | InodeReadlink | PathNotify | SbStatfs | FileIoctl => Capability::FsRead,
        FileIoctlChange => Capability::FsWrite,
        SctpBindConnect => Capability::NetRaw,
        _ => Capability::Forbidden,
    }
}

/// The strongest of the rights that were wanted names the capability; where any would do, reading
/// is the least.
fn file_capability(wanted: u32) -> Capability {
    let any = RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC;
    if wanted & any == any {
        return Capability::FsRead;
    }
    let order = [
        (RIGHT_DELETE, Capability::FsDelete),
        (RIGHT_WRITE, Capability::FsWrite),
        (RIGHT_CREATE, Capability::FsCreate),
        (RIGHT_EXEC, Capability::FsExec),
        (RIGHT_UNIX, Capability::IpcUnix),
        (RIGHT_READ, Capability::FsRead),
    ];
    let found = order.into_iter().find(|(bit, _)| wanted & bit != 0);
    found.map_or(Capability::FsRead, |(_, capability)| capability)
}

fn object(event: &Event, hook: Option<Hook>) -> String {
    let length = (event.object_len as usize).min(event.object.len());
    let bytes = &event.object[..length];
    match hook {
        // A UNIX socket's path or name.
        Some(Hook::SocketBind | Hook::SocketSendmsg | Hook::SocketRecvmsg)
            if event.wanted == u32::from(AF_UNIX) =>
        {
            text(bytes)
        }
        Some(Hook::SocketCreate) if bytes.is_empty() => format!("family {}", event.wanted),
        Some(
            Hook::SocketConnect
            | Hook::SocketBind
            | Hook::SocketListen
            | Hook::SocketSendmsg
            | Hook::SocketRecvmsg
            | Hook::SocketAccept
            | Hook::SocketCreate
            | Hook::Egress,
        ) => address(bytes),
        _ => text(bytes),
    }
}

/// `192.0.2.1:443`, `[::1]:80`; a family that has no address by its number.
fn address(bytes: &[u8]) -> String {
    let Ok((socket, _)) = SockObject::read_from_prefix(bytes) else { return text(bytes) };
    match socket.family {
        AF_INET | AF_INET6 => {
            let ip = IpAddr::V6(Ipv6Addr::from(socket.addr)).to_canonical();
            SocketAddr::new(ip, socket.port).to_string()
        }
        AF_UNIX => "unix".to_owned(),
        family => format!("family {family} type {}", socket.kind),
    }
}

/// Bytes up to the first NUL, as text.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `EACCES`; numbers that have no name here stay numbers.
pub fn errno_name(verdict: i32) -> String {
    let names = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (11, "EAGAIN"),
        (13, "EACCES"),
        (16, "EBUSY"),
        (18, "EXDEV"),
        (22, "EINVAL"),
        (95, "EOPNOTSUPP"),
        (97, "EAFNOSUPPORT"),
        (111, "ECONNREFUSED"),
    ];
    let number = verdict.saturating_abs();
    let named = names.iter().find(|(n, _)| *n == number);
    named.map_or_else(|| format!("errno {number}"), |(_, name)| (*name).to_owned())
}

/// The other agent of a signal or a trace; nobody where the target is outside every agent.
pub fn target(event: &Event) -> Option<abi::AgentId> {
    let hook = hook(event.hook)?;
    let of_task = matches!(
        hook,
        Hook::TaskKill
            | Hook::FileSigio
            | Hook::PtraceAccess
            | Hook::PtraceTraceme
            | Hook::TaskControl
    );
    of_task.then_some(abi::AgentId(event.ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn event(hook: Hook, verdict: i32, wanted: u32, object: &[u8]) -> Event {
        let mut event = Event::new_zeroed();
        event.kind = EVENT_DENIAL;
        event.hook = hook as u32;
        event.verdict = verdict;
        event.wanted = wanted;
        event.object[..object.len()].copy_from_slice(object);
        event.object_len = u32::try_from(object.len()).unwrap();
        event
    }

    #[test]
    fn the_capability_is_the_one_that_would_have_helped() {
        let capability =
            |hook, verdict, wanted| said(&event(hook, verdict, wanted, b"/x")).unwrap().capability;
        assert_eq!(capability(Hook::FileOpen, -13, RIGHT_READ), Capability::FsRead);
        assert_eq!(capability(Hook::FileOpen, -13, RIGHT_READ | RIGHT_WRITE), Capability::FsWrite);
        assert_eq!(capability(Hook::PathUnlink, -13, RIGHT_DELETE), Capability::FsDelete);
        assert_eq!(capability(Hook::BprmCheck, -13, RIGHT_EXEC), Capability::FsExec);
        assert_eq!(capability(Hook::FileIoctl, -13, 0x5401), Capability::FsRead);
        assert_eq!(capability(Hook::FileIoctlChange, -13, 0x4080_6685), Capability::FsWrite);
        assert_eq!(capability(Hook::FileLock, -13, RIGHT_WRITE), Capability::FsWrite);
        assert_eq!(capability(Hook::SocketSetsockopt, -1, 57), Capability::Forbidden);
        assert_eq!(capability(Hook::PathMknod, -1, RIGHT_CREATE), Capability::Forbidden);
        assert_eq!(capability(Hook::TaskKill, -1, 9), Capability::AgentSignal);
        assert_eq!(capability(Hook::Bpf, -1, 5), Capability::Forbidden);
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let mut socket = SockObject::new_zeroed();
        socket.family = AF_INET;
        socket.port = 443;
        socket.addr[10..].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
        let said = said(&event(Hook::SocketConnect, -13, 2, socket.as_bytes())).unwrap();
        assert_eq!(
            (said.object.as_str(), said.capability),
            ("192.0.2.1:443", Capability::NetConnect)
        );
        assert_eq!(said.operation, "socket_connect");
    }
}
