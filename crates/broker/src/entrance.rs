//! Where connections come in: who it is is asked before anything is read, and nobody holds more
//! than its part.

use crate::identity::{Connection, End, Known, UnixPeer};
use crate::openai::ApiError;
use crate::server::Broker;
use connections::{Entrance, Full, Guest, Limits, Place, Pool, Turned, descriptors};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use uuid::Uuid;

/// Whom connections are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An agent.
    Agent(Uuid),
    /// A user of this machine, on a UNIX socket.
    User(u32),
    /// Whoever on loopback is no agent.
    Loopback,
    /// coconutd did not say who it is: nothing is served until it does.
    Unknown,
}

/// What callers may hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Connections of agents.
    pub agents: Limits,
    /// Connections of users, root's apart.
    pub users: Limits,
    /// Connections of root's, of whoever is no agent on loopback, and of those whom coconutd does
    /// not name: each of these apart.
    pub others: Limits,
    /// Bytes of requests, for each of these.
    pub bodies: Limits,
}

/// Bytes of requests that are being read or wait for their first token.
const BODIES: Limits = Limits { total: 1 << 30, each: 64 << 20, part: 2 };

impl Sizes {
    /// For a process that may have so many descriptors: a call to another server needs one more.
    pub fn for_descriptors(limit: usize) -> Sizes {
        let of = |total: usize, each, part| Limits { total: total.max(16), each, part };
        Sizes {
            agents: of(limit / 4, 1_024, 8),
            users: of(limit / 8, usize::MAX, 2),
            others: of(limit / 8, usize::MAX, 0),
            bodies: BODIES,
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes::for_descriptors(descriptors::limit())
    }
}

/// Who holds what.
#[derive(Debug)]
pub struct Callers {
    agents: Arc<Pool<Key>>,
    users: Arc<Pool<Key>>,
    root: Arc<Pool<Key>>,
    loopback: Arc<Pool<Key>>,
    unknown: Arc<Pool<Key>>,
    /// Agents' and others'.
    bodies: [Arc<Pool<Key>>; 2],
}

impl Callers {
    /// Untouched.
    pub fn new(sizes: &Sizes) -> Self {
        Callers {
            agents: Pool::new(sizes.agents),
            users: Pool::new(sizes.users),
            root: Pool::new(sizes.others),
            loopback: Pool::new(sizes.others),
            unknown: Pool::new(sizes.others),
            bodies: [Pool::new(sizes.bodies), Pool::new(sizes.bodies)],
        }
    }

    /// Connections that `key` has open.
    pub fn open(&self, key: &Key) -> usize {
        self.pool(key).held(key)
    }

    fn pool(&self, key: &Key) -> &Arc<Pool<Key>> {
        match key {
            Key::Agent(_) => &self.agents,
            Key::User(0) => &self.root,
            Key::User(_) => &self.users,
            Key::Loopback => &self.loopback,
            Key::Unknown => &self.unknown,
        }
    }

    fn take(&self, key: Key) -> Result<Place<Key>, Full> {
        self.pool(&key).take(key)
    }
}

/// A socket, and who serves on it.
pub struct Door<L> {
    /// The socket.
    pub listener: L,
    /// The broker.
    pub broker: Arc<Broker>,
}

impl<L> Door<L> {
    async fn guest(&self, end: End) -> Result<Guest<Key, Connection>, Turned> {
        let (who, known) = self.broker.identity.meet(end).await.map_err(|e| turned(&e))?;
        let key = match (known, &who.end) {
            (Known::Agent(agent), _) => Key::Agent(agent),
            (Known::Unasked, _) => Key::Unknown,
            (Known::Other, End::Unix(peer)) => Key::User(peer.uid),
            (Known::Other, End::Tcp { .. }) => Key::Loopback,
        };
        let callers = &self.broker.callers;
        let place = callers.take(key).map_err(|full| {
            let text = format!("the caller has {} connections open, as many as it may", full.held);
            turned(&ApiError::limited(text, 1).code("too_many_connections"))
        })?;
        let agent = matches!(key, Key::Agent(_));
        let bodies = callers.bodies[usize::from(!agent)].clone();
        Ok(Guest { who, place, bodies, key })
    }
}

fn turned(error: &ApiError) -> Turned {
    Turned { status: error.status.as_u16(), body: error.body() }
}

impl Entrance for Door<TcpListener> {
    type Stream = TcpStream;
    type Key = Key;
    type Who = Connection;

    async fn accept(&self) -> std::io::Result<TcpStream> {
        let (stream, _) = self.listener.accept().await?;
        // Every token is sent at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
        Ok(stream)
    }

    async fn admit(&self, stream: &TcpStream) -> Result<Guest<Key, Connection>, Turned> {
        let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else {
            return Err(turned(&ApiError::forbidden("cannot tell who is calling")));
        };
        self.guest(End::Tcp { client, server }).await
    }
}

impl Entrance for Door<UnixListener> {
    type Stream = UnixStream;
    type Key = Key;
    type Who = Connection;

    async fn accept(&self) -> std::io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    async fn admit(&self, stream: &UnixStream) -> Result<Guest<Key, Connection>, Turned> {
        let peer = UnixPeer::of(stream);
        let peer = peer.map_err(|_| turned(&ApiError::forbidden("cannot tell who is calling")))?;
        self.guest(End::Unix(peer)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_agents_takes_what_others_need() {
        let callers = Callers::new(&Sizes::for_descriptors(65_536));
        let fill = |key| std::iter::from_fn(move || Some(key));
        let mut held = Vec::new();
        for agent in 0..2_000 {
            let key = Key::Agent(Uuid::from_u128(agent));
            held.extend(fill(key).map_while(|key| callers.take(key).ok()));
        }
        assert!(held.len() <= 65_536 / 4);
        for key in [Key::User(0), Key::User(1000), Key::Loopback, Key::Unknown] {
            assert!(callers.take(key).is_ok(), "{key:?}");
        }
    }
}
