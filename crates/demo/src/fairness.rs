//! Fairness: four tenants share one engine and one of them floods it; the others wait for nothing but
//! the step that is under way. The verdicts are counts of what the engine did, which no noise can
//! touch; milliseconds stand beside them. The control is the same load without lanes.

use crate::Context;
use crate::load::{Counts, Quiet, Site, Waited};
use crate::report::{Check, Control, Demonstration, Recorder};
use crate::statistics::{Interval, percentile};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const TITLE: &str = "who asks beside a flood waits for the step under way, not for the flood";
/// Tenants that only ask now and then.
const QUIET: [&str; 3] = ["amal", "bo", "chen"];
/// The tenant that asks for all it can get.
const FLOODER: &str = "mallory";
/// Steps that may pass a quiet request over: the one that is under way when it comes.
const PASSED: u64 = 1;
/// Tokens that others may get meanwhile: in that step, and in the one that reads the prompt's end. The
/// engine's steps hold at most 512; while others may come they are much shorter (`steps-short`).
const OTHERS: u64 = 2 * 512;
/// Steps by which the control passes each over, at least, for a harm.
const HARM: u64 = 20;
/// Each tenant in turn, so often in a block.
const ROUNDS: u32 = 2;
/// The same at the control: there each waits for hundreds of steps, and every time for as many.
const CONTROL_ROUNDS: u32 = 1;
/// Between two quiet requests the engine computes so many times what one of them takes, for others:
/// a quiet tenant then has a twelfth of the engine, and its fair share is a fourth.
const QUIETNESS: u64 = 4;
/// A quiet prompt is so long that its first token takes about this long alone.
const FIRST_TOKEN_MS: f64 = 100.0;
/// Longest quiet prompt, in words: its tokens are within the credit of who is owed service.
const MOST_WORDS: u32 = 150;
/// Blocks of the quiet tenants alone that differ by more than this say nothing about milliseconds.
const NOISY: f64 = 1.5;
/// Between two quiet requests while nobody else is there.
const REST: Duration = Duration::from_millis(200);

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Pairs of blocks: alone, then flooded.
    pub pairs: u32,
    /// Requests that the flooder keeps in flight.
    pub flood: u32,
}

/// Runs the demonstration.
pub fn run(ctx: &Context, load: Load) -> Demonstration {
    let mut recorder = Recorder::new(ctx.say);
    let result = demonstrate(ctx, load, &mut recorder);
    recorder.finish("fairness", TITLE, result)
}

/// What the quiet requests of one site saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Requests, and those that were not answered.
    asked: usize,
    lost: Vec<String>,
    /// What the engine did meanwhile, of each.
    waited: Vec<Waited>,
}

/// Times to first token, a vector for each block.
#[derive(Clone, Debug, Default)]
struct Blocks {
    alone: Vec<Vec<f64>>,
    flooded: Vec<Vec<f64>>,
}

fn demonstrate(ctx: &Context, load: Load, r: &mut Recorder) -> Result<()> {
    let site = Site::broker(ctx);
    let start = |name: &&str| site.quiet(name);
    let mut quiet: Vec<Quiet> = QUIET.iter().map(start).collect::<Result<_>>()?;
    let (words, own) = calibrate(&site, &mut quiet)?;
    r.step(format!(
        "{words} words take about {FIRST_TOKEN_MS} ms here; between two quiet requests the engine \
         computes {} tokens for others",
        own * QUIETNESS
    ));
    let before = site.counts()?;
    let mut seen = Seen::default();
    let mut blocks = Blocks::default();
    // Requests before this one are of no flooded block.
    let mut flooded_at = Vec::new();
    for pair in 1..=load.pairs {
        r.step(format!("{pair} of {}: the quiet tenants alone, then beside the flood", load.pairs));
        blocks.alone.push(alone(&site, &mut quiet, words, &mut seen)?);
        let flood = site.flooder(FLOODER, load.flood)?;
        flooded_at.push(asked(&quiet));
        blocks.flooded.push(flooded(&site, &mut quiet, words, own, &mut seen)?);
        drop(flood);
        site.until("the flood to be over", |counts| counts.present == 0)?;
    }
    let after = site.counts()?;
    for (of, records) in site.records(&quiet)?.iter().enumerate() {
        for from in flooded_at.iter().map(|asked| asked[of]) {
            seen.waited.extend(&records[from..from + ROUNDS as usize]);
        }
    }
    drop(quiet);
    let control = control(load, words, own, r)?;
    report(r, &seen, &control, &blocks, [before, after]);
    Ok(())
}

fn asked(quiet: &[Quiet]) -> Vec<usize> {
    quiet.iter().map(Quiet::asked).collect()
}

/// Words of a prompt that takes about [`FIRST_TOKEN_MS`], and tokens that such a request takes.
fn calibrate(site: &Site<'_>, quiet: &mut [Quiet]) -> Result<(u32, u64)> {
    let mut words = 32;
    for _ in 0..6 {
        // The first one warms up.
        one(site, &mut quiet[0], words)?;
        let took = one(site, &mut quiet[0], words)?.context("the engine does not answer")?;
        if took >= FIRST_TOKEN_MS * 0.8 || words >= MOST_WORDS {
            break;
        }
        let factor = (FIRST_TOKEN_MS / took).clamp(1.1, 3.0);
        words = ((f64::from(words) * factor) as u32).min(MOST_WORDS);
    }
    let before = site.counts()?;
    one(site, &mut quiet[0], words)?;
    Ok((words, site.counts()?.tokens - before.tokens))
}

/// One request to its end; its time to first token, if it was answered.
fn one(site: &Site<'_>, quiet: &mut Quiet, words: u32) -> Result<Option<f64>> {
    site.send(quiet, words)?;
    Ok(site.receive(quiet)?.first_token_ms)
}

impl Seen {
    /// Sends one request and keeps what came of it.
    fn ask(&mut self, site: &Site<'_>, quiet: &mut Quiet, words: u32) -> Result<Option<f64>> {
        site.send(quiet, words)?;
        self.answer(site, quiet)
    }

    fn answer(&mut self, site: &Site<'_>, quiet: &Quiet) -> Result<Option<f64>> {
        let asked = site.receive(quiet)?;
        self.asked += 1;
        if asked.outcome != "200" || asked.first_token_ms.is_none() {
            self.lost.push(asked.outcome);
        }
        Ok(asked.first_token_ms)
    }
}

fn alone(site: &Site<'_>, quiet: &mut [Quiet], words: u32, seen: &mut Seen) -> Result<Vec<f64>> {
    let mut block = Vec::new();
    for _ in 0..ROUNDS {
        for tenant in quiet.iter_mut() {
            std::thread::sleep(REST);
            block.extend(seen.ask(site, tenant, words)?);
        }
    }
    Ok(block)
}

/// Each tenant in turn; before each the engine has computed enough for the flooder that the tenant is
/// owed service, however fast or slowly it did.
fn flooded(
    site: &Site<'_>,
    quiet: &mut [Quiet],
    words: u32,
    own: u64,
    seen: &mut Seen,
) -> Result<Vec<f64>> {
    let mut block = Vec::new();
    for _ in 0..ROUNDS {
        for tenant in quiet.iter_mut() {
            rest(site, own)?;
            block.extend(seen.ask(site, tenant, words)?);
        }
    }
    Ok(block)
}

fn rest(site: &Site<'_>, own: u64) -> Result<()> {
    let until = site.counts()?.tokens + own * QUIETNESS;
    site.until("the engine to serve the flood", |counts| counts.tokens >= until).map(drop)
}

/// The same flood in front of an engine that serves who came first; the quiet tenants ask at once.
fn control(load: Load, words: u32, own: u64, r: &Recorder) -> Result<Seen> {
    r.step("the control: the same load on the same engine, first come, first served");
    let site = Site::control()?;
    let start = |name: &&str| site.quiet(name);
    let mut quiet: Vec<Quiet> = QUIET.iter().map(start).collect::<Result<_>>()?;
    let flood = site.flooder(FLOODER, load.flood)?;
    let mut seen = Seen::default();
    for _ in 0..CONTROL_ROUNDS {
        rest(&site, own)?;
        for tenant in &mut quiet {
            site.send(tenant, words)?;
        }
        for tenant in &quiet {
            seen.answer(&site, tenant)?;
        }
    }
    drop(flood);
    seen.waited = site.records(&quiet)?.concat();
    ensure!(!seen.waited.is_empty(), "the control's engine has answered nothing");
    Ok(seen)
}

fn report(r: &mut Recorder, ours: &Seen, control: &Seen, blocks: &Blocks, counts: [Counts; 2]) {
    r.columns("beside the flood", "with lanes", "without lanes");
    for check in judge(ours, control, counts) {
        r.check(check);
    }
    let most = |seen: &Seen, of: fn(&Waited) -> u64| seen.waited.iter().map(of).max().unwrap_or(0);
    for (name, seen) in [("lanes", ours), ("fifo", control)] {
        r.figure(&format!("passed_steps_{name}_max"), most(seen, |w| w.passed) as f64, "count");
        r.figure(&format!("others_tokens_{name}_max"), most(seen, |w| w.others) as f64, "count");
        r.figure(&format!("requests_{name}"), seen.waited.len() as f64, "count");
    }
    let Some(times) = Times::of(blocks) else { return };
    r.say.line(format!("      {}", times.line()));
    for (name, value, unit) in times.figures() {
        r.figure(name, value, unit);
    }
}

/// The promises, all in counts; each with what the control did where it can break it.
fn judge(ours: &Seen, control: &Seen, [before, after]: [Counts; 2]) -> Vec<Check> {
    let range = |seen: &Seen, of: fn(&Waited) -> u64| {
        let values = || seen.waited.iter().map(of);
        (values().min().unwrap_or(0), values().max().unwrap_or(0))
    };
    let (_, passed) = range(ours, |w| w.passed);
    let (_, others) = range(ours, |w| w.others);
    let (harm, worst) = range(control, |w| w.passed);
    let (least, most) = range(control, |w| w.others);
    let own: u64 = ours.waited.iter().map(|w| w.prompt).sum::<u64>() * 2;
    let (steps, long) = (after.steps - before.steps, after.over_limit - before.over_limit);
    vec![
        Check::new(
            "quiet-next",
            "a quiet request waits for 1 step",
            passed <= PASSED && !ours.waited.is_empty(),
            format!("{passed} in {} requests", ours.waited.len()),
            Control::new(harm >= HARM, format!("{harm} to {worst}")),
        ),
        Check::new(
            "others-bounded",
            "others get 2 steps' tokens meanwhile",
            others <= OTHERS,
            format!("{others}, {OTHERS} allowed"),
            Control::new(least > OTHERS, format!("{least} to {most}")),
        ),
        Check::new(
            "steps-short",
            "no step is longer than it may be",
            long == 0 && steps > 0,
            format!("{long} of {steps}"),
            None,
        ),
        Check::new(
            "quiet-served",
            "every quiet request is answered",
            ours.lost.is_empty() && ours.asked > 0,
            match ours.lost.first() {
                None => format!("{} of {0}", ours.asked),
                Some(why) => format!("{} lost: {why}", ours.lost.len()),
            },
            None,
        ),
        Check::new(
            "flooder-served",
            "the flooder gets what is left",
            after.tokens - before.tokens > own,
            format!("{} tokens in all", after.tokens - before.tokens),
            None,
        ),
    ]
}

/// Milliseconds to first token, of blocks in turns: what stands beside the verdicts.
#[derive(Clone, Debug)]
struct Times {
    alone: Vec<f64>,
    flooded: Vec<f64>,
    /// Median of a flooded block over that of the one before it.
    ratio: Interval,
    /// Largest median of a block alone, over the smallest.
    spread: f64,
}

impl Times {
    fn of(blocks: &Blocks) -> Option<Times> {
        let medians = |of: &[Vec<f64>]| -> Option<Vec<f64>> {
            of.iter().map(|block| percentile(block, 0.5)).collect()
        };
        let (alone, flooded) = (medians(&blocks.alone)?, medians(&blocks.flooded)?);
        let ratios: Vec<f64> = flooded.iter().zip(&alone).map(|(f, a)| f / a).collect();
        Some(Times {
            alone: blocks.alone.concat(),
            flooded: blocks.flooded.concat(),
            ratio: Interval::of_median(&ratios)?,
            spread: percentile(&alone, 1.0)? / percentile(&alone, 0.0)?,
        })
    }

    fn line(&self) -> String {
        if self.spread > NOISY {
            return format!(
                "too noisy for milliseconds: blocks alone differ by {:.1} ×",
                self.spread
            );
        }
        let median = |of: &[f64]| percentile(of, 0.5).unwrap_or(0.0);
        format!(
            "first token {:.0} ms, alone {:.0}: {:.2} × [{:.2}, {:.2}], {:.0} % of the time",
            median(&self.flooded),
            median(&self.alone),
            self.ratio.median,
            self.ratio.low,
            self.ratio.high,
            self.ratio.confidence * 100.0
        )
    }

    fn figures(&self) -> Vec<(&'static str, f64, &'static str)> {
        let at = |of: &[f64], p| percentile(of, p).unwrap_or(0.0);
        vec![
            ("ttft_alone_p50", at(&self.alone, 0.5), "ms"),
            ("ttft_alone_p99", at(&self.alone, 0.99), "ms"),
            ("ttft_flooded_p50", at(&self.flooded, 0.5), "ms"),
            ("ttft_flooded_p99", at(&self.flooded, 0.99), "ms"),
            ("ttft_ratio", self.ratio.median, "ratio"),
            ("ttft_ratio_low", self.ratio.low, "ratio"),
            ("ttft_ratio_high", self.ratio.high, "ratio"),
            ("ttft_ratio_confidence", self.ratio.confidence, "ratio"),
            ("ttft_alone_spread", self.spread, "ratio"),
        ]
    }
}

#[cfg(test)]
mod tests;
