//! Descriptors that were handed over for foreground agents, until their spawn takes them.

use crate::caller::Caller;
use crate::callers::Key;
use connections::Place;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use uuid::Uuid;

/// Descriptors that were handed over, and the connection that they came on.
pub struct Handed {
    /// Standard input, output and error.
    pub descriptors: [OwnedFd; 3],
    /// Closed by the sender when it goes away.
    pub leash: Leash,
    caller: Caller,
    /// Given back when somebody takes them, or nobody did.
    _waiting: Place<Key>,
}

impl Handed {
    /// `waiting` is the caller's place among those whose spawn has not come yet.
    pub fn new(
        descriptors: [OwnedFd; 3],
        leash: Leash,
        caller: Caller,
        waiting: Place<Key>,
    ) -> Self {
        Handed { descriptors, leash, caller, _waiting: waiting }
    }
}

/// The connection that descriptors came on; it holds its caller's place.
#[derive(Debug)]
pub struct Leash {
    stream: UnixStream,
    _place: Option<Place<Key>>,
}

impl AsFd for Leash {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Leash {
    /// A connection, and its caller's place among those.
    pub fn new(stream: UnixStream, place: Place<Key>) -> Self {
        Leash { stream, _place: Some(place) }
    }

    /// One that an earlier daemon has held. It counts for nobody: there are no more of them than agents that run.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn inherited(connection: OwnedFd) -> std::io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(connection);
        stream.set_nonblocking(true)?;
        Ok(Leash { stream: UnixStream::from_std(stream)?, _place: None })
    }

    /// Returns when the sender has closed its end.
    pub async fn closed(mut self) {
        let mut unused = [0u8; 16];
        while matches!(self.stream.read(&mut unused).await, Ok(n) if n > 0) {}
    }
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

    /// Keeps descriptors, and says so to the sender.
    pub fn put(&self, token: Uuid, new: Handed) -> bool {
        match self.lock().entry(token) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                // Under the lock: the spawn that follows the answer at once finds them.
                let told = new.leash.stream.try_write(&[1]).is_ok();
                if told {
                    free.insert(new);
                }
                told
            }
        }
    }

    /// Drops what nobody has taken.
    pub fn drop_late(&self, token: Uuid) {
        self.lock().remove(&token);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Handed>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
