//! `coconut-bench-engine`: an OpenAI-compatible server of limited capacity that computes nothing.
//!
//! It stands in for a GPU engine with continuous batching: a step takes a fixed time, a little more
//! for each sequence that is decoded, and some for each prompt token; at most `--slots` sequences run,
//! and its own queue is first come, first served. With `--null` every answer is free, so that what is
//! measured is only what stands in front of it.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// An OpenAI-compatible server of limited capacity that computes nothing.
#[derive(Clone, Parser)]
#[command(name = "coconut-bench-engine", version)]
struct Shape {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 8002)]
    port: u16,
    /// Sequences that run at once
    #[arg(long, default_value_t = 16)]
    slots: usize,
    /// Milliseconds that every step takes
    #[arg(long, default_value_t = 10.0)]
    step_ms: f64,
    /// More milliseconds for each sequence that writes
    #[arg(long, default_value_t = 0.5)]
    per_seq_ms: f64,
    /// Prompt tokens read in a second
    #[arg(long, default_value_t = 8000.0)]
    prefill_tps: f64,
    /// Prompt tokens read in one step, at most
    #[arg(long, default_value_t = 512)]
    chunk: usize,
    /// Answer at once, for nothing
    #[arg(long)]
    null: bool,
}

/// A request that is running or waits.
struct Sequence {
    prompt_left: usize,
    tokens_left: usize,
    tokens: UnboundedSender<()>,
}

struct Engine {
    shape: Shape,
    waiting: Mutex<VecDeque<Sequence>>,
    wake: Notify,
    steps: AtomicU64,
    tokens: AtomicU64,
    given_up: AtomicU64,
}

const MODEL: &str = "bench";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let shape = Shape::parse();
    let listener = TcpListener::bind(("127.0.0.1", shape.port)).await?;
    let engine = Arc::new(Engine {
        shape,
        waiting: Mutex::default(),
        wake: Notify::new(),
        steps: AtomicU64::new(0),
        tokens: AtomicU64::new(0),
        given_up: AtomicU64::new(0),
    });
    tokio::spawn(compute(engine.clone()));
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/health", get(|| async { "{\"status\":\"ok\"}" }))
        .route("/metrics", get(metrics))
        .with_state(engine);
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // A benchmark server that cannot set this is still a server.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn compute(engine: Arc<Engine>) {
    let mut running: Vec<Sequence> = Vec::new();
    let mut due = Instant::now();
    loop {
        engine.admit(&mut running);
        if running.is_empty() {
            engine.wake.notified().await;
            due = Instant::now();
            continue;
        }
        let (time, writes) = engine.step(&mut running);
        due = (due + time).max(Instant::now());
        tokio::time::sleep_until(due).await;
        engine.steps.fetch_add(1, Relaxed);
        engine.emit(&mut running, &writes);
    }
}

impl Engine {
    fn admit(&self, running: &mut Vec<Sequence>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while running.len() < self.shape.slots {
            let Some(next) = waiting.pop_front() else { break };
            if next.tokens.is_closed() {
                self.given_up.fetch_add(1, Relaxed);
            } else {
                running.push(next);
            }
        }
    }

    /// How long the step takes, and which sequences write a token at its end.
    fn step(&self, running: &mut [Sequence]) -> (Duration, Vec<bool>) {
        let mut room = self.shape.chunk;
        let (mut read, mut wrote) = (0, 0);
        let mut writes = Vec::with_capacity(running.len());
        for s in running {
            if s.prompt_left == 0 {
                wrote += 1;
                writes.push(true);
                continue;
            }
            let part = s.prompt_left.min(room);
            s.prompt_left -= part;
            room -= part;
            read += part;
            writes.push(s.prompt_left == 0 && part > 0);
        }
        let ms = self.shape.step_ms
            + self.shape.per_seq_ms * f64::from(wrote)
            + read as f64 / self.shape.prefill_tps * 1e3;
        (Duration::from_secs_f64(ms / 1e3), writes)
    }

    fn emit(&self, running: &mut Vec<Sequence>, writes: &[bool]) {
        let mut nth = 0;
        running.retain_mut(|s| {
            nth += 1;
            if !writes[nth - 1] {
                return !s.tokens.is_closed();
            }
            self.tokens.fetch_add(1, Relaxed);
            s.tokens_left -= 1;
            let heard = s.tokens.send(()).is_ok();
            if !heard {
                self.given_up.fetch_add(1, Relaxed);
            }
            heard && s.tokens_left > 0
        });
    }
}

async fn models() -> Response {
    let card = json!({ "id": MODEL, "object": "model", "created": 0, "owned_by": "bench" });
    axum::Json(json!({ "object": "list", "data": [card] })).into_response()
}

async fn metrics(State(e): State<Arc<Engine>>) -> String {
    format!(
        "bench_steps_total {}\nbench_tokens_total {}\nbench_given_up_total {}\n",
        e.steps.load(Relaxed),
        e.tokens.load(Relaxed),
        e.given_up.load(Relaxed)
    )
}

async fn chat(State(engine): State<Arc<Engine>>, body: Bytes) -> Response {
    let Ok(ask) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let tokens = ask["max_tokens"].as_u64().unwrap_or(16).max(1) as usize;
    let words = |m: &Value| m["content"].as_str().map_or(0, |t| t.split_whitespace().count());
    let prompt =
        ask["messages"].as_array().map_or(1, |m| m.iter().map(words).sum::<usize>()).max(1);
    let (sender, mut receiver) = unbounded_channel();
    if engine.shape.null {
        let _ = (0..tokens).try_for_each(|_| sender.send(()));
        drop(sender);
    } else {
        let next = Sequence { prompt_left: prompt, tokens_left: tokens, tokens: sender };
        engine.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(next);
        engine.wake.notify_one();
    }
    if ask["stream"].as_bool().unwrap_or(false) {
        return streamed(receiver);
    }
    while receiver.recv().await.is_some() {}
    axum::Json(json!({
        "id": "bench", "object": "chat.completion", "created": 0, "model": MODEL,
        "choices": [{ "index": 0, "finish_reason": "length",
                      "message": { "role": "assistant", "content": "word" } }],
        "usage": { "prompt_tokens": prompt, "completion_tokens": tokens,
                   "total_tokens": prompt + tokens },
    }))
    .into_response()
}

fn streamed(receiver: UnboundedReceiver<()>) -> Response {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        let chunk = json!({ "id": "bench", "object": "chat.completion.chunk", "created": 0,
                            "model": MODEL, "choices": [choice] });
        format!("data: {chunk}\n\n")
    };
    let token = Bytes::from(chunk(json!({ "content": "word " }), Value::Null));
    let end = Bytes::from(chunk(json!({}), json!("length")) + "data: [DONE]\n\n");
    let events = stream::unfold(Some(receiver), move |receiver| {
        let (token, end) = (token.clone(), end.clone());
        async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(()) => Some((Ok::<_, Infallible>(token), Some(receiver))),
                None => Some((Ok(end), None)),
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(events)).into_response()
}
