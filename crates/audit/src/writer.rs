//! The log's only writer: append, seal into leaves, sign a checkpoint.

use crate::aside::{self, LOCK_FILE};
use crate::chain::{Chains, Head, ends};
use crate::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use crate::edge::Edge;
use crate::error::Error;
use crate::hash::{Hash, leaf_hash, record_hash};
use crate::journal::{self, Journal, fold};
use crate::keys::VKEY_FILE;
use crate::layout::{TILE_WIDTH, Tile, push_leaf};
use crate::load::{Loaded, load};
use crate::note::NoteSigner;
use crate::recent::{RECENT_FILE, Recent};
use crate::retain::{self, Pruned, Retention, Segments};
use crate::state::{self, State, Summary};
use crate::store::Store;
use record::Entry;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Records of one leaf at most.
const LEAF_RECORDS: usize = 64;
/// Bytes at which a leaf is closed.
const LEAF_BYTES: usize = 16 * 1024;
/// Bytes that wait for a checkpoint at most.
const PENDING_BYTES: usize = 16 << 20;

/// When what was appended becomes durable.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// Longest time between an append and the checkpoint that covers it, under load.
    pub checkpoint_every: Duration,
    /// Sync the journal at every append: a power cut then loses nothing, at the disk's pace.
    /// Without it a crash of the process loses nothing and a power cut at most the last interval
    /// without a denial-class event.
    pub sync_appends: bool,
    /// How much is kept.
    pub retention: Retention,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            checkpoint_every: Duration::from_secs(1),
            sync_appends: false,
            retention: Retention::default(),
        }
    }
}

/// What was found when the log was opened; the caller writes it into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were appended before a crash and are covered by a checkpoint only now.
    pub records: u64,
    /// Bytes of a torn append, which nobody had been told was done.
    pub torn_bytes: u64,
    /// A log that was there before this one, and is not what its checkpoint says.
    pub set_aside: Option<SetAside>,
}

/// A damaged log, which was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it lies now.
    pub to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// A log, open for appending.
pub struct Writer {
    store: Store,
    signer: NoteSigner,
    options: WriterOptions,
    chains: Chains,
    edge: Edge,
    /// The bundle of leaves that is not full yet.
    bundle: Vec<u8>,
    /// Encoded records that no checkpoint covers, and the length of each.
    pending: Vec<u8>,
    lengths: Vec<u32>,
    journal: Journal,
    partial: Vec<PathBuf>,
    note: String,
    /// Bytes of all leaves so far.
    bytes: u64,
    segments: Segments,
    recent: Recent,
    pruned: Option<Pruned>,
    sealed: Instant,
    /// Holds the lock as long as it lives.
    _lock: File,
}

impl Writer {
    /// Opens the log in `directory`, or begins one there. `signer` is the key of the machine's first log; a
    /// later one's has its number behind the name.
    ///
    /// What lies behind the newest [state](crate::state) is followed; what lies before it is not read, so that
    /// opening takes as long for a long log as for a short one: whether it is what was signed is
    /// [`verify`](crate::verify())'s to say. A log that cannot be gone on with is set aside, and a new one begun.
    ///
    /// # Errors
    /// When the directory cannot be read or written, or another process has the log open.
    pub fn open(
        directory: &Path,
        signer: &NoteSigner,
        options: WriterOptions,
    ) -> Result<(Self, Recovery), Error> {
        std::fs::create_dir_all(directory).map_err(|e| Error::io("make", directory, e))?;
        let lock = lock(directory)?;
        let (mut loaded, signer, set_aside) = take_up(directory, signer)?;
        let size = loaded.edge.size();
        let (journal, replay) = Journal::open(directory, &mut loaded.chains, size)?;
        let mut recovery = Recovery::default();
        (recovery.records, recovery.torn_bytes) = (replay.lengths.len() as u64, replay.torn);
        let (spans, unsaved) = ((loaded.minimum, size), loaded.unsaved);
        let segments = Segments::load(directory, &signer, options.retention, spans, unsaved)?;
        let store = Store::new(directory);
        retain::finish(&store, loaded.minimum);
        let mut writer = Writer {
            store,
            signer,
            options,
            chains: loaded.chains,
            edge: loaded.edge,
            bundle: loaded.bundle,
            pending: replay.pending,
            lengths: replay.lengths,
            journal,
            partial: Vec::new(),
            note: loaded.note,
            bytes: loaded.summary.bytes,
            segments,
            recent: Recent::load(directory),
            pruned: None,
            sealed: Instant::now(),
            _lock: lock,
        };
        writer.partial = writer.partial_paths();
        writer.checkpoint()?;
        recovery.records += writer.salvage()?;
        recovery.set_aside = set_aside;
        Ok((writer, recovery))
    }

    /// What the log before this one had in its journal and under no checkpoint that can be trusted: the
    /// first records of this one. Returns how many.
    fn salvage(&mut self) -> Result<u64, Error> {
        let before = aside::aside(self.directory())?.last().copied();
        let (Some(before), 0) = (before, self.records()) else { return Ok(0) };
        let entries = journal::entries(&aside::folder(self.directory(), before));
        self.append(&entries)?;
        self.checkpoint()?;
        Ok(entries.len() as u64)
    }

    /// Appends records in order; returns their sequence numbers.
    ///
    /// When it returns, they are in the journal. A checkpoint covers them at once if one of them
    /// is urgent ([`Kind::is_urgent`](abi::Kind::is_urgent)), else within [`WriterOptions::checkpoint_every`] if
    /// [`Writer::tick`] is called at least that often. On an error nothing was appended, but for
    /// [`Error::NotSealed`]: then the records are kept and the next call seals them.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Range<u64>, Error> {
        let first = self.chains.next_seq;
        if entries.is_empty() {
            return Ok(first..first);
        }
        let start = self.pending.len();
        let encoded = self.encode(entries, first);
        let written = encoded.and_then(|batch| {
            self.journal.append(batch.checksum, &self.pending[start..])?;
            if self.options.sync_appends {
                self.journal.sync()?;
            }
            Ok(batch)
        });
        let batch = match written {
            Ok(batch) => batch,
            Err(error) => {
                self.pending.truncate(start);
                return Err(error);
            }
        };
        for (agent, (seq, hash)) in batch.heads {
            let ended = batch.ended.contains(&agent);
            self.chains.set(agent, Head { hash, seq, leaf: None, ended });
        }
        self.lengths.extend(batch.lengths);
        self.chains.next_seq = first + entries.len() as u64;
        let urgent = entries.iter().any(|entry| entry.kind.is_urgent())
            || self.pending.len() >= PENDING_BYTES;
        let sealed = if urgent { self.checkpoint() } else { self.tick() };
        let records = first..self.chains.next_seq;
        match sealed {
            Ok(()) => Ok(records),
            Err(source) => Err(Error::NotSealed { records, source: Box::new(source) }),
        }
    }

    fn encode(&mut self, entries: &[Entry], first: u64) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for (seq, entry) in (first..).zip(entries) {
            let at = self.pending.len();
            let prev = match batch.heads.get(&entry.agent) {
                Some((_, hash)) => *hash,
                None => self.chains.prev(&entry.agent),
            };
            let mut whole = Cow::Borrowed(entry);
            if !entry.fits() {
                whole.to_mut().fit();
            }
            let hash = record_hash(record::encode(&mut self.pending, seq, &whole, prev));
            let length = self.pending.len() - at;
            batch.heads.insert(entry.agent, (seq, hash));
            if ends(entry.kind as u32) {
                batch.ended.insert(entry.agent);
            }
            batch.lengths.push(length as u32);
            batch.checksum = fold(batch.checksum, &hash);
        }
        Ok(batch)
    }

    /// Signs a checkpoint if one is due; call it at least every
    /// [`WriterOptions::checkpoint_every`].
    pub fn tick(&mut self) -> Result<(), Error> {
        let due = self.sealed.elapsed() >= self.options.checkpoint_every;
        if due && !self.lengths.is_empty() { self.checkpoint() } else { Ok(()) }
    }

    /// Seals what was appended into leaves and signs a checkpoint over them, durably.
    ///
    /// Tiles first, then the checkpoint, then the journal is cleared: whatever is cut off between
    /// two of these steps, the checkpoint on disk has its tiles and the rest is in the journal.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.sealed = Instant::now();
        if self.lengths.is_empty() {
            return Ok(());
        }
        let mut edge = self.edge.clone();
        let mut bundle = self.bundle.clone();
        let (mut record, mut at, mut new_bytes) = (0, 0, 0);
        while record < self.lengths.len() {
            let (count, bytes) = next_leaf(&self.lengths[record..]);
            let leaf = &self.pending[at..at + bytes];
            push_leaf(&mut bundle, leaf);
            let store = &mut self.store;
            edge.push(leaf_hash(leaf), |tile, hashes| {
                if tile.level == Some(0) {
                    store.write(&Tile::entries(tile.index, TILE_WIDTH).path(), &bundle)?;
                    bundle.clear();
                }
                store.write(&tile.path(), hashes.as_flattened())
            })?;
            record += count;
            at += bytes;
            new_bytes += 2 + bytes as u64;
        }
        for (tile, hashes) in edge.partial() {
            if tile.level == Some(0) {
                self.store.write(&Tile::entries(tile.index, tile.width).path(), &bundle)?;
            }
            self.store.write(&tile.path(), hashes.as_flattened())?;
        }
        self.store.sync_names()?;
        self.note = write_checkpoint(&mut self.store, &self.signer, &edge)?;
        (self.edge, self.bundle) = (edge, bundle);
        self.bytes += new_bytes;
        self.segments.add(self.lengths.len() as u64);
        self.pending.clear();
        self.lengths.clear();
        self.journal.clear()?;
        self.drop_replaced();
        self.remember();
        self.retain();
        Ok(())
    }

    /// Writes the checkpoint among the earlier ones. That it cannot be written does no harm.
    fn remember(&mut self) {
        if let Some(file) = self.recent.add(self.edge.size(), &self.note) {
            let _ = self.store.replace(Path::new(RECENT_FILE), &file);
        }
    }

    /// Writes a state if one is due, and takes away what is not kept. A disk that refuses it costs the next
    /// opening time, and is asked again; what was sealed is sealed.
    fn retain(&mut self) {
        if self.segments.is_due(self.chains.alive()) {
            self.save();
        }
    }

    /// Leaves a state behind, so that the next opening has nothing to follow.
    ///
    /// # Errors
    /// When what was appended cannot be sealed.
    pub fn close(&mut self) -> Result<(), Error> {
        self.checkpoint()?;
        if !self.segments.is_saved() {
            self.save();
        }
        Ok(())
    }

    fn save(&mut self) {
        self.chains.forget_ended();
        let summary = self.summary();
        let state = State { summary, chains: self.chains.clone() };
        let file = state.seal(&self.signer);
        let written = self.store.write(&state::path(summary.size), &file);
        if written.and_then(|()| self.store.sync_names()).is_err() {
            return;
        }
        self.segments.saved(&self.store, summary);
        if let Ok(Some(pruned)) = self.segments.prune(&mut self.store, &self.signer, summary) {
            self.pruned = Some(pruned);
        }
    }

    fn summary(&self) -> Summary {
        Summary { size: self.edge.size(), root: self.edge.root(), bytes: self.bytes }
    }

    /// What was taken away since this was last asked; the caller writes it into the log.
    pub fn pruned(&mut self) -> Option<Pruned> {
        self.pruned.take()
    }

    /// The key that signs this log: the machine's first log's, or that of a later one.
    pub fn key(&self) -> crate::VerifierKey {
        self.signer.verifier()
    }

    fn partial_paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (tile, _) in self.edge.partial() {
            paths.push(tile.path());
            if tile.level == Some(0) {
                paths.push(Tile::entries(tile.index, tile.width).path());
            }
        }
        paths
    }

    /// Removes partial tiles that wider ones have replaced.
    fn drop_replaced(&mut self) {
        let now = self.partial_paths();
        for old in std::mem::replace(&mut self.partial, now) {
            if !self.partial.contains(&old) {
                self.store.remove(&old);
            }
        }
    }

    /// The newest signed checkpoint: what a witness or a remembered head is made of.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Records appended so far, covered or not.
    pub fn records(&self) -> u64 {
        self.chains.next_seq
    }

    /// Leaves that the newest checkpoint covers.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Where the log lies.
    pub fn directory(&self) -> &Path {
        self.store.root()
    }
}

/// What one append adds, before it is written.
#[derive(Default)]
struct Batch {
    heads: HashMap<Uuid, (u64, Hash)>,
    ended: HashSet<Uuid>,
    lengths: Vec<u32>,
    checksum: u64,
}

/// How many records make the next leaf, and their bytes.
fn next_leaf(lengths: &[u32]) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for length in lengths.iter().take(LEAF_RECORDS) {
        if count > 0 && bytes + *length as usize > LEAF_BYTES {
            break;
        }
        count += 1;
        bytes += *length as usize;
    }
    (count, bytes)
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK_FILE);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Locked(directory.to_owned())),
    }
}

fn write_checkpoint(store: &mut Store, signer: &NoteSigner, edge: &Edge) -> Result<String, Error> {
    let origin = signer.name().to_owned();
    let note = Checkpoint { origin, size: edge.size(), root: edge.root() }.sign(signer);
    store.write(Path::new(CHECKPOINT_FILE), note.as_bytes())?;
    store.sync_names()?;
    Ok(note)
}

/// The log that is there, else a new one. One that cannot be gone on with is set aside.
fn take_up(
    directory: &Path,
    first: &NoteSigner,
) -> Result<(Loaded, NoteSigner, Option<SetAside>), Error> {
    let generation = aside::generation(directory, first.name())?;
    let signer = first.renamed(&aside::name_of(first.name(), generation))?;
    match load(directory, &signer.verifier()) {
        Ok(loaded) => Ok((loaded, signer, None)),
        Err(Error::NoLog(_)) if !directory.join("tile").exists() => {
            Ok((begin(directory, &signer)?, signer, None))
        }
        Err(error) if aside::is_damage(&error) || matches!(error, Error::NoLog(_)) => {
            let to = aside::set_aside(directory, generation)?;
            let signer = first.renamed(&aside::name_of(first.name(), generation + 1))?;
            let loaded = begin(directory, &signer)?;
            Ok((loaded, signer, Some(SetAside { to, why: error.to_string() })))
        }
        Err(error) => Err(error),
    }
}

/// A new log: an empty tree, signed, and the public key beside it.
fn begin(directory: &Path, signer: &NoteSigner) -> Result<Loaded, Error> {
    let mut store = Store::new(directory);
    store.write(Path::new(VKEY_FILE), format!("{}\n", signer.verifier()).as_bytes())?;
    let edge = Edge::default();
    let note = write_checkpoint(&mut store, signer, &edge)?;
    let State { summary, chains } = State::empty();
    Ok(Loaded { note, edge, chains, bundle: Vec::new(), summary, minimum: 0, unsaved: 0 })
}
