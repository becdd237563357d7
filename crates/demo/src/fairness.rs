//! Fairness: four tenants share one engine and one of them floods it; the others hardly notice.
//! The control is the same load on the same engine without lanes.

use crate::Context;
use crate::load::{Engines, Load, Seen, Tenant};
use crate::report::{Check, Control, Demonstration, Recorder};
use crate::statistics::percentile;
use anyhow::{Context as _, Result, ensure};

const TITLE: &str = "a tenant that floods the model delays nobody but itself";
/// Tenants that only ask now and then.
const QUIET: [&str; 3] = ["amal", "bo", "chen"];
/// The tenant that asks for all it can get.
const FLOODER: &str = "mallory";
/// p99/p50 of the quiet tenants' time to first token, at most.
const STEADY: f64 = 1.5;
/// p99 under the flood against p99 alone, at most.
const SLOWER: f64 = 2.0;

/// Runs the demonstration.
pub fn run(ctx: &Context, load: Load) -> Demonstration {
    let mut recorder = Recorder::new(ctx.say);
    let result = demonstrate(ctx, load, &mut recorder);
    recorder.finish("fairness", TITLE, result)
}

/// Percentiles of the quiet tenants together, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// How many.
    pub samples: usize,
}

impl Latency {
    /// Of all samples together.
    ///
    /// # Errors
    /// Without samples.
    pub fn of(seen: &[Seen]) -> Result<Latency> {
        let all: Vec<f64> = seen.iter().flat_map(|s| &s.first_token_ms).copied().collect();
        let at = |p| percentile(&all, p).context("no request was answered");
        Ok(Latency { p50: at(0.5)?, p99: at(0.99)?, samples: all.len() })
    }

    fn steady(&self) -> f64 {
        self.p99 / self.p50
    }
}

fn demonstrate(ctx: &Context, load: Load, r: &mut Recorder) -> Result<()> {
    r.step("the control's engine starts; how long is a prompt of 150 ms here?");
    let engines = Engines::start(load, QUIET.len())?;
    let pace = engines.pace;
    r.step(format!(
        "{} words take {:.0} ms; each quiet tenant asks every {:.1} s, for {} s",
        pace.words, pace.first_token_ms, pace.period, pace.seconds
    ));
    r.step("the quiet tenants alone");
    let alone = Latency::of(&engines.fair(ctx, &tenants(false))?)?;
    r.step(format!("the same while {FLOODER} keeps {} requests in flight", load.flood));
    let seen = engines.fair(ctx, &tenants(true))?;
    let (quiet, flood) = seen.split_at(QUIET.len());
    let flooded = Latency::of(quiet)?;
    r.step("the control: the same load on the same engine, first come, first served");
    let plain_seen = engines.first_come(&tenants(true))?;
    let fifo = Latency::of(&plain_seen[..QUIET.len()])?;
    drop(engines);
    let least = load.samples as usize * 9 / 10;
    ensure!(flooded.samples >= least, "only {} answers came", flooded.samples);
    table(r, alone, flooded, fifo);
    r.columns("under the flood", "with lanes", "without lanes");
    for check in judge(alone, flooded, fifo) {
        r.check(check);
    }
    for check in served(quiet, flood) {
        r.check(check);
    }
    for (name, l) in [("alone", alone), ("flooded", flooded), ("fifo", fifo)] {
        r.figure(&format!("ttft_{name}_p50"), l.p50, "ms");
        r.figure(&format!("ttft_{name}_p99"), l.p99, "ms");
        r.figure(&format!("ttft_{name}_samples"), l.samples as f64, "count");
    }
    Ok(())
}

fn tenants(flooded: bool) -> Vec<Tenant> {
    let quiet = QUIET.iter().enumerate().map(|(n, name)| Tenant::quiet(name, n, QUIET.len()));
    quiet.chain(flooded.then(|| Tenant::flooder(FLOODER))).collect()
}

fn table(r: &Recorder, alone: Latency, ours: Latency, fifo: Latency) {
    r.say.line(format!(
        "\n      {:34}{:>10}{:>10}{:>10}{:>9}",
        "quiet tenants' time to first token", "p50 ms", "p99 ms", "p99/p50", "samples"
    ));
    for (name, l) in [("alone", alone), ("flooded, with lanes", ours), ("flooded, without", fifo)] {
        r.say.line(format!(
            "      {name:34}{:>10.0}{:>10.0}{:>10.2}{:>9}",
            l.p50,
            l.p99,
            l.steady(),
            l.samples
        ));
    }
}

/// The two promises, with the control beside the one that it can break.
pub fn judge(alone: Latency, ours: Latency, fifo: Latency) -> Vec<Check> {
    let slower = |l: &Latency| l.p99 / alone.p99;
    let harm = Control::new(slower(&fifo) > SLOWER, format!("{:.1} ×", slower(&fifo)));
    vec![
        Check::new(
            "quiet-steady",
            format!("quiet tenants: p99/p50 ≤ {STEADY}"),
            ours.steady() <= STEADY,
            format!("{:.2}", ours.steady()),
            None,
        )
        .note(format!("{:.2}, all slow alike", fifo.steady())),
        Check::new(
            "quiet-undelayed",
            format!("quiet tenants: p99 ≤ {SLOWER} × alone"),
            slower(&ours) <= SLOWER,
            format!("{:.2} ×", slower(&ours)),
            harm,
        ),
    ]
}

/// Nobody was refused, and the flooder got what was left.
fn served(quiet: &[Seen], flood: &[Seen]) -> Vec<Check> {
    let lost: u64 = quiet.iter().map(|s| s.sent.saturating_sub(s.answered)).sum();
    let sent: u64 = quiet.iter().map(|s| s.sent).sum();
    let tokens: u64 = flood.iter().map(|s| s.tokens).sum();
    let check =
        |name: &str, claim: &str, held, observed| Check::new(name, claim, held, observed, None);
    vec![
        check(
            "quiet-served",
            "every quiet request is answered",
            lost == 0,
            format!("{lost} of {sent} lost"),
        ),
        check(
            "flooder-served",
            "the flooder gets what is left",
            tokens > 0,
            format!("{tokens} tokens"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(p50: f64, p99: f64) -> Latency {
        Latency { p50, p99, samples: 180 }
    }

    #[test]
    fn fair_passes_only_while_the_control_is_unfair() {
        let (alone, ours, fifo) = (latency(10.0, 12.0), latency(12.0, 16.0), latency(300.0, 400.0));
        assert!(judge(alone, ours, fifo).iter().all(|c| c.passed));
        assert!(!judge(alone, ours, ours).iter().all(|c| c.passed));
    }

    #[test]
    fn each_promise_is_judged_by_itself() {
        let (alone, fifo) = (latency(10.0, 12.0), latency(300.0, 400.0));
        let unsteady = judge(alone, latency(10.0, 16.0), fifo);
        assert_eq!(unsteady.iter().map(|c| c.passed).collect::<Vec<_>>(), [false, true]);
        let delayed = judge(alone, latency(25.0, 30.0), fifo);
        assert_eq!(delayed.iter().map(|c| c.passed).collect::<Vec<_>>(), [true, false]);
    }
}
