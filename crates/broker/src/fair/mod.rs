//! The fair queue: hierarchical weighted fair queueing over tokens, tenant → agent → agents below it.
//!
//! Pure: no clocks, no locks, no I/O. Every tenant has an account in *virtual time*, which advances
//! by `tokens / weight` as tokens are computed for it; whoever is furthest behind is served next. An
//! account that was idle may lag behind the one served most by at most a credit, so that somebody who
//! uses less than the fair share is served at once, and nobody can save up more than one burst. When
//! nobody is present all accounts end: what was served while capacity was left over is owed to nobody.
//! Agents share their tenant's service by the same rules, and what is made below an agent shares that
//! agent's part with it, to any depth: nobody gets more by having children (Bennett and Zhang,
//! "Hierarchical packet fair queueing algorithms", 1996). An operation costs `O(depth · log n)`.

mod accounts;
mod node;

use node::{Node, NodeId, Nodes, ROOT};

/// Virtual time per token at weight 1. Weights up to 10,000 keep three digits.
const SCALE: u64 = 10_000_000;
/// The usual weight.
pub const DEFAULT_WEIGHT: u32 = 100;

/// A queue of requests `R`, and the accounts of all whose requests are queued or running.
pub struct FairQueue<R> {
    nodes: Nodes<R>,
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
    tenant: NodeId,
    /// Where the request is queued; its accounts are on the way up from here.
    leaf: NodeId,
}

/// A tenant or an agent, by a name that is unique beside its siblings, and its weight among them
/// (1 to 10,000).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name; not empty.
    pub name: String,
    /// Its weight.
    pub weight: u32,
}

impl Level {
    /// A level.
    pub fn new(name: impl Into<String>, weight: u32) -> Self {
        Self { name: name.into(), weight }
    }
}

/// Who asks, and below whom it stands. Its own requests weigh beside those of the agents below it what it weighs itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The tenant, among tenants.
    pub tenant: Level,
    /// The agents from the topmost down to the one that asks, each in the part of the one before it.
    pub agents: Vec<Level>,
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

/// What is decided about a tenant whose request might start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// It starts.
    Start,
    /// It does not; the next one is asked for.
    Wait,
    /// Neither it nor anybody after it, who has been served more.
    End,
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
        Self { nodes: Nodes::new(credit) }
    }

    /// Opens an account for one request, queued as `make` makes it from its flow.
    pub fn arrive(&mut self, lane: &Lineage, make: impl FnOnce(Flow) -> R) -> Flow {
        let tenant = self.nodes.enter(ROOT, &lane.tenant.name, lane.tenant.weight);
        let (mut at, mut weight) = (tenant, lane.tenant.weight);
        for agent in &lane.agents {
            at = self.nodes.enter(at, &agent.name, agent.weight);
            weight = agent.weight;
        }
        let flow = Flow { tenant, leaf: self.nodes.enter(at, node::OWN, weight) };
        self.nodes[flow.leaf].queue.push_back(make(flow));
        self.nodes.queued(flow.leaf, true);
        flow
    }

    /// Starts the request of whoever is furthest behind, if `may` says so of it; asks on where it says no.
    pub fn next(&mut self, may: impl Fn(Holding) -> May) -> Option<(Flow, R)> {
        let tenant = self.first(may)?;
        let mut leaf = tenant;
        while let Some(slot) = self.nodes[leaf].below.waiting_in_order().next() {
            leaf = self.nodes[leaf].at(slot);
        }
        let request = self.nodes[leaf].queue.pop_front()?;
        self.nodes.queued(leaf, false);
        self.nodes[tenant].running += 1;
        Some((Flow { tenant, leaf }, request))
    }

    /// The tenant that is furthest behind and may start.
    fn first(&self, may: impl Fn(Holding) -> May) -> Option<NodeId> {
        let all = &self.nodes[ROOT];
        for tenant in all.below.waiting_in_order().map(|slot| all.at(slot)) {
            match may(self.holding_of(tenant)) {
                May::Start => return Some(tenant),
                May::Wait => {}
                May::End => return None,
            }
        }
        None
    }

    /// Starts one certain request, whoever's turn it is: only for the control without fairness.
    pub fn start(&mut self, flow: Flow, is: impl Fn(&R) -> bool) -> Option<R> {
        let request = self.take(flow, is)?;
        self.nodes[flow.tenant].running += 1;
        Some(request)
    }

    /// Where the flow stands, the tenant first; the smaller is served first.
    pub fn key(&self, flow: Flow) -> Vec<u64> {
        let above = |at: &NodeId| self.nodes[*at].above.map(|(above, _)| above);
        let up = std::iter::successors(Some(flow.leaf), above);
        let times = up.filter_map(|at| self.nodes[at].above);
        let mut key: Vec<u64> = times.map(|(to, slot)| self.nodes[to].below.time(slot)).collect();
        key.reverse();
        key
    }

    /// Tokens computed, or about to be computed, for the flow.
    pub fn charge(&mut self, flow: Flow, tokens: u32) {
        let mut at = flow.leaf;
        while let Some((above, slot)) = self.nodes[at].above {
            self.nodes[above].below.charge(slot, tokens);
            at = above;
        }
    }

    /// So many tokens of this step were the flow's. Only counts: what is owed follows from
    /// [`FairQueue::charge`].
    pub fn book(&mut self, flow: Flow, step: u64, tokens: u32) {
        self.nodes[ROOT].computed.book(step, tokens);
        self.nodes[flow.tenant].computed.book(step, tokens);
    }

    /// What was computed so far: for all, and for the flow's tenant since it came.
    pub fn computed(&self, flow: Flow) -> [Computed; 2] {
        [self.nodes[ROOT].computed, self.nodes[flow.tenant].computed]
    }

    /// A started request is over.
    pub fn leave(&mut self, flow: Flow) {
        self.nodes[flow.tenant].running -= 1;
        self.nodes.exit(flow.leaf);
    }

    /// A queued request is given up: the first of its agent that `is` says is the one.
    pub fn withdraw(&mut self, flow: Flow, is: impl Fn(&R) -> bool) -> Option<R> {
        let request = self.take(flow, is)?;
        self.nodes.exit(flow.leaf);
        Some(request)
    }

    fn take(&mut self, flow: Flow, is: impl Fn(&R) -> bool) -> Option<R> {
        let queue = &mut self.nodes[flow.leaf].queue;
        let at = queue.iter().position(is)?;
        let request = queue.remove(at)?;
        self.nodes.queued(flow.leaf, false);
        Some(request)
    }

    /// What the flow's tenant holds now.
    pub fn holding(&self, flow: Flow) -> Holding {
        self.holding_of(flow.tenant)
    }

    fn holding_of(&self, tenant: NodeId) -> Holding {
        let (Node { running, above, .. }, all) = (&self.nodes[tenant], &self.nodes[ROOT].below);
        let slot = above.map_or(0, |(_, slot)| slot);
        let share = f64::from(all.weight(slot)) / all.weight_present().max(1) as f64;
        Holding { running: *running, share, behind: all.is_behind(slot) }
    }

    /// Requests that the flow's tenant has in the queue.
    pub fn queued_of(&self, flow: Flow) -> usize {
        self.nodes[flow.tenant].queued
    }

    /// Requests that have not started, of everybody.
    pub fn queued(&self) -> usize {
        self.nodes[ROOT].queued
    }

    /// Tenants that are remembered: present, or idle with an account that still differs from a newcomer's.
    pub fn remembered(&self) -> usize {
        self.nodes[ROOT].known()
    }
}

#[cfg(test)]
mod tests;
