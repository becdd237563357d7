//! What is measured: the engine alone, or one of the brokers before it. Each run has a new engine.

use crate::kvwarden::{Discipline, Kvwarden};
use crate::process::{Running, free_port};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sequences that the engine runs at once; its other parameters are its defaults.
pub const SLOTS: u32 = 16;
/// Requests that the broker gives the engine that answers at once.
const NULL_SLOTS: u32 = 64;

/// Where programs and logs are.
pub struct Places {
    programs: PathBuf,
    logs: PathBuf,
}

impl Places {
    /// `programs` or else where this program is; logs below `work`.
    pub fn new(programs: Option<PathBuf>, work: &Path) -> Result<Self> {
        let programs = match programs {
            Some(folder) => folder,
            None => std::env::current_exe()?.parent().context("no folder")?.to_owned(),
        };
        let logs = work.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self { programs, logs })
    }
}

/// What tenants talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The engine itself: first come, first served.
    Engine,
    /// The rival.
    Kvwarden(Discipline),
    /// Ours.
    Broker,
}

impl Front {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine alone",
            Self::Kvwarden(Discipline::Open) => "kvwarden",
            Self::Kvwarden(Discipline::TokenBucket) => "kvwarden, token bucket",
            Self::Kvwarden(Discipline::Drr) => "kvwarden, \"drr\", cap 16",
            Self::Broker => "coconut-broker",
        }
    }
}

/// An engine, and what stands before it.
pub struct Served {
    // Before the engine: fields are dropped in this order, and a broker should not see it vanish.
    front: Option<Running>,
    engine: Running,
    /// The model that answers.
    pub model: String,
}

impl Served {
    /// Starts both and waits until they answer. None if the rival is not installed.
    pub async fn start(
        front: Front,
        null: bool,
        places: &Places,
        kvwarden: Option<&Kvwarden>,
    ) -> Result<Option<Self>> {
        let (port, engine_port) = (free_port()?, free_port()?);
        let mut command = Command::new(places.programs.join("coconut-bench-engine"));
        command.args(["--port", &engine_port.to_string(), "--slots", &SLOTS.to_string()]);
        command.args(null.then_some("--null"));
        let mut engine = Running::start("engine", &mut command, engine_port, &places.logs)?;
        let model = engine.model().await?;
        let slots = if null { NULL_SLOTS } else { SLOTS };
        let mut front = match (front, kvwarden) {
            (Front::Engine, _) => return Ok(Some(Self { front: None, engine, model })),
            (Front::Kvwarden(_), None) => return Ok(None),
            (Front::Kvwarden(how), Some(kvwarden)) => {
                kvwarden.start(how, &model, (port, engine_port), slots, &places.logs)?
            }
            (Front::Broker, _) => broker(&engine.url, port, slots, places)?,
        };
        let model = front.model().await?;
        Ok(Some(Self { front: Some(front), engine, model }))
    }

    /// Where tenants ask.
    pub fn url(&self) -> &str {
        self.front.as_ref().map_or(&self.engine.url, |front| &front.url)
    }

    /// Memory of what stands before the engine, in MiB.
    pub fn memory_mib(&self) -> Option<f64> {
        self.front.as_ref()?.memory_mib()
    }
}

fn broker(engine: &str, port: u16, slots: u32, places: &Places) -> Result<Running> {
    let mut command = Command::new(places.programs.join("coconut-broker"));
    command.args(["--standalone", "--trust-header", "x-tenant-id", "--backend-url", engine]);
    command.args(["--slots", &slots.to_string(), "--listen", &format!("127.0.0.1:{port}")]);
    Running::start("coconut-broker", &mut command, port, &places.logs)
}
