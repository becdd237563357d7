//! The agents: each a `sleep` of one of a few manifests, spread over the tenants.

use crate::Scale;
use crate::bare::SLEEP;
use crate::daemon::Daemon;
use abi::AgentState;
use anyhow::{Context as _, Result, ensure};
use api::agent::{SpawnRequest, SpawnSource};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Different manifests; agents of one share what it says.
const MANIFESTS: usize = 4;

/// How often a batch says how far it is.
const NEWS: Duration = Duration::from_secs(15);

/// All agents but the family.
pub struct Crowd {
    manifests: Vec<String>,
    tenants: u32,
    callers: u32,
    asked: u32,
    /// Those that were `Active` in the answer to their spawn.
    pub live: Vec<Uuid>,
    /// Why no more could be had.
    pub refused: Option<String>,
}

/// What the callers of one batch share.
struct Batch<'a> {
    crowd: &'a Crowd,
    next: AtomicU32,
    until: u32,
    done: Mutex<Vec<(Uuid, f64)>>,
    refused: Mutex<Option<String>>,
}

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// When the folders that the manifests name cannot be made.
    pub fn new(scale: &Scale, work: &Path) -> Result<Self> {
        let manifests: Result<Vec<String>> =
            (0..MANIFESTS).map(|n| manifest(scale, work, n)).collect();
        Ok(Self {
            manifests: manifests?,
            tenants: scale.tenants,
            callers: scale.callers,
            asked: 0,
            live: Vec::new(),
            refused: None,
        })
    }

    /// Creates agents until there are so many; milliseconds of each spawn, and seconds of all.
    /// Once one is refused no more are tried: the rest would be refused alike.
    pub fn grow_to(&mut self, agents: u32) -> (Vec<f64>, f64) {
        if self.refused.is_some() {
            return (Vec::new(), 0.0);
        }
        let batch = Batch {
            crowd: self,
            next: AtomicU32::new(self.asked),
            until: agents,
            done: Mutex::default(),
            refused: Mutex::default(),
        };
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..self.callers).map(|_| scope.spawn(|| batch.call())).collect();
            let mut said = Instant::now();
            while callers.iter().any(|caller| !caller.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
                if said.elapsed() > NEWS {
                    let (so_far, of) = (batch.next.load(Ordering::Relaxed).min(agents), agents);
                    eprintln!("  … {so_far} of {of}");
                    said = Instant::now();
                }
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        let done = batch.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let refused = batch.refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.asked = agents;
        self.refused = refused;
        self.live.extend(done.iter().map(|(aid, _)| *aid));
        (done.into_iter().map(|(_, ms)| ms).collect(), seconds)
    }

    /// Ends so many, one after another; milliseconds from the request to the answer, which is its end.
    pub fn end_some(&mut self, many: usize) -> Vec<f64> {
        let Ok(daemon) = Daemon::new() else { return Vec::new() };
        let from = self.live.len().saturating_sub(many);
        let ended = self.live.split_off(from);
        let timed = |aid: Uuid| {
            let begun = Instant::now();
            daemon.kill(aid).ok()?;
            Some(begun.elapsed().as_secs_f64() * 1e3)
        };
        ended.into_iter().filter_map(timed).collect()
    }

    fn request(&self, n: u32) -> SpawnRequest {
        SpawnRequest {
            source: SpawnSource::Manifest {
                path: "scale.toml".to_owned(),
                text: self.manifests[n as usize % MANIFESTS].clone(),
                signature: None,
                tenant: Some(format!("tenant-{:02}", n % self.tenants)),
                name: Some(format!("sleeper-{n}")),
                capabilities: Vec::new(),
            },
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            allow_unsigned: true,
            stdio: None,
        }
    }
}

impl Batch<'_> {
    fn call(&self) {
        if let Err(error) = self.spawn_all() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get_or_insert(format!("{error:#}"));
            self.next.store(self.until, Ordering::Relaxed);
        }
    }

    fn spawn_all(&self) -> Result<()> {
        let daemon = Daemon::new()?;
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.until {
                return Ok(());
            }
            let request = self.crowd.request(n);
            let begun = Instant::now();
            let agent = daemon.spawn(&request).with_context(|| format!("agent {n}"))?.agent;
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            ensure!(agent.state == AgentState::Active, "agent {n} is {}", agent.state.name());
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push((agent.aid, ms));
        }
    }
}

/// Profiles for the most part, and a few lines of its own.
fn manifest(scale: &Scale, work: &Path, n: usize) -> Result<String> {
    let (input, output) = (work.join(format!("input-{n}")), work.join(format!("output-{n}")));
    for dir in [&input, &output] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    Ok(format!(
        "[agent]\nname = \"sleeper\"\ntenant = \"scale\"\ncommand = [\"{}\", \"{}\"]\n\
         namespaces = \"{}\"\n\n[capabilities]\n\
         \"fs.read\" = [\"@base\", \"@python\", \"{}\"]\n\"fs.write\" = [\"{}\"]\n\
         \"net.connect\" = [\"192.0.2.{}:443\"]\n\n[memory]\nram = \"64MiB\"\n",
        SLEEP[0],
        SLEEP[1],
        scale.namespaces,
        input.display(),
        output.display(),
        n + 1
    ))
}
