//! Giving and taking capabilities while agents run; what is taken above is taken below.
//!
//! A change is planned, written to the kernel, and only then booked ([`Supervisor::commit`]): one
//! that fails on the way leaves everything as it was.

use crate::agent::{Agent, Removal};
use crate::narrow::{Narrowing, Taken, delegable, taken};
use crate::registry::{Supervisor, UnknownAgent};
use crate::sets::{Counter, Fate, HeldSet, RuleSet, SetRule};
use abi::{AgentId, AgentState};
use manifest::{Origin, Rule, limits};
use std::sync::Arc;
use std::time::Duration;

/// Positions of the set that takes what is granted, before another one is begun.
const GRANT_POSITIONS: usize = 512;

/// One agent is to hold other sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Who.
    pub aid: AgentId,
    /// What it will hold.
    pub sets: Vec<HeldSet>,
    /// What it will no longer hold; empty if rules are added or only end earlier than before.
    pub removed: Vec<Taken>,
    pub(crate) next_rule: u32,
}

/// What a revocation will do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// The agent itself first, then its descendants that lose something, parents before children.
    pub changes: Vec<Change>,
    /// What the agent still holds that allows a part of what is revoked.
    pub still: Vec<Rule>,
}

/// What a grant will do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granting {
    /// The agent itself first; then its descendants, where a right on a replaced file goes. Empty
    /// if it holds the right for as long already.
    pub changes: Vec<Change>,
    /// Number of the rule.
    pub id: u32,
    /// The agent had it already, counted: as many uses more.
    pub more: Option<Counter>,
}

/// Why a grant is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum GrantError {
    #[error(transparent)]
    Unknown(#[from] UnknownAgent),
    #[error("the agent has ended")]
    Ended,
    #[error("its parent does not hold `{0}`; grant it to the parent first")]
    Amplifies(Rule),
    #[error("the agent has {} rules and may not have more", limits::RULES)]
    TooMany,
}

/// Why a revocation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RevokeError {
    #[error(transparent)]
    Unknown(#[from] UnknownAgent),
    #[error("the agent does not hold `{0}`")]
    NotHeld(Rule),
    #[error("the agent holds `{wanted}` only as a part of `{wider}`; revoke that")]
    PartOf { wanted: Box<Rule>, wider: Box<Rule> },
}

/// `CLOCK_BOOTTIME` nanoseconds at which a rule that is given now is void.
pub fn absolute(rule: &Rule, now_ns: u64) -> Option<u64> {
    rule.expires.map(|span: Duration| {
        now_ns.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    })
}

/// True if an agent can give something of its own: it runs, and is not being stopped.
pub(crate) fn can_give(agent: &Agent) -> bool {
    matches!(
        agent.state(),
        AgentState::Active | AgentState::CapDenied | AgentState::InferenceBlocked
    )
}

impl Supervisor {
    /// What it takes to give a rule to a living agent.
    ///
    /// A child gets only what its parent holds, whoever asks. What it already holds for as long
    /// keeps its number; a rule whose name led to another file goes in favour of the new one.
    pub fn plan_grant(
        &self,
        aid: AgentId,
        mut wanted: SetRule,
        now_ns: u64,
    ) -> Result<Granting, GrantError> {
        let agent = self.get(aid)?;
        if agent.state().is_terminal() {
            return Err(GrantError::Ended);
        }
        if let Some(parent) = agent.parent {
            let above = &self.get(parent)?.sets;
            wanted.expires_ns = delegable(above, &wanted, now_ns)
                .ok_or_else(|| GrantError::Amplifies(wanted.rule.clone()))?;
        }
        let mut narrowing = Narrowing::new(&self.keys, now_ns);
        let same = |held: &crate::Held<'_>| {
            held.rule.rule == wanted.rule && held.rule.counter.is_some() == wanted.counter.is_some()
        };
        if let Some(held) = agent.held().find(|h| same(h) && h.rule.place == wanted.place) {
            let (id, until) = (held.id, held.rule.expires_ns.zip(wanted.expires_ns));
            let until = until.map(|(a, b)| a.max(b));
            let changes = match until == held.rule.expires_ns {
                true => Vec::new(),
                false => vec![fated(agent, &mut narrowing, |other| match other == id {
                    true => Fate::Until(until),
                    false => Fate::Keep,
                })],
            };
            let more = held.rule.counter.zip(wanted.counter);
            let more = more.map(|(own, more)| Counter { key: own.key, uses: more.uses });
            return Ok(Granting { changes, id, more });
        }
        let replaced: Vec<u32> = agent.held().filter(same).map(|held| held.id).collect();
        let mut change = fated(agent, &mut narrowing, |id| match replaced.contains(&id) {
            true => Fate::Gone,
            false => Fate::Keep,
        });
        change.removed.iter_mut().for_each(|taken| taken.removal = Removal::Replaced);
        let id = self.add(&mut change, wanted, now_ns)?;
        let mut changes = vec![change];
        if !replaced.is_empty() {
            let above = changes[0].sets.clone();
            self.narrow_below(agent, &above, &mut narrowing, &mut changes);
        }
        Ok(Granting { changes, id, more: None })
    }

    /// Adds to a planned grant what the system gives with it: the numbers of its rules, none if the
    /// agent has it already.
    pub fn plan_implied(
        &self,
        granting: &mut Granting,
        set: &Arc<RuleSet>,
        now_ns: u64,
    ) -> Result<Vec<(u32, Rule)>, GrantError> {
        let Some(change) = granting.changes.first_mut() else { return Ok(Vec::new()) };
        let rules = || set.rules().map(|(_, rule)| &rule.rule);
        let has = |rule: &Rule| {
            let mut all = change.sets.iter().flat_map(HeldSet::held);
            all.any(|held| {
                held.rule.rule == *rule && matches!(held.rule.origin, Origin::Implied { .. })
            })
        };
        if rules().all(has) {
            return Ok(Vec::new());
        }
        if change.sets.len() >= self.limits.sets {
            return Err(GrantError::TooMany);
        }
        let (held, next) = Agent::numbered(set.clone(), change.next_rule, now_ns, false);
        let given = held.held().map(|held| (held.id, held.rule.rule.clone())).collect();
        change.next_rule = next;
        change.sets.push(held);
        Ok(given)
    }

    /// Puts a rule into the last set for grants, or into a new one; its number.
    fn add(&self, change: &mut Change, rule: SetRule, now_ns: u64) -> Result<u32, GrantError> {
        let rules: usize = change.sets.iter().map(|held| held.set.len()).sum();
        if rules >= limits::RULES {
            return Err(GrantError::TooMany);
        }
        let id = change.next_rule;
        let roomy = |held: &&mut HeldSet| {
            let positions = held.set.positions().len();
            let end = held.first as usize + positions;
            held.granted && positions < GRANT_POSITIONS && end == id as usize
        };
        change.next_rule += 1;
        if let Some(held) = change.sets.iter_mut().rev().find(roomy) {
            let mut rules = held.set.positions().to_vec();
            rules.push(Some(rule));
            held.set = RuleSet::derived(self.keys.fresh(), &held.set, rules);
            return Ok(id);
        }
        if change.sets.len() >= self.limits.sets {
            return Err(GrantError::TooMany);
        }
        let set = RuleSet::new(self.keys.fresh(), [rule]);
        let (held, _) = Agent::numbered(set, id, now_ns, true);
        change.sets.push(held);
        Ok(id)
    }

    /// What it takes to take `rule` and everything below it from the agent and all its descendants.
    pub fn plan_revoke(
        &self,
        aid: AgentId,
        rule: &Rule,
        now_ns: u64,
    ) -> Result<Revocation, RevokeError> {
        let agent = self.get(aid)?;
        let gone: Vec<u32> = agent
            .held()
            .filter(|held| rule.scope.covers(&held.rule.rule.scope))
            .map(|held| held.id)
            .collect();
        if gone.is_empty() {
            let wider = agent.held().find(|held| held.rule.rule.scope.covers(&rule.scope));
            return Err(match wider {
                Some(held) => RevokeError::PartOf {
                    wanted: Box::new(rule.clone()),
                    wider: Box::new(held.rule.rule.clone()),
                },
                None => RevokeError::NotHeld(rule.clone()),
            });
        }
        let mut narrowing = Narrowing::new(&self.keys, now_ns);
        let change = fated(agent, &mut narrowing, |id| match gone.binary_search(&id) {
            Ok(_) => Fate::Gone,
            Err(_) => Fate::Keep,
        });
        let left = change.sets.iter().flat_map(HeldSet::held);
        let still = left.filter(|held| held.rule.rule.scope.meet(&rule.scope).is_some());
        let still = still.map(|held| held.rule.rule.clone()).collect();
        let mut changes = vec![change];
        let above = changes[0].sets.clone();
        self.narrow_below(agent, &above, &mut narrowing, &mut changes);
        Ok(Revocation { changes, still })
    }

    /// Who holds something that has expired. What covers a child's right lives at least as long.
    pub fn due(&self, now_ns: u64) -> Vec<AgentId> {
        let due = self.expiries.iter().take_while(|(at, _)| *at <= now_ns);
        due.map(|(_, aid)| *aid).collect()
    }

    /// When [`Supervisor::due`] has somebody next.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// What it takes to take from an agent what has expired; none if nothing has.
    pub fn plan_expire(&self, aid: AgentId, now_ns: u64) -> Result<Option<Change>, UnknownAgent> {
        let agent = self.get(aid)?;
        let dead: Vec<u32> =
            agent.held().filter(|held| !held.rule.is_alive(now_ns)).map(|h| h.id).collect();
        if dead.is_empty() {
            return Ok(None);
        }
        let mut narrowing = Narrowing::new(&self.keys, now_ns);
        let mut change = fated(agent, &mut narrowing, |id| match dead.binary_search(&id) {
            Ok(_) => Fate::Gone,
            Err(_) => Fate::Keep,
        });
        change.removed.iter_mut().for_each(|taken| taken.removal = Removal::Expired);
        Ok(Some(change))
    }

    /// Books what was planned, once the kernel has it. Agents that are gone by now are passed over.
    pub fn commit(&mut self, changes: &[Change], now_ns: u64) {
        for change in changes {
            let Ok(agent) = self.get_mut(change.aid) else { continue };
            agent.sets.clone_from(&change.sets);
            agent.next_rule = agent.next_rule.max(change.next_rule);
            for taken in &change.removed {
                agent.remember(taken.rule.clone(), taken.removal, now_ns);
            }
            self.news.lanes.push(change.aid);
            self.note_expiry(change.aid);
        }
    }

    /// Restores "child is a subset of parent" below an agent that is to hold `above`.
    fn narrow_below(
        &self,
        agent: &Agent,
        above: &[HeldSet],
        narrowing: &mut Narrowing<'_>,
        changes: &mut Vec<Change>,
    ) {
        for child in agent.children().filter_map(|child| self.agents.get(&child)) {
            let mut change = unchanged(child);
            for held in &child.sets {
                let fates = narrowing.within(&held.set, above);
                change.removed.extend(taken(held, &fates, Removal::RevokedAbove));
                change.sets.extend(narrowing.apply(held, &fates));
            }
            // Where nothing was lost, nothing below can be uncovered.
            if change.sets == child.sets {
                continue;
            }
            let sets = change.sets.clone();
            changes.push(change);
            self.narrow_below(child, &sets, narrowing, changes);
        }
    }
}

fn unchanged(agent: &Agent) -> Change {
    let (sets, removed) = (Vec::with_capacity(agent.sets.len()), Vec::new());
    Change { aid: agent.aid, sets, removed, next_rule: agent.next_rule }
}

/// The agent's sets after each rule has met its fate, told by its number.
fn fated(agent: &Agent, narrowing: &mut Narrowing<'_>, fate: impl Fn(u32) -> Fate) -> Change {
    let mut change = unchanged(agent);
    for held in &agent.sets {
        let mut fates = vec![Fate::Keep; held.set.positions().len()];
        let number = |at: usize| held.first + u32::try_from(at).unwrap_or(u32::MAX);
        held.set.rules().for_each(|(at, _)| fates[at] = fate(number(at)));
        change.removed.extend(taken(held, &fates, Removal::Revoked));
        change.sets.extend(narrowing.apply(held, &fates));
    }
    change
}
