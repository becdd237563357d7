//! The broker's half of the protocol with coconutd, against a coconutd of this test's own: lanes,
//! peers, limits, usage records; and that nobody is served while the lane stream is lost.
#![allow(clippy::unwrap_used)]

mod common;

use api::broker::{InferLimits, Lane, LaneEvent, Usage};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use coconut_broker::identity::Identity;
use coconut_broker::identity::lanes::LaneBook;
use coconut_broker::usage::UsageLog;
use common::{Served, chat, embedded, json, policy, serve};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

const CHAT: &str = "/v1/chat/completions";
const AGENT: Uuid = Uuid::from_u128(0x0198_c0de);

/// A coconutd that says whatever the test wants.
#[derive(Default)]
struct Daemon {
    peer: Mutex<Option<Uuid>>,
    stream: Mutex<Option<UnboundedReceiver<LaneEvent>>>,
    usage: Mutex<Vec<Usage>>,
}

async fn lanes(State(d): State<Arc<Daemon>>) -> Result<Body, StatusCode> {
    let events = d.stream.lock().unwrap().take().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Body::from_stream(futures_util::stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(serde_json::to_string(&event).unwrap() + "\n"), events))
    })))
}

async fn peer(State(d): State<Arc<Daemon>>) -> Result<Json<api::broker::Peer>, StatusCode> {
    let agent = d.peer.lock().unwrap().ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(api::broker::Peer { agent }))
}

async fn usage(State(d): State<Arc<Daemon>>, Json(mut records): Json<Vec<Usage>>) -> StatusCode {
    d.usage.lock().unwrap().append(&mut records);
    StatusCode::NO_CONTENT
}

struct World {
    daemon: Arc<Daemon>,
    events: UnboundedSender<LaneEvent>,
    broker: Served,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn lane(limits: Option<InferLimits>) -> LaneEvent {
    LaneEvent::Set {
        lane: Lane {
            agent: AGENT,
            name: "researcher".into(),
            tenant: "maya".into(),
            tenant_weight: 100,
            weight: 100,
            above: Vec::new(),
            infer: limits,
        },
    }
}

fn limits() -> InferLimits {
    InferLimits {
        models: vec!["*".into()],
        tokens_per_minute: None,
        concurrency: None,
        context: None,
    }
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let daemon = Arc::new(Daemon::default());
    *daemon.peer.lock().unwrap() = Some(AGENT);
    let (events, receiver) = unbounded_channel();
    *daemon.stream.lock().unwrap() = Some(receiver);
    let routes = Router::new()
        .route("/v1/broker/lanes", get(lanes))
        .route("/v1/broker/peer", get(peer))
        .route("/v1/broker/usage", post(usage))
        .with_state(daemon.clone());
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let book = LaneBook::new(socket.clone());
    tokio::spawn(book.clone().follow());
    let identity = Identity::Daemon { book, host_tenant: None };
    let broker = serve(embedded(2), identity, UsageLog::to_daemon(socket), policy(2)).await;
    World { daemon, events, broker, server, _dir: dir }
}

/// Looks, 20 ms apart at least: what has not come then does not come.
const PATIENCE: u32 = 15_000;

impl World {
    async fn ask(&self) -> (u16, serde_json::Value) {
        let answer = self.broker.post_tcp(CHAT, &chat(4, r#","ignore_eos":true"#), None).await;
        (answer.status().as_u16(), json(answer).await)
    }

    /// Asks until the status is this one.
    async fn until(&self, status: u16) -> serde_json::Value {
        for _ in 0..PATIENCE {
            let (got, body) = self.ask().await;
            if got == status {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never answered {status}; last: {:?}", self.ask().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_served_in_its_lane_and_the_use_is_recorded() {
    let w = world().await;
    assert_eq!(w.ask().await.0, 503, "before the lanes are known");
    w.events.send(lane(Some(limits()))).unwrap();
    assert_eq!(w.ask().await.0, 503, "before the first part of the stream is whole");
    w.events.send(LaneEvent::Synced).unwrap();
    w.until(200).await;
    for _ in 0..PATIENCE {
        let records = w.daemon.usage.lock().unwrap().clone();
        if let Some(used) = records.iter().find(|u| u.refused.is_none()) {
            assert_eq!((used.agent, used.tenant.as_str()), (AGENT, "maya"));
            assert_eq!(used.completion_tokens, 4);
            assert!(used.prompt_tokens > 4 && used.first_token_us > 0 && used.time_ns > 0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no usage record came");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_capability_does_not_cover_is_refused_and_recorded() {
    let w = world().await;
    w.events.send(lane(None)).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    let body = w.until(403).await;
    assert_eq!(body["error"]["code"], "capability_missing");
    w.events.send(lane(Some(InferLimits { models: vec!["other".into()], ..limits() }))).unwrap();
    for _ in 0..PATIENCE {
        if w.ask().await.1["error"]["code"] == "model_not_allowed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(w.ask().await.1["error"]["code"], "model_not_allowed");
    w.events.send(lane(Some(InferLimits { tokens_per_minute: Some(60), ..limits() }))).unwrap();
    let body = w.until(429).await;
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    w.events.send(LaneEvent::Gone { agent: AGENT }).unwrap();
    w.until(403).await;
    let refused = w.daemon.usage.lock().unwrap().iter().filter(|u| u.refused.is_some()).count();
    assert!(refused > 0, "refusals are recorded too");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_agent_is_refused_on_both_sockets() {
    let w = world().await;
    w.events.send(LaneEvent::Synced).unwrap();
    *w.daemon.peer.lock().unwrap() = None;
    w.until(403).await;
    let answer = w.broker.post(CHAT, &chat(1, "")).await;
    assert_eq!(answer.status(), 403, "this test's process is in no agent's cgroup");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_while_the_stream_is_lost() {
    let w = world().await;
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    w.until(200).await;
    let World { daemon, events, broker, server, _dir } = w;
    drop(events);
    let (again, receiver) = unbounded_channel();
    let w = World { daemon, events: again, broker, server, _dir };
    w.until(503).await;
    *w.daemon.stream.lock().unwrap() = Some(receiver);
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    w.until(200).await;
    w.server.abort();
}
