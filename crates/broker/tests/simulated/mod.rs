//! Engines and tenants in simulated time (tokio's paused clock): deterministic, and quick.
// Each test binary uses only a part.
#![allow(dead_code)]

use coconut_broker::admission::{Admission, Policy, Ticket, Waited};
use coconut_broker::fair::{Level, Lineage};
use inference::cost::Cost;
use inference::demand::Demand;
use inference::step::{Limits, plan};
use ports::Share;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

/// An engine's shape.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// Sequences at once.
    pub slots: usize,
    /// Milliseconds of every step.
    pub fixed_ms: f64,
    /// More for each sequence that writes.
    pub per_token_ms: f64,
    /// More for each prompt token.
    pub prefill_ms: f64,
    /// Steps are ordered by the accounts.
    pub yields: bool,
    /// How much a step holds.
    pub step: Step,
}

/// How much a step of an engine holds.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many tokens.
    Tokens(u32),
    /// By its cost, known from the start: steps of the usual lengths.
    Cost,
}

impl Engine {
    fn limits(&self, crowded: bool) -> Limits {
        let tokens = match self.step {
            Step::Tokens(tokens) => return Limits::fixed(tokens),
            Step::Cost => 512,
        };
        let output = (self.per_token_ms - self.prefill_ms).max(0.0) * 1e3;
        let (step, token) = (self.fixed_ms * 1e3, self.prefill_ms * 1e3);
        let cost = Cost { step, token, output, cell: 0.0 };
        Limits::of_cost(cost, crowded, tokens)
    }
}

/// What a tenant sends.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// At random times.
    Random { every_ms: f64, prompt: u32, tokens: u32 },
    /// At a steady pace, after part of a period.
    Even { every_ms: f64, offset: f64, prompt: u32, tokens: u32 },
    /// Always so many.
    Closed { at_once: usize, prompt: u32, tokens: u32 },
}

/// What a tenant got.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub tenant: String,
    /// Times to first token.
    pub first_ms: Vec<f64>,
    /// Tokens written for it.
    pub tokens: f64,
    /// Tokens written and read for it.
    pub work: f64,
    /// What was done between the arrivals of its requests and their first tokens.
    pub waits: Vec<Wait>,
}

/// What was done while a request waited for its first token.
#[derive(Clone, Debug)]
pub struct Wait {
    /// As the broker records it.
    pub waited: Waited,
    /// Tokens of each tenant, as the simulation itself has counted them.
    pub tokens: Vec<u64>,
}

struct Sequence {
    prompt_left: u32,
    tokens_left: u32,
    first: bool,
    ticket: Arc<Ticket>,
    events: UnboundedSender<()>,
    tenant: usize,
    got: Arc<Mutex<Seen>>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap()
}

impl Demand for Sequence {
    fn prefill_left(&self) -> u32 {
        self.prompt_left
    }
    fn held(&self) -> u32 {
        0
    }
    fn share(&self) -> &dyn Share {
        &*self.ticket
    }
}

struct World {
    engine: Engine,
    admission: Arc<Admission>,
    /// Jobs that the engine has not taken yet; it looks before every step.
    inbox: Arc<Mutex<Vec<Sequence>>>,
    wake: Arc<Notify>,
    /// Steps done, and tokens computed for each tenant.
    done: Mutex<(u64, Vec<u64>)>,
}

/// The first quarter of the time is not counted.
const WARMUP: f64 = 0.25;

/// Runs the tenants (name, weight, load) for so many seconds.
pub fn simulate(
    engine: Engine,
    fifo: bool,
    tenants: &[(&str, u32, Load)],
    seconds: f64,
    seed: u64,
) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let local = LocalSet::new();
    let empty = |name: &str| Seen {
        tenant: name.to_owned(),
        first_ms: Vec::new(),
        tokens: 0.0,
        work: 0.0,
        waits: Vec::new(),
    };
    let gots: Vec<_> = tenants.iter().map(|(name, ..)| Arc::new(Mutex::new(empty(name)))).collect();
    local.block_on(&runtime, async {
        let policy =
            Policy { slots: engine.slots, yields: engine.yields, fifo, max_queued: 100_000 };
        let world = Rc::new(World {
            engine,
            admission: Admission::new(policy),
            inbox: Arc::default(),
            wake: Arc::default(),
            done: Mutex::new((0, vec![0; tenants.len()])),
        });
        spawn_local(compute(world.clone()));
        for (i, ((name, weight, load), got)) in tenants.iter().zip(&gots).enumerate() {
            let tenant = Tenant {
                name: (*name).to_owned(),
                nth: i,
                weight: *weight,
                got: got.clone(),
                world: world.clone(),
            };
            spawn_local(Rc::new(tenant).send(*load, seed.wrapping_mul(1000) + i as u64 + 1));
        }
        sleep(Duration::from_secs_f64(seconds * WARMUP)).await;
        for (got, (name, ..)) in gots.iter().zip(tenants) {
            *locked(got) = empty(name);
        }
        sleep(Duration::from_secs_f64(seconds * (1.0 - WARMUP))).await;
    });
    gots.iter().map(|got| locked(got).clone()).collect()
}

struct Tenant {
    name: String,
    nth: usize,
    weight: u32,
    got: Arc<Mutex<Seen>>,
    world: Rc<World>,
}

impl Tenant {
    async fn send(self: Rc<Self>, load: Load, seed: u64) {
        match load {
            Load::Closed { at_once, prompt, tokens } => {
                for _ in 0..at_once {
                    let me = self.clone();
                    spawn_local(async move {
                        loop {
                            me.clone().one(prompt, tokens).await;
                        }
                    });
                }
            }
            Load::Even { every_ms, offset, prompt, tokens } => {
                sleep(Duration::from_secs_f64(offset * every_ms / 1e3)).await;
                loop {
                    spawn_local(self.clone().one(prompt, tokens));
                    sleep(Duration::from_secs_f64(every_ms / 1e3)).await;
                }
            }
            Load::Random { every_ms, prompt, tokens } => {
                let mut state = seed;
                loop {
                    let gap = -uniform(&mut state).ln() * every_ms / 1e3;
                    sleep(Duration::from_secs_f64(gap)).await;
                    spawn_local(self.clone().one(prompt, tokens));
                }
            }
        }
    }

    async fn one(self: Rc<Self>, prompt: u32, tokens: u32) {
        let began = Instant::now();
        let lane = Lineage {
            tenant: Level::new(self.name.as_str(), self.weight),
            agents: vec![Level::new("a", 100)],
        };
        let before = locked(&self.world.done).clone();
        let (events, mut heard) = unbounded_channel();
        let (inbox, wake) = (self.world.inbox.clone(), self.world.wake.clone());
        let (got, tenant) = (self.got.clone(), self.nth);
        let (prompt_left, tokens_left, first) = (prompt, tokens, false);
        let begin = move |ticket: Arc<Ticket>| {
            let next = Sequence { prompt_left, tokens_left, first, ticket, events, tenant, got };
            locked(&inbox).push(next);
            wake.notify_one();
        };
        let ticket = self.world.admission.admit(&lane, Box::new(begin)).await.unwrap();
        if !self.world.engine.yields {
            // A server's own work is charged by the broker, as tokens come by.
            ticket.charge((prompt / 8).max(1));
        }
        let waited = ticket.waited();
        drop(ticket);
        if heard.recv().await.is_some() {
            let mut got = locked(&self.got);
            got.first_ms.push(began.elapsed().as_secs_f64() * 1e3);
            if let Some(waited) = waited.get() {
                got.waits.push(self.wait(*waited, &before));
            }
        }
        while heard.recv().await.is_some() {}
    }

    /// The broker's counts beside the simulation's own.
    fn wait(&self, waited: Waited, before: &(u64, Vec<u64>)) -> Wait {
        let now = locked(&self.world.done);
        let tokens: Vec<u64> = now.1.iter().zip(&before.1).map(|(now, then)| now - then).collect();
        let others: u64 = tokens.iter().sum::<u64>() - tokens[self.nth];
        assert_eq!((waited.steps, waited.others), (now.0 - before.0, others));
        Wait { waited, tokens }
    }
}

async fn compute(world: Rc<World>) {
    let e = world.engine;
    let mut running: Vec<Sequence> = Vec::new();
    let mut due = Instant::now();
    loop {
        running.append(&mut locked(&world.inbox));
        if running.is_empty() {
            world.wake.notified().await;
            due = Instant::now();
            continue;
        }
        let granted: Vec<(usize, u32)> = if e.yields {
            let crowded = running[0].ticket.crowded();
            let (limits, owed) = (e.limits(crowded), running.iter().map(|s| s.ticket.owed()));
            let owed: Vec<bool> = owed.collect();
            let granted = plan(&running, &limits);
            assert!(limits.kept(&running, &owed, &granted), "a step is too long: {granted:?}");
            granted.iter().map(|g| (g.index, g.tokens)).collect()
        } else {
            in_order(&running, e.limits(false).tokens)
        };
        let mut ms = e.fixed_ms;
        for (i, n) in &granted {
            let each = if running[*i].prompt_left > 0 { e.prefill_ms } else { e.per_token_ms };
            ms += f64::from(*n) * each;
        }
        due += Duration::from_secs_f64(ms / 1e3);
        sleep_until(due).await;
        book(&world, &mut running, &granted);
        finish(&mut running, &granted, e.yields);
        // Let those who wait for a slot take it before the next step begins.
        tokio::task::yield_now().await;
    }
}

/// A server without lanes: one token for all who write, and prompts in the order of arrival.
fn in_order(running: &[Sequence], step: u32) -> Vec<(usize, u32)> {
    let mut room = step;
    let part = |(i, s): (usize, &Sequence)| {
        let n = s.prompt_left.max(1).min(room);
        room -= n;
        (n > 0).then_some((i, n))
    };
    running.iter().enumerate().filter_map(part).collect()
}

/// Tells the accounts what the step did, and counts it here as well.
fn book(world: &World, running: &mut [Sequence], granted: &[(usize, u32)]) {
    let mut done = locked(&world.done);
    done.0 += 1;
    for (i, n) in granted {
        let s = &mut running[*i];
        s.ticket.computed(done.0, *n);
        done.1[s.tenant] += u64::from(*n);
    }
}

fn finish(running: &mut Vec<Sequence>, granted: &[(usize, u32)], yields: bool) {
    for (i, n) in granted {
        let s = &mut running[*i];
        locked(&s.got).work += f64::from(*n);
        if s.prompt_left > *n {
            s.prompt_left -= n;
            continue;
        }
        s.prompt_left = 0;
        s.tokens_left -= 1;
        locked(&s.got).tokens += 1.0;
        if !s.first {
            s.first = true;
            s.ticket.answered();
        }
        if !yields {
            s.ticket.charge(1);
        }
        let _ = s.events.send(());
    }
    running.retain(|s| s.tokens_left > 0);
}

/// Smallest value that at least `percent` % of the values do not exceed.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1) - 1]
}

/// Jain's index.
pub fn jain(x: &[f64]) -> f64 {
    x.iter().sum::<f64>().powi(2) / (x.len() as f64 * x.iter().map(|v| v * v).sum::<f64>())
}

fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
