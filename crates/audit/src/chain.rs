//! Sequence numbers and per-agent chains, checked record by record.

use crate::hash::{Hash, record_hash};
use crate::record::{NO_PREV, RecordView};
use std::collections::HashMap;
use uuid::Uuid;

/// An agent's newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub hash: Hash,
    pub seq: u64,
    pub leaf: u64,
}

/// What a record is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Not the next one.
    Sequence { expected: u64 },
    /// Not the follower of the agent's previous record; that one, if there is one.
    Chain { before: Option<Head> },
}

/// Where every chain stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains {
    pub next_seq: u64,
    heads: HashMap<Uuid, Head>,
}

impl Chains {
    /// Hash that the agent's next record must hold.
    pub fn prev(&self, agent: &Uuid) -> Hash {
        self.heads.get(agent).map_or(NO_PREV, |head| head.hash)
    }

    /// How many agents have records.
    pub fn agents(&self) -> usize {
        self.heads.len()
    }

    pub fn set(&mut self, agent: Uuid, head: Head) {
        self.heads.insert(agent, head);
    }

    /// Follows a record; returns its hash and what is wrong with it. Goes on from it in any case.
    pub fn follow(
        &mut self,
        record: &RecordView<'_>,
        bytes: &[u8],
        leaf: u64,
    ) -> (Hash, Option<Break>) {
        let hash = record_hash(bytes);
        let head = Head { hash, seq: record.seq, leaf };
        let before = self.heads.insert(record.agent, head);
        let expected = std::mem::replace(&mut self.next_seq, record.seq.wrapping_add(1));
        let broken = if record.seq != expected {
            Some(Break::Sequence { expected })
        } else if record.prev != before.map_or(NO_PREV, |head| head.hash) {
            Some(Break::Chain { before })
        } else {
            None
        };
        (hash, broken)
    }
}
