//! `coconut-demo`: what `coconut demo` runs.

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use demo::coconut::Coconut;
use demo::fairness::Load;
use demo::report::{Demonstration, Machine, Report, Say};
use demo::{Context, audit, dream_team, fairness, isolation};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Shows isolation, audit and fairness on this machine, each beside its control.
#[derive(Parser)]
#[command(name = "coconut demo", bin_name = "coconut demo", version, max_term_width = 80)]
struct Args {
    /// What to show; all of it by default.
    #[arg(value_enum)]
    what: Vec<What>,
    /// The tree that the Dream Team reviews; Coconut's own by default.
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// Where report.json and the Dream Team's report go.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/coconut-demo-report")]
    out: PathBuf,
    /// Print the report as JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Show it so many times; every time must pass.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Fairness: pairs of blocks, the quiet tenants alone and then beside the flood.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Fairness: requests that the flooder keeps in flight.
    #[arg(long, default_value_t = 32, hide = true)]
    flood: u32,
    /// The command line under test.
    #[arg(long, hide = true, env = "COCONUT", default_value = "coconut")]
    coconut: PathBuf,
    /// The hostile program.
    #[arg(
        long,
        hide = true,
        env = "COCONUT_PROBE",
        default_value = "/usr/libexec/coconut/coconut-probe"
    )]
    probe: PathBuf,
    /// Where scenes are set.
    #[arg(long, hide = true, default_value = "/var/tmp")]
    work: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A hostile agent and its victim
    Isolation,
    /// The log, and what is done to it
    Audit,
    /// Four tenants, one floods
    Fairness,
    /// 31 agents review a source tree
    DreamTeam,
    /// Everything
    All,
}

impl What {
    /// The log is copied and verified a dozen times: before the Dream Team has filled it.
    const EACH: [What; 4] = [What::Isolation, What::Audit, What::DreamTeam, What::Fairness];
}

fn main() -> ExitCode {
    match show(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn show(args: &Args) -> Result<bool> {
    let say = Say { quiet: args.json };
    let work = args.work.join(format!("coconut-demo-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let ctx = Context {
        coconut: Coconut { program: args.coconut.clone() },
        probe: args.probe.clone(),
        work: work.clone(),
        out: args.out.clone(),
        say,
    };
    let result = show_all(args, &ctx);
    let _ = std::fs::remove_dir_all(work);
    let report = result?;
    let text = serde_json::to_string_pretty(&report)?;
    let file = args.out.join("report.json");
    std::fs::write(&file, format!("{text}\n")).with_context(|| file.display().to_string())?;
    match args.json {
        true => println!("{text}"),
        false => say.line(format!("{}\nThe whole report: {}", report.summary(), file.display())),
    }
    Ok(report.failed == 0)
}

fn show_all(args: &Args, ctx: &Context) -> Result<Report> {
    let (begun, started) =
        (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let whole = args.what.is_empty() || args.what.contains(&What::All);
    let mut shown = Vec::new();
    for run in 1..=args.runs {
        for what in What::EACH.into_iter().filter(|w| whole || args.what.contains(w)) {
            let heading = if args.runs > 1 {
                format!(" (run {run} of {})", args.runs)
            } else {
                String::new()
            };
            shown.push(show_one(args, ctx, what, &heading));
        }
    }
    Ok(Report::new(started, begun.elapsed().as_secs_f64(), machine(), shown))
}

fn show_one(args: &Args, ctx: &Context, what: What, heading: &str) -> Demonstration {
    let name = what.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    ctx.say.line(format!("\n== {name}{heading}"));
    match what {
        What::Audit => audit::run(ctx),
        What::Fairness => fairness::run(ctx, Load { pairs: args.pairs, flood: args.flood }),
        What::DreamTeam => dream_team::run(ctx, args.input.as_deref()),
        What::Isolation | What::All => isolation::run(ctx),
    }
}

fn machine() -> Machine {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let virt = std::process::Command::new("systemd-detect-virt").output();
    let virtualization = virt.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    Machine {
        kernel: kernel.trim().to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
        virtualization: virtualization.unwrap_or_else(|_| "unknown".to_owned()),
    }
}
