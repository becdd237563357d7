//! A server that is started for the measurement and ends with it.

use anyhow::{Context, Result, bail};
use coconut_loadgen::client::{Client, Target};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time from start to the first answer.
const START_LIMIT: Duration = Duration::from_secs(600);
/// How many lines of a log an error shows.
const TAIL_LINES: usize = 10;

/// A running server; dropping it kills it.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where it answers.
    pub url: String,
}

impl Running {
    /// Starts `command`, which serves on `port`; its output goes to `NAME.log` in `logs`.
    pub fn start(name: &str, command: &mut Command, port: u16, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start {program}\nhint: cargo build --release --workspace --locked")
        })?;
        Ok(Self { name: name.to_owned(), child, log, url: format!("http://127.0.0.1:{port}") })
    }

    /// Waits until it answers; the name of its model.
    pub async fn model(&mut self) -> Result<String> {
        let began = Instant::now();
        let target = Target { url: self.url.clone(), model: String::new(), tenant: None };
        loop {
            let error = match Client::new(target.clone()).first_model().await {
                Ok(model) => return Ok(model),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once, {status}{}", self.name, self.tail());
            }
            if began.elapsed() > START_LIMIT {
                let waited = START_LIMIT.as_secs();
                return Err(error.context(format!(
                    "{} does not answer after {waited} s{}",
                    self.name,
                    self.tail()
                )));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Memory that it holds now, in MiB, if the kernel tells.
    pub fn memory_mib(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        resident_mib(&status)
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
        format!("\n    {tail}\n(all of it: {})", self.log.display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody uses now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

fn resident_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory() {
        assert_eq!(resident_mib("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2.0));
        assert_eq!(resident_mib("Name:\tx\n"), None);
    }

    #[tokio::test]
    async fn a_server_that_ends_is_named_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such model >&2; exit 3"]);
        let logs = std::env::temp_dir();
        let name = format!("coconut-bench-test-{}", std::process::id());
        let mut running = Running::start(&name, &mut command, free_port().unwrap(), &logs).unwrap();
        let error = running.model().await.unwrap_err().to_string();
        fs::remove_file(logs.join(format!("{name}.log"))).unwrap();
        assert!(error.contains("exit status: 3") && error.contains("no such model"), "{error}");
    }
}
