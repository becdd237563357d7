//! Fifty programs at once beside one alone: as agents, and in bwrap.

use crate::rivals::Rival;
use crate::spawn::{as_agent, timed};
use crate::{Ratio, Row, median};
use anyhow::{Result, anyhow};
use api::client::Client;
use demo::Context;
use std::sync::Barrier;

/// How many at once.
const AT_ONCE: usize = 50;

/// What so many at once should take at most, of one alone.
const GOAL: f64 = 3.0;

/// Times of one kind of box, in milliseconds.
#[derive(Default)]
struct Times {
    alone: Vec<f64>,
    each: Vec<f64>,
    /// The last of each round, which is the time of all.
    last: Vec<f64>,
}

/// Measures both in turns; rows, and what they say beside each other.
///
/// # Errors
/// When one of them cannot be started.
pub fn measure(
    ctx: &Context,
    runs: usize,
    missing: &mut Vec<String>,
) -> Result<(Vec<Row>, Vec<Ratio>)> {
    let mut ignored = Vec::new();
    let bwrap = crate::rivals::find(ctx, &mut ignored).into_iter().find(Rival::is_bwrap);
    let (mut agents, mut boxes) = (Times::default(), Times::default());
    let rounds = runs.div_ceil(4).max(3);
    for round in 0..=rounds {
        eprintln!("  {AT_ONCE} at once, round {round} of {rounds}");
        let agent = || {
            let client = Client::new(api::broker::API_SOCKET.as_ref())?;
            Ok(move || as_agent(&client).map(|(active, _)| active))
        };
        // The first round only warms caches.
        agents.add(round > 0, agent)?;
        if let Some(bwrap) = &bwrap {
            boxes.add(round > 0, || Ok(|| timed(&mut bwrap.command(0))))?;
        }
    }
    if bwrap.is_none() {
        missing.push(format!("{AT_ONCE} of bwrap at once: it does not run here"));
    }
    let kinds = [("agent to Active", agents, Some(GOAL)), ("bwrap to its end", boxes, None)];
    let rows = kinds.iter().flat_map(|(name, times, _)| times.rows(name)).collect();
    let mut ratios: Vec<Ratio> =
        kinds.iter().flat_map(|(name, times, goal)| times.ratios(name, *goal)).collect();
    let last = |n: usize| median(&kinds[n].1.last);
    if let (Some(agents), Some(boxes)) = (last(0), last(1)) {
        let name = format!("{AT_ONCE} agents to Active / {AT_ONCE} of bwrap");
        ratios.push(Ratio { name, value: agents / boxes, goal: None });
    }
    Ok((rows, ratios))
}

impl Times {
    /// One alone, then all at once. `prepare` is not timed, what it returns is called once.
    fn add<P, F>(&mut self, counts: bool, prepare: P) -> Result<()>
    where
        P: Fn() -> Result<F> + Sync,
        F: FnOnce() -> Result<f64>,
    {
        let alone = prepare()?()?;
        let start = Barrier::new(AT_ONCE);
        let one = || {
            // Whoever cannot start must not keep the others waiting.
            let ready = prepare();
            start.wait();
            ready?()
        };
        let each: Result<Vec<f64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
            let joined =
                threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a thread fell over"))?);
            joined.collect()
        });
        let each = each?;
        if counts {
            self.alone.push(alone);
            self.last.extend(each.iter().copied().reduce(f64::max));
            self.each.extend(each);
        }
        Ok(())
    }

    fn rows(&self, name: &str) -> Vec<Row> {
        let rows = [
            Row::of(&format!("{name}, alone"), &self.alone),
            Row::of(&format!("{name}, {AT_ONCE} at once"), &self.each),
            Row::of(&format!("{name}, the last of {AT_ONCE}"), &self.last),
        ];
        let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
        let base = rows.first().map_or(1.0, |row| row.p50_ms);
        rows.iter_mut().for_each(|row| row.ratio = Some(row.p50_ms / base));
        rows
    }

    fn ratios(&self, name: &str, goal: Option<f64>) -> Vec<Ratio> {
        let over = |what: &str, ms: Option<f64>, goal: Option<f64>| {
            let name = format!("{name}: {what} / alone");
            Some(Ratio { name, value: ms? / median(&self.alone)?, goal })
        };
        let share = median(&self.last).map(|ms| ms / AT_ONCE as f64);
        [
            over(&format!("p50 of {AT_ONCE} at once"), median(&self.each), goal),
            over(&format!("the last of {AT_ONCE}"), median(&self.last), goal),
            over(&format!("the last of {AT_ONCE}, a {AT_ONCE}th"), share, None),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
