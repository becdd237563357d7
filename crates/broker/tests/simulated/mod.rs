//! Engines and tenants in simulated time (tokio's paused clock): deterministic, and quick.

use coconut_broker::admission::{Admission, Policy, Ticket};
use coconut_broker::fair::Lane;
use inference::Share;
use inference::step::{Demand, Limits, plan};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
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
    /// Most tokens in a step.
    pub step: u32,
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
}

struct Sequence {
    prompt_left: u32,
    tokens_left: u32,
    ticket: Ticket,
    events: UnboundedSender<()>,
    got: Rc<Got>,
}

#[derive(Default)]
struct Got {
    first_ms: RefCell<Vec<f64>>,
    tokens: Cell<f64>,
    work: Cell<f64>,
}

impl Demand for Sequence {
    fn prefill_left(&self) -> u32 {
        self.prompt_left
    }
    fn held(&self) -> u32 {
        0
    }
    fn share(&self) -> &dyn Share {
        &self.ticket
    }
}

struct World {
    engine: Engine,
    admission: Arc<Admission>,
    inbox: RefCell<Vec<Sequence>>,
    wake: Notify,
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
    let gots: Vec<Rc<Got>> = tenants.iter().map(|_| Rc::default()).collect();
    local.block_on(&runtime, async {
        let policy =
            Policy { slots: engine.slots, yields: engine.yields, fifo, max_queued: 100_000 };
        let world = Rc::new(World {
            engine,
            admission: Admission::new(policy),
            inbox: RefCell::default(),
            wake: Notify::new(),
        });
        spawn_local(compute(world.clone()));
        for (i, ((name, weight, load), got)) in tenants.iter().zip(&gots).enumerate() {
            let tenant = Tenant {
                name: (*name).to_owned(),
                weight: *weight,
                got: got.clone(),
                world: world.clone(),
            };
            spawn_local(Rc::new(tenant).send(*load, seed.wrapping_mul(1000) + i as u64 + 1));
        }
        sleep(Duration::from_secs_f64(seconds * WARMUP)).await;
        for got in &gots {
            got.first_ms.borrow_mut().clear();
            got.tokens.set(0.0);
            got.work.set(0.0);
        }
        sleep(Duration::from_secs_f64(seconds * (1.0 - WARMUP))).await;
    });
    let seen = |((name, _, _), got): (&(&str, u32, Load), &Rc<Got>)| Seen {
        tenant: (*name).to_owned(),
        first_ms: got.first_ms.borrow().clone(),
        tokens: got.tokens.get(),
        work: got.work.get(),
    };
    tenants.iter().zip(&gots).map(seen).collect()
}

struct Tenant {
    name: String,
    weight: u32,
    got: Rc<Got>,
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
        let lane =
            Lane { tenant: &self.name, tenant_weight: self.weight, agent: "a", agent_weight: 100 };
        let ticket = self.world.admission.admit(&lane).await.unwrap();
        if !self.world.engine.yields {
            // A server's own work is charged by the broker, as tokens come by.
            ticket.charge((prompt / 8).max(1));
        }
        let (events, mut heard) = unbounded_channel();
        let got = self.got.clone();
        let next = Sequence { prompt_left: prompt, tokens_left: tokens, ticket, events, got };
        self.world.inbox.borrow_mut().push(next);
        self.world.wake.notify_one();
        if heard.recv().await.is_some() {
            self.got.first_ms.borrow_mut().push(began.elapsed().as_secs_f64() * 1e3);
        }
        while heard.recv().await.is_some() {}
    }
}

async fn compute(world: Rc<World>) {
    let e = world.engine;
    let mut running: Vec<Sequence> = Vec::new();
    let mut due = Instant::now();
    loop {
        running.append(&mut world.inbox.borrow_mut());
        if running.is_empty() {
            world.wake.notified().await;
            due = Instant::now();
            continue;
        }
        let granted: Vec<(usize, u32)> = if e.yields {
            plan(&running, &Limits::fixed(e.step)).iter().map(|g| (g.index, g.tokens)).collect()
        } else {
            in_order(&running, e.step)
        };
        let mut ms = e.fixed_ms;
        for (i, n) in &granted {
            let each = if running[*i].prompt_left > 0 { e.prefill_ms } else { e.per_token_ms };
            ms += f64::from(*n) * each;
        }
        due += Duration::from_secs_f64(ms / 1e3);
        sleep_until(due).await;
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

fn finish(running: &mut Vec<Sequence>, granted: &[(usize, u32)], yields: bool) {
    for (i, n) in granted {
        let s = &mut running[*i];
        s.got.work.set(s.got.work.get() + f64::from(*n));
        if s.prompt_left > *n {
            s.prompt_left -= n;
            continue;
        }
        s.prompt_left = 0;
        s.tokens_left -= 1;
        s.got.tokens.set(s.got.tokens.get() + 1.0);
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
