//! Cuts what an agent is connected to: whoever is at the other end sees the end.

use crate::{Error, Result};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, getpeername, shutdown, sockopt,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Cuts the connections of one process, but for those to a UNIX socket of these paths; how many there were. What waits for connections goes on waiting: nobody is at
/// its other end. Neither is at one without a name, which was inherited or made by `socketpair`.
pub(crate) fn cut(pid: u32, spared: &[PathBuf]) -> Result<usize> {
    let action = "cut connections";
    let process = match Pid::from_raw(pid.cast_signed()) {
        Some(process) => process,
        None => return Ok(0),
    };
    let process = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(process) => process,
        // It has ended, and its connections with it.
        Err(rustix::io::Errno::SRCH) => return Ok(0),
        Err(error) => return Err(Error::System { action, source: error.into() }),
    };
    let table = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets = table.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let is_socket = target.as_os_str().as_encoded_bytes().starts_with(b"socket:[");
        is_socket.then(|| entry.file_name().to_str()?.parse::<RawFd>().ok())?
    });
    let mut cut = 0;
    for number in sockets {
        // One that was closed meanwhile needs no cutting.
        let Ok(socket) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        if is_connection(&socket, spared) && shutdown(&socket, Shutdown::Both).is_ok() {
            cut += 1;
        }
    }
    Ok(cut)
}

fn is_connection(socket: &OwnedFd, spared: &[PathBuf]) -> bool {
    if sockopt::socket_acceptconn(socket).unwrap_or(true) {
        return false;
    }
    match getpeername(socket) {
        Ok(Some(peer)) => is_somebody(&peer) && !is_one_of(&peer, spared),
        _ => false,
    }
}

/// A UNIX socket's peer without a name has the family alone (unix(7)).
fn is_somebody(peer: &SocketAddrAny) -> bool {
    let nobody = size_of::<libc::sa_family_t>();
    peer.address_family() != AddressFamily::UNIX || peer.addr_len() as usize > nobody
}

fn is_one_of(peer: &SocketAddrAny, spared: &[PathBuf]) -> bool {
    let unix = SocketAddrUnix::try_from(peer.clone()).ok();
    let path = unix.as_ref().and_then(SocketAddrUnix::path);
    path.is_some_and(|path| spared.iter().any(|one| one.as_os_str().as_bytes() == path.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_connection_is_what_has_somebody_at_the_other_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let (tcp, unix) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let is = |socket: OwnedFd| is_connection(&socket, &[]);
        assert!(is(TcpStream::connect(tcp.local_addr().unwrap()).unwrap().into()));
        assert!(is(tcp.accept().unwrap().0.into()));
        assert!(is(UnixStream::connect(&path).unwrap().into()));
        let to_one = OwnedFd::from(UnixStream::connect(&path).unwrap());
        assert!(!is_connection(&to_one, std::slice::from_ref(&path)), "that one is spared");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!is(udp.try_clone().unwrap().into()), "it sends to anybody");
        udp.connect("127.0.0.1:9").unwrap();
        assert!(is(udp.into()));
        // Who connected has no name; nor have the two of a pair.
        assert!(!is(unix.accept().unwrap().0.into()));
        assert!(!is(UnixStream::pair().unwrap().0.into()));
        assert!(!is(tcp.into()) && !is(unix.into()), "listeners wait for anybody");
    }
}
