//! Waiting as long as something goes on: how long anything takes says more about the machine than
//! about what is waited for.

use anyhow::{Result, bail};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// So long without any progress is a fault, also on a machine that does much else.
pub const STALLED: Duration = Duration::from_secs(600);

/// Watches something that changes while there is progress.
pub struct Progress<T> {
    what: String,
    last: Option<T>,
    since: Instant,
    patience: Duration,
}

impl<T: PartialEq + Debug> Progress<T> {
    /// Nothing was seen yet. `what` is waited for: `the log to hold 3 records`.
    pub fn of(what: impl Into<String>) -> Progress<T> {
        Progress { what: what.into(), last: None, since: Instant::now(), patience: STALLED }
    }

    /// What is seen now.
    ///
    /// # Errors
    /// When it has been the same for too long; the error says what was seen last.
    pub fn seen(&mut self, now: T) -> Result<()> {
        if self.last.as_ref() != Some(&now) {
            self.last = Some(now);
            self.since = Instant::now();
        }
        if self.since.elapsed() > self.patience {
            let (what, seconds) = (&self.what, self.patience.as_secs());
            bail!(
                "waited for {what}, but nothing went on for {seconds} s; last seen: {:?}",
                self.last
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_there_is_progress_and_says_what_it_saw_last() {
        let mut progress = Progress::of("three");
        progress.patience = Duration::from_millis(20);
        for n in 0..4 {
            std::thread::sleep(Duration::from_millis(10));
            progress.seen(n).unwrap();
        }
        std::thread::sleep(Duration::from_millis(30));
        let error = progress.seen(3).unwrap_err().to_string();
        assert!(error.contains("waited for three") && error.ends_with("Some(3)"), "{error}");
        progress.seen(4).unwrap();
    }
}
