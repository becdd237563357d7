//! Signs of life of a VM: how long a run may be silent, measured by the processor time that it had. A busy
//! machine gives it less of that, so waiting there lasts longer, and a boot that goes on is never given up.

use crate::family::worked;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processor time in which a VM, also an emulated one, has long said something new.
const WORK: Duration = Duration::from_secs(600);
/// A VM that hardly computes does not come to use that up: so long without anything new.
const WALL: Duration = Duration::from_secs(1800);
/// Between two looks at the processor time: it means reading all of `/proc`.
const LOOK: Duration = Duration::from_secs(5);

/// When a run is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// When the VM shows no sign of life; the command may be silent.
    Alive,
    /// When the command says nothing new either.
    Progress,
    /// As the user said: so long after the command's start.
    Until(Duration),
}

/// The time since something new was seen of one thing.
struct Silence {
    since: Instant,
    worked: Duration,
}

impl Silence {
    fn broken(&mut self, worked: Duration) {
        *self = Self { since: Instant::now(), worked };
    }

    fn overdue(&self, worked: Duration) -> Option<String> {
        let (wall, work) = (self.since.elapsed(), worked.saturating_sub(self.worked));
        (work > WORK || wall > WALL).then(|| {
            format!("for {} s, in which it computed for {} s", wall.as_secs(), work.as_secs())
        })
    }
}

/// What was seen of a run, and when.
pub struct Life {
    pid: u32,
    patience: Patience,
    console: Console,
    started: Option<Instant>,
    /// Of the VM itself: new lines on its console, words on its status port.
    vm: Silence,
    /// Of the command: its output.
    command: Silence,
    worked: Duration,
    looked: Instant,
    last: String,
}

impl Life {
    /// Watches the VM that this process and its children are.
    pub fn new(pid: u32, console: &Path, patience: Patience) -> Self {
        let silence = || Silence { since: Instant::now(), worked: Duration::ZERO };
        Self {
            pid,
            patience,
            console: Console::new(console),
            started: None,
            vm: silence(),
            command: silence(),
            worked: Duration::ZERO,
            looked: Instant::now(),
            last: "nothing".to_owned(),
        }
    }

    /// A word on the status port.
    pub fn word(&mut self, word: &str) {
        if word.starts_with("START") {
            self.started = Some(Instant::now());
            self.command.broken(self.worked);
        }
        self.vm.broken(self.worked);
    }

    /// Output of the command.
    pub fn output(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            self.last = format!("the output {line:?}");
        }
        self.command.broken(self.worked);
        self.vm.broken(self.worked);
    }

    /// Why the run is to be given up, if it is.
    pub fn overdue(&mut self) -> Option<String> {
        if self.looked.elapsed() > LOOK {
            self.looked = Instant::now();
            self.worked = self.worked.max(worked(self.pid));
        }
        if let Some(line) = self.console.fresh() {
            if self.started.is_none() {
                self.last = format!("on its console {line:?}");
            }
            self.vm.broken(self.worked);
        }
        self.why().map(|why| format!("{why}; last seen: {}", self.last))
    }

    fn why(&self) -> Option<String> {
        if let Some(how_long) = self.vm.overdue(self.worked) {
            let what = if self.started.is_some() {
                "no sign of life"
            } else {
                "it does not come up, nothing new"
            };
            return Some(format!("{what} {how_long}"));
        }
        let started = self.started?;
        match self.patience {
            Patience::Alive => None,
            Patience::Progress => {
                let how_long = self.command.overdue(self.worked)?;
                Some(format!("the command said nothing {how_long}"))
            }
            Patience::Until(limit) => (started.elapsed() > limit)
                .then(|| format!("the command did not end within {} s", limit.as_secs())),
        }
    }
}

/// The console's file. Only lines of a new kind count: systemd repeats for ever that a job is running.
struct Console {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
    seen: HashSet<String>,
}

impl Console {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, rest: Vec::new(), seen: HashSet::new() }
    }

    /// The last line of a kind that was not there before; numbers are no difference.
    fn fresh(&mut self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.read)).ok()?;
        self.read += file.read_to_end(&mut self.rest).ok()? as u64;
        let mut fresh = None;
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            let kind: String = line.chars().filter(char::is_ascii_alphabetic).collect();
            if !kind.is_empty() && self.seen.insert(kind) {
                fresh = Some(line);
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn life(patience: Patience, started: bool) -> Life {
        let mut life = Life::new(std::process::id(), Path::new("/nowhere"), patience);
        life.worked = Duration::from_secs(10_000);
        life.vm.broken(life.worked);
        life.command.broken(life.worked);
        if started {
            life.word("START");
        }
        life
    }

    fn works(life: &mut Life, seconds: u64) {
        life.worked += Duration::from_secs(seconds);
    }

    #[test]
    fn every_way_of_hanging_is_seen_and_says_what_was_seen_last() {
        let mut boot = life(Patience::Progress, false);
        works(&mut boot, 599);
        assert_eq!(boot.overdue(), None);
        works(&mut boot, 2);
        assert!(boot.overdue().unwrap().contains("does not come up"));
        let mut dead = life(Patience::Alive, true);
        dead.output(b"\nPASS one\n");
        works(&mut dead, 601);
        let why = dead.overdue().unwrap();
        assert!(why.contains("no sign of life") && why.contains("PASS one"), "{why}");
        let mut silent = life(Patience::Progress, true);
        for _ in 0..3 {
            works(&mut silent, 250);
            silent.word("ALIVE");
        }
        assert!(silent.overdue().unwrap().contains("said nothing"));
        let mut asked = life(Patience::Until(Duration::ZERO), true);
        assert!(asked.overdue().unwrap().contains("did not end"));
    }

    #[test]
    fn whoever_goes_on_is_never_given_up() {
        let mut life = life(Patience::Progress, true);
        for _ in 0..100 {
            works(&mut life, 500);
            life.output(b"PASS next\n");
            assert_eq!(life.overdue(), None);
        }
        let mut quiet = self::life(Patience::Alive, true);
        works(&mut quiet, 500);
        quiet.word("ALIVE");
        works(&mut quiet, 500);
        assert_eq!(quiet.overdue(), None, "its command may be silent");
    }

    #[test]
    fn a_console_that_repeats_itself_is_no_progress() {
        let path = std::env::temp_dir().join(format!("coconut-life-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut console = Console::new(&path);
        let mut say = |text: &str| {
            file.write_all(text.as_bytes()).unwrap();
            console.fresh()
        };
        assert_eq!(say("a job is running (1 s)\n").unwrap(), "a job is running (1 s)");
        assert_eq!(say("a job is running (21 s)\n"), None);
        assert_eq!(say("half a li"), None);
        assert_eq!(say("ne\n").unwrap(), "half a line");
        std::fs::remove_file(path).unwrap();
    }
}
