//! The engine that answers at once, bare and behind each broker.

use crate::kvwarden::{Discipline, Kvwarden};
use crate::report::Overhead;
use crate::server::{Front, Places, Served};
use anyhow::Result;
use coconut_loadgen::client::{Ask, Target};
use coconut_loadgen::overhead::{Cost, Until, measure as ask};
use std::time::Duration;

/// Servers take turns, so that a disturbance of some seconds cannot hit one of them alone.
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_millis(1500);
const CONNECTIONS: usize = 32;

/// One server, and what each round has shown.
struct Contestant {
    front: Front,
    served: Served,
    alone: Vec<Cost>,
    crowded: Vec<Cost>,
}

/// The median of all rounds, the bare engine first.
pub async fn measure(places: &Places, kvwarden: Option<&Kvwarden>) -> Result<Vec<Overhead>> {
    eprintln!("overhead: {ROUNDS} rounds, an engine that answers at once");
    let mut contestants = Vec::new();
    for front in [Front::Engine, Front::Kvwarden(Discipline::Open), Front::Broker] {
        if let Some(served) = Served::start(front, true, places, kvwarden).await? {
            contestants.push(Contestant { front, served, alone: vec![], crowded: vec![] });
        }
    }
    for _ in 0..ROUNDS {
        for contestant in &mut contestants {
            contestant.turn().await?;
        }
    }
    let bare = contestants.first().map_or(0.0, Contestant::p50_ms);
    let rows: Vec<Overhead> = contestants.iter().map(|c| c.result(bare)).collect();
    for row in &rows {
        eprintln!(
            "  {:<24} p50 {:.3} ms, {:.0} requests/s with {CONNECTIONS} at once",
            row.server, row.p50_ms, row.requests_per_second
        );
    }
    Ok(rows)
}

impl Contestant {
    async fn turn(&mut self) -> Result<()> {
        let target = Target {
            url: self.served.url().to_owned(),
            model: self.served.model.clone(),
            tenant: Some("bench".into()),
        };
        let one = Ask { prompt_words: 32, max_tokens: 1, stream: false, seed: 0 };
        self.alone.push(ask(&target, one, 1, Until::Elapsed(TURN)).await?);
        self.crowded.push(ask(&target, one, CONNECTIONS, Until::Elapsed(TURN)).await?);
        Ok(())
    }

    fn p50_ms(&self) -> f64 {
        median(self.alone.iter().map(|cost| cost.latency.p50_ms))
    }

    fn result(&self, bare_ms: f64) -> Overhead {
        let p50_ms = self.p50_ms();
        Overhead {
            server: self.front.name(),
            p50_ms,
            added_ms: p50_ms - bare_ms,
            requests_per_second: median(self.crowded.iter().map(|cost| cost.requests_per_second)),
            connections: CONNECTIONS,
            memory_mib: self.served.memory_mib(),
        }
    }
}

/// Of the rounds, not of latencies: the figure of one of them as it is.
fn median(rounds: impl Iterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
}
