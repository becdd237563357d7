//! Which of a broker's calls are booked: each journal numbers its own.

use api::broker::SettledCalls;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Journals that are remembered. A broker has one for as long as its folder lies there.
const JOURNALS: usize = 64;

/// Up to which number each journal's calls are booked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journals(BTreeMap<Uuid, u64>);

impl Journals {
    /// As an earlier daemon left them.
    pub fn restored(all: BTreeMap<Uuid, u64>) -> Self {
        Journals(all)
    }

    /// Each, with its number.
    pub fn all(&self) -> &BTreeMap<Uuid, u64> {
        &self.0
    }

    /// So many of the first of these are booked already; from now on all of them are.
    pub fn take(&mut self, told: &SettledCalls) -> usize {
        let through = self.0.get(&told.journal).copied().unwrap_or(0);
        let known = through.saturating_add(1).saturating_sub(told.first);
        let last = told.first.saturating_add(told.calls.len() as u64).saturating_sub(1);
        self.0.insert(told.journal, through.max(last));
        // Ids are of version 7: the first is the oldest.
        while self.0.len() > JOURNALS {
            self.0.pop_first();
        }
        usize::try_from(known).unwrap_or(usize::MAX).min(told.calls.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::broker::Usage;

    fn told(journal: u128, first: u64, calls: usize) -> SettledCalls {
        let calls = vec![Usage::default(); calls];
        SettledCalls { journal: Uuid::from_u128(journal), first, calls }
    }

    #[test]
    fn what_is_told_again_is_known() {
        let mut journals = Journals::default();
        assert_eq!(journals.take(&told(1, 1, 3)), 0);
        assert_eq!(journals.take(&told(1, 1, 3)), 3, "the same again");
        assert_eq!(journals.take(&told(1, 2, 4)), 2, "two of them, and two new ones");
        assert_eq!(journals.take(&told(2, 1, 1)), 0, "another journal");
        assert_eq!(journals.take(&told(1, 6, 1)), 0, "the next");
        assert_eq!(journals.take(&told(1, 1, 2)), 2, "long ago");
        assert_eq!(journals.take(&told(1, 7, 0)), 0, "nothing");
        assert_eq!(journals.all()[&Uuid::from_u128(1)], 6);
        for journal in 3..200 {
            journals.take(&told(journal, 1, 1));
        }
        assert_eq!(journals.all().len(), JOURNALS);
    }
}
