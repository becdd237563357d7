//! What an agent was refused: a bounded memory for `explain`. The log has them all.

use crate::lifecycle::Transition;
use abi::Capability;
use std::collections::VecDeque;

/// How many different attempts are kept for each agent.
const KEPT: usize = 64;

/// One refused attempt; repeated ones are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Nanoseconds since the UNIX epoch, of the latest.
    pub time_ns: u64,
    /// `CLOCK_BOOTTIME` nanoseconds, of the latest.
    pub boot_ns: u64,
    /// What would have been needed; [`Capability::Forbidden`] if nothing allows it.
    pub capability: Capability,
    /// Path, address, socket…
    pub object: String,
    /// The operation, as the kernel's hook is called.
    pub operation: String,
    /// Command name of the task.
    pub program: String,
    /// Negative errno.
    pub errno: i32,
    /// How often, in a row or not.
    pub count: u64,
}

/// A denial was booked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    /// The move to `CapDenied`, if the agent was not there already.
    pub transition: Option<Transition>,
    /// The agent's denials so far; equals the kernel's counter and the log's records.
    pub total: u64,
}

/// The latest attempts, each once.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    latest: VecDeque<Attempt>,
    total: u64,
}

impl Denials {
    /// As an earlier daemon had them.
    pub(crate) fn at(total: u64, latest: impl Iterator<Item = Attempt>) -> Self {
        Denials { latest: latest.take(KEPT).collect(), total }
    }

    pub(crate) fn note(&mut self, attempt: Attempt) {
        self.total += attempt.count;
        let same = |known: &Attempt| {
            known.capability == attempt.capability
                && known.object == attempt.object
                && known.operation == attempt.operation
        };
        let before = match self.latest.iter().position(same) {
            Some(at) => self.latest.remove(at).map_or(0, |known| known.count),
            None => 0,
        };
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(Attempt { count: before + attempt.count, ..attempt });
    }

    /// How many denials there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latest attempts, the newest last.
    pub fn latest(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.latest.iter()
    }
}
