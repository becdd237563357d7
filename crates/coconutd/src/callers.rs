//! What each caller may hold of what all share: connections, descriptors that wait, bytes of
//! requests, queries. Operators and the broker have their own part, which nobody else can take.

use crate::caller::Caller;
use abi::AgentId;
use connections::{Full, Limits, Place, Pool, descriptors};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whom something is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A user, for everything that is no agent.
    User(u32),
    /// An agent, whatever its user is.
    Agent(AgentId),
}

/// One kind of thing, in four parts.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Root and the operators' group.
    pub operators: Limits,
    /// The broker.
    pub broker: Limits,
    /// Other users.
    pub users: Limits,
    /// Agents.
    pub agents: Limits,
}

impl Parts {
    /// No limits: what a test's control runs with.
    pub const NONE: Parts = Parts::same(Limits::NONE);

    const fn same(limits: Limits) -> Parts {
        Parts { operators: limits, broker: limits, users: limits, agents: limits }
    }
}

/// Every limit of one daemon.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Open connections, on all sockets.
    pub connections: Parts,
    /// Descriptors of foreground agents whose spawn has not come yet.
    pub waiting: Parts,
    /// Bytes of requests that are being read or worked on.
    pub bodies: Parts,
    /// Queries of the log that are being answered, followers included.
    pub queries: Parts,
}

/// Descriptors of one connection to the socket that takes descriptors.
const DESCRIPTORS: usize = 4;
const MIB: usize = 1 << 20;

impl Sizes {
    /// For a process that may have so many descriptors: half are left for agents.
    pub fn for_descriptors(limit: usize) -> Sizes {
        let all = limit / 2 / DESCRIPTORS;
        let of = |total: usize, each, part| Limits { total: total.max(16), each, part };
        let connections = Parts {
            operators: of(all / 2, usize::MAX, 1),
            broker: of((all / 8).min(4_096), usize::MAX, 0),
            users: of((all / 8).min(4_096), 256, 8),
            agents: of((all / 4).min(8_192), 128, 8),
        };
        let waiting = Parts {
            operators: of(1_024, usize::MAX, 1),
            broker: of(16, 1, 1),
            users: of(512, 64, 4),
            agents: of(512, 64, 4),
        };
        let bodies = Parts {
            operators: of(256 * MIB, usize::MAX, 1),
            broker: of(64 * MIB, usize::MAX, 0),
            users: of(64 * MIB, 16 * MIB, 2),
            agents: of(64 * MIB, 16 * MIB, 2),
        };
        let queries = Parts {
            operators: of(256, 128, 1),
            broker: of(16, 1, 1),
            users: of(64, 8, 2),
            agents: of(64, 4, 2),
        };
        Sizes { connections, waiting, bodies, queries }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes::for_descriptors(descriptors::limit())
    }
}

/// A pool for each part.
#[derive(Debug)]
pub struct Shared {
    operators: Arc<Pool<Key>>,
    broker: Arc<Pool<Key>>,
    users: Arc<Pool<Key>>,
    agents: Arc<Pool<Key>>,
}

impl Shared {
    fn new(parts: &Parts) -> Self {
        Shared {
            operators: Pool::new(parts.operators),
            broker: Pool::new(parts.broker),
            users: Pool::new(parts.users),
            agents: Pool::new(parts.agents),
        }
    }

    /// The caller's pool, and its name there.
    pub fn of(&self, caller: &Caller) -> (&Arc<Pool<Key>>, Key) {
        match caller {
            Caller::Operator { uid, .. } => (&self.operators, Key::User(*uid)),
            Caller::Broker { uid } => (&self.broker, Key::User(*uid)),
            Caller::User { uid, .. } => (&self.users, Key::User(*uid)),
            Caller::Agent { aid, .. } => (&self.agents, Key::Agent(*aid)),
        }
    }

    /// One for `caller`.
    ///
    /// # Errors
    /// When it holds as many as it may.
    pub fn take(&self, caller: &Caller) -> Result<Place<Key>, Full> {
        let (pool, key) = self.of(caller);
        pool.take(key)
    }

    /// What `caller` holds.
    pub fn held(&self, caller: &Caller) -> usize {
        let (pool, key) = self.of(caller);
        pool.held(&key)
    }
}

/// Steps of queries that run at once, for operators and for all others.
const STEPS: [usize; 2] = [4, 1];

/// The turns in which queries read the log: each step is short and waits its turn, so a long
/// query delays another by one step of each who waits, and operators by none.
#[derive(Debug)]
pub struct Turns {
    operators: Arc<Semaphore>,
    others: Arc<Semaphore>,
    most_held: AtomicUsize,
}

impl Default for Turns {
    fn default() -> Self {
        let [operators, others] = STEPS.map(|n| Arc::new(Semaphore::new(n)));
        Turns { operators, others, most_held: AtomicUsize::new(0) }
    }
}

impl Turns {
    /// Waits for the caller's turn.
    pub async fn turn(&self, operator: bool) -> Option<OwnedSemaphorePermit> {
        let turns = if operator { &self.operators } else { &self.others };
        turns.clone().acquire_owned().await.ok()
    }

    /// Notes how many records a step held.
    pub fn note_held(&self, records: usize) {
        self.most_held.fetch_max(records, Ordering::Relaxed);
    }

    /// The most records that one step has held since the daemon started.
    pub fn most_held(&self) -> usize {
        self.most_held.load(Ordering::Relaxed)
    }
}

/// All of it.
#[derive(Debug)]
pub struct Callers {
    /// Open connections.
    pub connections: Shared,
    /// Descriptors that wait.
    pub waiting: Shared,
    /// Bytes of requests.
    pub bodies: Shared,
    /// Queries.
    pub queries: Shared,
    /// Whose step it is.
    pub turns: Turns,
}

impl Callers {
    /// Untouched.
    pub fn new(sizes: &Sizes) -> Self {
        Callers {
            connections: Shared::new(&sizes.connections),
            waiting: Shared::new(&sizes.waiting),
            bodies: Shared::new(&sizes.bodies),
            queries: Shared::new(&sizes.queries),
            turns: Turns::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::from_fn;

    const OPERATOR: Caller = Caller::Operator { uid: 0, gid: 0 };

    fn agent(number: u64) -> Caller {
        Caller::Agent { aid: AgentId(number), uuid: uuid::Uuid::nil(), uid: 0, gid: 0 }
    }

    fn all_that_agents_get(shared: &Shared, agents: u64) -> Vec<Place<Key>> {
        (1..=agents).flat_map(|n| from_fn(move || shared.take(&agent(n)).ok())).collect()
    }

    #[test]
    fn no_number_of_agents_takes_an_operators_place_nor_the_last_descriptor() {
        for limit in [1_024, 65_536, 1 << 20] {
            let sizes = Sizes::for_descriptors(limit);
            let shared = Shared::new(&sizes.connections);
            let held = all_that_agents_get(&shared, 3_000);
            let parts = sizes.connections;
            let most = [parts.operators, parts.broker, parts.users, parts.agents];
            let sum: usize = most.iter().map(|part| part.total).sum();
            assert!(sum * DESCRIPTORS <= limit / 2 + 4 * 16 * DESCRIPTORS, "{limit}: {sum}");
            assert!(held.len() <= parts.agents.total);
            assert!(shared.take(&OPERATOR).is_ok());
            assert!(shared.take(&Caller::User { uid: 1000, gid: 1000 }).is_ok());
            assert!(shared.take(&Caller::Broker { uid: 7 }).is_ok());
        }
    }

    #[test]
    fn one_agent_leaves_room_for_the_next() {
        let shared = Shared::new(&Sizes::for_descriptors(1 << 20).connections);
        let held = all_that_agents_get(&shared, 1);
        assert_eq!(held.len(), 128);
        assert!(shared.take(&agent(2)).is_ok());
    }
}
