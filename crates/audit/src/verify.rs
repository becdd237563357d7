//! Verification without the daemon: every byte of a log against one public key.

use crate::chain::Chains;
use crate::checkpoint::{Checkpoint, CheckpointError, read as read_checkpoint};
use crate::edge::Edge;
use crate::error::Error;
use crate::hash::{Hash, hex, leaf_hash};
use crate::layout::{TILE_WIDTH, Tile, leaves, width};
use crate::note::{NoteError, VerifierKey};
use crate::record::{RecordView, records};
use crate::report::{Report, Violation, ViolationKind};
use crate::suspects::Findings;
use crate::tiles::{read_hashes, read_tile};
use abi::Kind;
use std::io::ErrorKind;
use std::path::Path;

/// What a log is compared with.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Signed checkpoints of this log that were seen before: by this machine, or by a witness.
    pub heads: Vec<Vec<u8>>,
}

/// Verifies the log in `directory` against its public key.
///
/// An error is a log that cannot be read at all. Whatever was done to the log is the report's
/// `violation`, which names the first bad record.
pub fn verify(
    directory: &Path,
    key: &VerifierKey,
    options: &VerifyOptions,
) -> Result<Report, Error> {
    verify_with_chains(directory, key, options).map(|(report, _)| report)
}

/// As [`verify`]; also says where the chains stand, for the writer to go on.
pub(crate) fn verify_with_chains(
    directory: &Path,
    key: &VerifierKey,
    options: &VerifyOptions,
) -> Result<(Report, Chains), Error> {
    let mut report = empty_report(key);
    let checkpoint = match newest(directory, key)? {
        Ok(checkpoint) => checkpoint,
        Err(violation) => {
            report.violation = Some(violation);
            return Ok((report, Chains::default()));
        }
    };
    report.leaves = checkpoint.size;
    report.root = hex(&checkpoint.root);
    let heads = match open_heads(key, options) {
        Ok(heads) => heads,
        Err(violation) => {
            report.violation = Some(*violation);
            return Ok((report, Chains::default()));
        }
    };
    let mut scan = Scan::new(directory, &checkpoint, &heads, report);
    let early = scan.run()?;
    let violation = early.or_else(|| scan.judge());
    scan.report.violation = violation.or_else(|| rolled_back(&heads, &checkpoint, &scan.chains));
    scan.report.agents = scan.chains.agents() as u64;
    if options.heads.is_empty() {
        let why = "no remembered checkpoint was given: a missing tail cannot be noticed";
        scan.report.warnings.push(why.to_owned());
    }
    Ok((scan.report, scan.chains))
}

fn empty_report(key: &VerifierKey) -> Report {
    Report {
        origin: key.name().to_owned(),
        key_id: key.id(),
        leaves: 0,
        root: String::new(),
        records: 0,
        agents: 0,
        denials: 0,
        gaps: 0,
        first_time_ns: None,
        last_time_ns: None,
        warnings: Vec::new(),
        violation: None,
    }
}

fn newest(directory: &Path, key: &VerifierKey) -> Result<Result<Checkpoint, Violation>, Error> {
    let note = match read_checkpoint(directory) {
        Ok(note) => note,
        Err(Error::NoLog(_)) if directory.join("tile").exists() => {
            let kind = ViolationKind::CheckpointMissing;
            return Ok(Err(Violation::new(kind, "there are records but no checkpoint")));
        }
        Err(error) => return Err(error),
    };
    Ok(Checkpoint::open(&note, key).map_err(|error| {
        let mut violation = judge_note(&error, "the checkpoint is not accepted");
        violation.file = Some(crate::checkpoint::CHECKPOINT_FILE.to_owned());
        violation
    }))
}

fn judge_note(error: &CheckpointError, what: &str) -> Violation {
    let kind = match error {
        CheckpointError::Note(NoteError::OtherKey(_) | NoteError::OtherName(_))
        | CheckpointError::Origin(_) => ViolationKind::KeySwapped,
        _ => ViolationKind::CheckpointChanged,
    };
    Violation::new(kind, format!("{what}: {error}"))
}

/// The remembered checkpoints in the order of their sizes.
fn open_heads(
    key: &VerifierKey,
    options: &VerifyOptions,
) -> Result<Vec<Checkpoint>, Box<Violation>> {
    let open = |note: &Vec<u8>| {
        Checkpoint::open(note, key)
            .map_err(|error| judge_note(&error, "the remembered checkpoint is not of this log"))
            .map_err(Box::new)
    };
    let mut heads = options.heads.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    heads.sort_by_key(|head| head.size);
    Ok(heads)
}

fn rolled_back(heads: &[Checkpoint], now: &Checkpoint, chains: &Chains) -> Option<Violation> {
    let ahead = heads.last().filter(|head| head.size > now.size)?;
    let detail = format!(
        "the log was rolled back: it ends after leaf {}, and had {} leaves before",
        now.size, ahead.size
    );
    let mut violation = Violation::new(ViolationKind::RolledBack, detail);
    violation.seq = Some(chains.next_seq);
    violation.leaf = Some(now.size);
    Some(violation)
}

/// One reading of a log from its first byte to its last.
struct Scan<'l> {
    directory: &'l Path,
    checkpoint: &'l Checkpoint,
    heads: &'l [Checkpoint],
    report: Report,
    chains: Chains,
    edge: Edge,
    findings: Findings,
    /// First tile of hashes that is not what the records say.
    bad_tile: Option<String>,
    /// Leaves that a remembered checkpoint proves to be unchanged.
    proven: u64,
}

impl<'l> Scan<'l> {
    fn new(
        directory: &'l Path,
        now: &'l Checkpoint,
        heads: &'l [Checkpoint],
        report: Report,
    ) -> Self {
        Scan {
            directory,
            checkpoint: now,
            heads,
            report,
            chains: Chains::default(),
            edge: Edge::default(),
            findings: Findings::default(),
            bad_tile: None,
            proven: 0,
        }
    }

    /// Reads everything; a violation is one that makes reading on useless.
    fn run(&mut self) -> Result<Option<Violation>, Error> {
        let mut bytes = Vec::with_capacity(1 << 20);
        for bundle in 0..self.checkpoint.size.div_ceil(TILE_WIDTH) {
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
        for item in records(leaf) {
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
        self.compare_heads()
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
    fn judge(&mut self) -> Option<Violation> {
        if self.edge.root() == self.checkpoint.root {
            if let Some(violation) = self.findings.judge_signed() {
                return Some(violation);
            }
            let damaged = self.bad_tile.clone().or_else(|| self.findings.bad_tile());
            return damaged.map(|file| {
                let detail = "a file of hashes was changed; the records are what was signed";
                let mut violation = Violation::new(ViolationKind::TileDamaged, detail);
                violation.file = Some(file);
                violation
            });
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
