//! Fair-share lanes: one weight for the tenant among tenants, one for the agent within it.

use crate::agent::Above;
use crate::registry::{Supervisor, UnknownAgent};
use abi::AgentId;
use manifest::limits;
use std::collections::{BTreeMap, BTreeSet};

/// An agent's lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneView {
    /// Who pays.
    pub tenant: String,
    /// Among tenants.
    pub tenant_weight: u32,
    /// Within the tenant, or beside its siblings.
    pub weight: u32,
    /// Whose part its own is of, the topmost first.
    pub above: Vec<Above>,
}

/// Why a weight is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum LaneError {
    #[error(transparent)]
    Unknown(#[from] UnknownAgent),
    #[error("a weight is a number from 1 to {most}, not {given}")]
    Weight { given: u32, most: u32 },
    #[error("its parent has the weight {parent}: {given} would be more than that")]
    AboveParent { given: u32, parent: u32 },
}

fn checked(weight: u32) -> Result<u32, LaneError> {
    if (1..=limits::WEIGHT).contains(&weight) {
        Ok(weight)
    } else {
        Err(LaneError::Weight { given: weight, most: limits::WEIGHT })
    }
}

impl Supervisor {
    /// An agent's lane.
    pub fn lane(&self, aid: AgentId) -> Result<LaneView, UnknownAgent> {
        let agent = self.get(aid)?;
        let tenant_weight = self.tenant_weight(&agent.tenant);
        Ok(LaneView {
            tenant: agent.tenant.clone(),
            tenant_weight,
            weight: agent.weight,
            above: agent.above.clone(),
        })
    }

    /// Weight of a tenant among tenants.
    pub fn tenant_weight(&self, tenant: &str) -> u32 {
        self.weights.of(tenant)
    }

    /// Sets the weight of a tenant; it need not have agents yet. Returns the living agents whose
    /// lane has changed.
    pub fn set_tenant_weight(
        &mut self,
        tenant: &str,
        weight: u32,
    ) -> Result<Vec<AgentId>, LaneError> {
        self.weights.set(tenant, checked(weight)?);
        let changed: Vec<AgentId> = self.living.paying(tenant).collect();
        self.news.tenants.push(tenant.to_owned());
        self.news.lanes.extend(&changed);
        Ok(changed)
    }

    /// What it takes to set the weight of an agent within its tenant: its own, and that of each
    /// descendant that would be above it then.
    pub fn plan_weight(&self, aid: AgentId, weight: u32) -> Result<Vec<(AgentId, u32)>, LaneError> {
        let agent = self.get(aid)?;
        let weight = checked(weight)?;
        let parent = agent.parent.and_then(|parent| self.agents.get(&parent));
        if let Some(parent) = parent.filter(|parent| parent.weight < weight) {
            return Err(LaneError::AboveParent { given: weight, parent: parent.weight });
        }
        let below = self.descendants(aid).into_iter();
        let heavier = below.filter(|aid| self.agents.get(aid).is_some_and(|a| a.weight > weight));
        Ok(std::iter::once(aid).chain(heavier).map(|aid| (aid, weight)).collect())
    }

    /// Books what was planned. Returns the living agents whose lane has changed: theirs, and that of all
    /// below them.
    pub fn commit_weights(&mut self, weights: &[(AgentId, u32)]) -> Vec<AgentId> {
        let mut changed = BTreeSet::new();
        for (aid, weight) in weights {
            let Ok(agent) = self.get_mut(*aid) else { continue };
            agent.weight = *weight;
            let uuid = agent.uuid;
            changed.insert(*aid);
            for below in self.descendants(*aid) {
                let agent = self.get_mut(below);
                let above = agent.into_iter().flat_map(|agent| agent.above.iter_mut());
                above.filter(|above| above.uuid == uuid).for_each(|above| above.weight = *weight);
                changed.insert(below);
            }
        }
        self.news.lanes.extend(&changed);
        changed.into_iter().collect()
    }

    /// Weights that somebody gave to tenants.
    pub fn weighed(&self) -> impl Iterator<Item = (&str, u32)> {
        self.weights.given()
    }

    /// The weight that somebody gave a tenant.
    pub fn weight_given(&self, tenant: &str) -> Option<u32> {
        self.weights.given_to(tenant)
    }

    /// Tenants that have living agents or a weight of their own, with their weights.
    pub fn tenants(&self) -> BTreeMap<String, u32> {
        let names = self.weights.given().map(|(name, _)| name).chain(self.living.tenants());
        names.map(|name| (name.to_owned(), self.weights.of(name))).collect()
    }
}
