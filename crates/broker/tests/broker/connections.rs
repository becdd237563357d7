//! An agent that opens all the connections it can get, and another that asks meanwhile; with the
//! control that has no limits.

use crate::common::{Served, chat, embedded, policy, serve_within};
use api::broker::{InferLimits, Lane, LaneEvent, Peer};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use coconut_broker::accounts::UsageLog;
use coconut_broker::callers::{Key, Sizes};
use coconut_broker::identity::Identity;
use coconut_broker::identity::lanes::LaneBook;
use connections::Limits;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixListener};
use uuid::Uuid;

const CHAT: &str = "/v1/chat/completions";
const HOARDER: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const MANY: usize = 300;

fn lane(agent: Uuid) -> String {
    let infer = InferLimits {
        models: vec!["*".into()],
        tokens_per_minute: None,
        concurrency: None,
        context: None,
    };
    let lane = Lane {
        agent,
        name: "agent".into(),
        tenant: agent.to_string(),
        tenant_weight: 100,
        weight: 100,
        above: Vec::new(),
        infer: Some(infer),
    };
    serde_json::to_string(&LaneEvent::Set { lane }).unwrap() + "\n"
}

/// A coconutd that knows two agents, and says that every connection is `peer`'s.
async fn coconutd(socket: &std::path::Path, peer: Arc<Mutex<Uuid>>) {
    let lanes = || async {
        let synced = serde_json::to_string(&LaneEvent::Synced).unwrap() + "\n";
        let first = futures_util::stream::iter(
            [lane(HOARDER), lane(OTHER), synced].map(Ok::<_, std::io::Error>),
        );
        let stream = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        axum::body::Body::from_stream(stream)
    };
    let name = |State(peer): State<Arc<Mutex<Uuid>>>| async move {
        Json(Peer { agent: *peer.lock().unwrap() })
    };
    let routes = Router::new()
        .route("/v1/broker/lanes", get(lanes))
        .route("/v1/broker/peer", get(name))
        .with_state(peer);
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
}

async fn hoard(broker: &Served) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
        let _ = stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await;
        streams.push(stream);
    }
    // Each is counted or closed.
    for _ in 0..12_000 {
        if broker.broker.callers.open(&Key::Agent(HOARDER)) + closed(&streams) == MANY {
            return streams;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("what is open is not what is counted");
}

fn closed(streams: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| {
        let mut bytes = [0; 1024];
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    };
    streams.iter().filter(is_closed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hoards_connections_keeps_nobody_else_out() {
    let total = 64;
    let limited = Limits { total, each: 32, part: 8 };
    let control = Limits { total, ..Limits::NONE };
    for (agents, is_limited) in [(limited, true), (control, false)] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let peer = Arc::new(Mutex::new(HOARDER));
        coconutd(&socket, peer.clone()).await;
        let book = LaneBook::new(socket, Duration::from_millis(50));
        tokio::spawn(book.clone().follow());
        while !book.is_synced() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let identity = Identity::Daemon { book, host_tenant: None };
        let sizes = Sizes { agents, ..Sizes::default() };
        let broker = serve_within(embedded(1), identity, UsageLog::none(), policy(1), &sizes).await;
        let streams = hoard(&broker).await;
        let held = MANY - closed(&streams);
        assert_eq!(held, if is_limited { 5 } else { total });
        *peer.lock().unwrap() = OTHER;
        let answer = broker.post_tcp(CHAT, &chat(1, ""), None).await;
        assert_eq!(answer.status(), if is_limited { 200 } else { 429 });
        assert_eq!(MANY - closed(&streams), held, "all that it held is held still");
    }
}
