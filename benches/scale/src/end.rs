//! Ending them all, and what is left of them.

use crate::daemon::Daemon;
use crate::memory::SLICE;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// This long without any of it going away is a standstill.
const STANDSTILL: Duration = Duration::from_secs(60);

/// How long it took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct End {
    /// Agents that were there.
    pub agents: usize,
    /// From the first request to the last answer.
    pub answered_s: f64,
}

/// What there is of agents on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// As coconutd counts.
    pub agents: u64,
    /// Folders below the slice of all agents.
    pub cgroups: usize,
    /// Processes in them.
    pub processes: usize,
}

impl Left {
    /// # Errors
    /// When the daemon does not answer.
    pub fn now(daemon: &Daemon) -> Result<Self> {
        let mut left = Self { agents: daemon.status()?.agents_live, cgroups: 0, processes: 0 };
        left.count(Path::new(SLICE));
        Ok(left)
    }

    /// What goes away while it is counted is not there.
    fn count(&mut self, dir: &Path) {
        let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        self.processes += processes.lines().count();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.cgroups += 1;
                self.count(&entry.path());
            }
        }
    }

    fn sum(self) -> usize {
        self.agents as usize + self.cgroups + self.processes
    }
}

/// Kills every agent, by so many callers.
///
/// # Errors
/// When the daemon does not answer.
pub fn all(daemon: &Daemon, callers: usize) -> Result<End> {
    let begun = Instant::now();
    let agents = daemon.agents()?;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                let Ok(daemon) = Daemon::new() else { return };
                while let Some(agent) = agents.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A child may have ended with its parent; what is left is counted afterwards.
                    let _ = daemon.kill(agent.aid);
                }
            });
        }
    });
    Ok(End { agents: agents.len(), answered_s: begun.elapsed().as_secs_f64() })
}

/// Waits until there is no more than there was, or until nothing goes away any more.
///
/// # Errors
/// When the daemon does not answer.
pub fn settle(daemon: &Daemon, before: &Left) -> Result<Left> {
    let (mut last, mut since) = (Left::now(daemon)?, Instant::now());
    while last.sum() > before.sum() && since.elapsed() < STANDSTILL {
        std::thread::sleep(Duration::from_millis(200));
        let left = Left::now(daemon).context("coconutd no longer answers")?;
        if left.sum() < last.sum() {
            since = Instant::now();
        }
        last = left;
    }
    Ok(last)
}
