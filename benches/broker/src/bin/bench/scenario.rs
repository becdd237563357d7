//! Tenants that compete for an engine of limited capacity.

use crate::Part;
use crate::kvwarden::{Discipline, Kvwarden};
use crate::report::{self, Row};
use crate::server::{Front, Places, Served};
use anyhow::{Context, Result};
use coconut_loadgen::crowd::{self, FLOODER};
use coconut_loadgen::fairness::Phase;
use coconut_loadgen::stats::jain;
use coconut_loadgen::tenant::{Arrivals, Load, Window};

/// A load that each server gets.
pub struct Scenario {
    name: &'static str,
    loads: Vec<Load>,
}

/// Words in every prompt.
const WORDS: usize = 32;
/// Tokens that quiet tenants and the flooder ask for.
const TOKENS: u32 = 64;
/// Requests a second of a quiet tenant, and of the flooder: more than twice what the engine can do.
const QUIET_RATE: f64 = 1.0;
const FLOOD_RATE: f64 = 32.0;
/// Tokens that the tenants of the backlog ask for, and requests that each has under way.
const BACKLOG: [u32; 4] = [16, 64, 128, 256];
const BACKLOG_DEPTH: usize = 8;

const FRONTS: [Front; 4] = [
    Front::Engine,
    Front::Kvwarden(Discipline::TokenBucket),
    Front::Kvwarden(Discipline::Drr),
    Front::Broker,
];

/// All of them, in the order in which they are measured.
pub fn all() -> [(Part, Scenario); 3] {
    [
        (Part::Two, Scenario { name: "two tenants, one floods", loads: flooded(1) }),
        (Part::Four, Scenario { name: "four tenants, one floods", loads: flooded(3) }),
        (Part::Backlog, Scenario { name: "all backlogged", loads: backlog() }),
    ]
}

fn flooded(quiet: usize) -> Vec<Load> {
    let load = |tenant: String, rate| Load {
        tenant,
        arrivals: Arrivals::Poisson { rate },
        prompt_words: WORDS,
        max_tokens: TOKENS,
    };
    let mut loads: Vec<Load> =
        (0..quiet).map(|nth| load(format!("quiet{nth}"), QUIET_RATE)).collect();
    loads.push(load(FLOODER.to_owned(), FLOOD_RATE));
    loads
}

fn backlog() -> Vec<Load> {
    let load = |max_tokens: &u32| Load {
        tenant: format!("tokens{max_tokens}"),
        arrivals: Arrivals::Closed { concurrency: BACKLOG_DEPTH },
        prompt_words: WORDS,
        max_tokens: *max_tokens,
    };
    BACKLOG.iter().map(load).collect()
}

impl Scenario {
    /// On each server in turn.
    pub async fn measure(
        &self,
        places: &Places,
        kvwarden: Option<&Kvwarden>,
        window: Window,
    ) -> Result<report::Scenario> {
        eprintln!("{}: {} s for each server", self.name, window.warmup + window.seconds);
        let mut rows = Vec::new();
        for front in FRONTS {
            let started = Served::start(front, false, places, kvwarden).await;
            let Some(served) = started.with_context(|| front.name())? else { continue };
            let row = self.row(front, &served, window).await;
            eprintln!("  {:<24} {}", row.server, in_words(&row));
            rows.push(row);
        }
        Ok(report::Scenario { name: self.name, rows })
    }

    async fn row(&self, front: Front, served: &Served, window: Window) -> Row {
        let seen = crowd::run(&self.loads, served.url(), &served.model, window).await;
        let phase = Phase::of(&seen, &self.loads, window.seconds);
        let tokens: Vec<f64> = phase.tenants.iter().map(|t| t.tokens_per_second).collect();
        let jain = if phase.quiet.is_none() { jain(&tokens) } else { None };
        Row { server: front.name(), jain, phase }
    }
}

fn in_words(row: &Row) -> String {
    let tokens = row.phase.tokens_per_second;
    match (row.phase.quiet, row.jain) {
        (Some(q), _) => {
            format!("first token p50 {:.0} p99 {:.0} ms, {tokens:.0} tok/s", q.p50_ms, q.p99_ms)
        }
        (None, Some(jain)) => format!("Jain {jain:.3}, {tokens:.0} tok/s"),
        (None, None) => "nobody was answered".to_owned(),
    }
}
