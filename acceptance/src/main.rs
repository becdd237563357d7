//! `coconut-acceptance`: keeps the promises of SPECIFICATION.md, inside the VM, as root.
//!
//! One line for each case, `PASS name` or `FAIL name: why`, and last `N passed, N failed`. A case
//! about security has its control within: the same without Coconut must show the harm.

mod campaign;
mod cases;
mod faulty_disk;
mod grounds;
mod known;
mod mounted;
mod techniques;
mod unit;
mod world;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use world::World;

/// Runs the acceptance suite on this machine.
#[derive(Parser)]
#[command(name = "coconut-acceptance", version)]
struct Args {
    /// Only cases whose name contains this text; may be repeated.
    #[arg(long, short)]
    filter: Vec<String>,
    /// Not these cases, by the same rule; may be repeated.
    #[arg(long)]
    skip: Vec<String>,
    /// Print names and promises, as README.md has them.
    #[arg(long)]
    list: bool,
    /// Only make the controls of the isolation cases: they must do harm where there is no Coconut.
    #[arg(long)]
    controls: bool,
    /// Be the faulty disk beneath this folder instead, until ended; to be started before the daemon.
    #[arg(long, value_name = "FOLDER")]
    faulty_disk: Option<PathBuf>,
    /// The command line under test.
    #[arg(long, env = "COCONUT", default_value = "coconut")]
    coconut: PathBuf,
    /// The hostile program.
    #[arg(long, env = "COCONUT_PROBE", default_value = "/usr/libexec/coconut/coconut-probe")]
    probe: PathBuf,
    /// Where scenes are set.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        print!("{}", cases::table());
        return ExitCode::SUCCESS;
    }
    let done = match &args.faulty_disk {
        Some(folder) => faulty_disk::serve(folder).map(|()| true),
        None => run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            println!("FAIL setup: {error:#}\n0 passed, 1 failed");
            ExitCode::from(1)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let world = World::new(&args.coconut, &args.probe, &args.work)?;
    if args.controls {
        return controls(&world);
    }
    let one_of = |all: &[String], name: &str| all.iter().any(|text| name.contains(text.as_str()));
    let wanted = |name: &str| {
        (args.filter.is_empty() || one_of(&args.filter, name)) && !one_of(&args.skip, name)
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases::all().filter(|c| wanted(c.name)) {
        // Who names a case wants to see what it does.
        let named = args.filter.iter().any(|text| text == case.name);
        let known = known::reason(case.name).filter(|_| !named);
        if let Some(reason) = known.filter(|reason| reason.starts_with("not run")) {
            skipped += 1;
            println!("KNOWN {}: {reason}", case.name);
            continue;
        }
        let begun = Instant::now();
        let outcome = (case.run)(&world);
        let time = begun.elapsed().as_secs_f64();
        match (outcome, known) {
            (Ok(note), None) => {
                passed += 1;
                println!("{}  [{time:.1} s]", format!("PASS {} {note}", case.name).trim_end());
            }
            (Err(error), Some(reason)) => {
                skipped += 1;
                println!("KNOWN {}: {reason} ({})", case.name, one_line(&error));
            }
            (Ok(_), Some(_)) => {
                passed += 1;
                println!("PASS {}: take it out of known-failing.txt  [{time:.1} s]", case.name);
            }
            (Err(error), None) => {
                failed += 1;
                println!("FAIL {}: {}", case.name, one_line(&error));
            }
        }
    }
    if skipped > 0 {
        println!("{skipped} known to fail");
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', " | ")
}

/// Needs no daemon: shows that the tests would see harm if there were any.
fn controls(world: &World) -> anyhow::Result<bool> {
    let (side, outcomes) = demo::hostile::control_side(&world.ctx)?;
    let (mut passed, mut failed) = (0, 0);
    for (attack, outcome) in side.attacks.iter().zip(&outcomes) {
        let Some(outcome) = outcome else { continue };
        let stolen = !attack.secret || outcome.evidence.contains(&side.scene.secret);
        let verdict = if outcome.ok && stolen { "PASS" } else { "FAIL" };
        let count = if outcome.ok && stolen { &mut passed } else { &mut failed };
        *count += 1;
        println!("{verdict} {} ({}): {}", attack.attempt, attack.claim, outcome.evidence);
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
