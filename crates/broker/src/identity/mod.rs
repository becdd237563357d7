//! Who calls: from the socket's peer, never from anything that the caller can choose.

pub mod lanes;
pub mod limits;
mod peer;
pub mod right;

use crate::fair::{Level, Lineage};
use crate::openai::ApiError;
use api::broker::InferLimits;
use axum::http::HeaderMap;
use lanes::LaneBook;
use limits::AgentState;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

pub use peer::UnixPeer;

/// The far end of a connection.
#[derive(Clone, Debug)]
pub enum End {
    /// A process on a UNIX socket, as the kernel names it.
    Unix(UnixPeer),
    /// A TCP connection's two ends.
    Tcp {
        /// The caller's end.
        client: SocketAddr,
        /// Ours.
        server: SocketAddr,
    },
}

/// A connection: its far end, and who that is, once it was asked.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The far end.
    pub end: End,
    /// `Some(None)`: looked up, and it is no agent.
    agent: Arc<OnceCell<Option<Uuid>>>,
}

/// What was learnt of a connection when it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is an agent's.
    Agent(Uuid),
    /// It is no agent's.
    Other,
    /// Nobody could be asked; the first request asks again.
    Unasked,
}

/// Who asks, and what it may.
#[derive(Clone, Debug)]
pub struct Payer {
    /// The agent; nil for a caller that is no agent.
    pub agent: Uuid,
    /// Who pays, and whose part it is.
    pub lane: Lineage,
    /// Limits of its capability; none is unlimited.
    pub limits: Option<InferLimits>,
    /// What it has in flight and has used.
    pub state: Arc<AgentState>,
    /// Why it may ask for nothing.
    pub denied: Option<ApiError>,
    /// What it may, as that changes; none for a caller that is no agent.
    pub infer: Option<watch::Receiver<Option<InferLimits>>>,
}

/// Where identities come from.
pub enum Identity {
    /// coconutd says who is an agent and which lane it has.
    Daemon {
        /// The lanes.
        book: Arc<LaneBook>,
        /// What local processes that are no agents are served as; none refuses them.
        host_tenant: Option<String>,
    },
    /// No daemon: the peer's user is the tenant.
    Standalone {
        /// A trusted front-end in front of us names the tenant in this header.
        trusted_header: Option<String>,
    },
}

/// Weights where nobody has given any.
const WEIGHT: u32 = crate::fair::DEFAULT_WEIGHT;

/// The agent at the other end, if it is one.
async fn look_up(book: &LaneBook, end: &End) -> Result<Option<Uuid>, ApiError> {
    let forbidden = |why: String| {
        tracing::warn!(why, "cannot tell who a caller is");
        ApiError::forbidden(format!("cannot tell who is calling: {why}"))
    };
    match end {
        End::Unix(peer) => {
            let peer = peer.clone();
            // It reads /proc: away from the connections.
            let asked = tokio::task::spawn_blocking(move || peer.agent()).await;
            asked.map_err(|e| forbidden(e.to_string()))?.map_err(|e| forbidden(e.to_string()))
        }
        End::Tcp { client, server } => book.peer(*client, *server).await,
    }
}

impl Identity {
    /// A connection that has just come in.
    ///
    /// # Errors
    /// When nothing can be known of it any more.
    pub async fn meet(&self, end: End) -> Result<(Connection, Known), ApiError> {
        let Self::Daemon { book, .. } = self else {
            return Ok((Connection { end, agent: Arc::default() }, Known::Other));
        };
        match (look_up(book, &end).await, &end) {
            (Ok(agent), _) => {
                let known = agent.map_or(Known::Other, Known::Agent);
                Ok((Connection { end, agent: Arc::new(OnceCell::from(agent)) }, known))
            }
            (Err(_), End::Tcp { .. }) => {
                Ok((Connection { end, agent: Arc::default() }, Known::Unasked))
            }
            (Err(error), End::Unix(_)) => Err(error),
        }
    }

    /// Who is at the other end.
    pub async fn caller(&self, c: &Connection, headers: &HeaderMap) -> Result<Payer, ApiError> {
        match self {
            Self::Standalone { trusted_header } => {
                standalone(trusted_header.as_deref(), c, headers)
            }
            Self::Daemon { book, host_tenant } => {
                book.synced().await?;
                match c.agent.get_or_try_init(|| look_up(book, &c.end)).await? {
                    Some(agent) => book.caller(*agent),
                    None => host(host_tenant.as_deref()),
                }
            }
        }
    }
}

fn plain(tenant: String, key: String) -> Payer {
    let lane =
        Lineage { tenant: Level::new(tenant, WEIGHT), agents: vec![Level::new(key, WEIGHT)] };
    let (agent, state) = (Uuid::nil(), Arc::default());
    Payer { agent, lane, limits: None, state, denied: None, infer: None }
}

fn host(tenant: Option<&str>) -> Result<Payer, ApiError> {
    let Some(tenant) = tenant else {
        return Err(ApiError::forbidden(
            "the caller is no agent\nhint: start it with `coconut run --cap infer -- CMD`",
        ));
    };
    Ok(plain(tenant.to_owned(), "host".to_owned()))
}

fn standalone(
    header: Option<&str>,
    c: &Connection,
    headers: &HeaderMap,
) -> Result<Payer, ApiError> {
    if let Some(name) = header {
        let value = headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
        let missing = || ApiError::invalid(format!("the trusted header {name} is missing"));
        let tenant = value.ok_or_else(missing)?;
        return Ok(plain(tenant.to_owned(), tenant.to_owned()));
    }
    Ok(match &c.end {
        End::Unix(peer) => plain(format!("uid-{}", peer.uid), format!("pid-{}", peer.pid)),
        End::Tcp { .. } => plain("local-tcp".to_owned(), "local-tcp".to_owned()),
    })
}
