//! The log's only writer: append, seal into leaves, sign a checkpoint.

use crate::chain::{Chains, Head};
use crate::checkpoint::{CHECKPOINT_FILE, Checkpoint, read as read_checkpoint};
use crate::edge::Edge;
use crate::error::Error;
use crate::hash::{Hash, leaf_hash};
use crate::journal::{Journal, fold};
use crate::keys::VKEY_FILE;
use crate::layout::{TILE_WIDTH, Tile, push_leaf};
use crate::note::NoteSigner;
use crate::record;
use crate::store::Store;
use crate::tiles::read_hashes;
use crate::verify::{VerifyOptions, verify_with_chains};
use abi::Entry;
use std::borrow::Cow;
use std::collections::HashMap;
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
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions { checkpoint_every: Duration::from_secs(1), sync_appends: false }
    }
}

/// What was found when the log was opened; the caller writes it into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were appended before a crash and are covered by a checkpoint only now.
    pub records: u64,
    /// Bytes of a torn append, which nobody had been told was done.
    pub torn_bytes: u64,
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
    sealed: Instant,
    /// Holds the lock as long as it lives.
    _lock: File,
}

impl Writer {
    /// Opens the log in `directory`, or begins one there.
    ///
    /// An existing log is verified whole; if it is not what its checkpoint says, nothing is added
    /// to it and the error names the first bad record.
    pub fn open(
        directory: &Path,
        signer: NoteSigner,
        options: WriterOptions,
    ) -> Result<(Self, Recovery), Error> {
        std::fs::create_dir_all(directory).map_err(|e| Error::io("make", directory, e))?;
        let lock = lock(directory)?;
        let mut store = Store::new(directory);
        let (note, edge, mut chains, bundle) = match read_checkpoint(directory) {
            Ok(note) => load(directory, &signer, &note)?,
            Err(Error::NoLog(_)) => begin(&mut store, &signer)?,
            Err(error) => return Err(error),
        };
        let (journal, replay) = Journal::open(directory, &mut chains, edge.size())?;
        let recovery = Recovery { records: replay.lengths.len() as u64, torn_bytes: replay.torn };
        let mut writer = Writer {
            store,
            signer,
            options,
            chains,
            edge,
            bundle,
            pending: replay.pending,
            lengths: replay.lengths,
            journal,
            partial: Vec::new(),
            note,
            sealed: Instant::now(),
            _lock: lock,
        };
        writer.partial = writer.partial_paths();
        writer.checkpoint()?;
        Ok((writer, recovery))
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
            self.chains.set(agent, Head { hash, seq, leaf: self.edge.size() });
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
            let hash = record::encode(&mut self.pending, seq, &whole, prev);
            let length = self.pending.len() - at;
            batch.heads.insert(entry.agent, (seq, hash));
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
        let (mut record, mut at) = (0, 0);
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
        self.pending.clear();
        self.lengths.clear();
        self.journal.clear()?;
        self.drop_replaced();
        Ok(())
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
    let path = directory.join("lock");
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

type Loaded = (String, Edge, Chains, Vec<u8>);

/// A new log: an empty tree, signed, and the public key beside it.
fn begin(store: &mut Store, signer: &NoteSigner) -> Result<Loaded, Error> {
    if store.root().join("tile").exists() {
        let why = "it has tiles but no checkpoint; verify it, and move it away";
        return Err(Error::Damaged(why.to_owned()));
    }
    store.write(Path::new(VKEY_FILE), format!("{}\n", signer.verifier()).as_bytes())?;
    let edge = Edge::default();
    let note = write_checkpoint(store, signer, &edge)?;
    Ok((note, edge, Chains::default(), Vec::new()))
}

/// An existing log, verified.
fn load(directory: &Path, signer: &NoteSigner, note: &[u8]) -> Result<Loaded, Error> {
    let key = signer.verifier();
    let checkpoint = Checkpoint::open(note, &key).map_err(|e| Error::Checkpoint(e.to_string()))?;
    let (report, chains) = verify_with_chains(directory, &key, &VerifyOptions::default())?;
    if let Some(violation) = report.violation {
        return Err(Error::Damaged(violation.to_string()));
    }
    let edge = Edge::load(checkpoint.size, |tile| read_hashes(directory, tile))?;
    if edge.root() != checkpoint.root {
        return Err(Error::Damaged("its tiles do not lead to the checkpoint's root".to_owned()));
    }
    let width = checkpoint.size % TILE_WIDTH;
    let bundle = if width == 0 {
        Vec::new()
    } else {
        crate::tiles::read_bundle(directory, checkpoint.size / TILE_WIDTH, width)?
    };
    Ok((String::from_utf8_lossy(note).into_owned(), edge, chains, bundle))
}
