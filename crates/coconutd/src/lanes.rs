//! Lanes, as the broker is told of them and as they are shown.

use crate::state::{Inner, TenantUse};
use abi::{AgentId, Capability};
use api::broker::{Above, InferLimits, Lane};
use api::lane::{AgentLane, LaneList, TenantLane};
use manifest::{InferScope, Scope};

impl Inner {
    /// An agent's lane, as the broker is told; none for an agent that does not run.
    pub fn lane(&self, aid: AgentId, boot_ns: u64) -> Option<Lane> {
        let agent = self.supervisor.get(aid).ok().filter(|agent| !agent.state().is_terminal())?;
        let view = self.supervisor.lane(aid).ok()?;
        let held = agent.held_of(Capability::Infer).filter(|held| held.rule.is_alive(boot_ns));
        let scopes = held.filter_map(|held| match &held.rule.rule.scope {
            Scope::Infer(infer) => Some(infer),
            _ => None,
        });
        Some(Lane {
            agent: agent.uuid,
            name: agent.name.clone(),
            tenant: view.tenant,
            tenant_weight: view.tenant_weight,
            weight: view.weight,
            above: view.above.iter().map(above).collect(),
            infer: union(scopes),
        })
    }

    /// Every tenant's lane, with its running agents.
    pub fn lanes(&self) -> LaneList {
        let mut weights = self.supervisor.tenants();
        for tenant in self.tenants.keys() {
            weights.entry(tenant.clone()).or_insert(self.supervisor.tenant_weight(tenant));
        }
        let tenants = weights.into_iter().map(|(tenant, weight)| {
            let used = self.tenants.get(&tenant).copied().unwrap_or_default();
            let parts = self.supervisor.parts(&tenant);
            let agents = parts.iter().filter_map(|part| self.agent_lane(part)).collect();
            let TenantUse { tokens, calls, refused } = used;
            TenantLane { tenant, weight, tokens, calls, refused, agents }
        });
        LaneList { tenants: tenants.collect() }
    }

    fn agent_lane(&self, part: &supervisor::Part) -> Option<AgentLane> {
        let (agent, info) = (self.supervisor.get(part.aid).ok()?, self.info.get(&part.aid));
        Some(AgentLane {
            aid: agent.uuid,
            name: agent.name.clone(),
            weight: agent.weight,
            depth: part.depth,
            share: part.share,
            tokens: info.map_or(0, |info| info.tokens),
            calls: info.map_or(0, |info| info.calls),
            infer: agent.held_of(Capability::Infer).next().is_some(),
        })
    }
}

fn above(above: &supervisor::Above) -> Above {
    Above { agent: above.uuid, weight: above.weight }
}

/// What several `infer` rules allow together: all models, the widest limits.
fn union<'a>(scopes: impl Iterator<Item = &'a InferScope>) -> Option<InferLimits> {
    let mut all: Option<InferLimits> = None;
    for scope in scopes {
        let one = InferLimits {
            models: scope.models.iter().cloned().collect(),
            tokens_per_minute: scope.tokens_per_minute,
            concurrency: scope.concurrency,
            context: scope.context,
        };
        all = Some(match all {
            None => one,
            Some(before) => InferLimits {
                models: before.models.iter().chain(&one.models).cloned().collect(),
                tokens_per_minute: widest(before.tokens_per_minute, one.tokens_per_minute),
                concurrency: widest(before.concurrency, one.concurrency),
                context: widest(before.context, one.context),
            },
        });
    }
    all
}

/// None is no limit.
fn widest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    Some(a?.max(b?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_infer_rules_allow_what_either_does() {
        let mut one = InferScope::any();
        one.tokens_per_minute = Some(100);
        one.context = Some(10);
        let mut other = InferScope::any();
        other.tokens_per_minute = Some(500);
        let all = union([&one, &other].into_iter()).unwrap();
        assert_eq!((all.tokens_per_minute, all.context), (Some(500), None));
        assert_eq!(union(std::iter::empty()), None);
    }
}
