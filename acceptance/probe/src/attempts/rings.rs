//! More attempts through io_uring: requests that the kernel hands to workers, and descriptors that no table of files has.
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use super::uring::Ring;
use super::{Attempt, Got, Target, c_text, first_bytes, printable, step};
use io_uring::{opcode, squeue, types};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "uring-direct", argument: "FILE", wants: "open to a slot", run: direct },
    Attempt { name: "uring-chain", argument: "FILE", wants: "open and read at once", run: chain },
    Attempt { name: "uring-statx", argument: "FILE", wants: "learn its size", run: statx },
    Attempt { name: "uring-getxattr", argument: "FILE", wants: "read a tag", run: getxattr },
    Attempt { name: "uring-setxattr", argument: "FILE", wants: "tag it", run: setxattr },
    Attempt { name: "uring-link", argument: "FILE,OWNDIR", wants: "link it home", run: link },
    Attempt { name: "uring-rename", argument: "FILE,OWNDIR", wants: "move it home", run: rename },
    Attempt { name: "uring-mkdir", argument: "DIR", wants: "make a directory there", run: mkdir },
    Attempt { name: "uring-symlink", argument: "DIR", wants: "make a link there", run: symlink },
    Attempt { name: "uring-borrowed", argument: "FILE", wants: "open as others", run: borrowed },
    Attempt { name: "uring-udp", argument: "IP:PORT", wants: "send a datagram", run: udp },
    Attempt { name: "uring-raw", argument: "", wants: "a raw socket", run: raw },
    Attempt { name: "uring-bind", argument: "IP:PORT", wants: "listen", run: bind },
];

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

/// Where the file is put that a request opens.
fn first_slot() -> Option<types::DestinationSlot> {
    types::DestinationSlot::try_from_slot_target(0).ok()
}

/// Into a slot of the ring's own table, where no descriptor shows it.
fn direct(t: &Target) -> Got {
    let (mut ring, path) = (Ring::new()?, t.c_path(0)?);
    ring.slots(1)?;
    let how = types::OpenHow::new();
    let open = opcode::OpenAt2::new(HERE, path.as_ptr(), &raw const how).file_index(first_slot());
    step("openat2", ring.run(&open.build()))?;
    let mut bytes = [0u8; 64];
    let read = opcode::Read::new(types::Fixed(0), bytes.as_mut_ptr(), bytes.len() as u32);
    let n = step("read", ring.run(&read.build()))?;
    Ok(printable(&bytes[..n as usize]))
}

/// Both requests are there before either is looked at.
fn chain(t: &Target) -> Got {
    let (mut ring, path) = (Ring::new()?, t.c_path(0)?);
    ring.slots(1)?;
    let mut bytes = [0u8; 64];
    let open = opcode::OpenAt::new(HERE, path.as_ptr()).file_index(first_slot()).build();
    let read = opcode::Read::new(types::Fixed(0), bytes.as_mut_ptr(), bytes.len() as u32).build();
    let n = ring.run_linked(&[open.flags(squeue::Flags::IO_LINK), read])?;
    Ok(printable(&bytes[..n as usize]))
}

fn statx(t: &Target) -> Got {
    let path = t.c_path(0)?;
    let mut into: libc::statx = unsafe { std::mem::zeroed() };
    let entry = opcode::Statx::new(HERE, path.as_ptr(), (&raw mut into).cast());
    Ring::new()?.run(&entry.mask(libc::STATX_BASIC_STATS).build())?;
    Ok(format!("size {} uid {}", into.stx_size, into.stx_uid))
}

fn getxattr(t: &Target) -> Got {
    let (path, mut value) = (t.c_path(0)?, [0u8; 64]);
    let (name, into) = (c"user.secret".as_ptr(), value.as_mut_ptr().cast());
    let entry = opcode::GetXattr::new(name, into, path.as_ptr(), value.len() as u32);
    let n = Ring::new()?.run(&entry.build())?;
    Ok(printable(&value[..n as usize]))
}

fn setxattr(t: &Target) -> Got {
    let (path, value) = (t.c_path(0)?, b"was here");
    let (name, from) = (c"user.ring".as_ptr(), value.as_ptr().cast());
    let entry = opcode::SetXattr::new(name, from, path.as_ptr(), value.len() as u32);
    Ring::new()?.run(&entry.build())?;
    Ok("tagged".to_owned())
}

fn link(t: &Target) -> Got {
    let own = format!("{}/hard-by-ring", t.text(1)?);
    let (from, to) = (t.c_path(0)?, c_text(&own)?);
    let entry = opcode::LinkAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
    step("linkat", Ring::new()?.run(&entry))?;
    first_bytes(File::open(own)?)
}

fn rename(t: &Target) -> Got {
    let own = format!("{}/moved-by-ring", t.text(1)?);
    let (from, to) = (t.c_path(0)?, c_text(&own)?);
    let entry = opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
    step("renameat", Ring::new()?.run(&entry))?;
    first_bytes(File::open(own)?)
}

fn mkdir(t: &Target) -> Got {
    let path = c_text(&format!("{}/dir-by-ring", t.text(0)?))?;
    Ring::new()?.run(&opcode::MkDirAt::new(HERE, path.as_ptr()).mode(0o755).build())?;
    Ok("made a directory".to_owned())
}

fn symlink(t: &Target) -> Got {
    let path = c_text(&format!("{}/link-by-ring", t.text(0)?))?;
    let entry = opcode::SymlinkAt::new(HERE, c"/etc/passwd".as_ptr(), path.as_ptr());
    Ring::new()?.run(&entry.build())?;
    Ok("made a link".to_owned())
}

/// With credentials that were registered before: the kernel looks at those, and not at who asks.
fn borrowed(t: &Target) -> Got {
    let (mut ring, path) = (Ring::new()?, t.c_path(0)?);
    let credentials = step("register", ring.register_credentials())?;
    let open = opcode::OpenAt::new(HERE, path.as_ptr()).build().personality(credentials);
    let fd = step("openat", ring.run(&open))?;
    first_bytes(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// An IPv4 address as the kernel wants it.
fn inet(t: &Target) -> io::Result<libc::sockaddr_in> {
    let SocketAddr::V4(to) = t.parse(0)? else {
        return Err(io::Error::other("give an IPv4 address"));
    };
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    Ok(address)
}

const INET_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn udp(t: &Target) -> Got {
    let socket = UdpSocket::from(super::network::datagram_socket()?);
    let mut address = inet(t)?;
    let mut part = libc::iovec { iov_base: c"hello".as_ptr().cast_mut().cast(), iov_len: 5 };
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = INET_LENGTH;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let entry = opcode::SendMsg::new(types::Fd(socket.as_raw_fd()), &raw const message);
    step("sendmsg", Ring::new()?.run(&entry.build()))?;
    super::network::answer(&socket)
}

fn raw(_: &Target) -> Got {
    let entry = opcode::Socket::new(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    Ring::new()?.run(&entry.build())?;
    Ok("has a raw socket".to_owned())
}

fn bind(t: &Target) -> Got {
    let mut ring = Ring::new()?;
    let entry = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
    let fd = types::Fd(step("socket", ring.run(&entry))?);
    let address = inet(t)?;
    let entry = opcode::Bind::new(fd, (&raw const address).cast(), INET_LENGTH).build();
    step("bind", ring.run(&entry))?;
    step("listen", ring.run(&opcode::Listen::new(fd, 8).build()))?;
    Ok("listens".to_owned())
}
