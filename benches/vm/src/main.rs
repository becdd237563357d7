//! `coconut-bench-vm`: what a spawn, a revocation and the way from boot to the first agent cost here.
//!
//! Every figure stands beside its rival or bare counterpart of the same run: under emulation only
//! ratios mean something. Needs root and a running coconutd.

mod burst;
mod revoke;
mod rivals;
mod spawn;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use demo::Context;
use demo::coconut::Coconut;
use demo::latency::Latency;
use demo::report::Say;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Measures spawn, revocation and boot on this machine.
#[derive(Parser)]
#[command(name = "coconut-bench-vm", version)]
struct Args {
    /// Repetitions of each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=1000))]
    runs: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The command line under test.
    #[arg(long, env = "COCONUT", default_value = "coconut")]
    coconut: PathBuf,
    /// The program that holds what is revoked.
    #[arg(long, env = "COCONUT_PROBE", default_value = "/usr/libexec/coconut/coconut-probe")]
    probe: PathBuf,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// Of how many runs.
    pub runs: usize,
    /// Median, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, milliseconds.
    pub p99_ms: f64,
    /// Slowest, milliseconds.
    pub max_ms: f64,
    /// Median over the bare counterpart's of the same group.
    pub ratio: Option<f64>,
}

impl Row {
    /// Of samples in milliseconds; none without samples.
    pub fn of(name: &str, ms: &[f64]) -> Option<Row> {
        let Latency { runs, p50_ms, p99_ms, max_ms } = Latency::of(ms)?;
        Some(Row { name: name.to_owned(), runs, p50_ms, p99_ms, max_ms, ratio: None })
    }
}

/// The median of samples in milliseconds; none without samples.
pub fn median(ms: &[f64]) -> Option<f64> {
    Latency::of(ms).map(|told| told.p50_ms)
}

/// Two medians of this run, one over the other: what can be compared with another machine.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// `this / that`.
    pub name: String,
    /// The quotient.
    pub value: f64,
    /// What it should be at most, where that was decided.
    pub goal: Option<f64>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    kernel: String,
    cpus: usize,
    boot: Boot,
    spawn: Vec<Row>,
    burst: Vec<Row>,
    revocation: Vec<Row>,
    ratios: Vec<Ratio>,
    /// What could not be measured, and why.
    missing: Vec<String>,
}

/// Seconds since the kernel began.
#[derive(Debug, Serialize)]
struct Boot {
    daemon_ready_s: f64,
    first_agent_s: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(demo::control::is_root(), "run this as root, inside the VM");
    let work = PathBuf::from(format!("/var/tmp/coconut-bench-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let ctx = Context {
        coconut: Coconut { program: args.coconut.clone() },
        probe: args.probe.clone(),
        out: work.clone(),
        work: work.clone(),
        say: Say { quiet: true },
    };
    let result = measure(&ctx, args.runs as usize);
    let _ = std::fs::remove_dir_all(&work);
    let report = result?;
    let text = serde_json::to_string_pretty(&report)?;
    if let Some(out) = &args.out {
        std::fs::write(out, format!("{text}\n")).with_context(|| out.display().to_string())?;
    }
    match args.json {
        true => println!("{text}"),
        false => print(&report),
    }
    Ok(())
}

fn measure(ctx: &Context, runs: usize) -> Result<Report> {
    let boot = boot(ctx)?;
    let mut missing = Vec::new();
    eprintln!("  one after another, {runs} times");
    let (spawn, mut ratios) = spawn::measure(ctx, runs, &mut missing)?;
    let (burst, more) = burst::measure(ctx, runs, &mut missing)?;
    ratios.extend(more);
    eprintln!("  {runs} revocations");
    let (revocation, more) = revoke::measure(ctx, runs)?;
    ratios.extend(more);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    Ok(Report {
        schema: "coconut.bench-vm/2",
        kernel,
        cpus,
        boot,
        spawn,
        burst,
        revocation,
        ratios,
        missing,
    })
}

/// The first agent is the one that is started here: run this first after a boot.
fn boot(ctx: &Context) -> Result<Boot> {
    let begun = Instant::now();
    let ran = ctx.coconut.must(&["run", "--", "/usr/bin/true"])?;
    ensure!(ran.code == 0, "{}", ran.summary());
    let first_agent_s = demo::revocation::boottime_ns() as f64 / 1e9;
    let client = api::client::Client::new(api::broker::API_SOCKET.as_ref())?;
    let status: api::Status = client.get("/v1/status")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as f64;
    let since_start = (now - status.started_ns as f64) / 1e9;
    let now_boot = demo::revocation::boottime_ns() as f64 / 1e9;
    ensure!(begun.elapsed().as_secs_f64() < first_agent_s, "the clock of the boot runs backwards");
    Ok(Boot { daemon_ready_s: now_boot - since_start, first_agent_s })
}

fn print(report: &Report) {
    println!("kernel {}, {} processors", report.kernel, report.cpus);
    println!(
        "boot: the daemon began {:.1} s after the kernel, the first agent had ended after {:.1} s",
        report.boot.daemon_ready_s, report.boot.first_agent_s
    );
    let groups = [
        ("spawn", &report.spawn),
        ("many at once", &report.burst),
        ("revocation", &report.revocation),
    ];
    for (title, rows) in groups {
        println!(
            "\n{title:40} {:>6} {:>8} {:>8} {:>8} {:>6}",
            "runs", "p50 ms", "p99 ms", "max ms", "ratio"
        );
        for row in rows {
            let ratio = row.ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
            println!(
                "{:40} {:>6} {:>8.2} {:>8.2} {:>8.2} {ratio:>6}",
                row.name, row.runs, row.p50_ms, row.p99_ms, row.max_ms
            );
        }
    }
    println!("\n{:56} {:>6} {:>6}", "one median over the other", "ratio", "goal");
    for ratio in &report.ratios {
        let goal = ratio.goal.map_or("-".to_owned(), |goal| format!("{goal:.2}"));
        println!("{:56} {:>6.2} {goal:>6}", ratio.name, ratio.value);
    }
    report.missing.iter().for_each(|m| println!("not measured: {m}"));
}
