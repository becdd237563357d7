//! The fair queue: hierarchical weighted fair queueing over tokens, tenant → agent.
//!
//! Pure: no clocks, no locks, no I/O. Every tenant has an account in *virtual time*, which advances
//! by `tokens / weight` as tokens are computed for it; whoever is furthest behind is served next. An
//! account that was idle may lag behind the one served most by at most a credit, so that somebody who
//! uses less than the fair share is served at once, and nobody can save up more than one burst. When
//! nobody is present all accounts end: what was served while capacity was left over is owed to nobody.
//! Agents share their tenant's service by the same rules. All operations are `O(log n)`.

mod accounts;

use accounts::{Accounts, Slot};
use std::collections::{HashMap, VecDeque};

/// Virtual time per token at weight 1. Weights up to 10,000 keep three digits.
const SCALE: u64 = 10_000_000;
/// The usual weight.
pub const DEFAULT_WEIGHT: u32 = 100;

/// A queue of requests `R`, and the accounts of all whose requests are queued or running.
pub struct FairQueue<R> {
    credit: u32,
    tenants: Accounts,
    names: HashMap<String, Slot>,
    members: Vec<Option<Tenant<R>>>,
    computed: Computed,
}

struct Tenant<R> {
    name: String,
    agents: Accounts,
    names: HashMap<String, Slot>,
    queues: Vec<Option<(String, VecDeque<R>)>>,
    queued: usize,
    running: usize,
    computed: Computed,
}

/// What was computed, without any weights: what can be checked about the queue from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Computed {
    /// Tokens.
    pub tokens: u64,
    /// Steps that had a part of it.
    pub steps: u64,
    /// The last of them, of all steps.
    last: u64,
}

impl Computed {
    fn book(&mut self, step: u64, tokens: u32) {
        self.tokens += u64::from(tokens);
        self.steps += u64::from(step > self.last);
        self.last = self.last.max(step);
    }
}

/// Names the accounts that a request is charged to; valid until [`FairQueue::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    tenant: Slot,
    agent: Slot,
}

/// Who asks, and with which weights (1 to 10,000).
#[derive(Clone, Debug)]
pub struct Lane<'a> {
    /// Tenant's name.
    pub tenant: &'a str,
    /// Weight of the tenant among tenants.
    pub tenant_weight: u32,
    /// Agent's name, unique within its tenant.
    pub agent: &'a str,
    /// Weight of the agent within its tenant.
    pub agent_weight: u32,
}

/// What a tenant holds, for those who decide whether one more of its requests may start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holding {
    /// Its requests that have started.
    pub running: usize,
    /// Its share of the weights of all tenants that have requests queued or running, 0 to 1.
    pub share: f64,
    /// Somebody else has been served more than it has.
    pub behind: bool,
}

impl Holding {
    /// Whether it is owed one more of `slots`: it is behind, and holds less than its share.
    pub fn entitled(&self, slots: usize) -> bool {
        self.behind && (self.running as f64) < (self.share * slots as f64).max(1.0)
    }
}

impl<R> FairQueue<R> {
    /// An empty queue. Whoever was idle is served first for at most `credit` tokens (at the usual
    /// weight): more than the usual request, and more than can be computed while a slot is waited for.
    pub fn new(credit: u32) -> Self {
        let tenants = Accounts::new(credit);
        Self {
            credit,
            tenants,
            names: HashMap::new(),
            members: Vec::new(),
            computed: Computed::default(),
        }
    }

    /// Opens an account for one request, queued as `make` makes it from its flow.
    pub fn arrive(&mut self, lane: &Lane<'_>, make: impl FnOnce(Flow) -> R) -> Flow {
        let slot = match self.names.get(lane.tenant) {
            Some(slot) => *slot,
            None => self.add_tenant(lane.tenant),
        };
        self.tenants.enter(slot, lane.tenant_weight);
        let Some(tenant) = &mut self.members[slot] else { unreachable!("just found or added") };
        let agent = match tenant.names.get(lane.agent) {
            Some(agent) => *agent,
            None => tenant.add_agent(lane.agent),
        };
        tenant.agents.enter(agent, lane.agent_weight);
        let flow = Flow { tenant: slot, agent };
        if let Some((_, queue)) = &mut tenant.queues[agent] {
            queue.push_back(make(flow));
        }
        tenant.queued += 1;
        tenant.agents.set_waiting(agent, true);
        self.tenants.set_waiting(slot, true);
        flow
    }

    /// Starts the request of whoever is furthest behind among those that `may` start.
    pub fn next(&mut self, may: impl Fn(Holding) -> bool) -> Option<(Flow, R)> {
        let allowed = |slot: &Slot| may(self.holding_of(*slot));
        let slot = self.tenants.waiting_in_order().find(allowed)?;
        let tenant = self.members[slot].as_mut()?;
        let agent = tenant.agents.waiting_in_order().next()?;
        let (_, queue) = tenant.queues[agent].as_mut()?;
        let request = queue.pop_front()?;
        let more = !queue.is_empty();
        tenant.agents.set_waiting(agent, more);
        tenant.queued -= 1;
        tenant.running += 1;
        self.tenants.set_waiting(slot, tenant.queued > 0);
        Some((Flow { tenant: slot, agent }, request))
    }

    /// Starts one certain request, whoever's turn it is: only for the control without fairness.
    pub fn start(&mut self, flow: Flow, is: impl Fn(&R) -> bool) -> Option<R> {
        let tenant = self.members[flow.tenant].as_mut()?;
        let (_, queue) = tenant.queues[flow.agent].as_mut()?;
        let at = queue.iter().position(is)?;
        let request = queue.remove(at)?;
        let more = !queue.is_empty();
        tenant.agents.set_waiting(flow.agent, more);
        tenant.queued -= 1;
        tenant.running += 1;
        self.tenants.set_waiting(flow.tenant, tenant.queued > 0);
        Some(request)
    }

    /// Where the flow stands; the smaller is served first.
    pub fn key(&self, flow: Flow) -> (u64, u64) {
        let agent = self.members[flow.tenant].as_ref().map_or(0, |t| t.agents.time(flow.agent));
        (self.tenants.time(flow.tenant), agent)
    }

    /// Tokens computed, or about to be computed, for the flow.
    pub fn charge(&mut self, flow: Flow, tokens: u32) {
        self.tenants.charge(flow.tenant, tokens);
        if let Some(tenant) = &mut self.members[flow.tenant] {
            tenant.agents.charge(flow.agent, tokens);
        }
    }

    /// So many tokens of this step were the flow's. Only counts: what is owed follows from
    /// [`FairQueue::charge`].
    pub fn book(&mut self, flow: Flow, step: u64, tokens: u32) {
        self.computed.book(step, tokens);
        if let Some(tenant) = &mut self.members[flow.tenant] {
            tenant.computed.book(step, tokens);
        }
    }

    /// What was computed so far: for all, and for the flow's tenant since it came.
    pub fn computed(&self, flow: Flow) -> [Computed; 2] {
        let own = self.members[flow.tenant].as_ref().map(|t| t.computed).unwrap_or_default();
        [self.computed, own]
    }

    /// A started request is over.
    pub fn leave(&mut self, flow: Flow) {
        if let Some(tenant) = &mut self.members[flow.tenant] {
            tenant.running -= 1;
        }
        self.close(flow);
    }

    /// A queued request is given up: the first of its agent that `is` says is the one.
    pub fn withdraw(&mut self, flow: Flow, is: impl Fn(&R) -> bool) -> Option<R> {
        let tenant = self.members[flow.tenant].as_mut()?;
        let (_, queue) = tenant.queues[flow.agent].as_mut()?;
        let at = queue.iter().position(is)?;
        let request = queue.remove(at)?;
        let more = !queue.is_empty();
        tenant.agents.set_waiting(flow.agent, more);
        tenant.queued -= 1;
        self.tenants.set_waiting(flow.tenant, tenant.queued > 0);
        self.close(flow);
        Some(request)
    }

    /// What the flow's tenant holds now.
    pub fn holding(&self, flow: Flow) -> Holding {
        self.holding_of(flow.tenant)
    }

    fn holding_of(&self, slot: Slot) -> Holding {
        let running = self.members[slot].as_ref().map_or(0, |t| t.running);
        let total = self.tenants.weight_present().max(1);
        let share = f64::from(self.tenants.weight(slot)) / total as f64;
        Holding { running, share, behind: self.tenants.is_behind(slot) }
    }

    /// Requests that the flow's tenant has in the queue.
    pub fn queued_of(&self, flow: Flow) -> usize {
        self.members[flow.tenant].as_ref().map_or(0, |t| t.queued)
    }

    /// Requests that have not started, of everybody.
    pub fn queued(&self) -> usize {
        self.members.iter().flatten().map(|t| t.queued).sum()
    }

    /// Tenants that are remembered: present, or idle with an account that still differs from a newcomer's.
    pub fn remembered(&self) -> usize {
        self.names.len()
    }

    fn add_tenant(&mut self, name: &str) -> Slot {
        let slot = self.tenants.open();
        if slot == self.members.len() {
            self.members.push(None);
        }
        self.members[slot] = Some(Tenant::new(name, self.credit));
        self.names.insert(name.to_owned(), slot);
        slot
    }

    fn close(&mut self, flow: Flow) {
        if let Some(tenant) = &mut self.members[flow.tenant] {
            tenant.agents.exit(flow.agent);
            tenant.forget_idle();
        }
        self.tenants.exit(flow.tenant);
        while let Some(slot) = self.tenants.forget() {
            if let Some(tenant) = self.members[slot].take() {
                self.names.remove(&tenant.name);
            }
        }
    }
}

impl<R> Tenant<R> {
    fn new(name: &str, credit: u32) -> Self {
        Self {
            name: name.to_owned(),
            agents: Accounts::new(credit),
            names: HashMap::new(),
            queues: Vec::new(),
            queued: 0,
            running: 0,
            computed: Computed::default(),
        }
    }

    fn add_agent(&mut self, name: &str) -> Slot {
        let slot = self.agents.open();
        if slot == self.queues.len() {
            self.queues.push(None);
        }
        self.queues[slot] = Some((name.to_owned(), VecDeque::new()));
        self.names.insert(name.to_owned(), slot);
        slot
    }

    fn forget_idle(&mut self) {
        while let Some(slot) = self.agents.forget() {
            if let Some((name, _)) = self.queues[slot].take() {
                self.names.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
