//! The socket that takes the descriptors of foreground agents.
//!
//! A sender writes a token of 16 random bytes together with three descriptors (`SCM_RIGHTS`),
//! gets one byte back, and keeps the connection open: it is the leash of the agent that takes
//! them.

use crate::identity::{Caller, identify};
use crate::state::Daemon;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;

/// How long descriptors wait for their spawn.
const WAIT: Duration = Duration::from_secs(10);
/// Descriptors that may wait at once.
const WAITING_MAX: usize = 256;

/// Descriptors that were handed over, and the connection that they came on.
pub struct Handed {
    /// Standard input, output and error.
    pub descriptors: [OwnedFd; 3],
    /// Closed by the sender when it goes away.
    pub leash: UnixStream,
    caller: Caller,
}

/// Descriptors whose spawn has not come yet.
#[derive(Default)]
pub struct Waiting {
    handed: Mutex<HashMap<Uuid, Handed>>,
}

impl Waiting {
    /// The descriptors of `token`, once, for the same caller that sent them.
    pub fn take(&self, token: Uuid, caller: &Caller) -> Option<Handed> {
        let mut handed = self.lock();
        if handed.get(&token)?.caller != *caller {
            return None;
        }
        handed.remove(&token)
    }

    fn put(&self, token: Uuid, new: Handed) -> bool {
        let mut handed = self.lock();
        if handed.len() >= WAITING_MAX || handed.contains_key(&token) {
            return false;
        }
        handed.insert(token, new);
        true
    }

    fn drop_late(&self, token: Uuid) {
        self.lock().remove(&token);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Handed>> {
        self.handed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Takes descriptors until the daemon ends.
pub async fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = daemon.clone();
                tokio::spawn(async move {
                    if let Err(error) = take(stream, &daemon).await {
                        tracing::debug!(%error, "descriptors were not taken");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept descriptors");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn take(stream: UnixStream, daemon: &Arc<Daemon>) -> Result<(), String> {
    let caller = identify(stream.as_fd(), daemon).0?;
    let received = tokio::time::timeout(WAIT, receive(&stream)).await;
    let (token, descriptors) = received.map_err(|_| "nothing came".to_owned())??;
    if matches!(caller, Caller::Agent { .. }) && !descriptors.iter().all(is_stream) {
        return Err("an agent may hand on pipes, sockets and terminals only".to_owned());
    }
    let mut leash = stream;
    leash.write_all(&[1]).await.map_err(|e| e.to_string())?;
    if daemon.stdio.put(token, Handed { descriptors, leash, caller }) {
        tokio::time::sleep(WAIT).await;
        daemon.stdio.drop_late(token);
    }
    Ok(())
}

async fn receive(stream: &UnixStream) -> Result<(Uuid, [OwnedFd; 3]), String> {
    loop {
        stream.readable().await.map_err(|e| e.to_string())?;
        match stream.try_io(Interest::READABLE, || receive_now(stream)) {
            Ok(message) => return message,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn receive_now(stream: &UnixStream) -> std::io::Result<Result<(Uuid, [OwnedFd; 3]), String>> {
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

/// Returns when the sender has closed its end.
pub async fn closed(mut leash: UnixStream) {
    let mut unused = [0u8; 16];
    while matches!(leash.read(&mut unused).await, Ok(n) if n > 0) {}
}
