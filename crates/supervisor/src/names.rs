//! Agents by what people type, kept so that nobody has to look at all of them.

use crate::agent::Agent;
use abi::AgentId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use uuid::Uuid;

/// One half of the agents: the living, or the ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// In the order of their birth.
    by_name: HashMap<String, BTreeSet<(Uuid, AgentId)>>,
    /// By the id's hex digits, the last first.
    by_end: BTreeMap<String, AgentId>,
    by_birth: BTreeMap<Uuid, AgentId>,
    by_tenant: BTreeMap<String, BTreeSet<(Uuid, AgentId)>>,
}

fn reversed(uuid: Uuid) -> String {
    uuid.simple().to_string().chars().rev().collect()
}

impl Names {
    pub(crate) fn insert(&mut self, agent: &Agent) {
        let entry = (agent.uuid, agent.aid);
        self.by_name.entry(agent.name.clone()).or_default().insert(entry);
        self.by_tenant.entry(agent.tenant.clone()).or_default().insert(entry);
        self.by_end.insert(reversed(agent.uuid), agent.aid);
        self.by_birth.insert(agent.uuid, agent.aid);
    }

    pub(crate) fn remove(&mut self, agent: &Agent) {
        let entry = (agent.uuid, agent.aid);
        if let Some(named) = self.by_name.get_mut(&agent.name) {
            named.remove(&entry);
            if named.is_empty() {
                self.by_name.remove(&agent.name);
            }
        }
        if let Some(paying) = self.by_tenant.get_mut(&agent.tenant) {
            paying.remove(&entry);
            if paying.is_empty() {
                self.by_tenant.remove(&agent.tenant);
            }
        }
        self.by_end.remove(&reversed(agent.uuid));
        self.by_birth.remove(&agent.uuid);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_birth.len()
    }

    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = AgentId> {
        self.by_name.get(name).into_iter().flatten().map(|(_, aid)| *aid)
    }

    /// Those whose id ends so; lower-case hex digits.
    pub(crate) fn ending(&self, suffix: &str) -> impl Iterator<Item = AgentId> {
        let start: String = suffix.chars().rev().collect();
        let range = self.by_end.range(start.clone()..);
        range.take_while(move |(end, _)| end.starts_with(&start)).map(|(_, aid)| *aid)
    }

    /// In the order of their birth, those after `after`.
    pub(crate) fn since(&self, after: Option<Uuid>) -> impl Iterator<Item = (Uuid, AgentId)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_birth.range((start, Bound::Unbounded)).map(|(uuid, aid)| (*uuid, *aid))
    }

    pub(crate) fn paying(&self, tenant: &str) -> impl Iterator<Item = AgentId> {
        self.by_tenant.get(tenant).into_iter().flatten().map(|(_, aid)| *aid)
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.by_tenant.keys().map(String::as_str)
    }
}
