//! The orderly end, last of all cases: PID 1 ends the daemon as at a shutdown, while we look on.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, bail, ensure};
use demo::audit::{Kept, verify};
use demo::tamper;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "stop.orderly",
    promise: "at shutdown every agent is ended, the end is under a last checkpoint, the next start goes on with the log",
    run: orderly,
}];

/// Everything that runs now, but the daemon and what needs it.
const TARGET: &str = "coconut-acceptance-stop.target";
/// Longest time that PID 1 gives the daemon.
const STOP: Duration = Duration::from_secs(120);

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
    let last = records.last().context("the log is empty")?;
    ensure!(last.kind.name() == "shutdown", "the last record is {last:?}");
    let aid = detail.agent.aid;
    ensure!(
        records.iter().any(|r| r.agent == aid && r.kind.name() == "exit"),
        "the agent's end is not on record"
    );
    start_again(world, &Kept { checkpoint: log.join("checkpoint"), ..before })?;
    Ok(format!("({} records)", records.len()))
}

/// The next start goes on with the same log.
fn start_again(world: &World, before: &Kept) -> Result<()> {
    let done = Command::new("systemctl").args(["start", "coconutd.service"]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    world.expect(0, &["run", "--", "/usr/bin/true"])?;
    let now = Kept::take(&world.ctx, "after-start")?;
    let ran =
        verify(&world.ctx, &now.log, &[("--key", &before.key), ("--since", &before.checkpoint)])?;
    ensure!(ran.code == 0, "the log was not continued: {} {}", ran.summary(), ran.stdout.trim());
    Ok(())
}

/// `systemctl stop` is refused; a change to a target that does not want the daemon is not.
fn stop_as_at_shutdown() -> Result<()> {
    let units = Command::new("systemctl")
        .args(["list-units", "--state=active", "--plain", "--no-legend", "--full"])
        .output()?;
    let units = String::from_utf8_lossy(&units.stdout).into_owned();
    let kept: Vec<&str> = units
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| !unit.starts_with("coconutd") && !unit.starts_with("coconut-broker"))
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

fn own_unit() -> Result<String> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup")?;
    let unit = cgroup.trim().rsplit('/').find(|part| part.ends_with(".service"));
    Ok(unit.unwrap_or_default().to_owned())
}

fn wait_for_end() -> Result<()> {
    let until = Instant::now() + STOP;
    while Instant::now() < until {
        let state = Command::new("systemctl").args(["is-active", "coconutd.service"]).output()?;
        match String::from_utf8_lossy(&state.stdout).trim() {
            "inactive" => return Ok(()),
            "failed" => bail!("the daemon did not end cleanly"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
    bail!("PID 1 did not end the daemon within {} s", STOP.as_secs())
}
