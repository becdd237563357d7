//! Who calls: told by the kernel for the connection, never by what the caller sends.

use crate::config::Config;
use crate::state::Daemon;
use abi::AgentId;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::net::UnixListener;
use uuid::Uuid;

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root, or a member of the operators' group.
    Operator {
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
    /// The broker's own user.
    Broker {
        /// User id.
        uid: u32,
    },
    /// Any other user of this machine.
    User {
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
    /// A process inside an agent, whatever its user is.
    Agent {
        /// The agent.
        aid: AgentId,
        /// The agent, outside.
        uuid: Uuid,
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
    },
}

impl Caller {
    /// The user id of the calling process.
    pub const fn uid(&self) -> u32 {
        match self {
            Self::Operator { uid, .. }
            | Self::Broker { uid }
            | Self::User { uid, .. }
            | Self::Agent { uid, .. } => *uid,
        }
    }

    /// True for root and the operators' group.
    pub const fn is_operator(&self) -> bool {
        matches!(self, Self::Operator { .. })
    }

    /// As audit records name it.
    pub fn name(&self) -> String {
        match self {
            Self::Agent { uuid, .. } => format!("agent {uuid}"),
            other => format!("uid {}", other.uid()),
        }
    }
}

/// What is known of a connection: the caller, or why it cannot be told.
#[derive(Clone, Debug)]
pub struct Peer(pub Result<Caller, String>);

/// The listener's state that a new connection's caller is found with.
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Whom to ask.
    pub daemon: Arc<Daemon>,
}

impl axum::serve::Listener for Listener {
    type Io = Known;
    type Addr = ();

    async fn accept(&mut self) -> (Known, ()) {
        let (stream, ()) = loop {
            match self.socket.accept().await {
                Ok((stream, _)) => break (stream, ()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        };
        let peer = identify(stream.as_fd(), &self.daemon);
        (Known { stream, peer }, ())
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A connection whose other end is known.
pub struct Known {
    stream: tokio::net::UnixStream,
    peer: Peer,
}

impl tokio::io::AsyncRead for Known {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Known {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().peer.clone()
    }
}

/// Who is at the other end of a connected UNIX socket.
pub fn identify(socket: BorrowedFd<'_>, daemon: &Daemon) -> Peer {
    Peer(try_identify(socket, daemon))
}

fn try_identify(socket: BorrowedFd<'_>, daemon: &Daemon) -> Result<Caller, String> {
    let credentials = socket_peercred(socket).map_err(|e| format!("no peer credentials: {e}"))?;
    let (uid, gid) = (credentials.uid.as_raw(), credentials.gid.as_raw());
    let pidfd = getsockopt(&socket, sockopt::PeerPidfd)
        .map_err(|e| format!("no pidfd of the peer: {e}"))?;
    let agent = daemon.kernel.agent_of_pidfd(pidfd.as_fd()).map_err(|e| e.to_string())?;
    if let Some(aid) = agent {
        let uuid = daemon.uuid_of(aid).ok_or("the calling agent is not known here")?;
        return Ok(Caller::Agent { aid, uuid, uid, gid });
    }
    // An agent could connect, hand the socket on and end: what is gone is nobody.
    if has_ended(&pidfd) {
        return Err("the process that opened the connection has ended".to_owned());
    }
    Ok(user(uid, gid, &daemon.config))
}

/// A pidfd becomes readable when its process ends.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

fn user(uid: u32, gid: u32, config: &Config) -> Caller {
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let group = nix::unistd::Group::from_name(&config.operator_group).ok().flatten();
    let member = group.is_some_and(|group| {
        group.gid.as_raw() == gid || name.as_ref().is_some_and(|name| group.mem.contains(name))
    });
    match name {
        _ if uid == 0 || member => Caller::Operator { uid, gid },
        Some(name) if name == config.broker_user => Caller::Broker { uid },
        _ => Caller::User { uid, gid },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_an_operator_and_nobody_is_a_user() {
        let config = Config::default();
        assert!(user(0, 0, &config).is_operator());
        assert!(matches!(user(65_534, 65_534, &config), Caller::User { .. }));
    }

    #[test]
    fn an_ended_process_is_seen() {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert!(has_ended(&fd));
    }
}
