//! kvwarden, a broker for several tenants in Python: installed from PyPI into a folder of its own.

use crate::process::Running;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name and version, for people.
pub const NAME: &str = "kvwarden 0.1.6";

/// It and all that it needs, pinned.
const REQUIREMENTS: &str = include_str!("../../../kvwarden.txt");

/// An installed kvwarden.
pub struct Kvwarden {
    folder: PathBuf,
}

/// How it shares the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// No limit that binds: what remains is what the proxy itself costs.
    Open,
    /// 600 requests a minute for each tenant, 10 at once; all that it admits goes to the engine.
    TokenBucket,
    /// What it calls deficit round robin, with as many requests at the engine as it has slots.
    Drr,
}

impl Kvwarden {
    /// Installs it below `work`, unless it is there.
    pub fn install(work: &Path) -> Result<Self> {
        let folder = work.join("kvwarden");
        let pinned = folder.join("requirements.txt");
        if fs::read_to_string(&pinned).is_ok_and(|text| text == REQUIREMENTS) {
            return Ok(Self { folder });
        }
        eprintln!("installing {NAME} from PyPI into {}", folder.display());
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        succeed(&mut venv).context("cannot make a virtual environment")?;
        let wanted = folder.join("wanted.txt");
        fs::write(&wanted, REQUIREMENTS)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted);
        succeed(&mut pip).context("pip cannot install it")?;
        // Only now: whatever breaks before this line is done again by the next run.
        fs::rename(&wanted, &pinned)?;
        Ok(Self { folder })
    }

    /// Starts it on `port` before the engine on `engine_port`, which has `slots` and serves `model`.
    pub fn start(
        &self,
        discipline: Discipline,
        model: &str,
        (port, engine_port): (u16, u16),
        slots: u32,
        logs: &Path,
    ) -> Result<Running> {
        // YAML is a superset of JSON.
        let file = logs.join("kvwarden.yaml");
        fs::write(&file, discipline.configuration(model, (port, engine_port), slots).to_string())?;
        let mut command = Command::new(self.folder.join("bin/kvwarden"));
        command.args(["serve", "--no-interactive", "--log-level", "WARNING", "--config"]).arg(file);
        // The engine runs already, and nobody is to be told of this.
        command.env("KVWARDEN_DEV_SKIP_ENGINE_LAUNCH", "1").env("KVWARDEN_TELEMETRY", "0");
        Running::start("kvwarden", &mut command, port, logs)
    }
}

/// A limit that never binds here.
const UNLIMITED: u32 = 999_999;

impl Discipline {
    fn configuration(self, model: &str, (port, engine_port): (u16, u16), slots: u32) -> Value {
        let (at_engine, per_minute, burst) = match self {
            Self::Open => (256, UNLIMITED, UNLIMITED),
            Self::TokenBucket => (256, 600, 10),
            Self::Drr => (slots, UNLIMITED, UNLIMITED),
        };
        json!({
            "host": "127.0.0.1",
            "port": port,
            "max_concurrent": at_engine,
            "admission_queue_size": 4096,
            "tenant_defaults": {
                "max_concurrent_requests": 4096,
                "rate_limit_rpm": per_minute,
                "rate_limit_burst": burst,
                "scheduling": if self == Self::Open { "fifo" } else { "drr" },
            },
            "models": [{ "model_id": model, "engine": "vllm", "port": engine_port }],
        })
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}\nhint: apt-get install python3-venv"))?;
    if done.status.success() {
        return Ok(());
    }
    // venv tells on standard output what is missing, pip on standard error.
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = said[said.len().saturating_sub(3)..].join(" ");
    bail!(
        "{program}: {}: {last}\nhint: apt-get install python3-venv, and PyPI must be reachable",
        done.status
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_pinned() {
        assert!(REQUIREMENTS.lines().any(|line| line == NAME.replace(' ', "==")));
    }

    #[test]
    fn only_the_cap_of_drr_is_the_engines() {
        let cap = |d: Discipline| d.configuration("m", (1, 2), 16)["max_concurrent"].clone();
        assert_eq!(cap(Discipline::Drr), 16);
        assert_eq!(cap(Discipline::TokenBucket), cap(Discipline::Open));
    }
}
