//! Attempts on sockets: reach what was not granted, by every family and every call.

use super::{Attempt, Got, Target, first_bytes, step};
use rustix::net::{AddressFamily, RawProtocol, SendFlags, SocketType, sendto, socket};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram, UnixStream};
use std::time::Duration;

/// Whoever answers at all has long done so, also on a busy machine; what is refused does not wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "tcp-connect", argument: "IP:PORT", wants: "reach a listener", run: tcp },
    Attempt {
        name: "tcp-fastopen",
        argument: "IP:PORT",
        wants: "connect by sendto(MSG_FASTOPEN)",
        run: fastopen,
    },
    Attempt {
        name: "tcp-mptcp",
        argument: "IP:PORT",
        wants: "connect by multipath TCP",
        run: mptcp,
    },
    Attempt {
        name: "tcp-mapped",
        argument: "IP:PORT",
        wants: "connect by ::ffff:a.b.c.d",
        run: mapped,
    },
    Attempt { name: "udp-send", argument: "IP:PORT", wants: "send a datagram", run: udp },
    Attempt {
        name: "udp-connected",
        argument: "IP:PORT",
        wants: "send on a connected socket",
        run: udp_connected,
    },
    Attempt {
        name: "unix-connect",
        argument: "PATH",
        wants: "reach a UNIX socket",
        run: unix_stream,
    },
    Attempt {
        name: "unix-dgram",
        argument: "PATH",
        wants: "send to a UNIX datagram socket",
        run: unix_dgram,
    },
    Attempt {
        name: "abstract-connect",
        argument: "NAME",
        wants: "reach an abstract socket",
        run: abstract_stream,
    },
    Attempt { name: "bind", argument: "IP:PORT", wants: "listen", run: bind },
    Attempt { name: "socket-raw", argument: "", wants: "a raw IP socket", run: raw },
    Attempt { name: "socket-packet", argument: "", wants: "see every packet", run: packet },
    Attempt { name: "socket-vsock", argument: "", wants: "talk to the hypervisor", run: vsock },
];

/// Says hello and takes the listener's answer as evidence.
pub fn banner(mut stream: TcpStream) -> Got {
    stream.set_read_timeout(Some(PATIENCE))?;
    step("send", stream.write_all(b"hello"))?;
    step("receive", first_bytes(stream))
}

fn tcp(t: &Target) -> Got {
    banner(step("connect", TcpStream::connect_timeout(&t.parse(0)?, PATIENCE))?)
}

fn fastopen(t: &Target) -> Got {
    let to: SocketAddr = t.parse(0)?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
    step("sendto(MSG_FASTOPEN)", sendto(&socket, b"hello", flags, &to))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    first_bytes(stream)
}

fn mptcp(t: &Target) -> Got {
    const IPPROTO_MPTCP: u32 = 262;
    let to: SocketAddr = t.parse(0)?;
    let protocol = RawProtocol::new(IPPROTO_MPTCP).map(rustix::net::Protocol::from_raw);
    let socket = step("socket", socket(AddressFamily::INET, SocketType::STREAM, protocol))?;
    step("connect", rustix::net::connect(&socket, &to))?;
    banner(TcpStream::from(socket))
}

fn mapped(t: &Target) -> Got {
    let to: SocketAddr = t.parse(0)?;
    let SocketAddr::V4(v4) = to else { return Err(io::Error::other("give an IPv4 address")) };
    let to = SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()));
    banner(step("connect", TcpStream::connect_timeout(&to, PATIENCE))?)
}

/// The listener's answer to a datagram as evidence.
pub fn answer(socket: &UdpSocket) -> Got {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = [0u8; 64];
    let n = step("receive", socket.recv(&mut bytes))?;
    Ok(super::printable(&bytes[..n]))
}

fn udp(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    let to: SocketAddr = t.parse(0)?;
    step("sendto", socket.send_to(b"hello", to))?;
    answer(&socket)
}

fn udp_connected(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    let to: SocketAddr = t.parse(0)?;
    step("connect", socket.connect(to))?;
    step("send", socket.send(b"hello"))?;
    answer(&socket)
}

/// Not bound by us: that would be refused first.
pub fn datagram_socket() -> io::Result<OwnedFd> {
    step("socket", socket(AddressFamily::INET, SocketType::DGRAM, None))
}

fn unix_stream(t: &Target) -> Got {
    unix_banner(step("connect", UnixStream::connect(t.path(0)?))?)
}

fn unix_banner(mut stream: UnixStream) -> Got {
    stream.set_read_timeout(Some(PATIENCE))?;
    step("send", stream.write_all(b"hello"))?;
    first_bytes(stream)
}

fn unix_dgram(t: &Target) -> Got {
    let socket = UnixDatagram::unbound()?;
    step("sendto", socket.send_to(b"hello", t.path(0)?))?;
    Ok("sent".to_owned())
}

fn abstract_stream(t: &Target) -> Got {
    let name = unix::SocketAddr::from_abstract_name(t.text(0)?)?;
    unix_banner(step("connect", UnixStream::connect_addr(&name))?)
}

fn bind(t: &Target) -> Got {
    let listener = TcpListener::bind(t.parse::<SocketAddr>(0)?)?;
    Ok(format!("listens on {}", listener.local_addr()?))
}

fn raw(_: &Target) -> Got {
    socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::ICMP))?;
    Ok("has a raw socket".to_owned())
}

fn packet(_: &Target) -> Got {
    socket(AddressFamily::PACKET, SocketType::RAW, None)?;
    Ok("has a packet socket".to_owned())
}

fn vsock(_: &Target) -> Got {
    let family = AddressFamily::from_raw(libc::AF_VSOCK as u16);
    socket(family, SocketType::STREAM, None)?;
    Ok("has a vsock socket".to_owned())
}
