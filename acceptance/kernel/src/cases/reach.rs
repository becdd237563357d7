//! Ways that come near a file, a socket or a process and are none of opening, sending or signalling.

use crate::world::{Actor, World, net, on, rule};
use abi::Capability::{FsRead, FsWrite, NetConnect, NetRaw};
use abi::event::{EVENT_DENIAL, Hook};
use anyhow::Result;
use kernel::KernelScope;
use libc::{
    EACCES, EPERM, F_RDLCK, F_UNLCK, F_WRLCK, IPPROTO_IP, IPPROTO_IPV6, LOCK_EX, LOCK_SH,
    SOCK_DGRAM,
};

pub fn run(w: &World) -> Result<()> {
    let a = w.agent(&[
        on(FsRead, "/data/ro"),
        on(FsRead, "/data/ok"),
        on(FsWrite, "/data/ok"),
        on(FsRead, "/proc/self"),
        on(FsWrite, "/proc/self"),
        net(NetConnect, "::1", 128, 1003),
    ])?;
    let b = w.outsider()?;
    looks(w, &a, &b);
    holds(w, &a, &b);
    controls(w, &a, &b);
    routes(w, &a, &b);
    modules(w)?;
    w.denied(&a, "syslog", EPERM, Hook::Capable);
    w.allowed(&b, "syslog");
    w.denied(&a, "put /proc/self/attr/current x", EPERM, Hook::FileOpen);
    w.end(&a)
}

/// What tells of a file without opening it.
fn looks(w: &World, a: &Actor, b: &Actor) {
    let ways = [("statfs", Hook::SbStatfs), ("getacl", Hook::InodeXattr)];
    for (way, hook) in ways {
        w.denied(a, &format!("{way} /data/no/f"), EACCES, hook);
        // Of an access list there may be none; that it is looked for is the harm.
        for (actor, path) in
            [(a, "/data/ro/f"), (a, "/data/ok/a/b/c/d/e/f/deep"), (b, "/data/no/f")]
        {
            let result = actor.tell(&format!("{way} {path}"));
            let told = result >= 0 || result == -i64::from(libc::ENODATA);
            w.check(&format!("{way} {path} tells"), told, || crate::world::show(result));
        }
    }
}

/// Locks and leases stop others, so who may only read has none, of no kind.
fn holds(w: &World, a: &Actor, b: &Actor) {
    let reader = w.allowed(a, "open /data/ro/f 0");
    let writer = w.allowed(a, "open /data/ok/f 2");
    let other = w.allowed(b, "open /data/ro/f 0");
    let ways = [
        (format!("flock %fd {LOCK_EX}"), Hook::FileLock),
        (format!("flock %fd {LOCK_SH}"), Hook::FileLock),
        (format!("lock %fd {F_RDLCK}"), Hook::FileLock),
        (format!("lease %fd {F_RDLCK}"), Hook::FileFcntl),
        ("hint %fd".to_owned(), Hook::FileFcntl),
    ];
    for (way, hook) in &ways {
        let with = |fd: i64| way.replace("%fd", &fd.to_string());
        w.denied(a, &with(reader), EACCES, *hook);
        w.allowed(b, &with(other));
        let release = if way.starts_with("lease") { "lease" } else { "lock" };
        if way.starts_with('l') {
            w.allowed(b, &format!("{release} {other} {F_UNLCK}"));
        }
        w.allowed(b, &format!("flock {other} {}", libc::LOCK_UN));
    }
    w.allowed(a, &format!("flock {writer} {LOCK_EX}"));
    w.allowed(a, &format!("flock {writer} {}", libc::LOCK_UN));
    w.allowed(a, &format!("lock {writer} {F_WRLCK}"));
    w.allowed(a, &format!("lock {writer} {F_UNLCK}"));
    // Giving up what nobody has harms nobody.
    w.allowed(a, &format!("lock {reader} {F_UNLCK}"));
}

/// What an ioctl may do to a file does not depend on how that was opened.
fn controls(w: &World, a: &Actor, b: &Actor) {
    const ENABLE_VERITY: i64 = 0x4080_6685;
    const SET_VERSION: i64 = 0x4008_7602;
    const GET_FLAGS: i64 = 0x8008_6601;
    const BLOCK_SIZE: i64 = 2;
    let reader = w.allowed(a, "open /data/ro/f 0");
    let folder = w.allowed(a, "open /data/ro 65536");
    let other = w.allowed(b, "open /data/ro/f 0");
    for command in [ENABLE_VERITY, SET_VERSION] {
        w.denied(a, &format!("ioctl {reader} {command}"), EACCES, Hook::FileIoctlChange);
        w.denied(a, &format!("ioctl {folder} {command}"), EACCES, Hook::FileIoctlChange);
        // This file system has neither: it was asked, that is the harm.
        let asked = b.tell(&format!("ioctl {other} {command}"));
        w.same("the file system is asked", &asked, &-i64::from(libc::ENOTTY));
    }
    w.allowed(a, &format!("ioctl {reader} {BLOCK_SIZE}"));
    w.allowed(a, &format!("ioctl {reader} {GET_FLAGS}"));
    let writer = w.allowed(a, "open /data/ok/f 2");
    let asked = a.tell(&format!("ioctl {writer} {SET_VERSION}"));
    w.same("who may write asks", &asked, &-i64::from(libc::ENOTTY));
    // A worker of io_uring that has the agent's credentials of before is no file system at work.
    w.denied(a, "stale-worker /data/ok/f /data/no/f", EACCES, Hook::InodeXattr);
    w.allowed(b, "stale-worker /data/ok/f /data/no/f");
    w.allowed(a, "stale-worker /data/ok/f /data/ok/g");
}

/// The address that was decided is the one that a packet goes to.
fn routes(w: &World, a: &Actor, b: &Actor) {
    const IPV6_RTHDR: i32 = 57;
    const IPV6_2292RTHDR: i32 = 5;
    const IPV6_2292PKTOPTIONS: i32 = 6;
    const IP_OPTIONS: i32 = 4;
    let socket = w.allowed(a, &format!("socket 10 {SOCK_DGRAM} 0"));
    let other = w.allowed(b, &format!("socket 10 {SOCK_DGRAM} 0"));
    let options =
        [(IPPROTO_IPV6, IPV6_RTHDR), (IPPROTO_IPV6, IPV6_2292PKTOPTIONS), (IPPROTO_IP, IP_OPTIONS)];
    for (level, name) in options {
        w.denied(a, &format!("option {socket} {level} {name}"), EPERM, Hook::SocketSetsockopt);
        w.allowed(b, &format!("option {other} {level} {name}"));
    }
    for kind in [IPV6_RTHDR, IPV6_2292RTHDR] {
        let line = |socket| format!("control {socket} ::1 1003 {IPPROTO_IPV6} {kind}");
        w.denied(a, &line(socket), EPERM, Hook::SocketSendmsg);
        let result = b.tell(&line(other));
        w.check("others' go out, or fail for what is in them", result != -i64::from(EPERM), || {
            crate::world::show(result)
        });
    }
    // A control message that asks for no other way: the hop limit.
    let result = a.tell(&format!("control {socket} ::1 1003 {IPPROTO_IPV6} 52"));
    w.same("a wrong hop limit is for the kernel to refuse", &result, &-i64::from(libc::EINVAL));
}

/// The kernel fetches no module for an agent, and says who asked.
fn modules(w: &World) -> Result<()> {
    const SCTP: i32 = 132;
    let a = w.agent(&[rule(NetRaw, KernelScope::Everything)])?;
    let asked = |hook: Hook| {
        w.count(|e| {
            e.kind == EVENT_DENIAL && Some(e.aid) == a.aid.map(|aid| aid.0) && e.hook == hook as u32
        })
    };
    let result = a.tell(&format!("socket 2 5 {SCTP}"));
    w.drain();
    w.same("no protocol comes by a module", &result, &-i64::from(libc::ESOCKTNOSUPPORT));
    w.check("and that it was wanted is recorded", asked(Hook::KernelModule) > 0, String::new);
    w.end(&a)
}
