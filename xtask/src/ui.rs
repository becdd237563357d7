//! What a person sees while things are built: one line per step, with its time; bars on a terminal, plain lines elsewhere.

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many lines of a log are shown when a step fails.
const TAIL_LINES: usize = 40;

/// The terminal, shared by all steps.
pub struct Ui {
    bars: MultiProgress,
    terminal: bool,
    logs: PathBuf,
}

impl Ui {
    /// Logs go to `logs`.
    pub fn new(logs: PathBuf) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { bars: MultiProgress::new(), terminal, logs }
    }

    /// Starts a step. `id` names its log file, `title` is what a person reads.
    pub fn step(&self, id: &str, title: &str) -> Step<'_> {
        let bar = self.terminal.then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix:<34} {elapsed:>5}  {wide_msg:.dim}"));
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let log = self.logs.join(format!("{id}.log"));
        // An old log must not be shown as the tail of this run; one that cannot be written shows at the first write.
        let _ = File::create(&log);
        let announced = Cell::new(false);
        Step { ui: self, bar, announced, title: title.to_owned(), log, start: Instant::now() }
    }

    /// Prints a line above the bars.
    pub fn say(&self, line: &str) {
        if self.terminal {
            // The bars' terminal is gone: nothing to be done about it.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// One step under way.
pub struct Step<'a> {
    ui: &'a Ui,
    bar: Option<ProgressBar>,
    announced: Cell<bool>,
    title: String,
    log: PathBuf,
    start: Instant,
}

impl Step<'_> {
    /// Where the step's log lies.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where there are no bars, says that the step has work to do; one that has none is not mentioned.
    pub fn announce(&self) {
        if self.bar.is_none() && !self.announced.replace(true) {
            eprintln!("  · {} …", self.title);
        }
    }

    /// Where there are no bars, says that the step still goes on, and what it said last.
    pub fn remind(&self, last: &str) {
        if self.bar.is_none() {
            eprintln!("    {:>6}  {last}", seconds(self.start.elapsed()));
        }
    }

    /// Shows what the step is doing now.
    pub fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// The error of a failed step: what, the log's tail, where the rest is, what to do.
    pub fn failure(&self, what: &str, hint: &str) -> anyhow::Error {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // The command line itself helps nobody who only reads the tail.
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("$ ")).collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
        let hint = if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") };
        anyhow!("{}: {what}\n    {tail}\n(all of it: {}){hint}", self.title, self.log.display())
    }

    /// The step is done; `note` says in a few words what came of it.
    pub fn done(self, note: &str) -> Duration {
        let took = self.start.elapsed();
        let line = format!("  ✓ {:<34} {:>6}  {note}", self.title, seconds(took));
        self.close(line.trim_end());
        took
    }

    /// The step had nothing to do: nobody needs to read of it.
    pub fn skip(self) {}

    fn close(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.ui.bars.remove(bar);
        }
        self.ui.say(line);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A time for people: `7.2s`, `3m 20s`.
pub fn seconds(time: Duration) -> String {
    let secs = time.as_secs();
    if secs < 60 {
        format!("{:.1}s", time.as_secs_f64())
    } else {
        format!("{}m {:02}s", secs / 60, secs % 60)
    }
}
