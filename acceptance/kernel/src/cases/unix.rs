//! UNIX sockets of others, by path and by abstract name.

use crate::world::{World, on, rule};
use abi::Capability::{FsRead, FsWrite, IpcUnix};
use abi::event::Hook;
use anyhow::Result;
use kernel::KernelScope;
use libc::EACCES;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

pub fn run(w: &World) -> Result<()> {
    let listener = UnixListener::bind("/data/ok/yes")?;
    let _no = UnixListener::bind("/data/ok/not")?;
    let _yes = UnixListener::bind_addr(&SocketAddr::from_abstract_name("yes")?)?;
    let _not = UnixListener::bind_addr(&SocketAddr::from_abstract_name("not")?)?;
    let _datagrams = [UnixDatagram::bind("/data/ok/dgram")?, UnixDatagram::bind("/data/ok/dnot")?];
    let _named = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("dnot")?)?;
    let rules = [
        on(FsRead, "/data/ok"),
        on(FsWrite, "/data/ok"),
        on(IpcUnix, "/data/ok/yes"),
        on(IpcUnix, "/data/ok/dgram"),
        rule(IpcUnix, KernelScope::UnixAbstract(b"yes".to_vec())),
    ];
    let a = w.agent(&rules)?;
    let b = w.outsider()?;
    let s = w.allowed(&a, "unix /data/ok/yes");
    w.allowed(&a, &format!("send {s}"));
    let t = w.allowed(&a, "unix @yes");
    w.allowed(&a, "unix-send /data/ok/dgram");
    let refused = [
        ("unix /data/ok/not", Hook::UnixFind),
        ("unix @not", Hook::UnixStreamConnect),
        ("unix-send /data/ok/dnot", Hook::UnixFind),
        ("unix-send @dnot", Hook::UnixMaySend),
    ];
    for (line, hook) in refused {
        w.denied(&a, line, EACCES, hook);
        w.allowed(&b, line);
    }
    // Its own sockets need no right but the one to make the name.
    w.allowed(&a, "unix-listen /tmp/own");
    w.allowed(&a, "unix /tmp/own");
    w.allowed(&a, "unix-listen /data/ok/mine");
    w.allowed(&a, "unix /data/ok/mine");
    // What is connected lives as long as the right.
    let mut peer = listener.accept()?.0;
    std::io::Write::write_all(&mut peer, b"hello")?;
    w.apply(&a, &rules[..2])?;
    w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    w.denied(&a, &format!("recv {s}"), EACCES, Hook::SocketRecvmsg);
    w.denied(&a, &format!("send {t}"), EACCES, Hook::SocketSendmsg);
    w.end(&a)?;
    names(w)
}

/// A name of all is taken by who may use it; else one would wait at another's.
fn names(w: &World) -> Result<()> {
    let named = |name: &[u8]| rule(IpcUnix, KernelScope::UnixAbstract(name.to_vec()));
    let long = "n".repeat(107);
    let a = w.agent(&[named(b"own"), named(long.as_bytes())])?;
    let b = w.outsider()?;
    for name in ["own", long.as_str()] {
        w.allowed(&a, &format!("unix-listen @{name}"));
        w.allowed(&a, &format!("unix @{name}"));
    }
    for name in ["", "ow", "own2", &long[1..]] {
        w.denied(&a, &format!("unix-listen @{name}"), EACCES, Hook::SocketBind);
        w.allowed(&b, &format!("unix-listen @{name}"));
        w.denied(&a, &format!("unix @{name}"), EACCES, Hook::UnixStreamConnect);
        w.allowed(&b, &format!("unix @{name}"));
    }
    w.allowed(&a, "autobind");
    w.apply(&a, &[])?;
    w.denied(&a, "unix-listen @own", EACCES, Hook::SocketBind);
    w.end(&a)
}
