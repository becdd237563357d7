//! Giving and taking capabilities while agents run; what is taken above is taken below.

use crate::agent::{Agent, Held, Removal};
use crate::registry::{Supervisor, UnknownAgent};
use abi::{AgentId, AgentState};
use manifest::{EffectiveRule, Origin, Rule, limits};
use std::time::Duration;

/// One agent's rules have changed: write its whole set to the kernel, then log each removal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Whose.
    pub aid: AgentId,
    /// What it no longer holds; empty if rules only end earlier than before.
    pub removed: Vec<Held>,
    /// Why.
    pub removal: Removal,
}

/// What a revocation did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// The agent itself first, then its descendants that lost something.
    pub changes: Vec<Change>,
    /// What the agent still holds that allows a part of what was revoked.
    pub still: Vec<Rule>,
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
pub(crate) fn absolute(rule: &Rule, now_ns: u64) -> Option<u64> {
    rule.expires.map(|span: Duration| {
        now_ns.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    })
}

/// The rule without its relative expiry, which has become an absolute one.
pub(crate) fn timeless(effective: &EffectiveRule) -> EffectiveRule {
    let rule = Rule::new(effective.rule.scope.clone());
    EffectiveRule { rule, origin: effective.origin.clone() }
}

/// True if an agent can give something of its own: it runs, and is not being stopped.
pub(crate) fn can_give(agent: &Agent) -> bool {
    matches!(
        agent.state(),
        AgentState::Active | AgentState::CapDenied | AgentState::InferenceBlocked
    )
}

/// When a rule that is delegated out of `held` ends; none (outer) if `held` does not cover it.
///
/// Of several rules that cover it, the one that lives longest counts.
pub(crate) fn delegable(
    held: &[Held],
    rule: &Rule,
    wanted_ns: Option<u64>,
    now_ns: u64,
) -> Option<Option<u64>> {
    let alive = |held: &&Held| held.expires_ns.is_none_or(|at| at > now_ns);
    let longest = held
        .iter()
        .filter(alive)
        .filter(|held| held.rule.scope.covers(&rule.scope))
        .map(|held| held.expires_ns.unwrap_or(u64::MAX))
        .max()?;
    let end = longest.min(wanted_ns.unwrap_or(u64::MAX));
    Some((end != u64::MAX).then_some(end))
}

impl Supervisor {
    /// Gives a rule to a living agent; returns the rule's number.
    ///
    /// A child gets only what its parent holds, whoever asks. What it already holds for as long
    /// keeps its number.
    pub fn grant(&mut self, aid: AgentId, rule: &Rule, now_ns: u64) -> Result<u32, GrantError> {
        let agent = self.get(aid)?;
        if agent.state().is_terminal() {
            return Err(GrantError::Ended);
        }
        let timeless = Rule::new(rule.scope.clone());
        let mut expires_ns = absolute(rule, now_ns);
        if let Some(parent) = agent.parent {
            let parent = self.get(parent)?;
            expires_ns = delegable(parent.held(), &timeless, expires_ns, now_ns)
                .ok_or_else(|| GrantError::Amplifies(rule.clone()))?;
        }
        let agent = self.get_mut(aid)?;
        if let Some(same) = agent.held.iter_mut().find(|held| held.rule == timeless) {
            same.expires_ns = same.expires_ns.zip(expires_ns).map(|(a, b)| a.max(b));
            return Ok(same.id);
        }
        if agent.held.len() >= limits::RULES {
            return Err(GrantError::TooMany);
        }
        Ok(agent.give(timeless, Origin::Grant, expires_ns))
    }

    /// Books what an agent was given at its start beside its manifest: descriptors and mounts.
    pub fn inherit(&mut self, aid: AgentId, rule: Rule) -> Result<u32, GrantError> {
        let agent = self.get_mut(aid)?;
        if agent.held.len() >= limits::RULES {
            return Err(GrantError::TooMany);
        }
        Ok(agent.give(rule, Origin::Inherited, None))
    }

    /// Takes away `rule` and everything below it, from the agent and from all its descendants.
    pub fn revoke(
        &mut self,
        aid: AgentId,
        rule: &Rule,
        now_ns: u64,
    ) -> Result<Revocation, RevokeError> {
        let agent = self.get_mut(aid)?;
        let taken =
            agent.take(now_ns, Removal::Revoked, |held| rule.scope.covers(&held.rule.scope));
        if taken.is_empty() {
            let wider = agent.held.iter().find(|held| held.rule.scope.covers(&rule.scope));
            return Err(match wider {
                Some(held) => RevokeError::PartOf {
                    wanted: Box::new(rule.clone()),
                    wider: Box::new(held.rule.clone()),
                },
                None => RevokeError::NotHeld(rule.clone()),
            });
        }
        let still = agent.held.iter().filter(|held| held.rule.scope.meet(&rule.scope).is_some());
        let still = still.map(|held| held.rule.clone()).collect();
        let mut changes = vec![Change { aid, removed: taken, removal: Removal::Revoked }];
        self.narrow_children(aid, now_ns, Removal::RevokedAbove, &mut changes);
        Ok(Revocation { changes, still })
    }

    /// Takes away what has expired, from everybody.
    pub fn expire(&mut self, now_ns: u64) -> Vec<Change> {
        let due = |held: &Held| held.expires_ns.is_some_and(|at| at <= now_ns);
        let mut changes = Vec::new();
        for agent in self.agents.values_mut().filter(|agent| !agent.state().is_terminal()) {
            let removed = agent.take(now_ns, Removal::Expired, due);
            if !removed.is_empty() {
                changes.push(Change { aid: agent.aid, removed, removal: Removal::Expired });
            }
        }
        changes.sort_by_key(|change| change.aid);
        changes
    }

    /// When [`Supervisor::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<u64> {
        let living = self.agents.values().filter(|agent| !agent.state().is_terminal());
        living.flat_map(|agent| &agent.held).filter_map(|held| held.expires_ns).min()
    }

    /// Restores "child is a subset of parent" below `aid`.
    fn narrow_children(
        &mut self,
        aid: AgentId,
        now_ns: u64,
        removal: Removal,
        changes: &mut Vec<Change>,
    ) {
        let Some(parent) = self.agents.get(&aid) else { return };
        let (rules, children) = (parent.held.clone(), parent.children.clone());
        for child in children {
            let Some(agent) = self.agents.get_mut(&child) else { continue };
            let removed = agent.take(now_ns, removal, |held| {
                held.origin != Origin::Inherited
                    && delegable(&rules, &held.rule, held.expires_ns, now_ns).is_none()
            });
            let mut shortened = false;
            for held in agent.held.iter_mut().filter(|held| held.origin != Origin::Inherited) {
                let end = delegable(&rules, &held.rule, held.expires_ns, now_ns);
                if let Some(end) = end.filter(|end| *end != held.expires_ns) {
                    held.expires_ns = end;
                    shortened = true;
                }
            }
            // Where nothing was lost, nothing below can be uncovered.
            if removed.is_empty() && !shortened {
                continue;
            }
            changes.push(Change { aid: child, removed, removal });
            self.narrow_children(child, now_ns, removal, changes);
        }
    }
}
