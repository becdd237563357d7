//! More attempts on sockets: other names of what was not granted, other kinds of socket, other people's names and ports.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::network::{answer, datagram_socket};
use super::{Attempt, Got, Target, first_bytes, step, syscall};
use rustix::net::{AddressFamily, SocketType, socket};
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "tcp-zero", argument: "IP:PORT", wants: "connect by 0.0.0.0", run: tcp_zero },
    Attempt { name: "udp-zero", argument: "IP:PORT", wants: "send by 0.0.0.0", run: udp_zero },
    Attempt { name: "udp-mapped", argument: "IP:PORT", wants: "by ::ffff:a.b.c.d", run: mapped },
    Attempt { name: "udp-many", argument: "IP:PORT", wants: "send by sendmmsg", run: many },
    Attempt { name: "udp-empty", argument: "IP:PORT", wants: "send no bytes at all", run: empty },
    Attempt { name: "multicast", argument: "IP:PORT", wants: "send to a group", run: multicast },
    Attempt { name: "reuseport", argument: "IP:PORT", wants: "share a port", run: reuseport },
    Attempt { name: "udp-bind", argument: "IP:PORT", wants: "receive at a port", run: udp_bind },
    Attempt { name: "udp-eavesdrop", argument: "", wants: "receive at any port", run: eavesdrop },
    Attempt { name: "tcp-listen-any", argument: "", wants: "listen anywhere", run: listen_any },
    Attempt { name: "seqpacket", argument: "PATH", wants: "reach a packet socket", run: seqpacket },
    Attempt { name: "unix-reach", argument: "PATH", wants: "connect to a service", run: reach },
    Attempt { name: "abstract-dgram", argument: "NAME", wants: "send to a name", run: dgram },
    Attempt { name: "abstract-take", argument: "NAME", wants: "be somebody's name", run: take },
    Attempt { name: "ip-options", argument: "", wants: "have its way recorded", run: ip_options },
    Attempt { name: "route-header", argument: "", wants: "send by another", run: route_header },
    Attempt { name: "mark", argument: "", wants: "pass the firewall", run: mark },
    Attempt { name: "ping", argument: "IP", wants: "ask who is there", run: ping },
    Attempt { name: "socket", argument: "FAMILY,TYPE,PROTOCOL", wants: "a socket", run: any },
    Attempt { name: "netlink-change", argument: "", wants: "change an interface", run: change },
    Attempt { name: "forge-sender", argument: "", wants: "claim to be root", run: forge_sender },
];

/// The port of an address on this machine, by the address that means "here".
fn here(t: &Target) -> io::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, t.parse::<SocketAddr>(0)?.port())))
}

fn tcp_zero(t: &Target) -> Got {
    super::network::banner(step("connect", TcpStream::connect(here(t)?))?)
}

fn udp_zero(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    step("sendto", socket.send_to(b"hello", here(t)?))?;
    answer(&socket)
}

fn mapped(t: &Target) -> Got {
    let to: SocketAddr = t.parse(0)?;
    let SocketAddr::V4(v4) = to else { return Err(io::Error::other("give an IPv4 address")) };
    let to = SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()));
    let socket = UdpSocket::from(socket(AddressFamily::INET6, SocketType::DGRAM, None)?);
    step("sendto", socket.send_to(b"hello", to))?;
    answer(&socket)
}

fn v4(to: SocketAddr) -> io::Result<libc::sockaddr_in> {
    let SocketAddr::V4(to) = to else { return Err(io::Error::other("give an IPv4 address")) };
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    Ok(address)
}

fn many(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    let mut address = v4(t.parse(0)?)?;
    let mut part = libc::iovec { iov_base: c"hello".as_ptr().cast_mut().cast(), iov_len: 5 };
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_name = (&raw mut address).cast();
    message.msg_hdr.msg_namelen = size_of_val(&address) as u32;
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    let sent = syscall!(libc::SYS_sendmmsg, socket.as_raw_fd(), &raw mut message, 1, 0);
    step("sendmmsg", sent)?;
    answer(&socket)
}

/// That somebody knocks is told by a datagram without a byte.
fn empty(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    step("sendto", socket.send_to(b"", t.parse::<SocketAddr>(0)?))?;
    answer(&socket)
}

fn multicast(t: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    let to: SocketAddr = t.parse(0)?;
    // By the loopback interface: there need be no other.
    socket.set_multicast_loop_v4(true)?;
    let lo = libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) };
    let (level, name) = (libc::IPPROTO_IP, libc::IP_MULTICAST_IF);
    let fd = socket.as_raw_fd();
    step("by lo", syscall!(libc::SYS_setsockopt, fd, level, name, &raw const lo, 4))?;
    step("sendto", socket.send_to(b"hello", to))?;
    Ok("sent to all who listen".to_owned())
}

/// Half of what comes to the port is for whoever else has it by this option.
fn reuseport(t: &Target) -> Got {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let on = 1i32;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
    let fd = socket.as_raw_fd();
    step("SO_REUSEPORT", syscall!(libc::SYS_setsockopt, fd, level, name, &raw const on, 4))?;
    step("bind", rustix::net::bind(&socket, &t.parse::<SocketAddr>(0)?))?;
    Ok("has the port as well".to_owned())
}

fn udp_bind(t: &Target) -> Got {
    let socket = UdpSocket::bind(t.parse::<SocketAddr>(0)?)?;
    receives(&socket)
}

/// A socket that is bound and refused nothing would be told that nothing is there yet.
fn receives(socket: &UdpSocket) -> Got {
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    match socket.recv(&mut [0; 8]) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Ok(format!("would hear what comes to {}", socket.local_addr()?))
        }
        other => other.map(|n| format!("heard {n} bytes")),
    }
}

/// A look-up binds a socket to a port (`getaddrinfo` does so); whoever sends there might be heard.
fn eavesdrop(_: &Target) -> Got {
    let socket = UdpSocket::from(datagram_socket()?);
    step("connect to port 0", socket.connect((Ipv4Addr::LOCALHOST, 0)))?;
    let nowhere = [0u8; 16];
    let undone = syscall!(libc::SYS_connect, socket.as_raw_fd(), nowhere.as_ptr(), 16);
    step("disconnect", undone)?;
    let bound = rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    // It may have its port already.
    let _ = step("bind to port 0", bound);
    receives(&socket)
}

/// Without `bind`, to a port that the kernel chooses.
fn listen_any(_: &Target) -> Got {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    step("listen", rustix::net::listen(&socket, 8))?;
    Ok("listens".to_owned())
}

fn seqpacket(t: &Target) -> Got {
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    let address = rustix::net::SocketAddrUnix::new(t.path(0)?)?;
    step("connect", rustix::net::connect(&socket, &address))?;
    let mut file = File::from(socket);
    step("send", file.write_all(b"hello"))?;
    first_bytes(file)
}

fn reach(t: &Target) -> Got {
    UnixStream::connect(t.path(0)?)?;
    Ok("connected".to_owned())
}

fn dgram(t: &Target) -> Got {
    let name = unix::SocketAddr::from_abstract_name(t.text(0)?)?;
    UnixDatagram::unbound()?.send_to_addr(b"hello", &name)?;
    Ok("sent".to_owned())
}

fn take(t: &Target) -> Got {
    UnixListener::bind_addr(&unix::SocketAddr::from_abstract_name(t.text(0)?)?)?;
    Ok("whoever wants that service comes here".to_owned())
}

/// Record route (RFC 791): each machine on the way writes itself down.
fn ip_options(_: &Target) -> Got {
    let socket = datagram_socket()?;
    let record = [7u8, 7, 4, 0, 0, 0, 0, 0];
    let (level, name) = (libc::IPPROTO_IP, libc::IP_OPTIONS);
    let fd = socket.as_raw_fd();
    let set = syscall!(libc::SYS_setsockopt, fd, level, name, record.as_ptr(), record.len());
    step("IP_OPTIONS", set)?;
    Ok("writes down the way".to_owned())
}

/// A routing header of type 2 (RFC 6275): the packet goes on to the address within.
fn route_header(_: &Target) -> Got {
    let socket = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
    let mut header = [0u8; 24];
    header[1..4].copy_from_slice(&[2, 2, 1]);
    header[8..].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_RTHDR);
    let fd = socket.as_raw_fd();
    let set = syscall!(libc::SYS_setsockopt, fd, level, name, header.as_ptr(), header.len());
    step("IPV6_RTHDR", set)?;
    Ok("goes by another".to_owned())
}

fn mark(_: &Target) -> Got {
    let socket = datagram_socket()?;
    let mark = 1u32;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_MARK);
    let fd = socket.as_raw_fd();
    step("SO_MARK", syscall!(libc::SYS_setsockopt, fd, level, name, &raw const mark, 4))?;
    Ok("marked".to_owned())
}

fn ping(t: &Target) -> Got {
    let icmp = Some(rustix::net::ipproto::ICMP);
    let socket = step("socket", socket(AddressFamily::INET, SocketType::DGRAM, icmp))?;
    let socket = UdpSocket::from(socket);
    let to = SocketAddr::from((t.parse::<Ipv4Addr>(0)?, 0));
    step("send", socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], to))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let n = step("receive", socket.recv(&mut [0; 64]))?;
    Ok(format!("{n} bytes came back"))
}

fn any(t: &Target) -> Got {
    let number = |n| t.parse::<i32>(n);
    syscall!(libc::SYS_socket, number(0)?, number(1)?, number(2)?)?;
    Ok("has such a socket".to_owned())
}

/// Routing sockets may be opened to read; this takes the loopback interface down, in a namespace of the control's own.
fn change(_: &Target) -> Got {
    const NEW_LINK: u16 = 16;
    if rustix::process::geteuid().is_root() {
        step("unshare", crate::sys::unshare(libc::CLONE_NEWNET))?;
    }
    let fd = step("socket", syscall!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0))?;
    let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // struct nlmsghdr, then struct ifinfomsg: interface 1, and IFF_UP is to change to 0.
    let mut request = [0u32; 8];
    request[0] = size_of_val(&request) as u32;
    request[1] = u32::from(NEW_LINK) | 5 << 16;
    request[5] = 1;
    request[7] = 1;
    let bytes: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    step("send", rustix::io::write(&socket, &bytes))?;
    let mut said = [0u8; 64];
    step("receive", rustix::io::read(&socket, &mut said))?;
    match i32::from_ne_bytes([said[16], said[17], said[18], said[19]]) {
        0 => Ok("taken down".to_owned()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// `SCM_CREDENTIALS` of process 1 and of root, on a pair of its own.
fn forge_sender(_: &Target) -> Got {
    let (ours, _theirs) = UnixStream::pair()?;
    let claim = libc::ucred { pid: 1, uid: 0, gid: 0 };
    let mut part = libc::iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
    let mut space = [0u64; 8];
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    unsafe {
        let length = size_of::<libc::ucred>() as u32;
        message.msg_controllen = libc::CMSG_SPACE(length) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_CREDENTIALS;
        (*head).cmsg_len = libc::CMSG_LEN(length) as usize;
        libc::CMSG_DATA(head).cast::<libc::ucred>().write_unaligned(claim);
    }
    syscall!(libc::SYS_sendmsg, ours.as_raw_fd(), &raw const message, 0)?;
    Ok("was taken for root".to_owned())
}
