//! Which record of a changed leaf was changed.
//!
//! A leaf's hash says only that something in it differs. The chains say more: a record whose hash
//! a later one holds as `prev` is what it was; of the others, one that has a follower was changed.

use crate::chain::{Break, Head};
use crate::hash::Hash;
use crate::report::{Violation, ViolationKind};
use record::RecordView;
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Debug)]
struct Suspect {
    seq: u64,
    agent: Uuid,
    confirmed: bool,
    broken: bool,
    followed: bool,
}

/// A place where the sequence numbers jump.
#[derive(Debug)]
struct Jump {
    expected: u64,
    found: u64,
    after: Option<u64>,
    later: bool,
    agent: Uuid,
    leaf: u64,
}

/// What was noticed while reading, until it can be judged at the end.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// First leaf whose hash is not the tile's, with its bundle's file.
    bad_leaf: Option<(u64, String)>,
    suspects: Vec<Suspect>,
    by_hash: HashMap<Hash, usize>,
    jump: Option<Jump>,
    chain: Option<(u64, Uuid, u64, Option<Head>)>,
}

impl Findings {
    /// The leaf's hash is not that of the tile.
    pub fn bad_leaf(&mut self, leaf: u64, file: &str) {
        self.bad_leaf.get_or_insert_with(|| (leaf, file.to_owned()));
    }

    /// The tile of hashes that did not agree with the first bad leaf.
    pub fn bad_tile(&self) -> Option<String> {
        self.bad_leaf.as_ref().map(|(_, file)| file.replacen("entries", "0", 1))
    }

    /// Takes a record in; cheap as long as nothing was wrong.
    pub fn record(
        &mut self,
        record: &RecordView<'_>,
        hash: Hash,
        leaf: u64,
        broken: Option<Break>,
    ) {
        if self.bad_leaf.is_none() && broken.is_none() && self.jump.is_none() {
            return;
        }
        if let Some(jump) = &mut self.jump {
            jump.after.get_or_insert(record.seq);
            jump.later |= record.seq == jump.expected;
        }
        match broken {
            Some(Break::Sequence { expected }) if self.jump.is_none() => {
                let (found, agent) = (record.seq, record.agent);
                self.jump = Some(Jump { expected, found, after: None, later: false, agent, leaf });
            }
            Some(Break::Chain { before }) if self.chain.is_none() => {
                self.chain = Some((record.seq, record.agent, leaf, before));
            }
            _ => {}
        }
        self.suspect(record, hash, leaf, broken.is_some());
    }

    fn suspect(&mut self, record: &RecordView<'_>, hash: Hash, leaf: u64, broken: bool) {
        if let Some(at) = self.by_hash.get(&record.prev) {
            self.suspects[*at].confirmed = true;
        }
        let Some((bad, _)) = self.bad_leaf else { return };
        // Only followers in later records count, and only the first bad leaf is searched.
        for earlier in &mut self.suspects {
            earlier.followed |= earlier.agent == record.agent;
        }
        if leaf == bad {
            self.by_hash.insert(hash, self.suspects.len());
            let (seq, agent) = (record.seq, record.agent);
            self.suspects.push(Suspect { seq, agent, confirmed: false, broken, followed: false });
        }
    }

    /// The records were not what was signed: which is the first?
    pub fn judge(&self) -> Option<Violation> {
        let bad = self.bad_leaf.as_ref();
        // A bad leaf without records shows only as a jump behind it.
        let before = |jump: &&Jump| {
            self.suspects.is_empty() || bad.is_none_or(|(leaf, _)| jump.leaf <= *leaf)
        };
        let jump = self.jump.as_ref().filter(before);
        match (jump, bad) {
            (Some(jump), _) => Some(judge_jump(jump, bad)),
            (None, Some((leaf, file))) => Some(self.judge_leaf(*leaf, file)),
            (None, None) => self.judge_chain(ViolationKind::RecordChanged),
        }
    }

    /// The records are what was signed, but do not continue one another.
    pub fn judge_signed(&self) -> Option<Violation> {
        if let Some(jump) = &self.jump {
            return Some(judge_jump(jump, None));
        }
        self.judge_chain(ViolationKind::ChainBroken)
    }

    fn judge_chain(&self, kind: ViolationKind) -> Option<Violation> {
        let (seq, agent, leaf, before) = self.chain?;
        let mut violation = Violation::new(kind, "a record is not what the agent's next one says");
        violation.agent = Some(agent);
        (violation.seq, violation.leaf) = match before {
            Some(head) => (Some(head.seq), head.leaf),
            None => (Some(seq), Some(leaf)),
        };
        violation.or_seq = before.map(|_| seq).into_iter().collect();
        Some(violation)
    }

    fn judge_leaf(&self, leaf: u64, file: &str) -> Violation {
        let mut open: Vec<&Suspect> = self.suspects.iter().filter(|s| !s.confirmed).collect();
        if open.iter().any(|s| s.followed || s.broken) {
            open.retain(|s| s.followed || s.broken);
        }
        let mut violation = Violation::new(ViolationKind::RecordChanged, "a record was changed");
        violation.leaf = Some(leaf);
        violation.file = Some(file.to_owned());
        violation.seq = open.first().map(|s| s.seq);
        violation.agent = open.first().map(|s| s.agent);
        violation.or_seq = open.iter().skip(1).take(8).map(|s| s.seq).collect();
        violation
    }
}

fn judge_jump(jump: &Jump, bad: Option<&(u64, String)>) -> Violation {
    let only_its_number = jump.after == Some(jump.expected + 1);
    let (kind, detail) = if only_its_number {
        (ViolationKind::RecordChanged, "a record's number was changed".to_owned())
    } else if jump.later || jump.found < jump.expected {
        let detail = format!("record {} stands where {} should", jump.found, jump.expected);
        (ViolationKind::RecordsReordered, detail)
    } else if jump.found - jump.expected == 1 {
        (ViolationKind::RecordsMissing, format!("record {} is missing", jump.expected))
    } else {
        let last = jump.found - 1;
        (ViolationKind::RecordsMissing, format!("records {} to {last} are missing", jump.expected))
    };
    let mut violation = Violation::new(kind, detail);
    violation.seq = Some(jump.expected);
    violation.leaf = Some(jump.leaf);
    violation.agent = (kind != ViolationKind::RecordsMissing).then_some(jump.agent);
    violation.file = bad.filter(|(leaf, _)| *leaf == jump.leaf).map(|(_, file)| file.clone());
    violation
}
