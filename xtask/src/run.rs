//! Runs a step's command: its output goes to the step's log, and who does nothing any more is given up.

use crate::family;
use crate::quiet::Quiet;
use crate::ui::Step;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Between two looks at the processor time.
const LOOK: Duration = Duration::from_secs(2);
/// Without bars, a step that lasts says so often what it is at.
const REMIND: Duration = Duration::from_secs(300);
/// What a command wrote before it ended arrives at once; who holds its output after that is somebody that it left.
const REST: Duration = Duration::from_secs(1);

impl Step<'_> {
    /// Runs a command with its output in the step's log; on failure the error carries the log's tail and `hint`.
    /// One that hangs is ended, and the error says what it was doing.
    pub fn run(&self, command: &mut Command, hint: &str) -> Result<()> {
        self.watch(command, hint, Quiet::default())
    }

    fn watch(&self, command: &mut Command, hint: &str, quiet: Quiet) -> Result<()> {
        self.announce();
        let name = command.get_program().to_string_lossy().into_owned();
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut log = File::options().create(true).append(true).open(self.log())?;
        writeln!(log, "$ {command:?}")?;
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // The command holds the writing ends; the reader sees the end only when all are closed.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = Run { step: self, child, log, start: Instant::now(), quiet };
        match run.follow(&lines(reader))? {
            Ended::Itself(status) if status.success() => Ok(()),
            Ended::Itself(status) => Err(self.failure(&format!("{name}: {status}"), hint)),
            Ended::GivenUp(why) => Err(self.failure(&format!("{name} {why}"), hint)),
        }
    }
}

enum Ended {
    Itself(ExitStatus),
    GivenUp(String),
}

struct Run<'a> {
    step: &'a Step<'a>,
    child: Child,
    log: File,
    start: Instant,
    quiet: Quiet,
}

impl Run<'_> {
    fn follow(&mut self, lines: &Receiver<Vec<u8>>) -> Result<Ended> {
        let mut last = String::new();
        let mut told = self.start;
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => last = self.said(&line)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Ended::Itself(self.child.wait()?));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = self.child.try_wait()? {
                        while let Ok(line) = lines.recv_timeout(REST) {
                            self.said(&line)?;
                        }
                        return Ok(Ended::Itself(status));
                    }
                    if let Some(why) = self.hangs() {
                        return Ok(Ended::GivenUp(why));
                    }
                }
            }
            if told.elapsed() > REMIND {
                told = Instant::now();
                self.step.remind(&last);
            }
        }
    }

    fn said(&mut self, line: &[u8]) -> Result<String> {
        self.log.write_all(line)?;
        let line = printable(line);
        self.step.message(&line);
        self.quiet.said(self.start.elapsed());
        Ok(line)
    }

    fn hangs(&mut self) -> Option<String> {
        let pid = self.child.id();
        let why = self.quiet.look(self.start.elapsed(), family::worked(pid))?;
        let doing = family::doing(pid);
        family::end(pid);
        // It has just been killed.
        let _ = self.child.wait();
        Some(format!("{why}; what was there: {doing}"))
    }
}

/// Reading has a thread of its own: who reads a pipe cannot look at a clock.
fn lines(reader: PipeReader) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0)
            && send.send(std::mem::take(&mut line)).is_ok()
        {}
    });
    receive
}

fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use crate::family;
    use crate::quiet::Quiet;
    use crate::ui::Ui;
    use std::process::Command;
    use std::time::Duration;

    fn shell(script: &str) -> (String, anyhow::Result<()>) {
        watched(script, Quiet::default())
    }

    fn watched(script: &str, quiet: Quiet) -> (String, anyhow::Result<()>) {
        let logs = std::env::temp_dir().join(format!("coconut-run-{}", std::process::id()));
        std::fs::create_dir_all(&logs).unwrap();
        let ui = Ui::new(logs);
        let step = ui.step(&script.len().to_string(), "a script");
        let outcome = step.watch(Command::new("sh").args(["-c", script]), "look", quiet);
        (std::fs::read_to_string(step.log()).unwrap(), outcome)
    }

    #[test]
    fn who_hangs_is_ended_with_all_that_it_started_and_named() {
        let script = "sleep 1234 & echo began; wait";
        let (_, outcome) = watched(script, Quiet::new(Duration::from_secs(1)));
        let told = outcome.unwrap_err().to_string();
        assert!(told.contains("it hangs") && told.contains("began"), "{told}");
        let left = told.split("was there: ").nth(1).unwrap();
        let (pid, name) = left.split_once(' ').unwrap();
        assert!(name.starts_with("sleep (sleep)"), "{told}");
        assert!(family::tests::gone(pid.parse().unwrap()), "{told}");
    }

    #[test]
    fn all_that_was_said_is_in_the_log_and_the_status_counts() {
        let (log, outcome) = shell("echo one; echo two >&2; printf three");
        assert!(outcome.is_ok() && log.ends_with("one\ntwo\nthree"), "{log}");
        let (_, outcome) = shell("echo before; exit 3");
        let told = outcome.unwrap_err().to_string();
        assert!(told.contains("status: 3") && told.contains("before"), "{told}");
    }

    #[test]
    fn a_process_that_was_left_behind_holds_nobody_up() {
        let (log, outcome) = shell("sleep 300 & echo done $!");
        assert!(outcome.is_ok(), "{outcome:?}");
        let left = log.rsplit(' ').next().unwrap().trim().to_owned();
        assert!(
            Command::new("sh").args(["-c", &format!("kill {left}")]).status().unwrap().success()
        );
    }
}
