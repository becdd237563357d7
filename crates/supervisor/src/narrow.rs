//! Making smaller sets out of sets; each only once during one change.

use crate::agent::Removal;
use crate::sets::{Fate, HeldSet, RuleSet, SetKey, SetKeys, SetRule};
use manifest::Rule;
use std::collections::HashMap;
use std::sync::Arc;

/// A rule that was taken from an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its number within the agent.
    pub id: u32,
    /// What it allowed.
    pub rule: Rule,
    /// Why it is gone.
    pub removal: Removal,
}

/// When a rule that is delegated out of `held` ends; none (outer) if `held` does not cover it.
///
/// Of several rules that cover it, the one that lives longest counts; one that is itself counted gives nothing to
/// others.
pub(crate) fn delegable(held: &[HeldSet], rule: &SetRule, now_ns: u64) -> Option<Option<u64>> {
    let kind = rule.rule.capability();
    let longest = held
        .iter()
        // Executing covers reading, writing covers creating: file rights are asked of every set.
        .filter(|own| own.set.has_kind(kind) || kind.name().starts_with("fs."))
        .flat_map(|own| own.set.rules().map(|(_, own)| own))
        .filter(|own| own.counter.is_none() && own.is_alive(now_ns) && own.covers(rule))
        .map(|own| own.expires_ns.unwrap_or(u64::MAX))
        .max()?;
    let end = longest.min(rule.expires_ns.unwrap_or(u64::MAX));
    Some((end != u64::MAX).then_some(end))
}

/// What one change does to sets.
pub(crate) struct Narrowing<'a> {
    keys: &'a SetKeys,
    now_ns: u64,
    /// What a set became below a parent with these sets: equal children are narrowed once.
    below: HashMap<(SetKey, Vec<SetKey>), Arc<Vec<Fate>>>,
}

impl<'a> Narrowing<'a> {
    pub(crate) fn new(keys: &'a SetKeys, now_ns: u64) -> Self {
        Narrowing { keys, now_ns, below: HashMap::new() }
    }

    /// The set after each of its rules has met its fate; the same one if all stay, none if none do.
    pub(crate) fn apply(&mut self, held: &HeldSet, fates: &[Fate]) -> Option<HeldSet> {
        let set = &held.set;
        if fates.iter().all(|fate| *fate == Fate::Keep) {
            return Some(held.clone());
        }
        let made = self.keys.narrowed(set, fates);
        (!made.is_empty()).then(|| held.with(made))
    }

    /// What becomes of the rules of a set whose holder's parent holds `above`.
    pub(crate) fn within(&mut self, set: &RuleSet, above: &[HeldSet]) -> Arc<Vec<Fate>> {
        if above.iter().any(|own| own.set.key() == set.key()) {
            return Arc::new(vec![Fate::Keep; set.positions().len()]);
        }
        let key = (set.key(), above.iter().map(|own| own.set.key()).collect());
        let now_ns = self.now_ns;
        let fate = |rule: &Option<SetRule>| match rule {
            None => Fate::Keep,
            Some(rule) => match delegable(above, rule, now_ns) {
                None => Fate::Gone,
                Some(end) if end == rule.expires_ns => Fate::Keep,
                Some(end) => Fate::Until(end),
            },
        };
        let fates = self.below.entry(key);
        fates.or_insert_with(|| Arc::new(set.positions().iter().map(fate).collect())).clone()
    }
}

/// The rules of a set that go.
pub(crate) fn taken(held: &HeldSet, fates: &[Fate], removal: Removal) -> Vec<Taken> {
    let first = held.first;
    let gone = held.set.rules().filter(|(at, _)| fates.get(*at) == Some(&Fate::Gone));
    let number = |at: usize| first + u32::try_from(at).unwrap_or(u32::MAX);
    gone.map(|(at, rule)| Taken { id: number(at), rule: rule.rule.clone(), removal }).collect()
}
