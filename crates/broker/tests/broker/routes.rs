//! Several backends side by side: each model goes to the backend that has it, and a backend that is slow, or away,
//! holds up nobody who asks another.

use crate::common::{Served, chat, embedded, json, policy, serve_routes, text};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use coconut_broker::accounts::UsageLog;
use coconut_broker::admission::Policy;
use coconut_broker::callers::Sizes;
use coconut_broker::identity::Identity;
use coconut_broker::remote::Remote;
use coconut_broker::route::{Route, Routes};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const CHAT: &str = "/v1/chat/completions";

/// The models that a server has.
type Models = Arc<Mutex<Vec<&'static str>>>;

/// A server that never answers a model called `stuck`.
async fn server(models: &Models) -> (String, JoinHandle<()>) {
    async fn list(State(models): State<Models>) -> Json<Value> {
        let models = models.lock().unwrap();
        let data: Vec<_> = models.iter().map(|id| json!({ "id": id })).collect();
        Json(json!({ "data": data }))
    }
    async fn answer(State(models): State<Models>, Json(body): Json<Value>) -> Json<Value> {
        if body["model"] == "stuck" {
            std::future::pending().await
        }
        let content = models.lock().unwrap().join("+");
        Json(json!({ "choices": [{ "message": { "content": content } }] }))
    }
    let routes = Router::new()
        .route("/v1/models", get(list))
        .route(CHAT, post(answer))
        .with_state(models.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}

struct World {
    broker: Served,
    first: Models,
    /// The second of the servers.
    second: JoinHandle<()>,
}

async fn world() -> World {
    let (first, second) = (Models::default(), Models::default());
    *first.lock().unwrap() = vec!["a", "both"];
    *second.lock().unwrap() = vec!["stuck", "both"];
    let remote = |name: &str, url: &str| {
        let policy = Policy { slots: 1, yields: false, fifo: true, max_queued: 100 };
        Route::new(name, Arc::new(Remote::new(url, None, true).unwrap()), policy)
    };
    let (one, _) = server(&first).await;
    let (two, task) = server(&second).await;
    let routes = Routes::new(vec![
        Route::new("embedded", embedded(2), policy(2)),
        remote("one", &one),
        remote("two", &two),
    ]);
    let identity = Identity::Standalone { trusted_header: None };
    let broker = serve_routes(routes, identity, UsageLog::none(), &Sizes::default()).await;
    World { broker, first, second: task }
}

impl World {
    async fn ask(&self, model: &str) -> (u16, Value) {
        let body = chat(2, "").replace(model::NAME, model);
        let answer = self.broker.post(CHAT, &body).await;
        (answer.status().as_u16(), json(answer).await)
    }
}

fn said(answer: &(u16, Value)) -> &str {
    answer.1["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_goes_to_the_backend_that_has_it() {
    let w = world().await;
    assert_eq!(w.ask(model::NAME).await.1["usage"]["completion_tokens"], 2);
    assert_eq!(said(&w.ask("a").await), "a+both");
    assert_eq!(said(&w.ask("both").await), "a+both", "of two the first");
    let missing = w.ask("nobody").await;
    assert_eq!((missing.0, &missing.1["error"]["code"]), (404, &json!("model_not_found")));
    let list = json(crate::common::get(&w.broker, "/v1/models").await).await;
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, [model::NAME, "a", "both", "stuck"]);
    // A server may get another model while it runs.
    w.first.lock().unwrap().push("late");
    for _ in 0..15_000 {
        if w.ask("late").await.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the late model is never found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_backend_holds_up_nobody_elses_calls() {
    let w = world().await;
    let two = || w.broker.broker.routes.all()[2].admission.depth();
    let stuck = async { futures_util::join!(w.ask("stuck"), w.ask("stuck")) };
    let others = async {
        while two().running + two().queued < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for model in ["a", "both", model::NAME] {
            assert_eq!(w.ask(model).await.0, 200, "{model}");
        }
        assert_eq!((two().running, two().queued), (1, 1), "it has a queue of its own");
    };
    tokio::select! {
        answers = stuck => panic!("{answers:?}"),
        () = others => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_away_is_named_and_missed_by_nobody_else() {
    let w = world().await;
    assert_eq!(json(crate::common::get(&w.broker, "/health").await).await["status"], "ok");
    assert_eq!(w.ask("a").await.0, 200, "everybody's models are known");
    w.second.abort();
    for _ in 0..15_000 {
        let health = crate::common::get(&w.broker, "/health").await;
        assert_eq!(health.status(), 200, "others can answer");
        let said = json(health).await;
        if said["status"] == "degraded" {
            assert!(said["backends"]["two"].as_str().unwrap().contains("did not answer"), "{said}");
            assert_eq!((&said["backends"]["one"], w.ask("a").await.0), (&json!("ok"), 200));
            let away = w.ask("stuck").await;
            assert_eq!(away.0, 502, "its models are not forgotten: {}", away.1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody says that it is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backends_numbers_are_told_apart() {
    let w = world().await;
    w.ask("a").await;
    w.ask(model::NAME).await;
    let lines = [
        "coconut_broker_calls_served_total 2",
        // Two of the engine, and six bytes that a server has not counted.
        "coconut_broker_completion_tokens_total 4",
        "coconut_broker_calls_running{backend=\"two\"} 0",
        "coconut_engine_tokens_written_total{backend=\"embedded\"} 2",
        "# TYPE coconut_engine_steps counter",
        "# TYPE coconut_broker_queued_seconds histogram",
        "# EOF",
    ];
    // An account is settled when its answer has gone.
    for _ in 0..15_000 {
        let metrics = text(crate::common::get(&w.broker, "/metrics").await).await;
        if lines.iter().all(|line| metrics.lines().any(|l| l == *line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}", text(crate::common::get(&w.broker, "/metrics").await).await);
}
