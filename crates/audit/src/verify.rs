//! Verification without the daemon: every byte of a log against one public key.

use crate::aside::{ASIDE_FOLDER, aside, key_of};
use crate::chain::Chains;
use crate::checkpoint::{Checkpoint, CheckpointError, read as read_checkpoint};
use crate::error::Error;
use crate::hash::hex;
use crate::layout::{TILE_HEIGHT, TILE_WIDTH, Tile, width};
use crate::minimum::{self, MINIMUM_FILE};
use crate::note::{NoteError, VerifierKey};
use crate::report::{Report, Violation, ViolationKind};
use crate::scan::{Scan, Start};
use crate::tiles::is_there;
use crate::{recent, strays};
use std::path::Path;

/// What a log is compared with.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Signed checkpoints of this log that were seen before: by this machine, or by a witness.
    pub heads: Vec<Vec<u8>>,
    /// It may have been copied while it was written: if its newest leaves are missing and an earlier signed
    /// checkpoint covers the rest, it is incomplete, and not violated.
    pub copy: bool,
    /// That earlier logs of this machine were set aside is known, and not held against this one.
    pub current: bool,
}

/// Verifies the log in `directory` against its public key, or that of the machine's first log.
///
/// An error is a log that cannot be read at all. Whatever was done to the log is the report's
/// `violation`, which names the first bad record.
pub fn verify(
    directory: &Path,
    key: &VerifierKey,
    options: &VerifyOptions,
) -> Result<Report, Error> {
    loop {
        let minimum = minimum::peek(directory)?;
        let report = verify_once(directory, key, options)?;
        // Its oldest records were taken away meanwhile.
        if report.is_sound() || minimum::peek(directory)? == minimum {
            return Ok(report);
        }
    }
}

fn verify_once(
    directory: &Path,
    key: &VerifierKey,
    options: &VerifyOptions,
) -> Result<Report, Error> {
    let (key, generation) = key_of(directory, key);
    let mut report = empty_report(&key);
    match check(directory, &key, options, &mut report)? {
        Ok(()) => {}
        Err(violation) => report.violation = Some(*violation),
    }
    let earlier = set_aside(directory, generation)?;
    report.violation = report.violation.take().or(earlier.filter(|_| !options.current));
    let unreferenced = strays::find(directory, report.leaves, report.minimum)?;
    report.violation = report.violation.take().or(unreferenced.violation);
    report.warnings.extend(unreferenced.notes);
    if options.heads.is_empty() {
        let why = "no remembered checkpoint was given: a missing tail cannot be noticed";
        report.warnings.push(why.to_owned());
    }
    Ok(report)
}

type Checked<T> = Result<Result<T, Box<Violation>>, Error>;

fn check(
    directory: &Path,
    key: &VerifierKey,
    options: &VerifyOptions,
    report: &mut Report,
) -> Checked<()> {
    let newest = match newest(directory, key)? {
        Ok(checkpoint) => checkpoint,
        Err(violation) => return Ok(Err(Box::new(violation))),
    };
    (report.leaves, report.root) = (newest.size, hex(&newest.root));
    let minimum = match minimum::open(directory, key) {
        Ok(minimum) => minimum,
        Err(Error::Damaged(why)) => {
            let violation = Violation::new(ViolationKind::CheckpointChanged, why);
            return Ok(Err(Box::new(violation.at(MINIMUM_FILE))));
        }
        Err(error) => return Err(error),
    };
    report.minimum = minimum;
    let heads = match open_heads(key, options) {
        Ok(heads) => heads,
        Err(violation) => return Ok(Err(violation)),
    };
    let checkpoint = if options.copy { covered(directory, key, newest) } else { newest };
    report.incomplete = report.leaves - checkpoint.size;
    (report.leaves, report.root) = (checkpoint.size, hex(&checkpoint.root));
    let start = match Start::new(directory, key, minimum) {
        Ok(start) => start,
        Err(violation) => return Ok(Err(violation)),
    };
    let mut scan = Scan::new(directory, key, &checkpoint, &heads, start, report)?;
    let early = scan.run()?;
    let violation = early.or_else(|| scan.judge());
    let violation = violation.or_else(|| rolled_back(&heads, &checkpoint, &scan.chains));
    scan.report.agents = scan.chains.agents() as u64;
    Ok(violation.map_or(Ok(()), |violation| Err(Box::new(violation))))
}

/// The newest checkpoint whose last tiles are there.
fn covered(directory: &Path, key: &VerifierKey, newest: Checkpoint) -> Checkpoint {
    let is_covered =
        |checkpoint: &Checkpoint| edge_tiles(checkpoint.size).all(|tile| is_there(directory, tile));
    if is_covered(&newest) {
        return newest;
    }
    let earlier = recent::open(directory, key).into_iter().map(|(_, checkpoint)| checkpoint);
    let mut earlier = earlier.filter(|checkpoint| checkpoint.size < newest.size);
    earlier.find(is_covered).unwrap_or(newest)
}

/// What a log of `size` leaves has last: of leaves, and of each level of hashes.
fn edge_tiles(size: u64) -> impl Iterator<Item = Tile> {
    let levels = (0..8).take_while(move |level| size >> (level * TILE_HEIGHT) > 0);
    let last = move |level| {
        let index = ((size >> (level * TILE_HEIGHT)) - 1) / TILE_WIDTH;
        Tile::hashes(level, index, width(level, index, size))
    };
    let hashes = levels.map(last);
    let bundle = (size > 0).then(|| Tile { level: None, ..last(0) });
    hashes.chain(bundle)
}

/// That this is not the machine's first log says that another was damaged.
fn set_aside(directory: &Path, generation: u64) -> Result<Option<Violation>, Error> {
    let there = aside(directory)?;
    let Some(newest) = there.last().copied().or(generation.checked_sub(1)).filter(|n| *n > 0)
    else {
        return Ok(None);
    };
    let where_to = match there.contains(&newest) {
        true => format!("it lies in {ASIDE_FOLDER}/{newest}"),
        false => "it is not here".to_owned(),
    };
    let detail = format!(
        "this log is sound, but the one before it was damaged and set aside ({where_to}); \
         `--current` judges this one alone"
    );
    Ok(Some(Violation::new(ViolationKind::SetAside, detail)))
}

fn empty_report(key: &VerifierKey) -> Report {
    Report {
        origin: key.name().to_owned(),
        key_id: key.id(),
        leaves: 0,
        root: String::new(),
        minimum: 0,
        incomplete: 0,
        first_record: 0,
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
