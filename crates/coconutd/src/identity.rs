//! Who calls: told by the kernel for the connection, never by what the caller sends.

use crate::caller::Caller;
use crate::callers::Key;
use crate::error::Refusal;
use crate::state::Daemon;
use api::ErrorCode;
use connections::{Entrance, Full, Guest, Turned};
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};

/// A listening socket of the API.
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Whom to ask.
    pub daemon: Arc<Daemon>,
}

impl Entrance for Listener {
    type Stream = UnixStream;
    type Key = Key;
    type Who = Caller;

    async fn accept(&self) -> std::io::Result<UnixStream> {
        self.socket.accept().await.map(|(stream, _)| stream)
    }

    async fn admit(&self, stream: &UnixStream) -> Result<Guest<Key, Caller>, Turned> {
        let unknown = |why: String| Refusal::denied(format!("it cannot be told who calls: {why}"));
        let who = identify(stream, &self.daemon).await.map_err(|why| turned(&unknown(why)))?;
        let callers = &self.daemon.callers;
        let place = callers.connections.take(&who).map_err(|full| {
            turned(&too_many(full, "connections").hint("wait until one of them has ended"))
        })?;
        let (bodies, key) = callers.bodies.of(&who);
        Ok(Guest { who, place, bodies: bodies.clone(), key })
    }
}

/// The refusal of what would be more than a caller's part.
pub fn too_many(full: Full, what: &str) -> Refusal {
    let text = format!("the caller has {} {what} open already, as many as it may", full.held);
    Refusal::new(ErrorCode::Unavailable, text)
}

fn turned(refusal: &Refusal) -> Turned {
    let status = refusal.0.code.http_status();
    Turned { status, body: serde_json::to_string(&refusal.0).unwrap_or_default() }
}

/// Who is at the other end of a connected UNIX socket. Asked away from the connections: it reads
/// `/proc`, and it may have to read the user database.
///
/// # Errors
/// When it cannot be told: for people.
pub async fn identify(stream: &UnixStream, daemon: &Arc<Daemon>) -> Result<Caller, String> {
    // A descriptor of its own: who asks may go away while the answer is looked for.
    let socket = stream.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    let daemon = daemon.clone();
    let asked = tokio::task::spawn_blocking(move || try_identify(socket.as_fd(), &daemon));
    asked.await.unwrap_or_else(|e| Err(format!("the daemon's own code failed: {e}")))
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
    Ok(daemon.members.caller(uid, gid, &daemon.config))
}

/// A pidfd becomes readable when its process ends.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

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
