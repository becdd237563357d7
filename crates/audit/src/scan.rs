//! One reading of a log, from the first leaf that is kept to its last: tree, chains and states.

use crate::chain::Chains;
use crate::checkpoint::Checkpoint;
use crate::edge::Edge;
use crate::error::Error;
use crate::hash::{Hash, leaf_hash};
use crate::layout::{TILE_WIDTH, Tile, leaves, width};
use crate::note::VerifierKey;
use crate::report::{Report, Violation, ViolationKind};
use crate::state::{self, State};
use crate::suspects::Findings;
use crate::tiles::{read_hashes, read_tile};
use abi::Kind;
use record::{RecordView, records};
use std::io::ErrorKind;
use std::path::Path;

/// Where a reading begins: at the first leaf, or in the bundle of the first that is kept.
pub(crate) struct Start {
    edge: Edge,
    /// Of the first leaf that is kept.
    state: State,
}

impl Start {
    pub fn new(directory: &Path, key: &VerifierKey, minimum: u64) -> Result<Start, Box<Violation>> {
        if minimum == 0 {
            return Ok(Start { edge: Edge::default(), state: State::empty() });
        }
        let state = State::load(directory, minimum, key).ok_or_else(|| {
            let detail = "the state at the first record that is kept is missing, or was changed";
            let violation = Violation::new(ViolationKind::StateDamaged, detail);
            Box::new(violation.at(&state::path(minimum).display().to_string()))
        })?;
        let first = minimum / TILE_WIDTH * TILE_WIDTH;
        let edge = Edge::load(first, |tile| read_hashes(directory, tile)).map_err(|error| {
            let detail = format!("a file of hashes is missing or was changed: {error}");
            Box::new(Violation::new(ViolationKind::TileDamaged, detail))
        })?;
        Ok(Start { edge, state })
    }
}

/// One reading of a log from its first byte to its last.
pub(crate) struct Scan<'l> {
    directory: &'l Path,
    key: &'l VerifierKey,
    checkpoint: &'l Checkpoint,
    heads: &'l [Checkpoint],
    pub report: &'l mut Report,
    pub chains: Chains,
    edge: Edge,
    findings: Findings,
    /// The first leaf that is kept, and the root of the tree before it.
    minimum: (u64, Hash),
    /// Leaves at which there is a state, the next one last.
    states: Vec<u64>,
    /// First state that is not what the records say.
    bad_state: Option<u64>,
    /// First tile of hashes that is not what the records say.
    bad_tile: Option<String>,
    /// Leaves that a remembered checkpoint proves to be unchanged.
    proven: u64,
}

impl<'l> Scan<'l> {
    pub fn new(
        directory: &'l Path,
        key: &'l VerifierKey,
        now: &'l Checkpoint,
        heads: &'l [Checkpoint],
        start: Start,
        report: &'l mut Report,
    ) -> Result<Self, Error> {
        let Start { edge, state } = start;
        let heads = &heads[heads.partition_point(|head| head.size < edge.size())..];
        let mut states = state::sizes(directory)?;
        states.retain(|size| (report.minimum..=now.size).contains(size));
        states.reverse();
        report.first_record = state.chains.next_seq;
        Ok(Scan {
            directory,
            key,
            checkpoint: now,
            heads,
            minimum: (report.minimum, state.summary.root),
            report,
            chains: state.chains,
            edge,
            findings: Findings::default(),
            states,
            bad_state: None,
            bad_tile: None,
            proven: 0,
        })
    }

    /// Reads everything; a violation is one that makes reading on useless.
    pub fn run(&mut self) -> Result<Option<Violation>, Error> {
        let mut bytes = Vec::with_capacity(1 << 20);
        self.compare_state();
        for bundle in self.minimum.0 / TILE_WIDTH..self.checkpoint.size.div_ceil(TILE_WIDTH) {
            let tile = Tile::entries(bundle, width(0, bundle, self.checkpoint.size));
            let file = match read_tile(self.directory, tile, &mut bytes) {
                Ok(file) => file.display().to_string(),
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    let mut violation = self.missing("a file of records is missing");
                    violation.file = Some(tile.path().display().to_string());
                    return Ok(Some(self.findings.judge().unwrap_or(violation)));
                }
                Err(error) => return Err(error),
            };
            if let Some(violation) = self.bundle(tile, &bytes, &file) {
                return Ok(Some(violation));
            }
        }
        self.partial_tiles();
        Ok(None)
    }

    fn missing(&self, detail: &str) -> Violation {
        let mut violation = Violation::new(ViolationKind::FileMissing, detail);
        violation.seq = Some(self.chains.next_seq);
        violation.leaf = Some(self.edge.size());
        violation
    }

    fn bundle(&mut self, tile: Tile, bytes: &[u8], file: &str) -> Option<Violation> {
        let hash_tile = Tile { level: Some(0), ..tile };
        let hashes = read_hashes(self.directory, hash_tile);
        if hashes.is_err() {
            self.bad_tile(hash_tile);
        }
        let hashes = hashes.unwrap_or_default();
        let mut count = 0;
        for leaf in leaves(bytes).take(tile.width as usize) {
            let Ok(leaf) = leaf else { break };
            let hash = leaf_hash(leaf);
            if hashes.get(count).is_some_and(|known| *known != hash) {
                self.findings.bad_leaf(self.edge.size(), file);
            }
            if let Some(violation) = self.leaf(leaf, hash, file) {
                return Some(violation);
            }
            count += 1;
        }
        if (count as u64) < tile.width {
            let mut violation = self.missing("a file of records is cut short");
            violation.file = Some(file.to_owned());
            return Some(self.findings.judge().unwrap_or(violation));
        }
        None
    }

    fn leaf(&mut self, leaf: &[u8], hash: Hash, file: &str) -> Option<Violation> {
        let index = self.edge.size();
        let kept = if index < self.minimum.0 { &[] } else { leaf };
        for item in records(kept) {
            let Ok((record, bytes)) = item else {
                let detail = "the bytes of a record cannot be read";
                let mut violation = Violation::new(ViolationKind::RecordChanged, detail);
                violation.seq = Some(self.chains.next_seq);
                violation.leaf = Some(index);
                violation.file = Some(file.to_owned());
                return Some(self.earlier(violation));
            };
            let (hash, broken) = self.chains.follow(&record, bytes, index);
            self.findings.record(&record, hash, index, broken);
            self.count(&record);
        }
        self.push(hash)
    }

    /// What was noticed before, if something was.
    fn earlier(&self, violation: Violation) -> Violation {
        match self.findings.judge() {
            Some(first) if first.leaf < violation.leaf => first,
            Some(first) if first.seq.is_some() && first.seq < violation.seq => first,
            _ => violation,
        }
    }

    fn count(&mut self, record: &RecordView<'_>) {
        let report = &mut self.report;
        report.records += 1;
        report.denials += u64::from(record.kind == Kind::Denial as u32);
        report.gaps += u64::from(record.kind == Kind::Gap as u32);
        let first = report.first_time_ns.get_or_insert(record.time_ns);
        *first = record.time_ns.min(*first);
        let last = report.last_time_ns.get_or_insert(record.time_ns);
        *last = record.time_ns.max(*last);
    }

    /// Adds the leaf to the tree and compares what becomes full with what lies on disk.
    fn push(&mut self, hash: Hash) -> Option<Violation> {
        let (directory, mut bad) = (self.directory, None);
        let _ = self.edge.push(hash, |tile, hashes| {
            let same = tile.level == Some(0)
                || read_hashes(directory, tile).is_ok_and(|known| known == hashes);
            if !same {
                bad.get_or_insert(tile);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        if let Some(tile) = bad {
            self.bad_tile(tile);
        }
        self.compare_state();
        self.compare_heads()
    }

    /// A state must say what the records before it do.
    fn compare_state(&mut self) {
        let size = self.edge.size();
        if size == self.minimum.0 && self.edge.root() != self.minimum.1 {
            self.bad_state.get_or_insert(size);
        }
        while let Some(next) = self.states.pop_if(|next| *next <= size) {
            let same = State::load(self.directory, next, self.key).is_some_and(|state| {
                state.summary.root == self.edge.root() && self.chains.agree(&state.chains)
            });
            // The writer may have replaced it by a newer one meanwhile.
            let there = || self.directory.join(state::path(next)).exists();
            if next == size && !same && there() {
                self.bad_state.get_or_insert(next);
            }
        }
    }

    fn compare_heads(&mut self) -> Option<Violation> {
        let size = self.edge.size();
        let (known, rest) = self.heads.split_first()?;
        if known.size > size {
            return None;
        }
        self.heads = rest;
        if known.size < size || known.root == self.edge.root() {
            self.proven = known.size;
            return self.compare_heads();
        }
        // The records differ from what was seen before. If they also differ from what is signed
        // now, a record was changed; if not, two histories were signed.
        let detail = format!("the first {size} leaves are not those that were seen before");
        let mut fork = Violation::new(ViolationKind::Forked, detail);
        fork.leaf = Some(self.proven);
        Some(self.findings.judge().unwrap_or(fork))
    }

    fn bad_tile(&mut self, tile: Tile) {
        self.bad_tile.get_or_insert_with(|| tile.path().display().to_string());
    }

    fn partial_tiles(&mut self) {
        let directory = self.directory;
        let differs = |tile: Tile, hashes: &[Hash]| {
            tile.level != Some(0)
                && !read_hashes(directory, tile).is_ok_and(|known| known == hashes)
        };
        let bad = self.edge.partial().find(|(tile, hashes)| differs(*tile, hashes)).map(|(t, _)| t);
        if let Some(tile) = bad {
            self.bad_tile(tile);
        }
    }

    /// After everything was read: is it what was signed?
    pub fn judge(&mut self) -> Option<Violation> {
        if self.edge.root() == self.checkpoint.root {
            if let Some(violation) = self.findings.judge_signed() {
                return Some(violation);
            }
            let damaged = self.bad_tile.clone().or_else(|| self.findings.bad_tile());
            let tile = damaged.map(|file| {
                let detail = "a file of hashes was changed; the records are what was signed";
                Violation::new(ViolationKind::TileDamaged, detail).at(&file)
            });
            return tile.or_else(|| self.bad_state.map(judge_state));
        }
        let next_seq = self.chains.next_seq;
        if let Some(mut violation) = self.findings.judge() {
            // A last leaf without records: what is missing is what would have come next.
            violation.seq.get_or_insert(next_seq);
            return Some(violation);
        }
        Some({
            let detail = "the records do not lead to the root that was signed";
            let mut violation = Violation::new(ViolationKind::RootMismatch, detail);
            violation.leaf = Some(self.proven);
            violation
        })
    }
}

fn judge_state(size: u64) -> Violation {
    let detail = "a state was changed; the records are what was signed";
    let file = state::path(size).display().to_string();
    Violation::new(ViolationKind::StateDamaged, detail).at(&file)
}
