//! `coconut-bench-scale`: creates thousands of sleeping agents and says what each costs in time and memory,
//! what a list, a revocation and an exit cost beside them, and whether all is gone afterwards.
//!
//! Times say nothing under emulation but beside each other, and decide nothing: the exit status is
//! about counts (created, revoked, gone). Needs root and a running coconutd.

mod again;
mod bare;
mod crowd;
mod daemon;
mod end;
mod family;
mod memory;
mod report;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use crowd::Crowd;
use daemon::Daemon;
use demo::latency::Latency;
use memory::Memory;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Creates many sleeping agents on this machine and measures.
#[derive(Parser)]
#[command(name = "coconut-bench-scale", version)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    scale: Scale,
}

/// How many of what.
#[derive(clap::Args, Clone)]
pub struct Scale {
    /// Agents that sleep at once.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(20..))]
    agents: u32,
    /// Tenants that they are spread over.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tenants: u32,
    /// Requests at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    callers: u32,
    /// Children of the one parent, created beside the others [default: a tenth of the agents, at most 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=4000))]
    children: Option<u32>,
    /// Processes that the agents' memory is compared with [default: as many as agents, at most 500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    bare: Option<u32>,
    /// Whose `/proc`, `/tmp` and IPC namespace the agents use.
    #[arg(long, default_value = "shared", value_parser = ["own", "shared"])]
    namespaces: String,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The command line, for `ps`.
    #[arg(long, env = "COCONUT", default_value = "coconut")]
    coconut: PathBuf,
    /// The program that holds what is revoked.
    #[arg(long, env = "COCONUT_PROBE", default_value = "/usr/libexec/coconut/coconut-probe")]
    probe: PathBuf,
}

impl Scale {
    fn children(&self) -> u32 {
        self.children.unwrap_or((self.agents / 10).clamp(3, 1000))
    }

    fn bare(&self) -> u32 {
        self.bare.unwrap_or(self.agents.min(500))
    }
}

#[derive(Subcommand)]
enum Role {
    /// As an agent: spawn children and stay
    #[command(hide = true)]
    Parent(family::Parent),
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Parent(parent)) = args.role {
        return parent.run().map(|()| ExitCode::SUCCESS);
    }
    ensure!(demo::control::is_root(), "run this as root, inside the VM");
    let work = PathBuf::from(format!("/var/tmp/coconut-scale-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let result = measure(&args.scale, &work);
    let _ = std::fs::remove_dir_all(&work);
    let report = result?;
    if let Some(out) = &args.scale.out {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(out, format!("{text}\n")).with_context(|| out.display().to_string())?;
    }
    report.print();
    Ok(if report.checks.iter().all(|check| check.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure(scale: &Scale, work: &std::path::Path) -> Result<Report> {
    let mut daemon = Daemon::new()?;
    let mut report = Report::new(scale, &daemon)?;
    report.beside = bare::processes(scale.bare())?;
    let zero = Memory::now(&daemon)?;
    let before = end::Left::now(&daemon)?;
    println!("{}", report::HEADS);
    let mut crowd = Crowd::new(scale, work)?;
    for tenth in 1..=10 {
        let (times, seconds) = crowd.grow_to(scale.agents * tenth / 10);
        report.checkpoint(&crowd, &times, seconds, &zero, &Memory::now(&daemon)?);
    }
    report.alive(&crowd, &daemon)?;
    report.ps(&daemon, scale, &crowd)?;
    println!("coconutd is restarted beside them");
    daemon = again::restart(daemon, &mut report)?;
    println!("a parent spawns {} children", scale.children());
    match family::measure(scale, work, &daemon, &mut report) {
        Ok(()) => {}
        // What was measured so far is worth having.
        Err(error) => report.check("a family is revoked", false, &format!("{error:#}")),
    }
    println!("20 agents are ended one by one");
    let exits = crowd.end_some(20);
    report.exit = Latency::of(&exits);
    println!("all are ended");
    let ending = Instant::now();
    report.end = Some(end::all(&daemon, scale.callers as usize)?);
    let left = end::settle(&daemon, &before)?;
    let seconds = ending.elapsed().as_secs_f64();
    report.settled(&before, &left, seconds, &zero, &Memory::now(&daemon)?);
    report.beside.extend(bare::boxes(scale.bare()));
    Ok(report)
}
