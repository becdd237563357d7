//! A parent with many children, and one right that all of them lose at once.

use crate::Scale;
use crate::bare::SLEEP;
use crate::daemon::Daemon;
use crate::report::Report;
use anyhow::{Context as _, Result, bail, ensure};
use api::agent::{SpawnRequest, SpawnSource};
use demo::latency::Latency;
use demo::revocation::boottime_ns;
use probe::Held;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Children that hold the file open and use it, instead of sleeping.
const HOLDERS: u32 = 3;

/// This long without a new child, or a new line, is a standstill: even emulated a spawn takes seconds.
const STANDSTILL: Duration = Duration::from_secs(180);

const TENANT: &str = "family";

/// What the parent is told.
#[derive(clap::Args)]
pub struct Parent {
    #[arg(long)]
    children: u32,
    #[arg(long)]
    callers: u32,
    #[arg(long)]
    file: PathBuf,
    #[arg(long)]
    probe: PathBuf,
}

/// What the parent says once all are there.
#[derive(Serialize, Deserialize)]
struct Born {
    seconds: f64,
    ms: Vec<f64>,
    holders: Vec<Uuid>,
    sleepers: Vec<Uuid>,
}

impl Parent {
    /// Spawns the children, says so, and stays: they are its own only as long as it lives.
    ///
    /// # Errors
    /// When a child is refused.
    pub fn run(&self) -> Result<()> {
        let (next, born) = (AtomicU32::new(0), Mutex::new(Vec::new()));
        let begun = Instant::now();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let call = || self.call(&next, &born);
            let callers: Vec<_> = (0..self.callers).map(|_| scope.spawn(call)).collect();
            let joined = callers.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|r| r.unwrap_or_else(|_| bail!("a caller fell over"))).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        results.into_iter().collect::<Result<()>>()?;
        let born = born.into_inner().unwrap_or_else(PoisonError::into_inner);
        let of = |holds: bool| {
            born.iter().filter(move |b: &&(Uuid, f64, bool)| b.2 == holds).map(|b| b.0)
        };
        let (holders, sleepers) = (of(true).collect(), of(false).take(3).collect());
        let ms = born.iter().map(|(_, ms, _)| *ms).collect();
        println!("{}", serde_json::to_string(&Born { seconds, ms, holders, sleepers })?);
        loop {
            std::thread::park();
        }
    }

    fn call(&self, next: &AtomicU32, born: &Mutex<Vec<(Uuid, f64, bool)>>) -> Result<()> {
        let daemon = Daemon::new()?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= self.children {
                return Ok(());
            }
            let request = self.child(n);
            let begun = Instant::now();
            let aid = daemon.spawn(&request).with_context(|| format!("child {n}"))?.agent.aid;
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            born.lock().unwrap_or_else(PoisonError::into_inner).push((aid, ms, n < HOLDERS));
        }
    }

    fn child(&self, n: u32) -> SpawnRequest {
        let file = self.file.display();
        let hold =
            format!("{} hold --limit 1000000 --every-us 20000 --file {file}", self.probe.display());
        let args: Vec<String> = match n < HOLDERS {
            true => hold.split(' ').map(str::to_owned).collect(),
            false => SLEEP.map(str::to_owned).into(),
        };
        let source = SpawnSource::AdHoc {
            tenant: TENANT.to_owned(),
            name: Some(format!("child-{n}")),
            capabilities: vec![format!("fs.read={file}")],
            weight: None,
        };
        SpawnRequest {
            source,
            args,
            cwd: None,
            env: Vec::new(),
            allow_unsigned: false,
            stdio: None,
        }
    }
}

/// Starts the family, takes the file away from its parent, and looks whether it is gone everywhere.
///
/// # Errors
/// When the family does not come up.
pub fn measure(scale: &Scale, work: &Path, daemon: &Daemon, report: &mut Report) -> Result<()> {
    let file = work.join("revoked.txt");
    std::fs::write(&file, "text\n")?;
    let capability = format!("fs.read={}", file.display());
    let before = daemon.status()?.agents_live;
    let parent = daemon.spawn(&request(scale, &file)?)?.agent.aid;
    let born = wait_for_children(daemon, parent, before)?;
    report.family = Latency::of(&born.ms);
    for holder in &born.holders {
        held(daemon, *holder, "holding")?;
    }
    let asked = boottime_ns();
    let change = daemon.revoke(parent, &capability)?;
    let took_ms = boottime_ns().saturating_sub(asked) as f64 / 1e6;
    let mut refused_ms = Vec::new();
    for holder in &born.holders {
        let last = held(daemon, *holder, "refused")?;
        refused_ms.push(last.at_ns.saturating_sub(asked) as f64 / 1e6);
    }
    let mut still = 0;
    for aid in born.sleepers.iter().chain(&born.holders).chain([&parent]) {
        let left = daemon.capabilities(*aid)?.capabilities;
        still += left.iter().filter(|held| held.capability == capability).count();
    }
    let children = scale.children();
    let last = refused_ms.into_iter().fold(0.0, f64::max);
    report.revoked(children, born.seconds, took_ms, change.took_us as f64 / 1e3, last);
    let (changed, all) = (change.changed.len(), children as usize + 1);
    let observed =
        format!("{changed} of {all} changed; 3 readers refused; {still} of 7 still hold it");
    report.check("a family loses a right", changed == all && still == 0, &observed);
    Ok(())
}

/// The parent is this program.
fn request(scale: &Scale, file: &Path) -> Result<SpawnRequest> {
    let own = std::env::current_exe()?;
    let (own, probe) = (own.display(), scale.probe.display());
    let text = format!(
        "[agent]\nname = \"scale-parent\"\ntenant = \"{TENANT}\"\ncommand = [\"{own}\"]\nchildren = \"end\"\n\
         namespaces = \"{namespaces}\"\n\n\
         [capabilities]\n\"fs.read\" = [\"{file}\"]\n\"fs.exec\" = [\"{sleep}\", \"{probe}\"]\n\
         \"ipc.unix\" = [\"{api}\"]\n\"agent.spawn\" = {{ count = {count} }}\n\n[memory]\nram = \"3GiB\"\n",
        file = file.display(),
        namespaces = scale.namespaces,
        sleep = SLEEP[0],
        api = api::broker::API_SOCKET,
        count = scale.children() + 8,
    );
    let words = format!(
        "parent --children {} --callers {} --file {} --probe {probe}",
        scale.children(),
        scale.callers,
        file.display()
    );
    Ok(SpawnRequest {
        source: SpawnSource::Manifest {
            path: "parent.toml".to_owned(),
            text,
            signature: None,
            tenant: None,
            name: None,
            capabilities: Vec::new(),
        },
        args: words.split(' ').map(str::to_owned).collect(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned: true,
        stdio: None,
    })
}

/// Waits as long as there are ever more of them.
fn wait_for_children(daemon: &Daemon, parent: Uuid, before: u64) -> Result<Born> {
    let (mut most, mut since, mut said) = (0, Instant::now(), Instant::now());
    loop {
        let lines = daemon.lines(parent)?;
        if let Some(born) = lines.iter().find_map(|line| serde_json::from_str(line).ok()) {
            return Ok(born);
        }
        let live = daemon.status()?.agents_live.saturating_sub(before + 1);
        if live > most {
            (most, since) = (live, Instant::now());
        }
        if said.elapsed() > Duration::from_secs(15) {
            eprintln!("  … {live} children");
            said = Instant::now();
        }
        let ended = daemon.state(parent)?.is_terminal();
        ensure!(
            !ended && since.elapsed() < STANDSTILL,
            "no more than {most} children: {}",
            lines.last().map_or("the parent said nothing", String::as_str)
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Waits for what a holder says.
fn held(daemon: &Daemon, aid: Uuid, event: &str) -> Result<Held> {
    let begun = Instant::now();
    while begun.elapsed() < STANDSTILL {
        let lines = daemon.lines(aid)?;
        let said: Vec<Held> = lines.iter().filter_map(|l| serde_json::from_str(l).ok()).collect();
        if let Some(held) = said.into_iter().find(|held| held.event == event) {
            return Ok(held);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("a child is not {event}")
}
