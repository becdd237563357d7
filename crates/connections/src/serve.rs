//! Accepting, and serving HTTP/1.1 to whoever has a place.

use crate::body::Watched;
use crate::pool::{Place, Pool};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tower_service::Service;

/// Connections whose callers are being asked for at once; more wait to be accepted.
const UNKNOWN: usize = 32;
/// Bytes of one connection that are buffered each way; a request's head must fit.
const BUFFER: usize = 64 << 10;
/// Callers that are told at once why they are turned away.
const FAREWELLS: usize = 64;
/// How long that may take: their request is read before it is answered, as HTTP wants it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of such a request that are read.
const REQUEST: usize = 16 << 10;
/// Pause after an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a connection may stay with half of something sent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, from the end of the last answer on.
    pub head: Duration,
    /// For the next part of a request's body.
    pub body: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { head: Duration::from_secs(60), body: Duration::from_secs(60) }
    }
}

/// A caller with its place.
pub struct Guest<K: Eq + Hash + Clone, W> {
    /// What routes get as [`ConnectInfo`].
    pub who: W,
    /// Held as long as the connection.
    pub place: Place<K>,
    /// Bytes of its requests are counted here.
    pub bodies: Arc<Pool<K>>,
    /// Under this name.
    pub key: K,
}

/// The answer to somebody who is not let in.
#[derive(Clone, Debug)]
pub struct Turned {
    /// HTTP status.
    pub status: u16,
    /// A JSON document.
    pub body: String,
}

/// Where connections come in.
pub trait Entrance: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;
    /// What callers are counted by.
    type Key: Eq + Hash + Clone + Send + Sync + Unpin + 'static;
    /// What routes are told.
    type Who: Clone + Send + Sync + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Who it is, with a place; or why not.
    fn admit(
        &self,
        stream: &Self::Stream,
    ) -> impl Future<Output = Result<Guest<Self::Key, Self::Who>, Turned>> + Send;
}

/// Serves `router` until the task is dropped.
pub async fn serve<E: Entrance>(entrance: E, router: Router, patience: Patience) {
    let entrance = Arc::new(entrance);
    let unknown = Arc::new(Semaphore::new(UNKNOWN));
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    loop {
        // Never closed.
        let Ok(asking) = unknown.clone().acquire_owned().await else { return };
        let stream = match entrance.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (entrance, router, farewells) = (entrance.clone(), router.clone(), farewells.clone());
        tokio::spawn(async move {
            let admitted = entrance.admit(&stream).await;
            match admitted {
                Ok(guest) => {
                    drop(asking);
                    attend(stream, guest, router, patience).await;
                }
                Err(turned) => {
                    let told = farewells.try_acquire_owned();
                    drop(asking);
                    // Whoever would wait to be told is closed without a word.
                    if told.is_ok() {
                        turn_away(stream, &turned).await;
                    }
                }
            }
        });
    }
}

/// Says why, as far as the other end listens, and closes.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, turned: &Turned) {
    let Turned { status, body } = turned;
    let text = format!(
        "HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        let mut request = vec![0; REQUEST];
        if stream.read(&mut request).await? == 0 {
            return Ok(());
        }
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not listen is closed all the same.
    let _ = tokio::time::timeout(FAREWELL, said).await;
}

async fn attend<S, K, W>(stream: S, guest: Guest<K, W>, router: Router, patience: Patience)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    K: Eq + Hash + Clone + Send + Sync + Unpin + 'static,
    W: Clone + Send + Sync + 'static,
{
    let Guest { who, place, bodies, key } = guest;
    let service = service_fn(move |request: Request<Incoming>| {
        let held = Arc::new(Mutex::new(bodies.empty(key.clone())));
        let watched = held.clone();
        let mut request = request.map(|body| Body::new(Watched::new(body, watched, patience.body)));
        request.extensions_mut().insert(ConnectInfo(who.clone()));
        let answer = router.clone().call(request);
        async move {
            let answer = answer.await;
            drop(held);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection has ended");
    }
    drop(place);
}
