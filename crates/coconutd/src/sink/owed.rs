//! What the log is owed: records of changes that are booked and not in the log yet. The registry has them beside what
//! they are about, and the next daemon writes what this one could not.

use record::Entry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records of changes, which nothing else remembers. (A record of a kernel event is not owed by the daemon: the event
/// lies in the kernel's ring until the log has it.)
#[derive(Default)]
pub struct Owed(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    last: u64,
    entries: BTreeMap<u64, Arc<[Entry]>>,
}

/// Records that are owed. Dropped, they are owed no longer: what they are about has not happened.
pub struct Due {
    owed: Arc<Owed>,
    /// None once they are handed over.
    number: Option<u64>,
    entries: Arc<[Entry]>,
}

/// Handed over: owed until the log has them.
pub(super) struct Handed {
    /// None for those of kernel events.
    pub number: Option<u64>,
    pub entries: Arc<[Entry]>,
}

impl Owed {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these are owed.
    pub(super) fn take(self: &Arc<Self>, entries: Vec<Entry>) -> Due {
        let entries: Arc<[Entry]> = entries.into();
        let of_events = entries.iter().any(|entry| entry.ring != 0);
        let number = (!entries.is_empty() && !of_events).then(|| {
            let mut inner = self.inner();
            inner.last += 1;
            let number = inner.last;
            inner.entries.insert(number, entries.clone());
            number
        });
        Due { owed: self.clone(), number, entries }
    }

    /// They are in the log.
    pub(super) fn paid(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut inner = self.inner();
        for number in numbers {
            inner.entries.remove(&number);
        }
    }

    /// All of it, by number, the oldest first.
    pub fn all(&self) -> BTreeMap<u64, Arc<[Entry]>> {
        self.inner().entries.clone()
    }
}

impl Due {
    pub(super) fn handed(mut self) -> Handed {
        Handed { number: self.number.take(), entries: self.entries.clone() }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.owed.paid(self.number);
    }
}
