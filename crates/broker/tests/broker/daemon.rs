//! The broker's half of the protocol with coconutd, against a coconutd of this test's own: lanes,
//! peers, limits, usage records; and that nobody is served while the lane stream is lost.

use crate::common::{Served, chat, embedded, json, policy, serve};
use api::broker::{InferLimits, Lane, LaneEvent, SettledCalls, Usage, Waiting};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use coconut_broker::admission::Policy;
use coconut_broker::identity::Identity;
use coconut_broker::identity::lanes::LaneBook;
use coconut_broker::remote::Remote;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ports::Backend;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
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
    /// Who waits, as told so far.
    waiting: Mutex<Option<BTreeSet<Uuid>>>,
}

async fn lanes(State(d): State<Arc<Daemon>>) -> Result<Body, StatusCode> {
    let events = d.stream.lock().unwrap().take().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Body::from_stream(stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(serde_json::to_string(&event).unwrap() + "\n"), events))
    })))
}

async fn peer(State(d): State<Arc<Daemon>>) -> Result<Json<api::broker::Peer>, StatusCode> {
    let agent = d.peer.lock().unwrap().ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(api::broker::Peer { agent }))
}

async fn usage(State(d): State<Arc<Daemon>>, Json(told): Json<SettledCalls>) -> StatusCode {
    d.usage.lock().unwrap().extend(told.calls);
    StatusCode::NO_CONTENT
}

async fn waiting(State(d): State<Arc<Daemon>>, Json(told): Json<Waiting>) -> StatusCode {
    let mut waiting = d.waiting.lock().unwrap();
    if told.afresh {
        *waiting = Some(BTreeSet::new());
    }
    let Some(waiting) = &mut *waiting else { return StatusCode::BAD_REQUEST };
    waiting.extend(told.began);
    waiting.retain(|agent| !told.ended.contains(agent));
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
    world_of(embedded(2), policy(2)).await
}

/// A server that answers a token and then computes for ever.
async fn endless() -> Arc<dyn Backend> {
    async fn answer(Json(body): Json<serde_json::Value>) -> Response {
        if body["stream"] != true {
            return std::future::pending().await;
        }
        let first = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
        let first = stream::once(async move { Ok::<_, Infallible>(format!("{first}\n\n")) });
        Body::from_stream(first.chain(stream::pending())).into_response()
    }
    let routes = Router::new().route(CHAT, post(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Arc::new(Remote::new(&url, None, true).unwrap())
}

async fn world_of(backend: Arc<dyn Backend>, policy: Policy) -> World {
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
        .route("/v1/broker/waiting", post(waiting))
        .with_state(daemon.clone());
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let book = LaneBook::new(socket.clone(), Duration::from_millis(50));
    tokio::spawn(book.clone().follow());
    let usage = crate::common::to_daemon(socket, dir.path(), book.watch());
    let identity = Identity::Daemon { book, host_tenant: None };
    let broker = serve(backend, identity, usage, policy).await;
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
    for looks in 0.. {
        let records = w.daemon.usage.lock().unwrap().clone();
        let tried = |r: &Usage| r.refused.as_ref().is_some_and(|why| why.contains("no infer"));
        if let Some(tried) = records.iter().find(|record| tried(record)) {
            assert_eq!((tried.agent, tried.tenant.as_str()), (AGENT, "maya"));
            break;
        }
        assert!(looks < PATIENCE, "what was tried is not on record");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

impl World {
    /// Asks for a stream until there is one, and takes its first event.
    async fn stream(&self) -> Incoming {
        for _ in 0..PATIENCE {
            let answer = self.broker.post_tcp(CHAT, &chat(9, r#","stream":true"#), None).await;
            if answer.status() == 200 {
                let mut body = answer.into_body();
                body.frame().await.unwrap().unwrap();
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no stream was given");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_right_loses_what_runs_by_it() {
    let policy = Policy { slots: 4, yields: false, fifo: false, max_queued: 100 };
    let w = world_of(endless().await, policy).await;
    w.events.send(LaneEvent::Synced).unwrap();
    let other = InferLimits { models: vec!["other".into()], ..limits() };
    // Taken, narrowed to another model, ended: each cuts off what runs.
    for event in [lane(None), lane(Some(other.clone())), LaneEvent::Gone { agent: AGENT }] {
        w.events.send(lane(Some(limits()))).unwrap();
        let stream = w.stream().await;
        w.events.send(event.clone()).unwrap();
        let rest = stream.collect().await.unwrap().to_bytes();
        let rest = String::from_utf8(rest.to_vec()).unwrap();
        assert!(rest.contains("capability_revoked") && !rest.contains("[DONE]"), "{rest}");
        w.until(403).await;
    }
    // The control: a change that leaves the right as it is cuts nobody off.
    w.events.send(lane(Some(limits()))).unwrap();
    let mut stream = w.stream().await;
    let more = InferLimits { models: vec!["*".into(), "other".into()], ..limits() };
    w.events.send(lane(Some(more))).unwrap();
    let next = tokio::time::timeout(Duration::from_millis(300), stream.frame()).await;
    assert!(next.is_err(), "the stream ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_turn_loses_it_with_the_right() {
    // In turn: no slot is kept for newcomers.
    let policy = Policy { slots: 2, yields: false, fifo: true, max_queued: 100 };
    let w = world_of(endless().await, policy).await;
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    let streams = [w.stream().await, w.stream().await];
    let body = chat(9, "");
    let all = join_all((0..4).map(|_| w.broker.post_tcp(CHAT, &body, None)));
    let taken = async {
        while w.broker.depth().queued < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        w.events.send(lane(None)).unwrap();
    };
    let (answers, ()) = tokio::join!(all, taken);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [403; 4]);
    for stream in streams {
        assert!(stream.collect().await.is_ok(), "it is told, not torn");
    }
    let left = || w.broker.depth();
    for _ in 0..PATIENCE {
        if left().running == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((left().queued, left().running), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ordinary_request_is_served_under_a_small_limit() {
    let w = world().await;
    w.events.send(lane(Some(InferLimits { tokens_per_minute: Some(120), ..limits() }))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    let plain = chat(1, r#","ignore_eos":true"#).replace(r#","max_tokens":1"#, "");
    let mut served = None;
    for _ in 0..PATIENCE {
        let answer = w.broker.post_tcp(CHAT, &plain, None).await;
        if answer.status() != 503 {
            served = Some(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = served.unwrap();
    assert_eq!(answer.status(), 200);
    let used = json(answer).await["usage"]["total_tokens"].as_u64().unwrap();
    assert!((100..=120).contains(&used), "{used} of 120");
    let answer = w.broker.post_tcp(CHAT, &plain, None).await;
    assert_eq!(answer.status(), 429);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((5..=60).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_asks_who_it_is_too() {
    let w = world().await;
    let list = || async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", w.broker.port)).await.unwrap();
        crate::common::get_over(stream, "/v1/models").await
    };
    assert_eq!(list().await.status(), 503, "before the lanes are known");
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    w.until(200).await;
    assert_eq!(json(list().await).await["data"][0]["id"], model::NAME);
    w.events.send(lane(None)).unwrap();
    w.until(403).await;
    assert_eq!(list().await.status(), 403);
}

/// Looks until those who wait, as the daemon knows it, are these.
async fn until_waiting(w: &World, who: &[Uuid]) {
    let wanted = Some(who.iter().copied().collect());
    for _ in 0..PATIENCE {
        if *w.daemon.waiting.lock().unwrap() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} wait, not {wanted:?}", w.daemon.waiting.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_model_is_told_and_told_anew_to_a_daemon_that_has_forgotten() {
    let mut w = world_of(endless().await, policy(1)).await;
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    until_waiting(&w, &[]).await;
    let asking = w.broker.post_tcp(CHAT, &chat(4, r#","stream":true"#), None).await;
    until_waiting(&w, &[AGENT]).await;
    // The next daemon knows nothing.
    let (events, receiver) = unbounded_channel();
    *w.daemon.waiting.lock().unwrap() = None;
    *w.daemon.stream.lock().unwrap() = Some(receiver);
    w.events = events;
    w.events.send(lane(Some(limits()))).unwrap();
    w.events.send(LaneEvent::Synced).unwrap();
    until_waiting(&w, &[AGENT]).await;
    drop(asking);
    until_waiting(&w, &[]).await;
}
