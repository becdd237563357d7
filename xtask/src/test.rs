//! `./x test`: all that CI checks. Each part counts what it checked and how long it took; the last line sums it up.

mod parts;
mod vms;

use crate::context::Context;
use crate::ui::{Ui, seconds};
use anyhow::Result;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which parts to run.
#[derive(clap::Args)]
pub struct Args {
    /// Only these parts (all: see the table at the end of a run)
    #[arg(value_name = "PART")]
    only: Vec<String>,
    /// Acceptance: only cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// What a part found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Checks that hold.
    pub passed: u32,
    /// Checks that do not.
    pub failed: u32,
    /// What a person should read about the failures.
    pub complaints: Vec<String>,
}

impl Tally {
    /// One check that holds.
    pub fn pass() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// One check that does not.
    pub fn fail(why: String) -> Self {
        Self { failed: 1, complaints: vec![why], ..Self::default() }
    }

    /// One check with a list of what is wrong.
    pub fn of(wrong: Vec<String>) -> Self {
        if wrong.is_empty() {
            return Self::pass();
        }
        Self { passed: 0, failed: 1, complaints: wrong }
    }
}

type Run = fn(&Context, &Ui, &Args) -> Result<Tally>;

/// The parts, in the order in which a failure is cheapest.
const PARTS: [(&str, &str, Run); 10] = [
    ("fmt", "formatting", parts::fmt),
    ("sources", "dependencies, unsafe, licences, circles of files", parts::sources),
    ("clippy", "lints", parts::clippy),
    ("unit", "unit, property and layout tests", parts::unit),
    ("fuzz", "what is read from others, fuzzed for so many tries", parts::fuzz),
    ("image", "image: tools, packages, root tree", parts::image),
    ("kernel", "kernel policy in an initramfs", vms::kernel),
    ("vm", "./x vm passes output, status and folders", vms::plumbing),
    ("acceptance", "acceptance suite in the VM", vms::acceptance),
    (
        "uefi",
        "what meets files, keys and the start, booted through UEFI on a verity root",
        vms::uefi,
    ),
];

/// Runs the parts; all of them, even if one fails: a run of CI should tell everything.
pub fn run(cx: &Context, ui: &Ui, args: &Args) -> Result<ExitCode> {
    let unknown = args.only.iter().find(|name| PARTS.iter().all(|(known, ..)| known != name));
    if let Some(name) = unknown {
        let known: Vec<&str> = PARTS.iter().map(|(name, ..)| *name).collect();
        anyhow::bail!("no part {name}\nhint: the parts are {}", known.join(", "));
    }
    let start = Instant::now();
    let mut rows: Vec<(&str, Tally, Duration)> = Vec::new();
    for (name, title, part) in PARTS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        ui.say(&format!("{name}: {title}"));
        let begin = Instant::now();
        let tally = part(cx, ui, args).unwrap_or_else(|error| Tally::fail(format!("{error:#}")));
        for complaint in &tally.complaints {
            ui.say(&format!("  ✗ {complaint}"));
        }
        rows.push((name, tally, begin.elapsed()));
    }
    Ok(report(&rows, start.elapsed()))
}

fn report(rows: &[(&str, Tally, Duration)], total: Duration) -> ExitCode {
    println!("\n{:<12} {:>7} {:>7} {:>9}", "part", "passed", "failed", "time");
    for (name, tally, took) in rows {
        println!("{name:<12} {:>7} {:>7} {:>9}", tally.passed, tally.failed, seconds(*took));
    }
    let passed: u32 = rows.iter().map(|(_, tally, _)| tally.passed).sum();
    let failed: u32 = rows.iter().map(|(_, tally, _)| tally.failed).sum();
    println!("{:<12} {passed:>7} {failed:>7} {:>9}\n", "all", seconds(total));
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
