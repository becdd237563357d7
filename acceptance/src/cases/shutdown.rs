//! The orderly end, last of all cases: PID 1 ends the daemon as at a shutdown, while we look on.

use super::Case;
use crate::world::World;
use abi::Verdict;
use anyhow::{Context as _, Result, bail, ensure};
use api::audit::Record;
use demo::audit::{Kept, verify};
use demo::progress::Progress;
use demo::tamper;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use uuid::Uuid;

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "stop.orderly",
    promise: "at shutdown every agent is ended and on record, all is under a last checkpoint, the next start goes on with the log",
    run: orderly,
}];

/// Everything that runs now, but the daemon and what needs it.
const TARGET: &str = "coconut-acceptance-stop.target";

fn orderly(world: &World) -> Result<String> {
    let name = world.ctx.unique("until-the-end");
    let manifest = world.manifest(&name, &["sleep"], "")?;
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    let detail = world.ctx.coconut.show(&name)?;
    let pid = detail.agent.pid.context("the agent has no process")?;
    let before = Kept::take(&world.ctx, "before-stop")?;
    stop_as_at_shutdown()?;
    wait_for_end()?;
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "the agent's process runs on");
    world.expect(5, &["ps"])?;
    let log = world.ctx.work.join("after-stop");
    tamper::copy(Path::new(api::audit::LOG_DIRECTORY), &log)?;
    let ran = verify(&world.ctx, &log, &[("--key", &before.key), ("--since", &before.checkpoint)])?;
    ensure!(ran.code == 0, "the log is not sound: {} {}", ran.summary(), ran.stdout.trim());
    let records = world.ctx.coconut.records(&["--dir", &log.display().to_string()])?;
    let report: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    let covered = report["records"].as_u64().context("the report counts no records")?;
    let uncovered = std::fs::metadata(log.join("journal"))?.len();
    ensure!(
        covered == records.len() as u64 && uncovered == 0,
        "{covered} of {} records are under the last checkpoint, {uncovered} bytes under none",
        records.len()
    );
    all_ended(&records, detail.agent.aid)?;
    start_again(world, &Kept { checkpoint: log.join("checkpoint"), ..before })?;
    Ok(format!("({} records)", records.len()))
}

/// Every agent's end is on record, and after the daemon's nothing that an agent did. Who else is refused
/// something at the end, and in which order, is nobody's business here.
fn all_ended(records: &[Record], ours: Uuid) -> Result<()> {
    let of = |kind: &'static str| records.iter().filter(move |r| r.kind.to_string() == kind);
    let Some(end) = of("shutdown").next_back() else { bail!("the daemon's end is not on record") };
    let ended: Vec<Uuid> =
        of("exit").filter(|r| r.sequence < end.sequence).map(|r| r.agent).collect();
    ensure!(ended.contains(&ours), "the agent's end is not on record before the daemon's");
    let alive = of("spawn").find(|r| r.verdict != Verdict::Deny && !ended.contains(&r.agent));
    ensure!(alive.is_none(), "an agent has begun and not ended: {alive:?}");
    let of_agent = |r: &&Record| !r.agent.is_nil() && r.kind.to_string() != "inference";
    let late = records.iter().filter(of_agent).find(|r| r.sequence > end.sequence);
    ensure!(late.is_none(), "an agent did something after the daemon's end: {late:?}");
    Ok(())
}

/// The next start goes on with the same log.
fn start_again(world: &World, before: &Kept) -> Result<()> {
    let done = Command::new("systemctl")
        .args(["start", "coconutd.service", "coconut-agents.service"])
        .output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    world.expect(0, &["run", "--", "/usr/bin/true"])?;
    let now = Kept::take(&world.ctx, "after-start")?;
    let ran =
        verify(&world.ctx, &now.log, &[("--key", &before.key), ("--since", &before.checkpoint)])?;
    ensure!(ran.code == 0, "the log was not continued: {} {}", ran.summary(), ran.stdout.trim());
    Ok(())
}

/// A change to a target that wants neither the daemon nor agents, as at a shutdown.
fn stop_as_at_shutdown() -> Result<()> {
    let units = units(&["list-units", "--state=active"])?;
    let kept: Vec<&str> = units
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| {
            !["coconutd", "coconut-broker", "coconut-agents"].iter().any(|o| unit.starts_with(o))
        })
        // Targets of the boot pull the daemon in again.
        .filter(|unit| !["multi-user.target", "graphical.target"].contains(unit))
        .collect();
    // What we run in may still be starting: it would be stopped with the rest.
    let own = own_unit()?;
    let text = format!("[Unit]\nAllowIsolate=yes\nWants={} {own}\n", kept.join(" "));
    std::fs::write(format!("/run/systemd/system/{TARGET}"), text)?;
    for args in [vec!["daemon-reload"], vec!["isolate", "--no-block", TARGET]] {
        let done = Command::new("systemctl").args(&args).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "systemctl {}: {}", args.join(" "), said.trim());
    }
    Ok(())
}

fn units(command: &[&str]) -> Result<String> {
    let options = ["--plain", "--no-legend", "--full"];
    let done = Command::new("systemctl").args(command).args(options).output()?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn own_unit() -> Result<String> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup")?;
    let unit = cgroup.trim().rsplit('/').find(|part| part.ends_with(".service"));
    Ok(unit.unwrap_or_default().to_owned())
}

fn wait_for_end() -> Result<()> {
    let mut progress = Progress::of("PID 1 to end the daemon");
    loop {
        let state = Command::new("systemctl").args(["is-active", "coconutd.service"]).output()?;
        let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
        match state.as_str() {
            "inactive" => return Ok(()),
            "failed" => bail!("the daemon did not end cleanly"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
        // It ends units before, and agents one after another; each is in the log.
        let log = Path::new(api::audit::LOG_DIRECTORY).join("checkpoint");
        progress.seen((std::fs::read(log).ok(), units(&["list-jobs"])?))?;
    }
}
