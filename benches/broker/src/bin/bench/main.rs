//! `coconut-bench-broker`: the broker beside the bare engine and beside its rival, in one run.
//!
//! Starts every process itself, on free ports of this machine, and ends them. Progress goes to
//! standard error; what was measured, as JSON, to a file.

mod kvwarden;
mod overhead;
mod process;
mod report;
mod scenario;
mod server;

use crate::kvwarden::{Discipline, Kvwarden};
use crate::report::{Machine, Report};
use crate::server::{Front, Places, Served};
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use coconut_loadgen::tenant::Window;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Measures coconut-broker beside the bare engine and kvwarden; about ten minutes.
#[derive(Parser)]
#[command(name = "coconut-bench-broker", version)]
struct Args {
    /// Only these
    #[arg(value_name = "PART")]
    only: Vec<Part>,
    /// Write what was measured to this file, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench/broker.json")]
    out: PathBuf,
    /// Logs of the servers, and kvwarden itself
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    work: PathBuf,
    /// Where coconut-broker and coconut-bench-engine are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Seconds that count, of each scenario and server
    #[arg(long, default_value_t = 25.0)]
    seconds: f64,
    /// Seconds before counting begins: a broker that learns needs some
    #[arg(long, default_value_t = 8.0)]
    warmup: f64,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Latency and requests a second before an engine that answers at once
    Overhead,
    /// One quiet tenant beside one that floods
    Two,
    /// Three quiet tenants beside one that floods
    Four,
    /// Four tenants that always have requests waiting, of different length
    Backlog,
}

/// Seconds to wait for quiet tenants' answers: first come, first served, they wait a minute.
const DRAIN: f64 = 120.0;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Leaving the measurement in the middle drops, and so ends, the servers.
        tokio::select! {
            report = measure(args) => report,
            _ = terminate.recv() => bail!("told to end"),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&args.out, format!("{text}\n"))
        .with_context(|| format!("cannot write {}", args.out.display()))
}

async fn measure(args: &Args) -> Result<Report> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let places = Places::new(args.programs.clone(), &args.work)?;
    let machine = Machine::now();
    let (kvwarden, missing) = match rival(&args.work, &places).await {
        Ok(kvwarden) => (Some(kvwarden), Vec::new()),
        Err(error) => {
            eprintln!("{} is left out: {error:#}", kvwarden::NAME);
            (None, vec![format!("{}: {error:#}", kvwarden::NAME)])
        }
    };
    let window = Window { warmup: args.warmup, seconds: args.seconds, drain: DRAIN };
    let mut report = Report::new(machine, window, missing);
    if wanted(Part::Overhead) {
        report.overhead = overhead::measure(&places, kvwarden.as_ref()).await?;
    }
    for (part, scenario) in scenario::all() {
        if wanted(part) {
            report.scenarios.push(scenario.measure(&places, kvwarden.as_ref(), window).await?);
        }
    }
    Ok(report)
}

/// The rival, installed and seen to answer: without it our own figures are still worth having.
async fn rival(work: &Path, places: &Places) -> Result<Kvwarden> {
    let kvwarden = Kvwarden::install(work)?;
    Served::start(Front::Kvwarden(Discipline::Open), true, places, Some(&kvwarden)).await?;
    Ok(kvwarden)
}
