//! An agent in the foreground: `coconut run`, with its lines as they come.

use crate::coconut::{Coconut, Ran, shell_code};
use crate::lines::Lines;
use anyhow::{Context, Result, bail};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What to run, and with which rights.
#[derive(Debug, Default)]
pub struct Spec {
    /// A unique name: later commands name the agent by it.
    pub name: String,
    /// The tenant.
    pub tenant: String,
    /// Capabilities as on the command line.
    pub caps: Vec<String>,
    /// A manifest instead of a tenant; always with `--allow-unsigned`.
    pub manifest: Option<PathBuf>,
    /// Further options of `coconut run`.
    pub options: Vec<String>,
    /// Its stdin; none is closed.
    pub stdin: Option<OwnedFd>,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// A running `coconut run`; it is ended, and the agent with it, when this is dropped.
pub struct Agent {
    /// The agent's name.
    pub name: String,
    /// Its stdout.
    pub lines: Lines,
    errors: Lines,
    child: Child,
}

impl Agent {
    /// Starts it.
    ///
    /// # Errors
    /// When `coconut` cannot be started; a refused spawn shows in [`Agent::end`].
    pub fn start(coconut: &Coconut, spec: Spec) -> Result<Agent> {
        let mut command = coconut.command();
        command.args(["run", "--name", &spec.name]);
        if let Some(manifest) = &spec.manifest {
            command.arg("--manifest").arg(manifest).arg("--allow-unsigned");
        }
        if !spec.tenant.is_empty() {
            command.args(["--tenant", &spec.tenant]);
        }
        for cap in &spec.caps {
            command.args(["--cap", cap]);
        }
        command.args(&spec.options).arg("--").args(&spec.command);
        command.stdin(spec.stdin.map_or_else(Stdio::null, Stdio::from));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let lines = Lines::of(child.stdout.take().context("no stdout")?);
        let errors = Lines::of(child.stderr.take().context("no stderr")?);
        Ok(Agent { name: spec.name, lines, errors, child })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn end(mut self, limit: Duration) -> Result<Ran> {
        let until = Instant::now() + limit;
        let code = loop {
            if let Some(status) = self.child.try_wait()? {
                break shell_code(status);
            }
            if Instant::now() > until {
                bail!("agent {} did not end within {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // It has ended: what it said is on its way.
        let patience = limit;
        Ok(Ran {
            code,
            stdout: self.lines.rest(patience)?.join("\n"),
            stderr: self.errors.rest(patience)?.join("\n"),
        })
    }

    /// Its next line as JSON; if there is none, what it has written to stderr.
    ///
    /// # Errors
    /// When nothing came in time, the agent ended, or it said something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        self.lines.json(limit).with_context(|| self.complaints())
    }

    /// Whatever it has written to stderr so far.
    pub fn complaints(&self) -> String {
        self.errors.so_far()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Ends the agent with it: coconutd watches the connection that brought the descriptors.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
