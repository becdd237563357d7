//! What each agent's part of its tenant is by the weights on the way to it.

use crate::agent::Agent;
use crate::registry::Supervisor;
use abi::AgentId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use uuid::Uuid;

/// One running agent of a tenant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Part {
    /// The agent.
    pub aid: AgentId,
    /// How many running agents are above it.
    pub depth: u32,
    /// Its part of what the tenant gets, 0 to 1, while all of the tenant's agents want more than they get.
    pub share: f64,
}

/// An agent, running or still above somebody who is.
struct Node<'a> {
    weight: u32,
    running: Option<&'a Agent>,
    below: Vec<Uuid>,
}

#[derive(Default)]
struct Tree<'a> {
    nodes: BTreeMap<Uuid, Node<'a>>,
    tops: Vec<Uuid>,
}

impl Supervisor {
    /// The tenant's running agents, children after their parents, the heaviest of siblings first.
    pub fn parts(&self, tenant: &str) -> Vec<Part> {
        let mut tree = Tree::default();
        for agent in self.paying(tenant) {
            tree.add(agent);
        }
        let mut parts = Vec::new();
        tree.share(&tree.tops, 0, 0, 1.0, &mut parts);
        parts
    }
}

impl<'a> Tree<'a> {
    fn add(&mut self, agent: &'a Agent) {
        let mut parent: Option<Uuid> = None;
        let above = agent.above.iter().map(|above| (above.uuid, above.weight));
        for (uuid, weight) in above.chain([(agent.uuid, agent.weight)]) {
            if let Entry::Vacant(new) = self.nodes.entry(uuid) {
                new.insert(Node { weight, running: None, below: Vec::new() });
                let above = parent.and_then(|parent| self.nodes.get_mut(&parent));
                above.map_or(&mut self.tops, |node| &mut node.below).push(uuid);
            }
            parent = Some(uuid);
        }
        if let Some(node) = self.nodes.get_mut(&agent.uuid) {
            node.running = Some(agent);
        }
    }

    /// What siblings get of `whole`, beside `own` of whoever is above them.
    fn share(&self, siblings: &[Uuid], own: u32, depth: u32, whole: f64, parts: &mut Vec<Part>) {
        let mut nodes: Vec<&Node> = siblings.iter().filter_map(|u| self.nodes.get(u)).collect();
        let name = |node: &Node<'a>| node.running.map(|agent| &agent.name);
        nodes.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| name(a).cmp(&name(b))));
        let all = f64::from(own) + sum(&nodes);
        for node in nodes {
            let whole = whole * f64::from(node.weight) / all;
            let Some(agent) = node.running else {
                self.share(&node.below, 0, depth, whole, parts);
                continue;
            };
            let below: Vec<&Node> = node.below.iter().filter_map(|u| self.nodes.get(u)).collect();
            let own = f64::from(node.weight);
            let share = whole * own / (own + sum(&below));
            parts.push(Part { aid: agent.aid, depth, share });
            self.share(&node.below, node.weight, depth + 1, whole, parts);
        }
    }
}

fn sum(nodes: &[&Node]) -> f64 {
    nodes.iter().map(|node| f64::from(node.weight)).sum()
}
