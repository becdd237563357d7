//! The broker in front of another server, a model of one that does what the prompt says: what reaches it, what is
//! counted, what the caller gets.

use crate::common::{Served, json, serve_within, text};
use api::broker::Usage;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use coconut_broker::accounts::UsageLog;
use coconut_broker::admission::Policy;
use coconut_broker::callers::Sizes;
use coconut_broker::identity::Identity;
use coconut_broker::remote::Remote;
use connections::Limits;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

const CHAT: &str = "/v1/chat/completions";
const TOKENS: u64 = 80;

/// What the server was sent.
type Seen = Arc<Mutex<Vec<Value>>>;

fn chunk(choices: &Value, usage: Option<u64>) -> String {
    let mut chunk = json!({ "id": "x", "object": "chat.completion.chunk", "choices": choices });
    if let Some(n) = usage {
        chunk["usage"] =
            json!({ "prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n });
    }
    // As Python writes it, with blanks.
    let spaced = chunk.to_string().replace("\":", "\": ");
    format!("data: {spaced}\n\n")
}

/// So many tokens in the shape that the prompt names.
fn deltas(shape: &str, n: u64) -> Vec<Value> {
    match shape {
        "tools" => (0..n)
            .map(|i| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": format!("a{i}") } }] }))
            .collect(),
        "reasoning" => (0..n).map(|i| json!({ "reasoning_content": format!("r{i}") })).collect(),
        "many" => (0..n.div_ceil(8)).map(|i| json!({ "content": format!("t{i:02} ").repeat(8) })).collect(),
        _ => (0..n).map(|i| json!({ "content": format!("t{i}") })).collect(),
    }
}

async fn answer(State(seen): State<Seen>, Json(body): Json<Value>) -> Response {
    seen.lock().unwrap().push(body.clone());
    let shape = body["messages"][0]["content"].as_str().unwrap().to_owned();
    if shape == "endless" {
        return std::future::pending().await;
    }
    if shape == "busy" {
        let retry = [("retry-after", "17")];
        return (StatusCode::TOO_MANY_REQUESTS, retry, "{\"error\":{}}").into_response();
    }
    let n = TOKENS.min(body["max_tokens"].as_u64().unwrap_or(TOKENS));
    if body["stream"] != true {
        let message = json!({ "role": "assistant", "content": "t ".repeat(n as usize) });
        return Json(json!({ "choices": [{ "index": 0, "message": message }],
            "usage": { "prompt_tokens": 5, "completion_tokens": n } }))
        .into_response();
    }
    let mut events: String = deltas(&shape, n)
        .iter()
        .map(|delta| chunk(&json!([{ "index": 0, "delta": delta, "finish_reason": null }]), None))
        .collect();
    let end = json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]);
    events += &chunk(&end, (shape == "within").then_some(n));
    if shape == "broken" {
        return ([("content-type", "text/event-stream")], events).into_response();
    }
    if body["stream_options"]["include_usage"] == true && shape != "within" && shape != "silent" {
        events += &chunk(&json!([]), Some(n));
    }
    events += "data: [DONE]\n\n";
    ([("content-type", "text/event-stream")], events).into_response()
}

async fn models() -> Json<Value> {
    Json(json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }))
}

struct World {
    broker: Served,
    seen: Seen,
    records: UnboundedReceiver<Usage>,
    server: tokio::task::JoinHandle<()>,
}

async fn world(salted: bool) -> World {
    world_within(salted, &Sizes::default()).await
}

async fn world_within(salted: bool, sizes: &Sizes) -> World {
    let seen = Seen::default();
    let routes = Router::new()
        .route(CHAT, post(answer))
        .route("/v1/models", get(models))
        .with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let backend = Arc::new(Remote::new(&url, None, salted).unwrap());
    let identity = Identity::Standalone { trusted_header: Some("x-tenant-id".to_owned()) };
    let (usage, records) = UsageLog::channel();
    // In turn: no slot is kept for newcomers.
    let policy = Policy { slots: 4, yields: false, fifo: true, max_queued: 100 };
    let broker = serve_within(backend, identity, usage, policy, sizes).await;
    World { broker, seen, records, server }
}

fn request(shape: &str, more: &Value) -> String {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": shape }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

impl World {
    async fn ask(&self, tenant: &str, body: &str) -> hyper::Response<hyper::body::Incoming> {
        self.broker.post_tcp(CHAT, body, Some(tenant)).await
    }

    fn last(&self) -> Value {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_decides_about_others_never_reaches_the_engine() {
    let w = world(true).await;
    let more = json!({ "priority": -9, "cache_salt": "victim", "id_slot": 0, "kv_transfer_params": {},
        "top_k": 3, "max_tokens": 2 });
    let mut salts = Vec::new();
    for tenant in ["maya", "noor", "maya"] {
        let answer = w.ask(tenant, &request("plain", &more)).await;
        assert_eq!(answer.status(), 200);
        let dropped = answer.headers()["coconut-dropped-fields"].to_str().unwrap().to_owned();
        assert_eq!(dropped, "cache_salt, id_slot, kv_transfer_params, priority");
        let seen = w.last();
        assert_eq!((&seen["top_k"], &seen["max_tokens"]), (&json!(3), &json!(2)));
        for field in ["priority", "id_slot", "kv_transfer_params"] {
            assert_eq!(seen.get(field), None, "{field}");
        }
        salts.push(seen["cache_salt"].as_str().unwrap().to_owned());
    }
    assert!(salts[0] == salts[2] && salts[0] != salts[1] && salts[0] != "victim", "{salts:?}");
    // A server that refuses what it does not know gets none.
    let w = world(false).await;
    w.ask("maya", &request("plain", &more)).await;
    assert_eq!(w.last().get("cache_salt"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_is_on_record_in_whatever_shape_it_comes() {
    let mut w = world(true).await;
    for shape in ["plain", "tools", "reasoning", "many", "within"] {
        let body = request(shape, &json!({ "stream": true, "max_tokens": TOKENS }));
        let events = text(w.ask("maya", &body).await).await;
        assert!(events.ends_with("data: [DONE]\n\n"), "{shape}");
        assert!(!events.contains("usage"), "{shape}: nobody asked for it");
        let record = w.records.recv().await.unwrap();
        assert_eq!(u64::from(record.completion_tokens), TOKENS, "{shape}");
        assert_eq!((record.prompt_tokens, record.refused), (5, None), "{shape}");
    }
    let whole = json!({ "max_tokens": TOKENS });
    assert_eq!(w.ask("maya", &request("plain", &whole)).await.status(), 200);
    // The record follows when the answer has gone.
    assert_eq!(u64::from(w.records.recv().await.unwrap().completion_tokens), TOKENS);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_does_not_count_the_text_is() {
    let mut w = world(true).await;
    for shape in ["silent", "broken"] {
        let body = request(shape, &json!({ "stream": true, "max_tokens": TOKENS }));
        text(w.ask("maya", &body).await).await;
        let record = w.records.recv().await.unwrap();
        assert_eq!(u64::from(record.completion_tokens), TOKENS, "{shape}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_early_has_what_was_written_on_record() {
    let mut w = world(true).await;
    let body = request("plain", &json!({ "stream": true }));
    let mut stream = w.ask("maya", &body).await.into_body();
    stream.frame().await.unwrap().unwrap();
    drop(stream);
    let record = w.records.recv().await.unwrap();
    assert!(record.completion_tokens >= 1, "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_in_the_queue_is_on_record() {
    let mut w = world(true).await;
    let (endless, plain) = (request("endless", &json!({})), request("plain", &json!({})));
    // Four slots are taken, so the fifth waits.
    let taken = join_all((0..4).map(|_| w.ask("maya", &endless)));
    let given_up = async {
        let depth = || w.broker.depth();
        while depth().running < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waits = async {
            while depth().queued < 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = w.ask("maya", &plain) => panic!("{}", answer.status()),
            () = waits => {}
        }
        // It is noticed while the others still hold their slots: else its turn would come.
        while depth().queued > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = taken => panic!("an endless call ended"),
        () = given_up => {}
    }
    let mut records = Vec::new();
    while records.len() < 5 {
        let record = w.records.recv().await.unwrap();
        records.push((record.refused.unwrap(), record.completion_tokens));
    }
    let waited = ("the caller went away before its turn".to_owned(), 0);
    assert_eq!(records.iter().filter(|record| **record == waited).count(), 1, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_usage_gets_the_servers_own_events() {
    let w = world(true).await;
    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let events = text(w.ask("maya", &request("plain", &more)).await).await;
    let last = events.lines().filter_map(|l| l.strip_prefix("data: {")).next_back().unwrap();
    let last: Value = serde_json::from_str(&format!("{{{last}")).unwrap();
    assert_eq!(last["usage"]["completion_tokens"], TOKENS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_says_when_to_come_again() {
    let mut w = world(true).await;
    let answer = w.ask("maya", &request("busy", &json!({}))).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "17");
    let refused = w.records.recv().await.unwrap().refused.unwrap();
    assert!(refused.contains("429"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_when_the_server_is_gone() {
    let w = world(true).await;
    let health = || async { crate::common::get(&w.broker, "/health").await };
    assert_eq!(health().await.status(), 200);
    w.server.abort();
    while !w.server.is_finished() {
        tokio::task::yield_now().await;
    }
    for _ in 0..15_000 {
        let answer = health().await;
        if answer.status() == 503 {
            let said = json(answer).await;
            assert!(
                said["error"]["message"].as_str().unwrap().contains("did not answer"),
                "{said}"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server is gone and nobody says so");
}

/// A connection of maya's that has sent most of a request, and sends no more.
async fn half_a_request(port: u16) -> TcpStream {
    let mut half = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-tenant-id: maya\r\ncontent-length: 400000\r\n\r\n"
    );
    // It may be refused, and closed, before all is sent.
    let _ = half.write_all(head.as_bytes()).await;
    let _ = half.write_all(&[b' '; 250_000]).await;
    half
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_hoards_memory_takes_none_of_anothers() {
    let tenants = Limits { total: 1 << 20, each: 300_000, part: 0 };
    let w = world_within(true, &Sizes { tenants, ..Sizes::default() }).await;
    let long = request("plain", &json!({ "user": "x".repeat(100_000) }));
    assert_eq!(w.ask("maya", &long).await.status(), 200, "the control: there is room");
    let mut half_sent = Vec::new();
    for _ in 0..15_000 {
        // One that arrives while the question before still holds its bytes is refused itself: each round has its own.
        half_sent.push(half_a_request(w.broker.port).await);
        let answer = w.ask("maya", &long).await;
        if answer.status() == 400 {
            let said = json(answer).await["error"]["message"].as_str().unwrap().to_owned();
            assert!(said.contains("bytes already"), "{said}");
            assert_eq!(w.ask("noor", &long).await.status(), 200, "it is maya's alone");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is never refused");
}
