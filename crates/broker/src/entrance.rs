//! Where connections come in: who it is is asked before anything is read, and nobody holds more
//! than its part.

use crate::broker::Broker;
use crate::callers::Key;
use crate::identity::{Connection, End, Known, UnixPeer};
use crate::openai::ApiError;
use crate::server;
use connections::{Entrance, Guest, Patience, Turned};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Serves on a TCP listener until the task is dropped.
pub async fn serve_tcp(broker: Arc<Broker>, listener: TcpListener) -> std::io::Result<()> {
    let routes = server::routes(broker.clone());
    connections::serve(Door { listener, broker }, routes, Patience::default()).await;
    Ok(())
}

/// Serves on a UNIX socket until the task is dropped.
pub async fn serve_unix(broker: Arc<Broker>, listener: UnixListener) -> std::io::Result<()> {
    let routes = server::routes(broker.clone());
    connections::serve(Door { listener, broker }, routes, Patience::default()).await;
    Ok(())
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
