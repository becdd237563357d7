//! A tree of agents that hold sets of things that they may try, each until some time. Every change looks at everything
//! anew.

use crate::points::{Points, RULES};
use std::collections::BTreeMap;

/// What is held by one rule.
#[derive(Clone, Debug)]
pub struct Right {
    /// Which of [`RULES`].
    pub rule: usize,
    pub may: Points,
    /// None is for ever.
    pub until: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub parent: Option<usize>,
    pub reparents: bool,
    pub rights: Vec<Right>,
}

/// Agents by their number.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub living: BTreeMap<usize, Agent>,
    born: usize,
}

fn sooner(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a.unwrap_or(u64::MAX).min(b.unwrap_or(u64::MAX))).filter(|at| *at != u64::MAX)
}

fn later(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a.unwrap_or(u64::MAX).max(b.unwrap_or(u64::MAX))).filter(|at| *at != u64::MAX)
}

fn lives(right: &Right, now: u64) -> bool {
    right.until.is_none_or(|until| until > now)
}

/// The right as somebody may have it whose parent holds these: one of them alone has to have all of it.
fn within(right: &Right, above: &[Right], now: u64) -> Option<Right> {
    let all = above.iter().filter(|own| lives(own, now) && own.may.all_of(right.may));
    let longest = all.map(|own| own.until).reduce(later)?;
    Some(Right { until: sooner(longest, right.until), ..right.clone() })
}

impl Model {
    fn below(&self, number: usize) -> Vec<usize> {
        let children = self.living.iter().filter(|(_, agent)| agent.parent == Some(number));
        let children: Vec<usize> = children.map(|(child, _)| *child).collect();
        children.into_iter().flat_map(|child| [vec![child], self.below(child)].concat()).collect()
    }

    fn rights(&self, number: usize) -> Vec<Right> {
        self.living.get(&number).map(|agent| agent.rights.clone()).unwrap_or_default()
    }

    /// Everybody above may have one more below.
    fn has_room(&self, parent: usize, now: u64) -> bool {
        let mut next = Some(parent);
        while let Some(number) = next {
            let counts = self.rights(number).into_iter().filter(|right| lives(right, now));
            let counts = counts
                .filter_map(|right| RULES[right.rule].strip_prefix("agent.spawn=")?.parse().ok());
            let most: usize = counts.max().unwrap_or(0);
            if self.below(number).len() >= most {
                return false;
            }
            next = self.living[&number].parent;
        }
        true
    }

    /// False if it is refused.
    pub fn spawn(
        &mut self,
        parent: Option<usize>,
        wanted: &[Right],
        reparents: bool,
        now: u64,
    ) -> bool {
        let mut rights = wanted.to_vec();
        if let Some(parent) = parent {
            let above = self.rights(parent);
            rights = wanted.iter().filter_map(|right| within(right, &above, now)).collect();
            if rights.len() < wanted.len() || !self.has_room(parent, now) {
                return false;
            }
        }
        self.living.insert(self.born, Agent { parent, reparents, rights });
        self.born += 1;
        true
    }

    pub fn grant(&mut self, number: usize, wanted: Right, now: u64) -> bool {
        let above = self.living[&number].parent.map(|parent| self.rights(parent));
        let wanted = match above {
            Some(above) => within(&wanted, &above, now),
            None => Some(wanted),
        };
        let Some(wanted) = wanted else { return false };
        let rights = &mut self.living.get_mut(&number).unwrap().rights;
        match rights.iter_mut().find(|right| right.rule == wanted.rule) {
            Some(held) => held.until = later(held.until, wanted.until),
            None => rights.push(wanted),
        }
        true
    }

    /// What of the rights that are left allows a part of what was taken; none if nothing can be taken.
    pub fn revoke(&mut self, number: usize, taken: Points, now: u64) -> Option<usize> {
        let rights = self.rights(number);
        let left: Vec<Right> =
            rights.iter().filter(|right| !taken.all_of(right.may)).cloned().collect();
        if left.len() == rights.len() {
            return None;
        }
        let still = left.iter().filter(|right| !right.may.meets(taken).is_empty()).count();
        self.living.get_mut(&number).unwrap().rights = left;
        self.narrow(number, now);
        Some(still)
    }

    fn narrow(&mut self, number: usize, now: u64) {
        for below in self.below(number) {
            let above = self.rights(self.living[&below].parent.unwrap());
            let rights = self.rights(below);
            let rights = rights.iter().filter_map(|right| within(right, &above, now)).collect();
            self.living.get_mut(&below).unwrap().rights = rights;
        }
    }

    pub fn expire(&mut self, now: u64) {
        self.living.values_mut().for_each(|agent| agent.rights.retain(|right| lives(right, now)));
    }

    pub fn end(&mut self, number: usize) {
        let heir = self.living[&number].parent;
        self.end_below(number, heir);
    }

    fn end_below(&mut self, number: usize, heir: Option<usize>) {
        let Some(agent) = self.living.remove(&number) else { return };
        let children = self.living.iter().filter(|(_, child)| child.parent == Some(number));
        for child in children.map(|(child, _)| *child).collect::<Vec<_>>() {
            if agent.reparents {
                self.living.get_mut(&child).unwrap().parent = heir;
            } else {
                self.end_below(child, heir);
            }
        }
    }

    pub fn may(&self, number: usize, at: usize, now: u64) -> bool {
        self.living[&number].rights.iter().any(|right| lives(right, now) && right.may.has(at))
    }
}
