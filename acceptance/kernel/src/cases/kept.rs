//! What outlives the right that it was got by without being mapped: who may have it is known, and nobody else.

use crate::world::{Actor, Given, World, net, on};
use abi::Capability::{FsCreate, FsDelete, FsRead, FsWrite, IpcUnix, NetConnect};
use abi::event::Hook;
use anyhow::{Result, anyhow};
use kernel::Remains;
use libc::{EACCES, EXDEV};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILE: &str = "/data/ok/f";

pub fn run(w: &World) -> Result<()> {
    pages(w)?;
    memory(w)?;
    meanwhile(w)?;
    watches(w)?;
    descriptors(w)?;
    links(w)
}

/// What remains when the agent loses all but these.
fn left(w: &World, what: &str, a: &Actor, rules: &[Given], remains: Remains) -> Result<()> {
    w.same(what, &w.apply(a, rules)?, &remains);
    Ok(())
}

fn pages(w: &World) -> Result<()> {
    let ok = || [on(FsRead, "/data/ok")];
    for line in ["splice FD", "sendfile-pipe FD", "sendfile-socket FD", "uring-splice FD"] {
        let a = w.agent(&[on(FsRead, "/data/ok"), on(FsRead, "/data/ro")])?;
        let fd = w.allowed(&a, &format!("open {FILE} 0"));
        let line = line.replace("FD", &fd.to_string());
        let end = w.allowed(&a, &line);
        left(w, "nothing is left of another right", &a, &ok(), Remains::Nothing)?;
        left(w, &format!("pages are left by {line}"), &a, &[], Remains::Kept)?;
        // The control: they are there, and the kernel does not ask.
        w.same("what is in there is read", &a.tell(&format!("read {end}")), &1);
        w.denied(&a, &line, EACCES, Hook::FilePermission);
        w.end(&a)?;
    }
    let a = w.agent(&[on(FsRead, "/data/ro"), on(FsWrite, "/data/ok")])?;
    let from = w.allowed(&a, "open /data/ro/f 0");
    let to = w.allowed(&a, "open /data/ok/g 1");
    w.allowed(&a, &format!("sendfile {to} {from}"));
    left(w, "a copy into a file keeps no pages", &a, &[], Remains::Nothing)?;
    w.end(&a)
}

/// Pages of what was mapped, by other means than the mapping.
fn memory(w: &World) -> Result<()> {
    let _listener = std::net::TcpListener::bind("127.0.0.1:1301")?;
    for (line, remains) in [
        ("vmsplice AT", Remains::Pinned),
        ("zero-copy SOCKET AT", Remains::Pinned),
        ("register AT", Remains::Pinned),
        ("read-shared AT", Remains::Mapped),
    ] {
        let address = net(NetConnect, "127.0.0.1", 32, 1301);
        let a = w.agent(&[on(FsRead, "/data/ok"), on(FsWrite, "/data/ok"), address])?;
        let socket = w.allowed(&a, "connect 127.0.0.1 1301");
        let fd = w.allowed(&a, &format!("open {FILE} 2"));
        let at = w.allowed(&a, &format!("mmap {fd} 3 1"));
        w.allowed(&a, &line.replace("AT", &at.to_string()).replace("SOCKET", &socket.to_string()));
        w.allowed(&a, &format!("munmap {at}"));
        let aid = a.aid.unwrap_or_default();
        let mapped = w.kernel.live_mappings(aid)?;
        let mapped = mapped.iter().any(|one| one.path.starts_with("/data/ok"));
        w.same("nobody would find it mapped", &mapped, &false);
        left(w, line, &a, &[], remains)?;
        w.end(&a)?;
    }
    Ok(())
}

/// At the very moment: either it is refused, or it is known.
fn meanwhile(w: &World) -> Result<()> {
    let mut unseen = 0;
    for round in 0..30u64 {
        let a = w.agent(&[on(FsRead, "/data/ok")])?;
        let fd = w.allowed(&a, &format!("open {FILE} 0"));
        let aid = a.aid.unwrap_or_default();
        let sets = [w.base()?];
        let kernel = Arc::clone(&w.kernel);
        let revoking = std::thread::spawn(move || kernel.assign(aid, &sets));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round * 15) {}
        let way = ["splice", "sendfile-socket"][round as usize % 2];
        let end = a.tell(&format!("{way} {fd}"));
        let remains = revoking.join().map_err(|_| anyhow!("assign fell over"))??;
        unseen += u32::from(end >= 0 && remains == Remains::Nothing);
        w.end(&a)?;
    }
    w.same("no pages that are taken beside a revocation go unseen", &unseen, &0);
    Ok(())
}

fn watches(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok"), on(FsRead, "/data/ro")])?;
    w.allowed(&a, "watch /data/ok");
    left(w, "no watch is left of another right", &a, &[on(FsRead, "/data/ok")], Remains::Nothing)?;
    left(w, "a watch is left", &a, &[], Remains::Kept)?;
    w.denied(&a, "watch /data/ok", EACCES, Hook::PathNotify);
    w.end(&a)
}

/// Only what has no path of its own stays: a file's rights are asked at each use.
fn descriptors(w: &World) -> Result<()> {
    for (name, passed, remains) in [
        ("/data/socket-1", true, Remains::Kept),
        ("/data/socket-2", false, Remains::Nothing),
        ("@descriptors", true, Remains::Kept),
        ("@nothing", false, Remains::Nothing),
    ] {
        let listener = listen(name)?;
        let right = match name.strip_prefix('@') {
            Some(name) => crate::world::rule(IpcUnix, abstract_name(name)),
            None => on(IpcUnix, name),
        };
        let a = w.agent(&[right, on(FsRead, "/data/ok")])?;
        let connection = w.allowed(&a, &format!("unix {name}"));
        let ours = crate::world::Actor::at(listener.accept()?.0, 0)?;
        let (near, _far) = UnixStream::pair()?;
        let file = std::fs::File::open(FILE)?;
        let fd = if passed { near.as_raw_fd() } else { file.as_raw_fd() };
        ours.hand_over(fd)?;
        let got = w.allowed(&a, &format!("recv-fd {connection}"));
        left(w, "and after", &a, &[on(FsRead, "/data/ok")], remains)?;
        if passed {
            w.allowed(&a, &format!("send {got}"));
        }
        w.end(&a)?;
    }
    Ok(())
}

fn listen(name: &str) -> Result<UnixListener> {
    use std::os::linux::net::SocketAddrExt;
    Ok(match name.strip_prefix('@') {
        Some(name) => {
            UnixListener::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?
        }
        None => UnixListener::bind(name)?,
    })
}

fn abstract_name(name: &str) -> kernel::KernelScope {
    kernel::KernelScope::UnixAbstract(name.as_bytes().to_vec())
}

/// A second name keeps a file where the right to its first one goes, so it is made only where the same rights are.
fn links(w: &World) -> Result<()> {
    let rules = [
        on(FsRead, "/data/ok"),
        on(FsWrite, "/data/ok"),
        on(FsRead, "/data/out"),
        on(FsWrite, "/data/out"),
        on(FsCreate, "/data/out"),
        on(FsDelete, "/data/out"),
    ];
    let a = w.agent(&rules)?;
    let b = w.outsider()?;
    w.denied(&a, "link /data/ok/f /data/out/f", EXDEV, Hook::PathLink);
    w.allowed(&b, "link /data/ok/f /data/out/g");
    w.allowed(&b, "unlink /data/out/g");
    w.allowed(&a, "link /data/ok/f /data/ok/second");
    w.allowed(&a, "link /data/ok/second /data/ok/a/third");
    // Its place has more rules than where it comes from; all that is above comes from further up.
    let inner = [on(FsRead, "/data/ok"), on(FsWrite, "/data/ok"), on(FsRead, "/data/ok/a")];
    w.apply(&a, &inner)?;
    w.denied(&a, "link /data/ok/f /data/ok/a/fourth", EXDEV, Hook::PathLink);
    w.allowed(&a, "link /data/ok/a/third /data/ok/fifth");
    for name in ["second", "a/third", "fifth"] {
        w.allowed(&b, &format!("unlink /data/ok/{name}"));
    }
    w.end(&a)
}
