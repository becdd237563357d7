//! Another daemon in the place of this one, which takes all agents up.

use crate::daemon::Daemon;
use crate::report::Report;
use anyhow::{Result, ensure};
use demo::latency::Latency;
use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often.
const TIMES: usize = 3;
/// Between two questions for the next daemon.
const LOOK: Duration = Duration::from_millis(20);
/// A daemon that has not come by then does not.
const PATIENCE: Duration = Duration::from_secs(900);

/// Who lives, and in which process.
fn living(daemon: &Daemon) -> Result<Vec<(Uuid, Option<u32>)>> {
    Ok(daemon.agents()?.iter().map(|agent| (agent.aid, agent.pid)).collect())
}

/// Restarts coconutd beside the agents: from the request until the next one answers. Returns the last one.
///
/// # Errors
/// When none comes.
pub fn restart(mut daemon: Daemon, report: &mut Report) -> Result<Daemon> {
    let before = living(&daemon)?;
    let (mut times, mut kept) = (Vec::new(), before.len());
    for _ in 0..TIMES {
        let begun = Instant::now();
        let done = Command::new("systemctl").args(["restart", "coconutd.service"]).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "systemctl restart coconutd: {}", said.trim());
        daemon = next(daemon.pid, begun)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let after: HashSet<_> = living(&daemon)?.into_iter().collect();
        kept = kept.min(before.iter().filter(|agent| after.contains(agent)).count());
    }
    let observed = format!("{kept} of {} go on, {TIMES} times", before.len());
    report.check("a restart of coconutd ends none", kept == before.len(), &observed);
    report.restart = Latency::of(&times);
    Ok(daemon)
}

fn next(before: u32, since: Instant) -> Result<Daemon> {
    loop {
        match Daemon::new() {
            Ok(daemon) if daemon.pid != before => return Ok(daemon),
            other => {
                let late = since.elapsed() > PATIENCE;
                ensure!(!late, "coconutd does not come back: {:?}", other.err());
            }
        }
        std::thread::sleep(LOOK);
    }
}
