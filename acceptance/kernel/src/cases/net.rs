//! Internet sockets: addresses, prefixes, ports, both families, TCP and UDP.

use crate::world::{World, await_that, net, rule};
use abi::Capability::{NetBind, NetConnect, NetRaw};
use abi::event::Hook;
use anyhow::Result;
use kernel::KernelScope;
use libc::{EACCES, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
use std::net::{TcpListener, UdpSocket};

pub fn run(w: &World) -> Result<()> {
    let _listeners = [
        TcpListener::bind("127.0.0.1:1001")?,
        TcpListener::bind("127.0.0.1:1002")?,
        TcpListener::bind("[::1]:1003")?,
        TcpListener::bind("[::1]:1004")?,
        TcpListener::bind("127.0.0.9:1006")?,
    ];
    let _receivers = [UdpSocket::bind("127.0.0.1:1001")?, UdpSocket::bind("127.0.0.1:1002")?];
    tcp(w)?;
    udp(w)?;
    serving(w)?;
    kinds(w)?;
    peers(w)
}

fn tcp(w: &World) -> Result<()> {
    let a = w.agent(&[
        net(NetConnect, "127.0.0.1", 32, 1001),
        net(NetConnect, "::1", 128, 1003),
        net(NetConnect, "127.0.0.8", 29, 0),
    ])?;
    let b = w.outsider()?;
    w.allowed(&a, "connect 127.0.0.1 1001");
    w.allowed(&a, "connect ::ffff:127.0.0.1 1001");
    w.allowed(&a, "connect ::1 1003");
    w.allowed(&a, "connect 127.0.0.9 1006");
    for line in ["connect 127.0.0.1 1002", "connect ::1 1004", "connect ::ffff:127.0.0.1 1002"] {
        w.denied(&a, line, EACCES, Hook::SocketConnect);
        w.allowed(&b, line);
    }
    w.denied(&a, "connect 0.0.0.0 1001", EACCES, Hook::SocketConnect);
    w.denied(&a, "fastopen 127.0.0.1 1002", EACCES, Hook::SocketSendmsg);
    // A longer prefix decides before a shorter one, and neither leaks to other agents.
    let c = w.agent(&[])?;
    w.denied(&c, "connect 127.0.0.1 1001", EACCES, Hook::SocketConnect);
    w.end(&c)?;
    w.end(&a)
}

fn udp(w: &World) -> Result<()> {
    let a = w.agent(&[net(NetConnect, "127.0.0.1", 32, 1001)])?;
    let b = w.outsider()?;
    let s = w.allowed(&a, "udp 127.0.0.1 1001");
    w.allowed(&a, &format!("send {s}"));
    // An address in the message counts, not the one that the socket is connected to.
    w.denied(&a, &format!("sendto {s} 127.0.0.1 1002"), EACCES, Hook::SocketSendmsg);
    w.denied(&a, "udp 127.0.0.1 1002", EACCES, Hook::SocketConnect);
    let s = w.allowed(&a, &format!("socket 2 {SOCK_DGRAM} 0"));
    w.denied(&a, &format!("recv {s}"), EACCES, Hook::SocketRecvmsg);
    w.allowed(&a, &format!("sendto {s} 127.0.0.1 1001"));
    w.same("what answers may be heard", &a.tell(&format!("recv {s}")), &-i64::from(libc::EAGAIN));
    w.denied(&a, &format!("sendto {s} 127.0.0.1 1002"), EACCES, Hook::SocketSendmsg);
    w.apply(&a, &[])?;
    w.denied(&a, &format!("recv {s}"), EACCES, Hook::SocketRecvmsg);
    let s = w.allowed(&b, &format!("socket 2 {SOCK_DGRAM} 0"));
    w.allowed(&b, &format!("sendto {s} 127.0.0.1 1002"));
    w.end(&a)?;
    routes(w)
}

/// Port 0 asks for a route, as getaddrinfo() does; nothing is sent there, by whatever right.
fn routes(w: &World) -> Result<()> {
    let a = w.agent(&[net(NetBind, "0.0.0.0", 0, 0), net(NetConnect, "127.0.0.1", 32, 1001)])?;
    for address in ["127.0.0.1", "127.0.0.2", "::1"] {
        let s = w.allowed(&a, &format!("udp {address} 0"));
        w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    }
    w.denied(&a, "connect 127.0.0.1 0", EACCES, Hook::SocketConnect);
    let s = w.allowed(&a, "udp 127.0.0.1 1001");
    w.allowed(&a, &format!("disconnect {s}"));
    w.allowed(&a, &format!("sendto {s} 127.0.0.1 1001"));
    w.same("what answers may be heard", &a.tell(&format!("recv {s}")), &-i64::from(libc::EAGAIN));
    let b = w.outsider()?;
    let s = w.allowed(&b, "udp 127.0.0.1 0");
    w.check("the control sends", b.tell(&format!("send {s}")) > 0, String::new);
    w.end(&a)
}

fn serving(w: &World) -> Result<()> {
    let a = w.agent(&[net(NetBind, "127.0.0.1", 32, 1201), net(NetBind, "0.0.0.0", 32, 1203)])?;
    let b = w.outsider()?;
    for (host, port) in [("127.0.0.1", 1201), ("0.0.0.0", 1203)] {
        let l = w.allowed(&a, &format!("listen {host} {port}"));
        let client = w.allowed(&b, &format!("connect 127.0.0.1 {port}"));
        let s = w.allowed(&a, &format!("accept {l}"));
        w.allowed(&a, &format!("send {s}"));
        w.allowed(&b, &format!("send {client}"));
        w.allowed(&a, &format!("recv {s}"));
        if port == 1203 {
            w.apply(&a, &[])?;
            w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
            w.denied(&a, &format!("accept {l}"), EACCES, Hook::SocketAccept);
        }
    }
    w.denied(&a, "listen 127.0.0.1 1202", EACCES, Hook::SocketBind);
    w.denied(&a, "listen 127.0.0.1 0", EACCES, Hook::SocketListen);
    w.allowed(&b, "listen 127.0.0.1 1202");
    w.end(&a)
}

/// Only what has a rule of its own may exist.
fn kinds(w: &World) -> Result<()> {
    let a = w.agent(&[])?;
    let b = w.outsider()?;
    for line in [format!("socket 2 {SOCK_STREAM} 0"), format!("socket 10 {SOCK_DGRAM} 0")] {
        w.allowed(&a, &line);
    }
    w.allowed(&a, &format!("socket 16 {SOCK_RAW} 0"));
    let refused = [
        format!("socket 2 {SOCK_RAW} 1"),
        format!("socket 2 {SOCK_DGRAM} 1"),
        format!("socket 17 {SOCK_RAW} 768"),
        format!("socket 16 {SOCK_RAW} 15"),
        format!("socket 40 {SOCK_STREAM} 0"),
    ];
    for line in &refused {
        w.denied(&a, line, EACCES, Hook::SocketCreate);
    }
    w.allowed(&b, &refused[0]);
    w.allowed(&b, &refused[3]);
    w.apply(&a, &[rule(NetRaw, KernelScope::Everything)])?;
    // The policy lets it pass now; root's own checks still refuse, for no agent has capabilities.
    w.same("net.raw passes the policy", &a.tell(&refused[0]), &-i64::from(libc::EPERM));
    w.end(&a)
}

/// A server on this machine learns who its client is.
fn peers(w: &World) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:1301")?;
    let a = w.agent(&[net(NetConnect, "127.0.0.1", 32, 1301)])?;
    let b = w.outsider()?;
    let server = listener.local_addr()?;
    let s = w.allowed(&a, "connect 127.0.0.1 1301");
    let (stream, client) = listener.accept()?;
    w.same("a client's agent is known", &w.kernel.peer_of_tcp(client, server)?, &a.aid);
    w.allowed(&b, "connect 127.0.0.1 1301");
    let (_other, outsider) = listener.accept()?;
    w.same("a non-agent is nobody", &w.kernel.peer_of_tcp(outsider, server)?, &None);
    drop(stream);
    w.allowed(&a, &format!("close {s}"));
    await_that(|| matches!(w.kernel.peer_of_tcp(client, server), Ok(None)));
    w.same("an ended connection is forgotten", &w.kernel.peer_of_tcp(client, server)?, &None);
    w.end(&a)
}
