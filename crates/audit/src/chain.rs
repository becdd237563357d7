//! Sequence numbers and per-agent chains, checked record by record.

use crate::hash::{Hash, record_hash};
use abi::Kind;
use record::{NO_PREV, RecordView};
use std::collections::HashMap;
use uuid::Uuid;

/// An agent's newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub hash: Hash,
    pub seq: u64,
    /// The leaf that has it; none where only a state tells of it.
    pub leaf: Option<u64>,
    /// The agent has ended. The writer may forget such a chain; a record that comes later begins one anew.
    pub ended: bool,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chains {
    pub next_seq: u64,
    heads: HashMap<Uuid, Head>,
    /// How many of them have ended.
    ended: usize,
}

/// Bytes of a head in [`Chains::to_bytes`]: agent, hash, number (little endian).
const HEAD_BYTES: usize = 16 + 32 + 8;

impl Chains {
    /// Hash that the agent's next record must hold.
    pub fn prev(&self, agent: &Uuid) -> Hash {
        self.heads.get(agent).map_or(NO_PREV, |head| head.hash)
    }

    /// How many agents have records.
    pub fn agents(&self) -> usize {
        self.heads.len()
    }

    /// How many of them have not ended.
    pub fn alive(&self) -> usize {
        self.heads.len() - self.ended
    }

    /// Puts an agent's newest record in; one that has ended stays so.
    pub fn set(&mut self, agent: Uuid, head: Head) {
        let ended = self.heads.get(&agent).is_some_and(|before| before.ended);
        self.ended += usize::from(head.ended && !ended);
        self.heads.insert(agent, Head { ended: head.ended || ended, ..head });
    }

    /// Forgets the chains of agents that have ended: their number has no limit.
    pub fn forget_ended(&mut self) {
        self.heads.retain(|_, head| !head.ended);
        self.ended = 0;
    }

    /// Follows a record; returns its hash and what is wrong with it. Goes on from it in any case.
    pub fn follow(
        &mut self,
        record: &RecordView<'_>,
        bytes: &[u8],
        leaf: u64,
    ) -> (Hash, Option<Break>) {
        let hash = record_hash(bytes);
        let before = self.heads.get(&record.agent).copied();
        let ended = ends(record.kind);
        self.set(record.agent, Head { hash, seq: record.seq, leaf: Some(leaf), ended });
        let expected = std::mem::replace(&mut self.next_seq, record.seq.wrapping_add(1));
        let anew = before.is_none_or(|head| head.ended) && record.prev == NO_PREV;
        let broken = if record.seq != expected {
            Some(Break::Sequence { expected })
        } else if !anew && before.is_none_or(|head| record.prev != head.hash) {
            Some(Break::Chain { before })
        } else {
            None
        };
        (hash, broken)
    }

    /// True if a state's chains are these, but for those of agents that have ended.
    pub fn agree(&self, state: &Chains) -> bool {
        let newest = |head: &Head| (head.hash, head.seq);
        let same = |agent: &Uuid, head: &Head, other: &Chains| {
            other.heads.get(agent).is_some_and(|o| newest(o) == newest(head))
        };
        self.next_seq == state.next_seq
            && self.heads.iter().all(|(agent, head)| head.ended || same(agent, head, state))
            && state.heads.iter().all(|(agent, head)| same(agent, head, self))
    }

    /// The chains of agents that have not ended, in the order of the agents.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut heads: Vec<_> = self.heads.iter().filter(|(_, head)| !head.ended).collect();
        heads.sort_unstable_by_key(|(agent, _)| **agent);
        let mut bytes = Vec::with_capacity(heads.len() * HEAD_BYTES);
        for (agent, head) in heads {
            bytes.extend_from_slice(agent.as_bytes());
            bytes.extend_from_slice(&head.hash);
            bytes.extend_from_slice(&head.seq.to_le_bytes());
        }
        bytes
    }

    /// Reads [`Chains::to_bytes`].
    pub fn from_bytes(next_seq: u64, bytes: &[u8]) -> Option<Chains> {
        let (list, rest) = bytes.as_chunks::<HEAD_BYTES>();
        let mut heads = HashMap::with_capacity(list.len());
        for bytes in list {
            let (agent, bytes) = bytes.split_first_chunk::<16>()?;
            let (hash, bytes) = bytes.split_first_chunk::<32>()?;
            let seq = u64::from_le_bytes(bytes.try_into().ok()?);
            let head = Head { hash: *hash, seq, leaf: None, ended: false };
            heads.insert(Uuid::from_bytes(*agent), head);
        }
        rest.is_empty().then_some(Chains { next_seq, heads, ended: 0 })
    }
}

/// True if a record of this kind is an agent's last, but for what is told late.
pub(crate) fn ends(kind: u32) -> bool {
    kind == Kind::Exit as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u8, ended: bool) -> Head {
        Head { hash: [n; 32], seq: u64::from(n), leaf: None, ended }
    }

    #[test]
    fn both_ways_without_those_that_ended() {
        let mut chains = Chains { next_seq: 9, ..Chains::default() };
        chains.set(Uuid::from_u128(2), head(2, false));
        chains.set(Uuid::from_u128(1), head(1, false));
        let alive = chains.clone();
        chains.set(Uuid::from_u128(3), head(3, true));
        assert_eq!(Chains::from_bytes(9, &chains.to_bytes()), Some(alive.clone()));
        assert_eq!(Chains::from_bytes(9, &chains.to_bytes()[1..]), None);
        // What is told late does not bring it back to life.
        chains.set(Uuid::from_u128(3), head(4, false));
        chains.forget_ended();
        assert_eq!(chains, alive);
    }
}
