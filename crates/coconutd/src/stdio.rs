//! The socket that takes the descriptors of foreground agents.
//!
//! A sender writes a token of 16 random bytes together with three descriptors (`SCM_RIGHTS`),
//! gets one byte back, and keeps the connection open: it is the leash of the agent that takes
//! them. A byte of 0 is a refusal; why follows as text, to the connection's end.

use crate::caller::Caller;
use crate::handed::{Handed, Leash};
use crate::identity::identify;
use crate::state::Daemon;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// How long descriptors wait for their spawn.
const WAIT: Duration = Duration::from_secs(10);
/// Connections whose callers are being asked for at once; more wait to be accepted.
const UNKNOWN: usize = 32;
/// Pause after an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes descriptors until the daemon ends.
pub async fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    let unknown = Arc::new(Semaphore::new(UNKNOWN));
    loop {
        // Never closed.
        let Ok(asking) = unknown.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = daemon.clone();
                tokio::spawn(async move {
                    if let Err(error) = take(stream, &daemon, asking).await {
                        tracing::debug!(%error, "descriptors were not taken");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept descriptors");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn take(
    stream: UnixStream,
    daemon: &Arc<Daemon>,
    asking: OwnedSemaphorePermit,
) -> Result<(), String> {
    let caller = identify(&stream, daemon).await?;
    let full = |full: connections::Full| format!("the caller has {} already", full.held);
    let place = daemon.callers.connections.take(&caller).map_err(full)?;
    let waiting = daemon.callers.waiting.take(&caller).map_err(full)?;
    drop(asking);
    let received = tokio::time::timeout(WAIT, receive(&stream)).await;
    let received = received.map_err(|_| "nothing came".to_owned()).and_then(|came| came);
    let (token, descriptors) = match received.and_then(|came| check(&caller, came)) {
        Ok(came) => came,
        Err(why) => {
            // A sender that does not read it has its reasons.
            let _ = stream.try_write(format!("\0{why}").as_bytes());
            return Err(why);
        }
    };
    let handed = Handed::new(descriptors, Leash::new(stream, place), caller, waiting);
    if daemon.stdio.put(token, handed) {
        tokio::time::sleep(WAIT).await;
        daemon.stdio.drop_late(token);
    }
    Ok(())
}

type Came = (Uuid, [OwnedFd; 3]);

fn check(caller: &Caller, came: Came) -> Result<Came, String> {
    if matches!(caller, Caller::Agent { .. }) && !came.1.iter().all(is_stream) {
        return Err("an agent may hand on pipes, sockets and terminals only".to_owned());
    }
    Ok(came)
}

async fn receive(stream: &UnixStream) -> Result<Came, String> {
    loop {
        stream.readable().await.map_err(|e| e.to_string())?;
        match stream.try_io(Interest::READABLE, || receive_now(stream)) {
            Ok(message) => return message,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn receive_now(stream: &UnixStream) -> std::io::Result<Result<Came, String>> {
    let mut token = [0u8; 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut token)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    let whole = message.bytes == token.len();
    let three: Result<[OwnedFd; 3], _> = descriptors.try_into();
    Ok(match three {
        Ok(three) if whole => Ok((Uuid::from_bytes(token), three)),
        _ => Err("expected a token of 16 bytes with three descriptors".to_owned()),
    })
}

/// An agent's own file would give its child more than the descriptor's mode says: by inode, for
/// reading and writing.
fn is_stream(fd: &OwnedFd) -> bool {
    use rustix::fs::FileType;
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::Fifo | FileType::Socket | FileType::CharacterDevice)
}
