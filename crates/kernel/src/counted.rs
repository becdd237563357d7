//! Counters of rules that may be used so often and no more: one for each key, whichever sets have its rule.

use crate::maps::{self, Maps};
use crate::{Error, Result};
use abi::caps::{COUNTERS, Counted, CountedKey, UseCounter};
use std::collections::HashMap;

/// How often a rule may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uses {
    /// Rules with the same key share a counter, in whichever sets they are. Not 0, and never used again.
    pub key: u64,
    /// Uses that a counter begins with; one that is there keeps what it has.
    pub left: u64,
}

/// A counted rule of a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedRule {
    pub rule: u32,
    pub uses: Uses,
    /// `RIGHT_*` where it is about files.
    pub rights: u32,
    pub expires_ns: u64,
}

/// Which counters there are.
#[derive(Default)]
pub(crate) struct Counters {
    known: HashMap<u64, Known>,
    /// Numbers that were given back.
    free: Vec<u32>,
    /// The last that was given out.
    last: u32,
}

struct Known {
    number: u32,
    /// Sets that have a rule with it.
    sets: u32,
}

impl Counters {
    /// Those that an earlier daemon left: its agents' uses go on counting down.
    pub fn adopt(maps: &Maps) -> Result<Counters> {
        let mut counters = Counters::default();
        if !maps.policy.counted() {
            return Ok(counters);
        }
        for number in 1..COUNTERS {
            let there: Option<UseCounter> = maps::get(&maps.counters, "counters", &number)?;
            let Some(UseCounter { id: key, .. }) = there.filter(|counter| counter.id != 0) else {
                continue;
            };
            counters.free.extend(counters.last + 1..number);
            counters.last = number;
            counters.known.insert(key, Known { number, sets: 0 });
        }
        Ok(counters)
    }

    /// Says how a set's rules are counted, before any grant of them is there.
    pub fn add(&mut self, maps: &Maps, set: u32, rules: &[CountedRule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        maps.policy.set_counted();
        let mut entries = Vec::new();
        let mut failure = None;
        // All are taken before one can fail, so that taking them back takes back as many.
        for rule in rules {
            match self.take(maps, &rule.uses) {
                Ok(counter) => entries.push((
                    CountedKey { set, rule: rule.rule },
                    Counted { expires_ns: rule.expires_ns, counter, rights: rule.rights },
                )),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => maps::put_all(&maps.counted, "counted", &entries),
        }
    }

    fn take(&mut self, maps: &Maps, uses: &Uses) -> Result<u32> {
        if let Some(known) = self.known.get_mut(&uses.key) {
            known.sets += 1;
            return Ok(known.number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.last + 1 < COUNTERS => {
                self.last += 1;
                self.last
            }
            None => {
                // Counted all the same: it is taken back with the others of the set.
                self.known.insert(uses.key, Known { number: 0, sets: 1 });
                let most = COUNTERS - 1;
                return Err(Error::Invalid(format!("{most} rules are counted: no more can be")));
            }
        };
        self.known.insert(uses.key, Known { number, sets: 1 });
        let left = i64::try_from(uses.left).unwrap_or(i64::MAX);
        let counter = UseCounter { id: uses.key, left };
        maps::put(&maps.counters, "counters", &number, &counter)?;
        Ok(number)
    }

    /// Takes a set's away, after its grants.
    pub fn remove(&mut self, maps: &Maps, set: u32, rules: &[CountedRule]) -> Result<()> {
        let entries: Vec<_> = rules.iter().map(|r| CountedKey { set, rule: r.rule }).collect();
        let removed = maps::remove_all(&maps.counted, "counted", &entries);
        for rule in rules {
            if let Some(known) = self.known.get_mut(&rule.uses.key) {
                known.sets = known.sets.saturating_sub(1);
            }
        }
        // Others that no set has may be an earlier daemon's, whose sets are not made anew yet.
        let ended = rules.iter().try_for_each(|rule| self.end_unused(maps, rule.uses.key));
        removed.and(ended)
    }

    fn end_unused(&mut self, maps: &Maps, key: u64) -> Result<()> {
        let unused = self.known.get(&key).filter(|known| known.sets == 0).map(|k| k.number);
        let Some(number) = unused else { return Ok(()) };
        self.known.remove(&key);
        if number == 0 {
            return Ok(());
        }
        self.free.push(number);
        maps::put(&maps.counters, "counters", &number, &UseCounter { id: 0, left: 0 })
    }

    /// Ends the counters that no set has.
    pub fn settle(&mut self, maps: &Maps) -> Result<()> {
        let keys: Vec<u64> = self.known.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.end_unused(maps, key))
    }

    /// The number of a rule's counter.
    pub fn number(&self, key: u64) -> Option<u32> {
        self.known.get(&key).map(|known| known.number).filter(|number| *number != 0)
    }
}
