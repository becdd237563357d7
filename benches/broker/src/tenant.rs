//! One tenant's load: requests at a steady pace, at random times, or as fast as they are answered.

use crate::client::{Ask, Client, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Arrivals {
    /// One every `1/rate` seconds, by the wall clock, so that several processes keep their distance.
    Even {
        /// Requests a second.
        rate: f64,
        /// Part of a period, 0 to 1, after each full period of the wall clock.
        offset: f64,
    },
    /// At random (Poisson), independent of the answers.
    Poisson {
        /// Requests a second.
        rate: f64,
    },
    /// So many at once, each followed by the next as soon as it is answered.
    Closed {
        /// Requests at once.
        concurrency: usize,
    },
}

/// A tenant's load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The tenant's name.
    pub tenant: String,
    /// When it sends.
    pub arrivals: Arrivals,
    /// Words in each prompt.
    pub prompt_words: usize,
    /// Tokens that it asks for.
    pub max_tokens: u32,
}

impl Load {
    /// Where this tenant sends its requests: the server, with the tenant named in a header.
    pub fn target(&self, url: &str, model: &str) -> Target {
        Target { url: url.into(), model: model.into(), tenant: Some(self.tenant.clone()) }
    }

    /// The command line of `coconut-loadgen` that runs this load.
    pub fn arguments(&self, target: &Target, window: Window) -> Vec<String> {
        let mut args: Vec<String> = ["tenant", &self.tenant, "--json"].map(str::to_owned).into();
        let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        match self.arrivals {
            Arrivals::Even { rate, offset } => {
                option("even", rate.to_string());
                option("offset", offset.to_string());
            }
            Arrivals::Poisson { rate } => option("poisson", rate.to_string()),
            Arrivals::Closed { concurrency } => option("closed", concurrency.to_string()),
        }
        option("url", target.url.clone());
        option("model", target.model.clone());
        option("prompt-words", self.prompt_words.to_string());
        option("max-tokens", self.max_tokens.to_string());
        option("warmup", window.warmup.to_string());
        option("seconds", window.seconds.to_string());
        option("drain", window.drain.to_string());
        args
    }
}

/// What a tenant saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The tenant's name.
    pub tenant: String,
    /// Requests sent within the window.
    pub sent: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Of these, by HTTP status or error.
    pub outcomes: BTreeMap<String, u64>,
    /// Times to first token of the answered ones, in milliseconds.
    pub first_token_ms: Vec<f64>,
    /// Tokens that arrived within the window, of whatever request.
    pub tokens: u64,
}

/// When to start, to count and to stop.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Seconds before counting begins.
    pub warmup: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// Seconds to wait for answers after the end.
    pub drain: f64,
}

/// Runs the load.
pub async fn run(load: &Load, target: &Target, window: Window, seed: u64) -> Seen {
    run_until(load, target, window, seed, std::future::pending()).await
}

/// Runs the load; once the window is over, answers are awaited only until `enough` is ready.
pub async fn run_until(
    load: &Load,
    target: &Target,
    window: Window,
    seed: u64,
    enough: impl Future<Output = ()>,
) -> Seen {
    let seen = Arc::new(Mutex::new(Seen { tenant: load.tenant.clone(), ..Seen::default() }));
    let begin = Instant::now();
    let run = Run { load: load.clone(), target: target.clone(), window, begin, seen: seen.clone() };
    let end = begin + Duration::from_secs_f64(window.warmup + window.seconds);
    let mut tasks = JoinSet::new();
    match load.arrivals {
        Arrivals::Even { rate, offset } => {
            let period = 1.0 / rate;
            run.open(&mut tasks, end, until_grid(period, offset), || period, seed).await;
        }
        Arrivals::Poisson { rate } => {
            let mut random = seed | 1;
            let gap = move || -uniform(&mut random).ln() / rate;
            run.open(&mut tasks, end, 0.0, gap, seed).await;
        }
        Arrivals::Closed { concurrency } => {
            for worker in 0..concurrency as u64 {
                tasks.spawn(run.clone().closed(end, seed + worker * 100_000));
            }
            tokio::time::sleep_until(end).await;
        }
    }
    let last = end + Duration::from_secs_f64(window.drain);
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = enough => {}
        () = tokio::time::sleep_until(last) => {}
    }
    drop(tasks);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.clone()
}

#[derive(Clone)]
struct Run {
    load: Load,
    target: Target,
    window: Window,
    begin: Instant,
    seen: Arc<Mutex<Seen>>,
}

impl Run {
    fn client(&self) -> Client {
        let run = self.clone();
        Client::new(self.target.clone()).with_meter(Arc::new(move || {
            if run.in_window() {
                run.seen.lock().unwrap_or_else(PoisonError::into_inner).tokens += 1;
            }
        }))
    }

    fn in_window(&self) -> bool {
        let at = self.begin.elapsed().as_secs_f64();
        at >= self.window.warmup && at < self.window.warmup + self.window.seconds
    }

    async fn open(
        &self,
        tasks: &mut JoinSet<()>,
        end: Instant,
        first: f64,
        mut gap: impl FnMut() -> f64,
        seed: u64,
    ) {
        let mut next = self.begin + Duration::from_secs_f64(first);
        let pool = Arc::new(Mutex::new(Vec::new()));
        let mut nth = seed;
        while next < end {
            tokio::time::sleep_until(next).await;
            let (run, pool, n) = (self.clone(), pool.clone(), nth);
            tasks.spawn(async move {
                let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut client = idle.unwrap_or_else(|| run.client());
                run.one(&mut client, n).await;
                pool.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            });
            nth += 1;
            next += Duration::from_secs_f64(gap());
        }
    }

    async fn closed(self, end: Instant, seed: u64) {
        let mut client = self.client();
        let mut nth = seed;
        while Instant::now() < end {
            if !self.one(&mut client, nth).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            nth += 1;
        }
    }

    /// One request; true if it was answered.
    async fn one(&self, client: &mut Client, seed: u64) -> bool {
        let Load { prompt_words, max_tokens, .. } = self.load;
        let counts = self.in_window();
        if counts {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).sent += 1;
        }
        let got = client.chat(Ask { prompt_words, max_tokens, stream: true, seed }).await;
        let outcome = match &got {
            Ok(got) => got.status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        let answer = got.ok().filter(|g| g.status == 200 && g.tokens > 0);
        if counts {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.outcomes.entry(outcome).or_default() += 1;
            if let Some(got) = answer {
                seen.answered += 1;
                seen.first_token_ms.push(got.first.as_secs_f64() * 1e3);
            }
        }
        answer.is_some()
    }
}

/// Seconds until the wall clock is next at `offset` within a period.
fn until_grid(period: f64, offset: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    (offset * period - now).rem_euclid(period)
}

/// xorshift*, in (0, 1).
fn uniform(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    (high as f64 + 0.5) / (1u64 << 53) as f64
}
