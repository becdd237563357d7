//! Rules that may be used so often and no more: what is a use, what is none, and that none is ever had too many.

use super::revoke::boottime;
use crate::world::{Actor, Given, World, await_that, counted, net, on, rule, show};
use abi::Capability::{
    Device, FsCreate, FsDelete, FsExec, FsRead, FsWrite, IpcUnix, NetBind, NetConnect,
};
use abi::event::{EVENT_USE, Event, Hook};
use anyhow::Result;
use kernel::{KernelScope, Remains};
use libc::{EACCES, O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, SOCK_DGRAM};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;

pub fn run(w: &World) -> Result<()> {
    opens(w)?;
    other_rights(w)?;
    regranted(w)?;
    made(w)?;
    changed(w)?;
    moved(w)?;
    programs(w)?;
    connections(w)?;
    datagrams(w)?;
    listeners(w)?;
    unix(w)?;
    abstracts(w)?;
    handed_over(w)?;
    shared_out(w)
}

/// No two scenarios share a counter.
const FIRST: u64 = 1 << 40;

fn left(w: &World, key: u64, want: u64, when: &str) {
    let left = w.kernel.uses_left(key).ok().flatten();
    w.same(&format!("uses left {when}"), &left, &Some(want));
}

fn gone(w: &World, key: u64) {
    let gone = await_that(|| w.kernel.uses_left(key).is_ok_and(|left| left.is_none()));
    w.check("a counter goes with its rule", gone, String::new);
}

/// Recorded uses of a path.
fn uses(w: &World, a: &Actor, path: &str) -> usize {
    w.drain();
    // Of an inode without a path the names are told below its file system.
    let of_it = |e: &Event| {
        let object = e.object.get(..e.object_len as usize);
        object.is_some_and(|object| object.ends_with(path.as_bytes()))
    };
    w.count(|e| e.kind == EVENT_USE && Some(e.aid) == a.aid.map(|aid| aid.0) && of_it(e))
}

/// An open is a use; looking is none, and what is open may be used on.
fn opens(w: &World) -> Result<()> {
    let key = FIRST + 1;
    let a = w.agent(&[counted(on(FsRead, "/data/ok"), key, 2)])?;
    w.allowed(&a, "stat /data/ok/f");
    let attribute = a.tell("getxattr /data/ok/f");
    w.check("it may look at attributes", attribute != -i64::from(EACCES), || show(attribute));
    w.denied(&a, &format!("open /data/ok/f {O_RDWR}"), EACCES, Hook::FileOpen);
    left(w, key, 2, "after looking, and after a refusal");
    let fd = w.allowed(&a, "open /data/ok/f 0");
    left(w, key, 1, "after an open");
    let copy = w.allowed(&a, &format!("dup {fd}"));
    let mapped = w.allowed(&a, &format!("mmap {fd} 1 1"));
    w.allowed(&a, &format!("mprotect {mapped} 1"));
    let before = uses(w, &a, "/data/ok/f");
    let again = w.allowed(&a, &format!("open /proc/self/fd/{fd} 0"));
    w.same("each use is on record, once", &(uses(w, &a, "/data/ok/f") - before), &1);
    left(w, key, 0, "after it was opened again by its descriptor");
    w.denied(&a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    w.denied(&a, &format!("open /proc/self/fd/{fd} 0"), EACCES, Hook::FileOpen);
    w.denied(&a, "list /data/ok", EACCES, Hook::FileOpen);
    for fd in [fd, copy, again] {
        w.allowed(&a, &format!("pread {fd}"));
        w.allowed(&a, &format!("fstat {fd}"));
    }
    w.allowed(&a, "stat /data/ok/f");
    w.same("more uses go to its counter", &w.kernel.add_uses(key, 1)?, &true);
    w.allowed(&a, "open /data/ok/f 0");
    w.denied(&a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    w.same("what was mapped by a use is known", &w.apply(&a, &[])?, &Remains::Mapped);
    gone(w, key);
    for fd in [fd, copy] {
        w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    }
    w.denied(&a, "stat /data/ok/f", EACCES, Hook::InodeGetattr);
    w.end(&a)
}

/// What another rule allows takes no use, in whichever order they stand.
fn other_rights(w: &World) -> Result<()> {
    let key = FIRST + 2;
    let read = counted(on(FsRead, "/data/ok"), key, 1);
    let write = counted(on(FsWrite, "/data/ok"), key + 1, 1);
    let a = w.agent(&[read, on(FsRead, "/data/ok/f"), write])?;
    w.allowed(&a, "open /data/ok/f 0");
    left(w, key, 1, "where another rule allows it");
    let fd = w.allowed(&a, &format!("open /data/ok/f {O_RDWR}"));
    left(w, key, 1, "where another rule allows a part of it");
    left(w, key + 1, 0, "for the other part");
    w.allowed(&a, &format!("pwrite {fd}"));
    w.allowed(&a, &format!("pread {fd}"));
    w.denied(&a, &format!("open /data/ok/g {O_RDWR}"), EACCES, Hook::FileOpen);
    left(w, key, 1, "after an open that lacked the other right");
    w.end(&a)?;
    // What one rule gives is one use, whichever of it is asked for.
    let device = counted(on(Device, "/data/ok/f"), FIRST + 110, 2);
    let a = w.agent(&[device])?;
    w.allowed(&a, &format!("open /data/ok/f {}", O_RDWR | O_APPEND));
    left(w, FIRST + 110, 1, "after both rights of a device");
    w.end(&a)
}

/// What was got by a use is kept by that counter, whichever set it is in, and by no other.
fn regranted(w: &World) -> Result<()> {
    let key = FIRST + 4;
    let a = w.agent(&[counted(on(FsRead, "/data/ok"), key, 1)])?;
    let fd = w.allowed(&a, "open /data/ok/f 0");
    // A set that is made anew begins no new counter.
    for rules in [vec![], vec![on(FsRead, "/data/ro")]] {
        let all = [vec![counted(on(FsRead, "/data/ok"), key, 9)], rules].concat();
        w.apply(&a, &all)?;
        left(w, key, 0, "in another set");
        w.allowed(&a, &format!("pread {fd}"));
        w.denied(&a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    }
    w.apply(&a, &[counted(on(FsRead, "/data/ok"), key + 1, 1)])?;
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.denied(&a, &format!("mmap {fd} 1 1"), EACCES, Hook::MmapFile);
    left(w, key + 1, 1, "of another counter");
    // Where the counter that it was got by is gone, and its place in the table is the next one's.
    let fd = w.allowed(&a, "open /data/ok/f 0");
    w.apply(&a, &[])?;
    gone(w, key + 1);
    w.apply(&a, &[counted(on(FsRead, "/data/ok"), key + 3, 1)])?;
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    left(w, key + 3, 1, "of the next counter");
    let past = Given { expires_ns: 1, ..counted(on(FsRead, "/data/ok"), key + 2, 1) };
    w.apply(&a, &[past])?;
    w.denied(&a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    w.denied(&a, "stat /data/ok/f", EACCES, Hook::InodeGetattr);
    w.end(&a)
}

/// A file that is made as it is opened is one use.
fn made(w: &World) -> Result<()> {
    let key = FIRST + 8;
    let flags = O_WRONLY | O_CREAT | O_TRUNC;
    let a = w.agent(&[counted(on(FsWrite, "/data/out"), key, 2)])?;
    let fd = w.allowed(&a, &format!("open /data/out/made {flags}"));
    left(w, key, 1, "after a file was made");
    w.allowed(&a, &format!("pwrite {fd}"));
    w.allowed(&a, &format!("open /data/out/made {flags}"));
    left(w, key, 0, "after it was opened");
    w.denied(&a, &format!("open /data/out/made {flags}"), EACCES, Hook::FileOpen);
    w.denied(&a, &format!("open /data/out/more {flags}"), EACCES, Hook::PathMknod);
    w.denied(&a, "mkdir /data/out/folder", EACCES, Hook::PathMkdir);
    w.check("nothing is left", !Path::new("/data/out/more").exists(), String::new);
    w.end(&a)?;
    let a = w.agent(&[counted(on(FsCreate, "/data/out"), key + 1, 1)])?;
    w.allowed(&a, "mkdir /data/out/folder");
    left(w, key + 1, 0, "after a folder was made");
    w.end(&a)
}

/// A change by name is a use: of what is there, by its path and by an inode without one.
fn changed(w: &World) -> Result<()> {
    let key = FIRST + 10;
    let lines = [
        ("truncate /data/out/made", Hook::PathTruncate),
        ("chmod /data/out/made", Hook::PathChmod),
        ("chown /data/out/made", Hook::PathChown),
        ("utimes /data/out/made", Hook::InodeSetattr),
        ("setxattr /data/out/made", Hook::InodeXattr),
    ];
    for (key, (line, hook)) in (key..).zip(lines) {
        let a = w.agent(&[counted(on(FsWrite, "/data/out"), key, 1)])?;
        w.allowed(&a, line);
        left(w, key, 0, line);
        w.same("on record, once", &uses(w, &a, "/out/made"), &1);
        w.denied(&a, line, EACCES, hook);
        w.end(&a)?;
    }
    let key = key + lines.len() as u64;
    let a = w.agent(&[counted(on(FsDelete, "/data/out"), key, 1)])?;
    w.allowed(&a, "unlink /data/out/made");
    left(w, key, 0, "after a file was removed");
    w.denied(&a, "rmdir /data/out/folder", EACCES, Hook::PathRmdir);
    w.end(&a)
}

/// A rename is a use of each name, and no way to a counted right.
fn moved(w: &World) -> Result<()> {
    let key = FIRST + 20;
    fs::write("/data/no/x", "hello world")?;
    let both =
        [counted(on(FsDelete, "/data/no"), key, 1), counted(on(FsCreate, "/data/out"), key + 1, 1)];
    let reads = counted(on(FsRead, "/data/out"), key + 2, 1);
    let a = w.agent(&[on(FsDelete, "/data/no"), on(FsCreate, "/data/out"), reads.clone()])?;
    w.denied(&a, "rename /data/no/x /data/out/x", EACCES, Hook::PathRename);
    w.end(&a)?;
    // What is moved out of a counted right is out of its reach, however it was opened.
    let c = w.agent(&[counted(on(FsRead, "/data/ok/a"), key + 3, 1)])?;
    let fd = w.allowed(&c, "open /data/ok/a/b/c/d/e/f/deep 0");
    w.allowed(&c, &format!("pread {fd}"));
    fs::rename("/data/ok/a/b", "/data/no/b")?;
    w.denied(&c, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.denied(&c, &format!("mmap {fd} 1 1"), EACCES, Hook::MmapFile);
    fs::rename("/data/no/b", "/data/ok/a/b")?;
    w.allowed(&c, &format!("pread {fd}"));
    w.end(&c)?;
    let b = w.agent(&both)?;
    w.allowed(&b, "rename /data/no/x /data/out/x");
    left(w, key, 0, "of the old name");
    left(w, key + 1, 0, "of the new name");
    w.end(&b)
}

/// A program is one use, and so is a script's interpreter; a right to read is none to start it.
fn programs(w: &World) -> Result<()> {
    let key = FIRST + 30;
    let a = w.agent(&[counted(on(FsExec, "/data/exe"), key, 1)])?;
    w.allowed(&a, "exec /data/exe/busybox");
    left(w, key, 0, "after a program");
    w.denied(&a, "exec /data/exe/busybox", EACCES, Hook::FileOpen);
    w.kernel.add_uses(key, 2)?;
    w.allowed(&a, "exec /data/exe/script");
    left(w, key, 0, "after a script");
    w.end(&a)?;
    let reads = counted(on(FsRead, "/data/exe"), key + 1, 9);
    let runs = |key| counted(on(FsExec, "/data/exe"), key, 1);
    let a = w.agent(&[reads, runs(key + 2)])?;
    w.allowed(&a, "exec /data/exe/busybox");
    w.denied(&a, "exec /data/exe/busybox", EACCES, Hook::BprmCheck);
    w.end(&a)?;
    // One that may be read anyway takes the use as it is started.
    let a = w.agent(&[on(FsRead, "/data/exe"), runs(key + 3)])?;
    w.allowed(&a, "exec /data/exe/busybox");
    left(w, key + 3, 0, "of a program that may be read");
    w.denied(&a, "exec /data/exe/busybox", EACCES, Hook::BprmCheck);
    w.end(&a)
}

/// A connection is a use, and lives on.
fn connections(w: &World) -> Result<()> {
    let key = FIRST + 40;
    let listener = TcpListener::bind("127.0.0.1:1201")?;
    let _other = TcpListener::bind("127.0.0.1:1202")?;
    let to = |prefix| net(NetConnect, "127.0.0.1", prefix, 1201);
    let a = w.agent(&[counted(to(32), key, 2)])?;
    w.denied(&a, "connect 127.0.0.1 1202", EACCES, Hook::SocketConnect);
    let s = w.allowed(&a, "connect 127.0.0.1 1201");
    left(w, key, 1, "after a connection");
    w.allowed(&a, "connect 127.0.0.1 1201");
    left(w, key, 0, "after another");
    w.denied(&a, "connect 127.0.0.1 1201", EACCES, Hook::SocketConnect);
    w.denied(&a, "fastopen 127.0.0.1 1201", EACCES, Hook::SocketSendmsg);
    for _ in 0..3 {
        w.allowed(&a, &format!("send {s}"));
    }
    let mut peer = listener.accept()?.0;
    let mut two = [0; 2];
    std::io::Read::read_exact(&mut peer, &mut two)?;
    w.same("what it sends arrives", &two, b"hi");
    w.apply(&a, &[counted(to(32), key + 1, 1)])?;
    w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    w.end(&a)?;
    expired(w)?;
    // One that may be used so often hides none that may always be.
    let a = w.agent(&[counted(to(32), key + 2, 1), to(8)])?;
    w.allowed(&a, "connect 127.0.0.1 1201");
    left(w, key + 2, 1, "beside a wider rule");
    w.end(&a)
}

/// A connection that was made by a use goes no further than its right, without anybody who takes that away.
fn expired(w: &World) -> Result<()> {
    let _listener = TcpListener::bind("127.0.0.1:1206")?;
    let to = |port| net(NetConnect, "127.0.0.1", 32, port);
    let (mut lasts, mut soon, mut s) = (600_000_000, 0, -1);
    let a = w.agent(&[])?;
    let key = std::cell::Cell::new(FIRST + 120);
    let used = await_that(|| {
        (soon, lasts) = (boottime() + lasts, lasts * 2);
        key.set(key.get() + 1);
        let right = Given { expires_ns: soon, ..counted(to(1206), key.get(), 1) };
        let given = w.apply(&a, &[right]);
        s = a.tell("connect 127.0.0.1 1206");
        given.is_ok() && s >= 0 && a.tell(&format!("send {s}")) >= 0
    });
    w.check("it is used until then", used, || show(s));
    while boottime() <= soon {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    w.end(&a)
}

/// Datagrams of one socket to one address are one use.
fn datagrams(w: &World) -> Result<()> {
    let key = FIRST + 50;
    let _receivers = [UdpSocket::bind("127.0.0.1:1201")?, UdpSocket::bind("127.0.0.1:1202")?];
    let a = w.agent(&[counted(net(NetConnect, "127.0.0.1", 32, 0), key, 3)])?;
    let s = w.allowed(&a, &format!("socket 2 {SOCK_DGRAM} 0"));
    for _ in 0..3 {
        w.allowed(&a, &format!("sendto {s} 127.0.0.1 1201"));
    }
    left(w, key, 2, "after datagrams to one address");
    w.same("answers may be heard", &a.tell(&format!("recv {s}")), &-i64::from(libc::EAGAIN));
    w.allowed(&a, &format!("sendto {s} 127.0.0.1 1202"));
    left(w, key, 1, "after one to another");
    w.allowed(&a, "udp 127.0.0.1 1201");
    left(w, key, 0, "after another socket");
    w.denied(&a, &format!("sendto {s} 127.0.0.1 1201"), EACCES, Hook::SocketSendmsg);
    w.allowed(&a, &format!("sendto {s} 127.0.0.1 1202"));
    w.end(&a)
}

/// To listen is a use; whoever comes then is none.
fn listeners(w: &World) -> Result<()> {
    let key = FIRST + 60;
    let at = |port| net(NetBind, "127.0.0.1", 32, port);
    let ports = [(1203, key), (1204, key + 1), (1205, key + 2)];
    let a = w.agent(&ports.map(|(port, key)| counted(at(port), key, 1)))?;
    let b = w.outsider()?;
    let s = w.allowed(&a, "listen 127.0.0.1 1203");
    left(w, key, 0, "after it listened");
    for _ in 0..2 {
        let peer = w.allowed(&b, "connect 127.0.0.1 1203");
        let fresh = w.allowed(&a, &format!("accept {s}"));
        w.allowed(&a, &format!("send {fresh}"));
        w.allowed(&b, &format!("recv {peer}"));
    }
    w.allowed(&a, &format!("close {s}"));
    w.denied(&a, "listen 127.0.0.1 1203", EACCES, Hook::SocketBind);
    let t = w.allowed(&a, "listen 127.0.0.1 1205");
    w.apply(&a, &[counted(at(1204), key + 1, 1), counted(at(1205), key + 3, 1)])?;
    w.denied(&a, &format!("accept {t}"), EACCES, Hook::SocketAccept);
    left(w, key + 3, 1, "of another counter");
    // A use that led nowhere is spent, and is none for another port.
    let taken = TcpListener::bind("127.0.0.1:1204")?;
    w.same("a port that is taken", &a.tell("listen 127.0.0.1 1204"), &-i64::from(libc::EADDRINUSE));
    left(w, key + 1, 0, "after that");
    drop(taken);
    w.denied(&a, "listen 127.0.0.1 1204", EACCES, Hook::SocketBind);
    w.end(&a)
}

fn unix(w: &World) -> Result<()> {
    let key = FIRST + 70;
    let _there = (UnixListener::bind("/data/ok/one")?, UnixDatagram::bind("/data/ok/each")?);
    let rules = [
        counted(on(IpcUnix, "/data/ok/one"), key, 1),
        counted(on(IpcUnix, "/data/ok/each"), key + 1, 1),
    ];
    let a = w.agent(&rules)?;
    let s = w.allowed(&a, "unix /data/ok/one");
    left(w, key, 0, "after a connection");
    w.allowed(&a, &format!("send {s}"));
    w.allowed(&a, &format!("send {s}"));
    w.denied(&a, "unix /data/ok/one", EACCES, Hook::UnixFind);
    w.allowed(&a, "unix-send /data/ok/each");
    left(w, key + 1, 0, "after a datagram");
    w.denied(&a, "unix-send /data/ok/each", EACCES, Hook::UnixFind);
    w.apply(&a, &[counted(on(IpcUnix, "/data/ok/one"), key + 2, 1)])?;
    w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    left(w, key + 2, 1, "of another counter");
    w.end(&a)
}

fn abstracts(w: &World) -> Result<()> {
    let key = FIRST + 80;
    let named = |name: &[u8]| rule(IpcUnix, KernelScope::UnixAbstract(name.to_vec()));
    let _there = UnixListener::bind_addr(&SocketAddr::from_abstract_name("one")?)?;
    let _each = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("each")?)?;
    let rules = [
        counted(named(b"one"), key, 1),
        counted(named(b"each"), key + 1, 1),
        counted(named(b"own"), key + 2, 1),
    ];
    let a = w.agent(&rules)?;
    let s = w.allowed(&a, "unix @one");
    left(w, key, 0, "after a connection");
    w.allowed(&a, &format!("send {s}"));
    w.denied(&a, "unix @one", EACCES, Hook::UnixStreamConnect);
    w.allowed(&a, "unix-send @each");
    left(w, key + 1, 0, "after a datagram");
    w.denied(&a, "unix-send @each", EACCES, Hook::UnixMaySend);
    let own = w.allowed(&a, "unix-listen @own");
    left(w, key + 2, 0, "after the name was taken");
    w.allowed(&a, &format!("close {own}"));
    w.denied(&a, "unix-listen @own", EACCES, Hook::SocketBind);
    w.end(&a)
}

/// A descriptor that somebody hands over was got by no use.
fn handed_over(w: &World) -> Result<()> {
    let key = FIRST + 90;
    let a = w.agent(&[counted(on(FsRead, "/data/ok"), key, 1)])?;
    let file = fs::File::open("/data/ok/f")?;
    a.start("take-fd");
    a.hand_over(file.as_raw_fd())?;
    w.same("it does not arrive", &a.hear(), &-i64::from(EACCES));
    left(w, key, 1, "after that");
    w.allowed(&a, &format!("open /data/ok/f {O_RDONLY}"));
    w.end(&a)
}

/// Of those who take the uses of one counter at the same time none gets one too many, and none is lost.
fn shared_out(w: &World) -> Result<()> {
    let (key, tries, more) = (FIRST + 100, 16_000, 5_000);
    let rules = [counted(on(FsRead, "/data/ok"), key, 1)];
    let actors = [w.agent(&rules)?, w.agent(&rules)?];
    for actor in &actors {
        w.counted_only(actor);
        actor.start(&format!("many-opens /data/ok/f {tries}"));
    }
    // Both wait for each.
    for _ in 0..more {
        w.kernel.add_uses(key, 1)?;
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    let refused: i64 = actors.iter().map(Actor::hear).sum();
    let (given, opened) = (1 + more, (2 * tries - refused).unsigned_abs());
    w.check("each was refused some", refused > 0 && opened > 100, || show(refused));
    w.check("none got a use too many", opened <= given, || format!("{opened} of {given}"));
    left(w, key, given.saturating_sub(opened), "after all");
    actors.iter().try_for_each(|actor| w.end(actor))
}
