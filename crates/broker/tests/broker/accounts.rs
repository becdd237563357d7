//! Accounts equal what the engine did, to the token, whoever dies: callers that leave, a broker that is killed
//! (the real program, SIGKILL), a coconutd that dies before or after it has taken records. The engine's own log
//! is the witness; it knows nothing of accounts.
//!
//! `COCONUT_SOAK=10000` asks so many calls (2,000 otherwise).

use crate::common::chat;
use api::broker::{LaneEvent, SettledCalls, Usage};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use coconut_broker::accounts::journal::Journal;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;

const CALLERS: usize = 6;
/// Calls between two deaths of the broker.
const A_LIFE: usize = 40;

/// Numbers that are hard to foresee and the same each time (splitmix64).
#[derive(Default)]
struct Random(AtomicU64);

impl Random {
    fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A coconutd that takes each number once, and is often not there when it should answer.
#[derive(Default)]
struct Daemon {
    through: Mutex<HashMap<Uuid, u64>>,
    records: Mutex<Vec<Usage>>,
    random: Random,
    deaths: AtomicUsize,
}

async fn lanes() -> axum::body::Body {
    let synced = serde_json::to_string(&LaneEvent::Synced).unwrap() + "\n";
    let first = stream::once(async { Ok::<_, Infallible>(synced) });
    axum::body::Body::from_stream(first.chain(stream::pending()))
}

async fn usage(State(d): State<Arc<Daemon>>, Json(told): Json<SettledCalls>) -> Response {
    let dies = d.random.below(4);
    if dies == 0 {
        d.deaths.fetch_add(1, Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    {
        let mut through = d.through.lock().unwrap();
        let through = through.entry(told.journal).or_default();
        for (number, call) in (told.first..).zip(told.calls) {
            assert!(number <= *through + 1, "{number} comes after {through}: one is left out");
            if number > *through {
                *through = number;
                d.records.lock().unwrap().push(call);
            }
        }
    }
    if dies == 1 {
        d.deaths.fetch_add(1, Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    StatusCode::NO_CONTENT.into_response()
}

/// What a caller knows of its call.
#[derive(Clone, Copy, Debug)]
struct Seen {
    call: Uuid,
    /// Tokens of which it saw text.
    tokens: u32,
    /// The broker's own count, for answers that came to their end.
    counted: Option<u32>,
}

/// The broker's own program.
struct Broker {
    child: Child,
    log: PathBuf,
}

impl Broker {
    fn start(folder: &Path, life: usize) -> Self {
        let log = folder.join(format!("log.{life}"));
        let file = |name: &str| folder.join(name);
        let child = Command::new(env!("CARGO_BIN_EXE_coconut-broker"))
            .args(["--host-tenant", "maya", "--threads", "1", "--context", "512", "--slots", "3"])
            .arg("--model")
            .arg(crate::common::model_file())
            .arg("--coconutd")
            .arg(file("api.sock"))
            .arg("--accounts")
            .arg(folder)
            .arg("--unix")
            .arg(file("broker.sock"))
            .env("RUST_LOG", "coconut_inference=trace")
            .env("NO_COLOR", "1")
            .stderr(std::fs::File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Tokens that the engine began to write, and that it wrote, by its own log.
    fn did(&self) -> (u64, u64) {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let last = |word: &str| {
            let lines = log.lines().filter(|line| line.contains(word));
            let nth = lines.filter_map(|line| line.split_once("nth=")?.1.trim().parse().ok());
            nth.max().unwrap_or(0)
        };
        (last(" writing "), last(" wrote "))
    }
}

/// One call; none if the broker was not there, or died before it said which call it is.
async fn ask(socket: &Path, random: &Random) -> Option<Seen> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let tokens = 1 + u32::try_from(random.below(24)).unwrap();
    let streams = random.below(3) > 0;
    let usage = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let more = if streams { usage } else { "" };
    let body = chat(tokens, &format!(r#","ignore_eos":true{more}"#));
    let request = hyper::Request::post("/v1/chat/completions").header("host", "x");
    let request = request.body(http_body_util::Full::<bytes::Bytes>::from(body)).unwrap();
    // Some leave before they know anything.
    let hurry = Duration::from_millis(if random.below(8) == 0 { 2 } else { 600_000 });
    let answer = tokio::time::timeout(hurry, sender.send_request(request)).await.ok()?.ok()?;
    let call = answer.headers().get("x-request-id")?.to_str().ok()?.parse().ok()?;
    let mut seen = Seen { call, tokens: 0, counted: None };
    let leaves = if random.below(3) == 0 { random.below(u64::from(tokens)) } else { u64::MAX };
    let (mut body, mut text) = (answer.into_body(), String::new());
    while let Some(Ok(frame)) = body.frame().await {
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        seen.tokens = u32::try_from(text.matches(r#""content":"#).count()).unwrap();
        if streams && u64::from(seen.tokens) > leaves {
            return Some(seen);
        }
    }
    let counted = text.split_once(r#""completion_tokens":"#).map(|(_, rest)| rest);
    let digits = counted.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    seen.counted = digits.and_then(|digits| digits.parse().ok());
    seen.tokens = if streams { seen.tokens } else { 0 };
    Some(seen)
}

struct Outcome {
    seen: Vec<Seen>,
    records: Vec<Usage>,
    began: u64,
    wrote: u64,
    kills: usize,
    deaths: usize,
}

async fn soak(calls: usize) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Arc::new(Daemon::default());
    let routes = Router::new()
        .route("/v1/broker/lanes", get(lanes))
        .route("/v1/broker/usage", post(usage))
        .with_state(daemon.clone());
    let listener = UnixListener::bind(dir.path().join("api.sock")).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let socket = dir.path().join("broker.sock");
    let (asked, random) = (Arc::new(AtomicUsize::new(0)), Arc::new(Random::default()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (socket, asked, random) = (socket.clone(), asked.clone(), random.clone());
            tokio::spawn(async move {
                let mut all = Vec::new();
                while asked.load(Relaxed) < calls {
                    match ask(&socket, &random).await {
                        Some(seen) => {
                            asked.fetch_add(1, Relaxed);
                            all.push(seen);
                        }
                        None => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
                all
            })
        })
        .collect();
    let (mut began, mut wrote, mut kills) = (0, 0, 0);
    let mut until = 0;
    loop {
        let mut broker = Broker::start(dir.path(), kills);
        until += A_LIFE / 2 + usize::try_from(random.below(A_LIFE as u64)).unwrap();
        while asked.load(Relaxed) < until.min(calls) {
            assert!(broker.child.try_wait().unwrap().is_none(), "the broker ended");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let last = until >= calls;
        // The last one ends in order, and delivers what there is.
        let signal =
            if last { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
        let pid = rustix::process::Pid::from_child(&broker.child);
        rustix::process::kill_process(pid, signal).unwrap();
        broker.child.wait().unwrap();
        let did = broker.did();
        (began, wrote) = (began + did.0, wrote + did.1);
        if last {
            break;
        }
        kills += 1;
    }
    let mut seen = Vec::new();
    for caller in callers {
        seen.extend(caller.await.unwrap());
    }
    // What the last one had no time to deliver goes with the next.
    while !Journal::open(dir.path()).unwrap().1.is_empty() {
        let mut broker = Broker::start(dir.path(), usize::MAX);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pid = rustix::process::Pid::from_child(&broker.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        broker.child.wait().unwrap();
    }
    let records = daemon.records.lock().unwrap().clone();
    Outcome { seen, records, began, wrote, kills, deaths: daemon.deaths.load(Relaxed) }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_equal_what_the_engine_did_whoever_dies() {
    let calls = std::env::var("COCONUT_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let Outcome { seen, records, began, wrote, kills, deaths } = soak(calls).await;
    let mut by_call: HashMap<Uuid, &Usage> = HashMap::new();
    for record in &records {
        assert!(by_call.insert(record.call, record).is_none(), "{record:?} is on record twice");
    }
    let (mut complete, mut left) = (0, 0);
    for call in &seen {
        let record = by_call.get(&call.call).unwrap_or_else(|| panic!("{call:?} is not on record"));
        assert!(record.completion_tokens >= call.tokens, "{call:?}: {record:?}");
        match call.counted {
            Some(counted) => {
                assert_eq!((record.completion_tokens, &record.refused), (counted, &None));
                complete += 1;
            }
            // Who left a moment too late has a complete answer on record.
            None => left += 1,
        }
    }
    let lost = |record: &&Usage| {
        record.refused.as_deref().is_some_and(|why| why.contains("the broker ended"))
    };
    let lost = records.iter().filter(lost).count();
    let recorded: u64 = records.iter().map(|record| u64::from(record.completion_tokens)).sum();
    println!(
        "{calls} calls, {complete} complete, {left} not; {kills} kills of the broker, which had {lost} calls \
         open; {deaths} of coconutd; {} records; the engine began {began} tokens and wrote {wrote}; \
         {recorded} are on record",
        records.len()
    );
    // A token that was being written at a kill may be counted or not; there is none in most runs.
    assert!((wrote..=began).contains(&recorded), "{wrote}..={began} by the engine, {recorded}");
    assert!(began - wrote <= kills as u64);
    assert!(kills > 2 && deaths > 0 && lost > 0 && left > 0 && complete > calls / 4);
}
