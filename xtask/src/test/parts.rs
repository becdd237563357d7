//! The parts of `./x test` that run on the host.

use super::{Args, Tally};
use crate::build::cargo;
use crate::checks::{self, circles, direction, licences, unused};
use crate::context::Context;
use crate::fuzz;
use crate::prepare;
use crate::ui::Ui;
use anyhow::Result;
use std::fs;
use std::process::Command;

/// So many lines of what a test said when it failed are shown at the end.
const PANIC_LINES: usize = 6;

/// `cargo fmt --check`.
pub fn fmt(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let step = ui.step("fmt", "cargo fmt --check");
    let mut fmt = Command::new("cargo");
    fmt.args(["fmt", "--all", "--check"]).current_dir(&cx.root);
    step.run(&mut fmt, "./x fmt formats everything")?;
    step.done("");
    Ok(Tally::pass())
}

/// Licences, dependency direction, where `unsafe` may stand, what nobody uses, circles of files.
pub fn sources(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let step = ui.step("sources", "dependencies and licences");
    let metadata = checks::metadata(cx)?;
    let mut all = Tally::default();
    let checks = [
        licences::check(&metadata),
        direction::check(cx, &metadata)?,
        direction::check_unsafe(cx)?,
        unused::check(cx, &metadata)?,
        circles::check(cx, &metadata)?,
    ];
    for wrong in checks {
        let tally = Tally::of(wrong);
        all.passed += tally.passed;
        all.failed += tally.failed;
        all.complaints.extend(tally.complaints);
    }
    step.done("");
    Ok(all)
}

/// clippy, with the profile of the build: llama.cpp and libbpf are compiled once.
pub fn clippy(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let step = ui.step("clippy", "cargo clippy -D warnings");
    let mut clippy = cargo(cx, &["clippy", "--release", "--workspace", "--all-targets"]);
    step.run(clippy.args(["--", "-D", "warnings"]), "")?;
    step.done("");
    Ok(Tally::pass())
}

/// All cargo tests: units, properties, the layout of what kernel and user space share.
pub fn unit(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let step = ui.step("unit", "cargo test");
    let mut test = cargo(cx, &["test", "--release", "--workspace", "--no-fail-fast"]);
    let outcome = step.run(&mut test, "");
    let log = String::from_utf8_lossy(&fs::read(step.log())?).into_owned();
    let mut tally = count(&log);
    if let Err(error) = outcome {
        tally.failed = tally.failed.max(1);
        tally.complaints = failures(&log).chain([format!("{error:#}")]).collect();
    }
    step.done(&format!("{} tests", tally.passed + tally.failed));
    Ok(tally)
}

/// Every fuzz target, for so many tries.
pub fn fuzz(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let mut all = Tally::default();
    for (name, done) in fuzz::briefly(cx, ui)? {
        let tally = done.map_or_else(|e| Tally::fail(format!("{name}: {e:#}")), |()| Tally::pass());
        all.passed += tally.passed;
        all.failed += tally.failed;
        all.complaints.extend(tally.complaints);
    }
    Ok(all)
}

/// What failed, and what it said when it did: the log's tail is of the tests that came last.
fn failures(log: &str) -> impl Iterator<Item = String> {
    let mut left = 0;
    log.lines().filter_map(move |line| {
        let failed = line.starts_with("test ") && line.ends_with("FAILED");
        left = match line {
            _ if line.contains(" panicked at ") => PANIC_LINES,
            "" | "stack backtrace:" => 0,
            _ => left.saturating_sub(1),
        };
        (failed || left > 0).then(|| line.to_owned())
    })
}

/// Sums cargo's `test result: ok. 3 passed; 0 failed; …` lines.
fn count(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines().filter(|l| l.starts_with("test result: ")) {
        let number = |word: &str| -> u32 {
            let before = line.split(word).next().unwrap_or_default();
            before.split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        tally.passed += number(" passed;");
        tally.failed += number(" failed;");
    }
    tally
}

/// The image, from what the other parts built.
pub fn image(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    prepare::image(cx, ui)?;
    Ok(Tally::pass())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_said_when_it_failed_is_shown() {
        let log = "test one ... ok\ntest two ... FAILED\nthread '<unnamed>' (7) panicked at a.rs:1:5:\n\
            assertion failed\n  left: 2\nstack backtrace:\n   0: begin_unwind\ntest three ... ok\n";
        let shown: Vec<String> = failures(log).collect();
        let wanted = [
            "test two ... FAILED",
            "thread '<unnamed>' (7) panicked at a.rs:1:5:",
            "assertion failed",
            "  left: 2",
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn cargo_results_are_summed() {
        let log = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n\
            noise\ntest result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured\n";
        let tally = count(log);
        assert_eq!((tally.passed, tally.failed), (13, 2));
    }
}
