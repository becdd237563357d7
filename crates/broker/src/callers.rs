//! Who holds how many connections, and how many may be held.

use connections::{Full, Limits, Place, Pool, descriptors};
use std::sync::Arc;
use uuid::Uuid;

/// Whom connections are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An agent.
    Agent(Uuid),
    /// A user of this machine, on a UNIX socket.
    User(u32),
    /// Whoever on loopback is no agent.
    Loopback,
    /// coconutd did not say who it is: nothing is served until it does.
    Unknown,
}

/// What callers may hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Connections of agents.
    pub agents: Limits,
    /// Connections of users, root's apart.
    pub users: Limits,
    /// Connections of root's, of whoever is no agent on loopback, and of those whom coconutd does
    /// not name: each of these apart.
    pub others: Limits,
    /// Bytes of requests, for each of these.
    pub bodies: Limits,
    /// Bytes of requests of one tenant's, however many agents send them, and of all together.
    pub tenants: Limits,
}

/// Bytes of requests that are being read or wait for their first token.
const BODIES: Limits = Limits { total: 1 << 30, each: 64 << 20, part: 2 };
/// The same by tenants: a quarter of a gibibyte for one.
const TENANTS: Limits = Limits { total: 1 << 30, each: 256 << 20, part: 2 };

impl Sizes {
    /// For a process that may have so many descriptors: a call to another server needs one more.
    pub fn for_descriptors(limit: usize) -> Sizes {
        let of = |total: usize, each, part| Limits { total: total.max(16), each, part };
        Sizes {
            agents: of(limit / 4, 1_024, 8),
            users: of(limit / 8, usize::MAX, 2),
            others: of(limit / 8, usize::MAX, 0),
            bodies: BODIES,
            tenants: TENANTS,
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes::for_descriptors(descriptors::limit())
    }
}

/// Who holds what.
#[derive(Debug)]
pub struct Callers {
    agents: Arc<Pool<Key>>,
    users: Arc<Pool<Key>>,
    root: Arc<Pool<Key>>,
    loopback: Arc<Pool<Key>>,
    unknown: Arc<Pool<Key>>,
    /// Agents' and others'.
    pub(crate) bodies: [Arc<Pool<Key>>; 2],
    /// By tenants' names.
    pub(crate) tenants: Arc<Pool<String>>,
}

impl Callers {
    /// Untouched.
    pub fn new(sizes: &Sizes) -> Self {
        Callers {
            agents: Pool::new(sizes.agents),
            users: Pool::new(sizes.users),
            root: Pool::new(sizes.others),
            loopback: Pool::new(sizes.others),
            unknown: Pool::new(sizes.others),
            bodies: [Pool::new(sizes.bodies), Pool::new(sizes.bodies)],
            tenants: Pool::new(sizes.tenants),
        }
    }

    /// Connections that `key` has open.
    pub fn open(&self, key: &Key) -> usize {
        self.pool(key).held(key)
    }

    fn pool(&self, key: &Key) -> &Arc<Pool<Key>> {
        match key {
            Key::Agent(_) => &self.agents,
            Key::User(0) => &self.root,
            Key::User(_) => &self.users,
            Key::Loopback => &self.loopback,
            Key::Unknown => &self.unknown,
        }
    }

    /// A connection more.
    ///
    /// # Errors
    /// When it has as many as it may.
    pub(crate) fn take(&self, key: Key) -> Result<Place<Key>, Full> {
        self.pool(&key).take(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_agents_takes_what_others_need() {
        let callers = Callers::new(&Sizes::for_descriptors(65_536));
        let fill = |key| std::iter::from_fn(move || Some(key));
        let mut held = Vec::new();
        for agent in 0..2_000 {
            let key = Key::Agent(Uuid::from_u128(agent));
            held.extend(fill(key).map_while(|key| callers.take(key).ok()));
        }
        assert!(held.len() <= 65_536 / 4);
        for key in [Key::User(0), Key::User(1000), Key::Loopback, Key::Unknown] {
            assert!(callers.take(key).is_ok(), "{key:?}");
        }
    }
}
