//! Lines of a running program, with a limit on the wait for each.

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What came of one wait for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line.
    Line(String),
    /// Nothing yet.
    Nothing,
    /// Nothing ever again.
    End,
}

/// Reads lines in a thread of its own, so that a silent program cannot stop its reader.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Begins to read.
    pub fn of(from: impl Read + Send + 'static) -> Lines {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(|line| line.ok()) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Lines(receive)
    }

    /// Waits so long for the next line.
    pub fn hear(&self, limit: Duration) -> Heard {
        match self.0.recv_timeout(limit) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Disconnected) => Heard::End,
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
        }
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// When nothing came in time.
    pub fn next(&self, limit: Duration) -> Result<Option<String>> {
        match self.hear(limit) {
            Heard::Line(line) => Ok(Some(line)),
            Heard::End => Ok(None),
            Heard::Nothing => bail!("nothing came within {} s", limit.as_secs()),
        }
    }

    /// The next line as JSON.
    ///
    /// # Errors
    /// When nothing came in time, the program ended, or it said something else.
    pub fn json<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        let Some(line) = self.next(limit)? else { bail!("it ended without a word") };
        serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))
    }

    /// Every line that is there already, joined.
    pub fn so_far(&self) -> String {
        let mut all = Vec::new();
        while let Ok(Some(line)) = self.next(Duration::from_millis(200)) {
            all.push(line);
        }
        all.join("; ")
    }

    /// Every line until the end.
    ///
    /// # Errors
    /// When the program is silent for longer than `limit`.
    pub fn rest(&self, limit: Duration) -> Result<Vec<String>> {
        let mut all = Vec::new();
        while let Some(line) = self.next(limit)? {
            all.push(line);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_order_and_then_the_end() {
        let lines = Lines::of(&b"1\n2\n"[..]);
        assert_eq!(lines.json::<u32>(Duration::from_secs(5)).unwrap(), 1);
        assert_eq!(lines.rest(Duration::from_secs(5)).unwrap(), ["2"]);
        assert!(lines.json::<u32>(Duration::from_secs(5)).is_err());
    }
}
