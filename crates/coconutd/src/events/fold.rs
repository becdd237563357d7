//! Storms: whoever does the same as fast as it can fills no log.
//!
//! As long as an agent is within its budget each of its events has a record of its own. Beyond it, events of one
//! batch that say the same become one record that counts them: exact, and bounded by the number of batches,
//! which grow with the storm. A batch gets into the log whole or not at all.

use record::{Body, Entry};
use std::collections::HashMap;

/// Events that each have records of their own, one after the other without a pause.
const BURST: u64 = 1_024;
/// After that, so many in a second.
const PER_SECOND: u64 = 128;
/// Different records of one agent that are told apart in one batch of a storm.
const APART: usize = 16;
/// What the object of a record says that counts different ones.
const OTHERS: &str = "(others)";
/// Budgets that are kept; full ones are as good as none.
const BUDGETS: usize = 4_096;

const SECOND: u64 = 1_000_000_000;

/// The records of one batch of events, and what each agent has left of its budget.
#[derive(Default)]
pub struct Fold {
    budgets: HashMap<u64, Budget>,
    entries: Vec<Entry>,
    storms: HashMap<u64, Vec<Entry>>,
}

/// Leaks as time goes by; at [`BURST`] it is used up.
struct Budget {
    used: u64,
    /// `CLOCK_BOOTTIME` nanoseconds up to which it has leaked.
    since_ns: u64,
}

impl Budget {
    /// Whether there is one left; then it is used.
    fn take(&mut self, now_ns: u64) -> bool {
        let leaked = now_ns.saturating_sub(self.since_ns) / (SECOND / PER_SECOND);
        if leaked > 0 {
            self.since_ns = now_ns;
            self.used = self.used.saturating_sub(leaked);
        }
        let left = self.used < BURST;
        self.used += u64::from(left);
        left
    }
}

impl Fold {
    /// Takes the records of one event of an agent, which happened at this `CLOCK_BOOTTIME`.
    pub fn take(&mut self, aid: u64, entries: Vec<Entry>, now_ns: u64) {
        let fresh = || Budget { used: 0, since_ns: now_ns };
        let left = self.budgets.entry(aid).or_insert_with(fresh).take(now_ns);
        // What comes after a storm in the same batch stays behind it.
        if left && !self.storms.contains_key(&aid) {
            self.entries.extend(entries);
            return;
        }
        let storm = self.storms.entry(aid).or_default();
        entries.into_iter().for_each(|entry| add(storm, entry));
    }

    /// A record of the daemon's own, in its place.
    pub fn note(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The records of the batch whose last event lies before `position` of the kernel's ring.
    pub fn finish(&mut self, position: u64) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.entries);
        let mut storms: Vec<_> = self.storms.drain().collect();
        storms.sort_unstable_by_key(|(aid, _)| *aid);
        entries.extend(storms.into_iter().flat_map(|(_, storm)| storm));
        if let Some(last) = entries.last_mut() {
            last.ring = position;
        }
        if self.budgets.len() > BUDGETS {
            let newest = self.budgets.values().map(|budget| budget.since_ns).max();
            let full = |b: &Budget| b.since_ns + BURST * SECOND / PER_SECOND < newest.unwrap_or(0);
            self.budgets.retain(|_, budget| !full(budget));
        }
        entries
    }
}

/// Counts it where one says the same, or among the others of its kind.
fn add(storm: &mut Vec<Entry>, mut entry: Entry) {
    let alike = |a: &Entry, b: &Entry| {
        (a.kind, a.capability, a.verdict) == (b.kind, b.capability, b.verdict)
    };
    let same = |known: &&mut Entry| {
        alike(known, &entry) && known.object == entry.object && known.body == entry.body
    };
    if let Some(known) = storm.iter_mut().find(same) {
        known.count += entry.count;
        return;
    }
    if storm.len() >= APART {
        OTHERS.clone_into(&mut entry.object);
        entry.body = Body::default();
        let others = |known: &&mut Entry| alike(known, &entry) && known.object == OTHERS;
        if let Some(known) = storm.iter_mut().find(others) {
            known.count += entry.count;
            return;
        }
    }
    storm.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::own;
    use abi::Kind;

    fn denial(object: &str) -> Vec<Entry> {
        vec![own(Kind::Denial, object, "op=file_open")]
    }

    fn counts(entries: &[Entry]) -> u64 {
        entries.iter().map(|entry| u64::from(entry.count)).sum()
    }

    #[test]
    fn within_its_budget_each_event_has_its_record() {
        let mut fold = Fold::default();
        for _ in 0..BURST {
            fold.take(7, denial("/x"), 5);
        }
        let entries = fold.finish(99);
        assert_eq!(entries.len() as u64, BURST);
        assert!(entries.iter().all(|entry| entry.count == 1));
        assert_eq!((entries[0].ring, entries.last().unwrap().ring), (0, 99));
        // Used up: the next batch counts; a second later there is some again.
        for _ in 0..1_000 {
            fold.take(7, denial("/x"), 5);
        }
        assert_eq!(fold.finish(100).iter().map(|e| e.count).collect::<Vec<_>>(), [1_000]);
        for _ in 0..PER_SECOND {
            fold.take(7, denial("/x"), 5 + SECOND);
        }
        assert_eq!(fold.finish(101).len() as u64, PER_SECOND);
    }

    #[test]
    fn a_storm_is_exact_and_bounded_and_takes_nothing_from_others() {
        let mut fold = Fold::default();
        for i in 0..50_000u64 {
            fold.take(7, denial(&format!("/{}", i % 3)), 5);
            if i % 5_000 == 0 {
                fold.take(8, denial("/quiet"), 5);
            }
        }
        let entries = fold.finish(1);
        assert_eq!(counts(&entries), 50_010);
        let quiet = |e: &&Entry| e.object == "/quiet";
        assert_eq!(entries.iter().filter(quiet).count(), 10, "each has its own");
        assert_eq!(entries.len() as u64, BURST + 10 + 3);
        // However many different ones there are.
        for i in 0..50_000u64 {
            fold.take(7, denial(&format!("/{i}")), 5);
        }
        let entries = fold.finish(2);
        assert_eq!((entries.len(), counts(&entries)), (APART + 1, 50_000));
        assert_eq!(entries[APART].object, OTHERS);
    }

    #[test]
    fn what_differs_is_not_counted_together() {
        let mut fold = Fold::default();
        (0..BURST).for_each(|_| fold.take(7, denial("/x"), 5));
        fold.finish(1);
        for (kind, detail) in [(Kind::Denial, "a"), (Kind::Use, "a"), (Kind::Denial, "b")] {
            fold.take(7, vec![own(kind, "/x", detail)], 5);
        }
        assert_eq!(fold.finish(2).len(), 3);
    }
}
