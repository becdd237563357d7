//! What was checked, what came of it, and how a person and a program read it (docs/demo-report.md).

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::Instant;

/// Name and version of the report's schema.
pub const SCHEMA: &str = "coconut.demo/1";
/// Columns that a line may have.
const WIDTH: usize = 80;
const CLAIM: usize = 33;
const SEEN: usize = 19;

/// The same thing without Coconut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// True: it did the harm, as it must for the check to mean anything.
    pub harm: bool,
    /// What was seen.
    pub observed: String,
}

impl Control {
    /// A control that was made.
    pub fn new(harm: bool, observed: impl Into<String>) -> Option<Control> {
        Some(Control { harm, observed: observed.into() })
    }
}

/// One claim and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub name: String,
    /// What is claimed, for people.
    pub claim: String,
    /// The claim held, and where there is a control it showed the harm.
    pub passed: bool,
    /// What was seen under Coconut.
    pub observed: String,
    /// What was seen without; none where nothing outside Coconut can try it.
    pub control: Option<Control>,
    /// Why there is no control, or anything else that a reader should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Check {
    /// A check: `held` is what Coconut did; a control without harm makes it fail too.
    pub fn new(
        name: impl Into<String>,
        claim: impl Into<String>,
        held: bool,
        observed: impl Into<String>,
        control: Option<Control>,
    ) -> Check {
        let passed = held && control.as_ref().is_none_or(|c| c.harm);
        Check {
            name: name.into(),
            claim: claim.into(),
            passed,
            observed: observed.into(),
            control,
            note: None,
        }
    }

    /// Says why there is no control.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Check {
        self.note = Some(note.into());
        self
    }

    /// One line of at most 80 columns.
    pub fn line(&self) -> String {
        let verdict = if self.passed { "PASS" } else { "FAIL" };
        let control = match (&self.control, &self.note) {
            (Some(control), _) => control.observed.as_str(),
            (None, Some(note)) => note.as_str(),
            (None, None) => "-",
        };
        let row = format!(
            "{verdict}  {}  {}  {}",
            fit(&self.claim, CLAIM),
            fit(&self.observed, SEEN),
            fit(control, WIDTH - CLAIM - SEEN - 10)
        );
        row.trim_end().to_owned()
    }
}

/// A number worth keeping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Stable name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// `us`, `s`, `ratio`, `count`…
    pub unit: String,
}

/// One demonstration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demonstration {
    /// `isolation`, `audit`, `fairness`, `dream-team`.
    pub name: String,
    /// What it is about, for people.
    pub title: String,
    /// Every check passed and nothing stopped it.
    pub passed: bool,
    /// How long it took.
    pub seconds: f64,
    /// What stopped it before its end.
    pub error: Option<String>,
    /// The claims.
    pub checks: Vec<Check>,
    /// The numbers.
    pub figures: Vec<Figure>,
}

/// The machine that it ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processors.
    pub cpus: usize,
    /// Emulated, KVM or metal, as systemd-detect-virt says.
    pub virtualization: String,
}

/// `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of Coconut.
    pub version: String,
    /// Seconds since the UNIX epoch.
    pub started: u64,
    /// How long all of it took.
    pub seconds: f64,
    /// Where.
    pub machine: Machine,
    /// In the order in which they ran.
    pub demonstrations: Vec<Demonstration>,
    /// Checks that passed.
    pub passed: usize,
    /// Checks that did not, and demonstrations that were stopped.
    pub failed: usize,
}

/// Where progress goes: stdout for people, nowhere when JSON is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Say {
    /// Nothing is printed.
    pub quiet: bool,
}

impl Say {
    /// Prints one line at once.
    pub fn line(self, text: impl AsRef<str>) {
        if !self.quiet {
            let mut out = std::io::stdout().lock();
            // A reader that has gone away does not stop the demonstration.
            let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
        }
    }
}

/// Collects checks and figures of one demonstration, and prints them as they come.
pub struct Recorder {
    /// Where progress goes.
    pub say: Say,
    begun: Instant,
    checks: Vec<Check>,
    figures: Vec<Figure>,
}

impl Recorder {
    /// Prints the head of the table.
    pub fn new(say: Say) -> Recorder {
        Recorder { say, begun: Instant::now(), checks: Vec::new(), figures: Vec::new() }
    }

    /// What is being done now.
    pub fn step(&self, text: impl AsRef<str>) {
        self.say.line(format!("  … {}", text.as_ref()));
    }

    /// Names the columns of what follows.
    pub fn columns(&self, claim: &str, coconut: &str, control: &str) {
        self.say.line(format!("\n      {}  {}  {control}", fit(claim, CLAIM), fit(coconut, SEEN)));
    }

    /// Adds a check.
    pub fn check(&mut self, check: Check) {
        self.say.line(check.line());
        if !check.passed {
            self.say.line(format!("      saw: {}", check.observed));
            if let Some(control) = &check.control {
                self.say.line(format!("      control: {}", control.observed));
            }
        }
        self.checks.push(check);
    }

    /// Adds a number.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned() });
    }

    /// Closes the demonstration.
    pub fn finish(self, name: &str, title: &str, result: anyhow::Result<()>) -> Demonstration {
        let error = result.err().map(|e| format!("{e:#}"));
        if let Some(error) = &error {
            self.say.line(format!("FAIL  {name} was stopped: {error}"));
        }
        let passed =
            error.is_none() && !self.checks.is_empty() && self.checks.iter().all(|c| c.passed);
        Demonstration {
            name: name.to_owned(),
            title: title.to_owned(),
            passed,
            seconds: self.begun.elapsed().as_secs_f64(),
            error,
            checks: self.checks,
            figures: self.figures,
        }
    }
}

impl Report {
    /// Counts the checks.
    pub fn new(
        started: u64,
        seconds: f64,
        machine: Machine,
        demonstrations: Vec<Demonstration>,
    ) -> Report {
        let checks = || demonstrations.iter().flat_map(|d| &d.checks);
        let passed = checks().filter(|c| c.passed).count();
        let stopped = demonstrations.iter().filter(|d| d.error.is_some()).count();
        let failed = checks().filter(|c| !c.passed).count() + stopped;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let schema = SCHEMA.to_owned();
        Report { schema, version, started, seconds, machine, demonstrations, passed, failed }
    }

    /// What was proved, in a few lines.
    pub fn summary(&self) -> String {
        let mut out = String::from("\nWhat was shown\n");
        for d in &self.demonstrations {
            let good = d.checks.iter().filter(|c| c.passed).count();
            let verdict = if d.passed { "PASS" } else { "FAIL" };
            let controls = d.checks.iter().filter(|c| c.control.is_some()).count();
            out += &format!(
                "{verdict}  {:10} {good} of {} checks, {controls} with a control ({:.0} s)\n",
                d.name,
                d.checks.len(),
                d.seconds
            );
            out += &format!("      {}\n", d.title);
        }
        out + &format!("{} passed, {} failed\n", self.passed, self.failed)
    }
}

/// Exactly `width` columns: padded, or cut with an ellipsis.
pub fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text}{}", " ".repeat(width - count));
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_without_harm_fails_the_check() {
        let harmless = Control::new(false, "EACCES");
        assert!(!Check::new("a", "b", true, "EACCES", harmless).passed);
        assert!(Check::new("a", "b", true, "EACCES", Control::new(true, "read it")).passed);
        assert!(Check::new("a", "b", true, "EACCES", None).passed);
        assert!(!Check::new("a", "b", false, "read it", Control::new(true, "read it")).passed);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let long = "x".repeat(200);
        let check = Check::new("n", &long, true, &long, Control::new(true, &long));
        assert_eq!(check.line().chars().count(), WIDTH);
    }

    #[test]
    fn a_stopped_demonstration_is_a_failure() {
        let recorder = Recorder::new(Say { quiet: true });
        let stopped = recorder.finish("x", "y", Err(anyhow::anyhow!("no daemon")));
        let machine = Machine { kernel: "k".into(), cpus: 2, virtualization: "qemu".into() };
        let report = Report::new(0, 1.0, machine, vec![stopped]);
        assert_eq!((report.passed, report.failed), (0, 1));
        assert!(report.summary().ends_with("0 passed, 1 failed\n"));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
