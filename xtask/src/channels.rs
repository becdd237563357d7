//! The ports between the VM and us: the command's two outputs as they come, and the status port that tells how it stands.

use crate::life::Life;
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Receives the command's output: `(is_stderr, bytes)`.
pub type Sink = Box<dyn FnMut(bool, &[u8]) + Send>;

/// Who looks on.
pub struct Watch {
    /// Gets the output as it comes.
    pub sink: Sink,
    /// Gets notes on the boot: `started`, failed units.
    pub note: Box<dyn FnMut(&str)>,
}

/// How the command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exit(i32),
    /// Not at all: the VM did not boot, hung, or fell over.
    Failed(String),
}

/// After the status: this long without output is the end of it.
const QUIET: Duration = Duration::from_millis(300);

/// The three sockets that QEMU connects to.
pub struct Channels {
    stdout: UnixListener,
    stderr: UnixListener,
    status: UnixListener,
}

enum Event {
    Output(bool, Vec<u8>),
    Status(String),
}

impl Channels {
    /// Listens in `dir`.
    pub fn listen(dir: &Path) -> Result<Self> {
        let socket = |name: &str| {
            UnixListener::bind(dir.join(format!("{name}.sock"))).context("cannot make a VM port")
        };
        Ok(Self { stdout: socket("stdout")?, stderr: socket("stderr")?, status: socket("status")? })
    }

    /// Follows the run to its end.
    pub fn watch(self, qemu: &mut Child, mut watch: Watch, mut life: Life) -> Result<Outcome> {
        let (sender, events) = channel();
        forward(self.stdout, false, sender.clone());
        forward(self.stderr, true, sender.clone());
        lines(self.status, sender);
        loop {
            if let Some(why) = life.overdue() {
                return Ok(Outcome::Failed(why));
            }
            match events.recv_timeout(Duration::from_millis(500)) {
                Ok(Event::Output(is_stderr, bytes)) => {
                    life.output(&bytes);
                    (watch.sink)(is_stderr, &bytes);
                }
                Ok(Event::Status(line)) => {
                    life.word(&line);
                    if let Some(status) = handle(&line, &mut watch) {
                        drain(&events, &mut watch);
                        return Ok(Outcome::Exit(status));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = qemu.try_wait()? {
                        return Ok(Outcome::Failed(format!(
                            "it ended by itself ({status}) before the command did"
                        )));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Outcome::Failed(
                        "it closed its ports before the command ended".to_owned(),
                    ));
                }
            }
        }
    }
}

fn handle(line: &str, watch: &mut Watch) -> Option<i32> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "START" => (watch.note)("started"),
        "NOTE" => (watch.note)(rest),
        "EXIT" => return rest.trim().parse().ok(),
        _ => {}
    }
    None
}

/// The guest's writes return when QEMU has the bytes; what is still in the sockets arrives within moments.
fn drain(events: &Receiver<Event>, watch: &mut Watch) {
    while let Ok(event) = events.recv_timeout(QUIET) {
        if let Event::Output(is_stderr, bytes) = event {
            (watch.sink)(is_stderr, &bytes);
        }
    }
}

fn accept(listener: &UnixListener) -> Option<UnixStream> {
    listener.accept().ok().map(|(stream, _)| stream)
}

fn forward(listener: UnixListener, is_stderr: bool, sender: Sender<Event>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Some(mut stream) = accept(&listener) else { return };
        let mut bytes = [0_u8; 65536];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            if sender.send(Event::Output(is_stderr, bytes[..n].to_vec())).is_err() {
                return;
            }
        }
    })
}

fn lines(listener: UnixListener, sender: Sender<Event>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Some(stream) = accept(&listener) else { return };
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(Event::Status(line)).is_err() {
                return;
            }
        }
    })
}

/// The command's output is ours.
pub fn pass_through() -> Watch {
    Watch {
        sink: Box::new(|is_stderr, bytes| {
            // Nobody may be reading our output any more; the command still ends in peace.
            let _ = if is_stderr {
                std::io::stderr().write_all(bytes)
            } else {
                std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
            };
        }),
        note: Box::new(|note| {
            if note != "started" {
                eprintln!("note: {note}");
            }
        }),
    }
}
