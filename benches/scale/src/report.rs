//! What was measured, for people and as JSON.

use crate::Scale;
use crate::bare::Beside;
use crate::crowd::Crowd;
use crate::daemon::Daemon;
use crate::end::{End, Left};
use crate::memory::Memory;
use anyhow::{Result, ensure};
use demo::latency::Latency;
use serde::Serialize;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The heads of what [`Report::checkpoint`] prints.
pub const HEADS: &str =
    "  agents  seconds  agents/s  spawn p50 ms   p99 ms  KiB each  coconutd MiB";

/// How it stood with so many agents.
#[derive(Debug, Serialize)]
pub struct Checkpoint {
    /// Agents that live.
    pub agents: usize,
    /// Seconds in which they were created, without the time of measuring.
    pub seconds: f64,
    /// Agents a second since the checkpoint before.
    pub per_second: f64,
    /// Of the spawns since then: request to answer, which is `Active`.
    pub spawn: Latency,
    /// KiB that each holds more than nobody did, the process included.
    pub kib_each: f64,
    /// The machine's memory.
    pub memory: Memory,
}

/// One right of a whole family.
#[derive(Debug, Serialize)]
pub struct Revocation {
    /// Children of the parent.
    pub children: u32,
    /// Seconds in which it spawned them.
    pub born_s: f64,
    /// Request to answer.
    pub took_ms: f64,
    /// What coconutd says of it: to the last map update.
    pub daemon_ms: f64,
    /// Request to the first refused read of the last of three readers.
    pub refused_ms: f64,
}

/// Something that must hold, whatever the machine is doing.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it does.
    pub ok: bool,
    /// What was seen.
    pub observed: String,
}

/// After the end.
#[derive(Debug, Serialize)]
pub struct Settled {
    /// Agents, cgroups and processes before the first.
    pub before: Left,
    /// After the last.
    pub after: Left,
    /// From the first request to end one until nothing was left.
    pub seconds: f64,
    /// KiB more than before the first agent.
    pub kib_more: i64,
    /// KiB of coconutd then and now.
    pub daemon_kib: (i64, i64),
    /// KiB of its kernel memory then and now.
    pub service_kib: (i64, i64),
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    kernel: String,
    cpus: usize,
    memory_mib: i64,
    agents: u32,
    tenants: u32,
    callers: u32,
    /// The same program without Coconut.
    pub beside: Vec<Beside>,
    checkpoints: Vec<Checkpoint>,
    /// An agent at the last checkpoint, as `beside`.
    agent: Option<Beside>,
    /// coconutd before the first agent, KiB: its own pages, and kernel memory (its maps).
    daemon_kib: i64,
    service_kib: i64,
    list: Option<Latency>,
    ps: Option<Latency>,
    /// Of coconutd: from the request until the next one answers for all.
    pub restart: Option<Latency>,
    /// A child's spawn, asked for by its parent.
    pub family: Option<Latency>,
    revocation: Option<Revocation>,
    /// Request to end one, to the answer.
    pub exit: Option<Latency>,
    /// All of them.
    pub end: Option<End>,
    settled: Option<Settled>,
    /// What the exit status is about.
    pub checks: Vec<Check>,
}

impl Report {
    /// # Errors
    /// When `/proc` does not answer.
    pub fn new(scale: &Scale, daemon: &Daemon) -> Result<Self> {
        let memory = Memory::now(daemon)?;
        let total = std::fs::read_to_string("/proc/meminfo")?;
        let total = total.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
        Ok(Self {
            schema: "coconut.bench-scale/1",
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_mib: total.unwrap_or(0) / 1024,
            agents: scale.agents,
            tenants: scale.tenants,
            callers: scale.callers,
            beside: Vec::new(),
            checkpoints: Vec::new(),
            agent: None,
            daemon_kib: memory.daemon,
            service_kib: memory.service,
            list: None,
            ps: None,
            restart: None,
            family: None,
            revocation: None,
            exit: None,
            end: None,
            settled: None,
            checks: Vec::new(),
        })
    }

    /// Adds a checkpoint and prints it; one without new agents says nothing.
    pub fn checkpoint(
        &mut self,
        crowd: &Crowd,
        ms: &[f64],
        seconds: f64,
        zero: &Memory,
        now: &Memory,
    ) {
        let Some(spawn) = Latency::of(ms) else { return };
        let agents = crowd.live.len();
        let row = Beside::between("an agent", agents as u32, zero, now);
        let before = self.checkpoints.last().map_or(0.0, |last| last.seconds);
        let checkpoint = Checkpoint {
            agents,
            seconds: before + seconds,
            per_second: ms.len() as f64 / seconds,
            spawn,
            kib_each: row.kib_each,
            memory: now.clone(),
        };
        println!(
            "{agents:8} {:8.0} {:9.1} {:13.0} {:8.0} {:9.0} {:13.1}",
            checkpoint.seconds,
            checkpoint.per_second,
            spawn.p50_ms,
            spawn.p99_ms,
            row.kib_each,
            now.daemon as f64 / 1024.0
        );
        self.agent = Some(row);
        self.checkpoints.push(checkpoint);
    }

    /// Whether all that were asked for are there: as the callers, the daemon and the kernel count them.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn alive(&mut self, crowd: &Crowd, daemon: &Daemon) -> Result<()> {
        let left = Left::now(daemon)?;
        let wanted = self.agents as usize;
        let all = crowd.live.len() == wanted
            && left.agents as usize >= wanted
            && left.processes >= wanted;
        let mut observed = format!(
            "{} of {wanted} answered `active`, coconutd knows {}, {} processes in {} cgroups",
            crowd.live.len(),
            left.agents,
            left.processes,
            left.cgroups
        );
        if let Some(refused) = &crowd.refused {
            observed.push_str(&format!("; then: {refused}"));
        }
        self.check("all live at once", all, &observed);
        Ok(())
    }

    /// The list of all, over the API and as the command line prints it.
    ///
    /// # Errors
    /// When either fails.
    pub fn ps(&mut self, daemon: &Daemon, scale: &Scale, crowd: &Crowd) -> Result<()> {
        let (mut list, mut ps, mut least) = (Vec::new(), Vec::new(), usize::MAX);
        for _ in 0..5 {
            let begun = Instant::now();
            least = least.min(daemon.agents()?.len());
            list.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            let done = Command::new(&scale.coconut).arg("ps").stdin(Stdio::null()).output()?;
            ps.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(done.status.success(), "ps: {}", String::from_utf8_lossy(&done.stderr).trim());
            least = least.min(String::from_utf8_lossy(&done.stdout).lines().count() - 1);
        }
        let live = crowd.live.len();
        self.check("`ps` lists all", least >= live, &format!("{least} of {live}"));
        (self.list, self.ps) = (Latency::of(&list), Latency::of(&ps));
        Ok(())
    }

    /// What came of the revocation.
    pub fn revoked(
        &mut self,
        children: u32,
        born_s: f64,
        took_ms: f64,
        daemon_ms: f64,
        refused_ms: f64,
    ) {
        self.revocation = Some(Revocation { children, born_s, took_ms, daemon_ms, refused_ms });
    }

    /// What is left once nothing goes away any more.
    pub fn settled(
        &mut self,
        before: &Left,
        after: &Left,
        seconds: f64,
        zero: &Memory,
        now: &Memory,
    ) {
        let observed = format!(
            "{} agents, {} processes, {} cgroups ({} before the first)",
            after.agents, after.processes, after.cgroups, before.cgroups
        );
        self.check("nothing is left", after == before, &observed);
        self.settled = Some(Settled {
            before: *before,
            after: *after,
            seconds,
            kib_more: now.held - zero.held,
            daemon_kib: (zero.daemon, now.daemon),
            service_kib: (zero.service, now.service),
        });
    }

    /// Adds a check and prints it.
    pub fn check(&mut self, name: &str, ok: bool, observed: &str) {
        println!("{}  {name}: {observed}", if ok { "PASS" } else { "FAIL" });
        self.checks.push(Check { name: name.to_owned(), ok, observed: observed.to_owned() });
    }

    /// What came after the checkpoints.
    pub fn print(&self) {
        let ms = |what: &str, timing: Option<Latency>| {
            if let Some(t) = timing {
                println!("{what:44} {:10.1} {:10.1}", t.p50_ms, t.max_ms);
            }
        };
        println!("\n{:44} {:>10} {:>10}", "ms", "p50", "max");
        ms("the list of all, over the API", self.list);
        ms("`coconut ps`", self.ps);
        ms("a restart of coconutd", self.restart);
        ms("a child's spawn, by its parent", self.family);
        ms("one agent's end", self.exit);
        if let Some(r) = &self.revocation {
            println!("revocation on a parent of {}: {:.1} ms", r.children, r.took_ms);
        }
        if let (Some(end), Some(settled)) = (&self.end, &self.settled) {
            println!(
                "end of {} agents: {:.1} s, settled after {:.1} s",
                end.agents, end.answered_s, settled.seconds
            );
        }
    }
}
