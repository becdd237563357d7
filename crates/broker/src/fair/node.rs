//! The tree of accounts: everybody, tenants, agents, agents below them, and at the ends the queues.

use super::Computed;
use super::accounts::{Accounts, Slot};
use std::collections::{HashMap, VecDeque};
use std::ops::{Index, IndexMut};

/// Index of a node.
pub type NodeId = usize;

/// Everybody.
pub const ROOT: NodeId = 0;
/// Name of the node below an agent for the requests that it makes itself.
pub const OWN: &str = "";

/// One node: whoever shares what it gets has an account in `below`.
pub struct Node<R> {
    name: String,
    /// Who is above, and the account there; none for [`ROOT`].
    pub above: Option<(NodeId, Slot)>,
    /// Accounts of those directly below.
    pub below: Accounts,
    names: HashMap<String, NodeId>,
    /// The nodes by their accounts in `below`.
    by_slot: Vec<NodeId>,
    /// Requests that have not started; only where nothing is below.
    pub queue: VecDeque<R>,
    /// Requests that have not started, of all below.
    pub queued: usize,
    /// Requests that have started, of all below; counted for tenants only.
    pub running: usize,
    /// Counted for tenants and for everybody.
    pub computed: Computed,
}

impl<R> Node<R> {
    fn new(name: &str, above: Option<(NodeId, Slot)>, credit: u32) -> Self {
        Self {
            name: name.to_owned(),
            above,
            below: Accounts::new(credit),
            names: HashMap::new(),
            by_slot: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            running: 0,
            computed: Computed::default(),
        }
    }

    /// The node with this account.
    pub fn at(&self, slot: Slot) -> NodeId {
        self.by_slot[slot]
    }

    /// How many directly below are remembered.
    pub fn known(&self) -> usize {
        self.names.len()
    }
}

/// All nodes.
pub struct Nodes<R> {
    credit: u32,
    all: Vec<Node<R>>,
    free: Vec<NodeId>,
}

impl<R> Nodes<R> {
    /// Nobody yet; an account may lag by `credit` tokens at the usual weight.
    pub fn new(credit: u32) -> Self {
        Self { credit, all: vec![Node::new("", None, credit)], free: Vec::new() }
    }

    /// One more request is present in the part of `name` below `above`, whose weight counts from now on.
    pub fn enter(&mut self, above: NodeId, name: &str, weight: u32) -> NodeId {
        let known = self.all[above].names.get(name).copied();
        let id = known.unwrap_or_else(|| self.add(above, name));
        if let Some((above, slot)) = self.all[id].above {
            self.all[above].below.enter(slot, weight);
        }
        id
    }

    fn add(&mut self, above: NodeId, name: &str) -> NodeId {
        let slot = self.all[above].below.open();
        let node = Node::new(name, Some((above, slot)), self.credit);
        let id = match self.free.pop() {
            Some(id) => {
                self.all[id] = node;
                id
            }
            None => {
                self.all.push(node);
                self.all.len() - 1
            }
        };
        let parent = &mut self.all[above];
        parent.names.insert(name.to_owned(), id);
        if slot == parent.by_slot.len() {
            parent.by_slot.push(id);
        }
        parent.by_slot[slot] = id;
        id
    }

    /// One more request is queued at the leaf, or one fewer.
    pub fn queued(&mut self, leaf: NodeId, more: bool) {
        let mut next = Some(leaf);
        while let Some(at) = next {
            let node = &mut self.all[at];
            node.queued = if more { node.queued + 1 } else { node.queued - 1 };
            let waiting = node.queued > 0;
            next = node.above.map(|(above, slot)| {
                self.all[above].below.set_waiting(slot, waiting);
                above
            });
        }
    }

    /// One request fewer is present at the leaf; whoever no longer differs from a newcomer is forgotten.
    pub fn exit(&mut self, leaf: NodeId) {
        let mut at = leaf;
        while let Some((above, slot)) = self.all[at].above {
            self.all[above].below.exit(slot);
            while let Some(slot) = self.all[above].below.forget() {
                self.forget(above, slot);
            }
            at = above;
        }
    }

    /// Below it nobody is present, so all there have been forgotten before.
    fn forget(&mut self, above: NodeId, slot: Slot) {
        let id = self.all[above].by_slot[slot];
        let gone = std::mem::replace(&mut self.all[id], Node::new("", None, self.credit));
        debug_assert!(gone.names.is_empty() && gone.queue.is_empty());
        self.all[above].names.remove(&gone.name);
        self.free.push(id);
    }
}

impl<R> Index<NodeId> for Nodes<R> {
    type Output = Node<R>;

    fn index(&self, id: NodeId) -> &Node<R> {
        &self.all[id]
    }
}

impl<R> IndexMut<NodeId> for Nodes<R> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<R> {
        &mut self.all[id]
    }
}
