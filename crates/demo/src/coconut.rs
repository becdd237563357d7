//! The `coconut` command line, called as a user calls it.

use anyhow::{Context, Result, bail};
use api::agent::{AgentDetail, ChangeReport, ExplanationList};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit status; 128 + n for a signal.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Ran {
    /// One line for people: the status and the first line of stderr.
    pub fn summary(&self) -> String {
        let first = self.stderr.lines().find(|l| !l.trim().is_empty()).unwrap_or("");
        format!("exit {} {first}", self.code).trim().to_owned()
    }
}

/// The status as a shell shows it.
pub fn shell_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The command line under test.
#[derive(Clone, Debug)]
pub struct Coconut {
    /// The program.
    pub program: PathBuf,
}

impl Coconut {
    /// A command to which arguments are still to be added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("NO_COLOR", "1").env("COLUMNS", "80").current_dir("/");
        command
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn call(&self, args: &[&str]) -> Result<Ran> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        let done =
            command.output().with_context(|| format!("cannot run {}", self.program.display()))?;
        Ok(Ran {
            code: shell_code(done.status),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// Runs to the end; anything but status 0 is an error.
    ///
    /// # Errors
    /// As said, with the command's own words.
    pub fn must(&self, args: &[&str]) -> Result<Ran> {
        let ran = self.call(args)?;
        if ran.code != 0 {
            bail!("`coconut {}` ended with {}: {}", args.join(" "), ran.code, ran.stderr.trim());
        }
        Ok(ran)
    }

    /// Runs with `--json` and reads the answer.
    ///
    /// # Errors
    /// When the command fails or its answer does not fit the documented type.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let mut all = vec!["--json"];
        all.extend_from_slice(args);
        let ran = self.must(&all)?;
        serde_json::from_str(&ran.stdout)
            .with_context(|| format!("`coconut {}` printed: {}", all.join(" "), ran.stdout.trim()))
    }

    /// `coconut show`.
    ///
    /// # Errors
    /// As [`Coconut::json`].
    pub fn show(&self, who: &str) -> Result<AgentDetail> {
        self.json(&["show", who])
    }

    /// `coconut explain`.
    ///
    /// # Errors
    /// As [`Coconut::json`].
    pub fn explain(&self, who: &str) -> Result<ExplanationList> {
        self.json(&["explain", who])
    }

    /// `coconut cap revoke`.
    ///
    /// # Errors
    /// As [`Coconut::json`].
    pub fn revoke(&self, who: &str, capability: &str) -> Result<ChangeReport> {
        self.json(&["cap", "revoke", who, capability])
    }

    /// `coconut audit query`, one record a line.
    ///
    /// # Errors
    /// As [`Coconut::json`].
    pub fn records(&self, filter: &[&str]) -> Result<Vec<api::audit::Record>> {
        let mut all = vec!["--json", "audit", "query"];
        all.extend_from_slice(filter);
        let ran = self.must(&all)?;
        let lines = ran.stdout.lines().filter(|l| !l.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("record: {line}")))
            .collect()
    }
}
