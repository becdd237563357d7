//! Rule sets: written once, shared by all who hold them, never changed.

use abi::Capability;
use manifest::{Origin, Rule};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Names a [`RuleSet`]; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetKey(pub u64);

/// Derived sets are forgotten when so many were made since the last time.
const SWEEP: usize = 4_096;

/// Gives out [`SetKey`]s and remembers what was made out of what; share it by `Arc`.
#[derive(Debug, Default)]
pub struct SetKeys {
    last: AtomicU64,
    derived: Mutex<Derived>,
}

type Derived = HashMap<(SetKey, Vec<Fate>), Weak<RuleSet>>;

impl SetKeys {
    /// A key that no set had before.
    pub fn fresh(&self) -> SetKey {
        SetKey(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The set after each of its rules has met its fate; the same for the same fates, as long as
    /// somebody holds it.
    pub(crate) fn narrowed(&self, set: &Arc<RuleSet>, fates: &[Fate]) -> Arc<RuleSet> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if derived.len() >= SWEEP && derived.len() == derived.capacity() {
            derived.retain(|_, set| set.strong_count() > 0);
        }
        let known = derived.entry((set.key, fates.to_vec())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let rules = set.rules.iter().zip(fates).map(|(rule, fate)| fate.of(rule.as_ref()));
            let made = RuleSet::derived(self.fresh(), set, rules.collect());
            *known = Arc::downgrade(&made);
            made
        })
    }
}

/// A file, as the kernel decides by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inode {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// What the name in a rule led to when the rule was made: what is compared beside the name, because
/// a name may lead elsewhere later.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// The rule names nothing that could be something else later.
    Free,
    /// Nothing was there: the rule gives nothing.
    Absent,
    /// A file.
    File {
        /// The file itself, then the directories above it.
        nodes: Arc<[Inode]>,
        /// The rule follows its name, which only the system can give to something else.
        follows: bool,
    },
    /// The addresses of a host name.
    Hosts(Arc<[IpAddr]>),
}

impl Place {
    /// True if what is meant by `other` lies within what is meant by `self`.
    pub fn covers(&self, other: &Place) -> bool {
        match (self, other) {
            (_, Place::Absent) | (Place::Free | Place::File { follows: true, .. }, _) => true,
            (Place::File { nodes: own, .. }, Place::File { nodes, .. }) => {
                own.first().is_some_and(|own| nodes.contains(own))
            }
            (Place::Hosts(own), Place::Hosts(wanted)) => wanted.iter().all(|a| own.contains(a)),
            _ => false,
        }
    }
}

/// How often a rule may be used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// Which counter in the kernel; no other rule has it.
    pub key: u64,
    /// Uses that it began with.
    pub uses: u64,
}

/// One rule of a set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SetRule {
    /// What it allows, with the real path; without an expiry or uses of its own.
    pub rule: Rule,
    /// Why it is there.
    pub origin: Origin,
    /// `CLOCK_BOOTTIME` nanoseconds after which it is void; none is never.
    pub expires_ns: Option<u64>,
    /// How often it may be used; none is as often as one likes.
    pub counter: Option<Counter>,
    /// What its name led to.
    pub place: Place,
    /// `CLOCK_BOOTTIME` nanoseconds at which it was granted; 0 for what came with its set.
    pub granted_ns: u64,
}

impl SetRule {
    /// True if it has not expired.
    pub fn is_alive(&self, now_ns: u64) -> bool {
        self.expires_ns.is_none_or(|at| at > now_ns)
    }

    /// True if `self` allows what `other` does; how long is not asked.
    pub fn covers(&self, other: &SetRule) -> bool {
        self.rule.scope.covers(&other.rule.scope) && self.place.covers(&other.place)
    }
}

/// What becomes of one rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fate {
    /// It stays.
    Keep,
    /// It stays until then.
    Until(Option<u64>),
    /// It goes.
    Gone,
}

impl Fate {
    pub(crate) fn of(self, rule: Option<&SetRule>) -> Option<SetRule> {
        match self {
            Fate::Keep => rule.cloned(),
            Fate::Until(expires_ns) => rule.map(|rule| SetRule { expires_ns, ..rule.clone() }),
            Fate::Gone => None,
        }
    }
}

/// Rules by position. A position whose rule was taken away stays empty, so that the others keep
/// their numbers.
#[derive(PartialEq, Eq, Debug)]
pub struct RuleSet {
    key: SetKey,
    from: Option<SetKey>,
    rules: Arc<[Option<SetRule>]>,
    live: usize,
    earliest: Option<u64>,
    kinds: u64,
}

impl RuleSet {
    /// A set of its own.
    pub fn new(key: SetKey, rules: impl IntoIterator<Item = SetRule>) -> Arc<RuleSet> {
        Self::build(key, None, rules.into_iter().map(Some).collect())
    }

    /// A set that has at each position what `from` has, or less; and perhaps more positions.
    pub(crate) fn derived(
        key: SetKey,
        from: &RuleSet,
        rules: Vec<Option<SetRule>>,
    ) -> Arc<RuleSet> {
        Self::build(key, Some(from.key), rules.into())
    }

    pub(crate) fn build(
        key: SetKey,
        from: Option<SetKey>,
        rules: Arc<[Option<SetRule>]>,
    ) -> Arc<RuleSet> {
        let there = || rules.iter().flatten();
        let live = there().count();
        let earliest = there().filter_map(|rule| rule.expires_ns).min();
        let kinds = there().fold(0, |kinds, rule| kinds | bit(rule.rule.capability()));
        Arc::new(RuleSet { key, from, live, earliest, kinds, rules })
    }

    /// Its name.
    pub fn key(&self) -> SetKey {
        self.key
    }

    /// The set that it was made out of.
    pub fn from(&self) -> Option<SetKey> {
        self.from
    }

    /// Every position.
    pub fn positions(&self) -> &Arc<[Option<SetRule>]> {
        &self.rules
    }

    /// The rules that are there, with their positions.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &SetRule)> {
        self.rules.iter().enumerate().filter_map(|(at, rule)| rule.as_ref().map(|rule| (at, rule)))
    }

    /// How many rules are there.
    pub fn len(&self) -> usize {
        self.live
    }

    /// True if it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// When the first of its rules expires.
    pub fn earliest(&self) -> Option<u64> {
        self.earliest
    }

    /// True if it may have a rule of this kind.
    pub fn has_kind(&self, kind: Capability) -> bool {
        self.kinds & bit(kind) != 0
    }
}

fn bit(kind: Capability) -> u64 {
    1 << (kind as u32)
}

/// A set that an agent holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldSet {
    /// The rules.
    pub set: Arc<RuleSet>,
    /// Number of the set's first position within its agent; numbers are never reused there.
    pub first: u32,
    /// `CLOCK_BOOTTIME` nanoseconds since which it holds it, or the set that it was before.
    pub since_ns: u64,
    /// What was granted while it ran goes in here.
    pub granted: bool,
}

impl HeldSet {
    /// Its rules, each with its number within the agent.
    pub fn held(&self) -> impl Iterator<Item = Held<'_>> {
        let number = move |at: usize| self.first + u32::try_from(at).unwrap_or(u32::MAX);
        self.set.rules().map(move |(at, rule)| {
            let since_ns = self.since_ns.max(rule.granted_ns);
            Held { id: number(at), rule, since_ns }
        })
    }

    /// The same place with another set.
    pub(crate) fn with(&self, set: Arc<RuleSet>) -> HeldSet {
        HeldSet { set, ..*self }
    }
}

/// A rule that an agent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held<'a> {
    /// Number within its agent; never reused.
    pub id: u32,
    /// The rule.
    pub rule: &'a SetRule,
    /// `CLOCK_BOOTTIME` nanoseconds since which it is held.
    pub since_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inos: &[u64], follows: bool) -> Place {
        Place::File { nodes: inos.iter().map(|ino| Inode { dev: 1, ino: *ino }).collect(), follows }
    }

    #[test]
    fn a_name_that_leads_elsewhere_now_is_not_covered() {
        assert!(file(&[5, 2], false).covers(&file(&[9, 5, 2], false)), "below it");
        assert!(file(&[5, 2], false).covers(&file(&[5, 2], false)));
        assert!(!file(&[5, 2], false).covers(&file(&[6, 2], false)), "another file of that name");
        assert!(file(&[5, 2], true).covers(&file(&[6, 2], false)), "it follows its name");
        assert!(file(&[5, 2], false).covers(&Place::Absent));
        assert!(!Place::Absent.covers(&file(&[5], false)));
        let hosts =
            |list: &[u8]| Place::Hosts(list.iter().map(|n| [192, 0, 2, *n].into()).collect());
        assert!(hosts(&[1, 2]).covers(&hosts(&[2])) && !hosts(&[1]).covers(&hosts(&[1, 2])));
    }
}
