//! What stands in front of an engine costs: how long single requests take, how many are answered a second.

use crate::client::{Ask, Client, Target};
use crate::stats::Latency;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// When to stop asking.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many requests in all.
    Requests(u64),
    /// After so much time.
    Elapsed(Duration),
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Requests answered a second, by all connections together.
    pub requests_per_second: f64,
    /// How long each took: to the first token of a stream, else to the end of the answer.
    pub latency: Latency,
}

/// Asks the same again and again over `connections`, each one request at a time.
///
/// An answer other than 200 is an error: a server that refuses is not fast.
pub async fn measure(
    target: &Target,
    ask: Ask,
    connections: usize,
    until: Until,
) -> anyhow::Result<Cost> {
    let budget = match until {
        Until::Requests(requests) => Budget { left: requests.into(), end: None },
        Until::Elapsed(time) => Budget { left: u64::MAX.into(), end: Some(Instant::now() + time) },
    };
    let budget = Arc::new(budget);
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(worker(target.clone(), ask, budget.clone()));
    }
    let mut times: Vec<f64> = Vec::new();
    while let Some(done) = workers.join_next().await {
        times.extend(done??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let latency = Latency::of(&times).context("nothing was measured")?;
    Ok(Cost { requests_per_second: times.len() as f64 / seconds, latency })
}

struct Budget {
    left: AtomicU64,
    end: Option<Instant>,
}

impl Budget {
    fn take(&self) -> bool {
        self.end.is_none_or(|end| Instant::now() < end)
            && self.left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// Milliseconds of each request.
async fn worker(target: Target, ask: Ask, budget: Arc<Budget>) -> anyhow::Result<Vec<f64>> {
    let url = target.url.clone();
    let mut client = Client::new(target);
    let mut times = Vec::new();
    while budget.take() {
        let got = client.chat(ask).await?;
        ensure!(got.status == 200, "{url} answered {}", got.status);
        times.push(got.first.as_secs_f64() * 1e3);
    }
    Ok(times)
}
