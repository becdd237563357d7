//! Reading a log: from a place on, the newest ones, what is new, what a filter lets through.
//!
//! A reader sees what the newest checkpoint covers. It checks nothing: that is `verify`'s work.

use crate::checkpoint::{Checkpoint, read as read_note};
use crate::error::Error;
use crate::filter::Filter;
use crate::hash::leaf_hash;
use crate::layout::{TILE_WIDTH, leaves, push_leaf, width};
use crate::minimum;
use crate::proof::Proof;
use crate::tiles::{TileTree, open_bundle};
use crate::tree::{prove_consistency, prove_inclusion};
use record::{Record, RecordView, records};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A log, open for reading.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
    checkpoint: Checkpoint,
    /// The first leaf that is kept.
    minimum: u64,
    next: u64,
}

/// How far a reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    bundle: u64,
    /// Leaf within the bundle, and where it begins in the bundle's file.
    leaf: u64,
    offset: u64,
    /// The first record that is wanted.
    seq: u64,
    /// Leaves that could not be read and were passed over.
    damaged: u64,
}

impl Cursor {
    fn go_to(&mut self, bundle: u64) {
        (self.bundle, self.leaf, self.offset) = (bundle, 0, 0);
    }

    /// The record that is read next, if there is one with this number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many leaves could not be read and were passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// It was told to.
    Stopped,
    /// It has read as much as it was to.
    Paused,
    /// A bundle is read; there are more.
    Bundle,
    /// There is nothing more.
    End,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its leaf.
    pub leaf: u64,
    /// Its position within the leaf.
    pub position: usize,
}

fn damaged(bundle: u64) -> Error {
    Error::Damaged(format!("bundle {bundle} cannot be read; `coconut audit verify` says more"))
}

impl Reader {
    /// Opens the log in `directory` at its newest checkpoint.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let checkpoint = Checkpoint::peek(directory)?;
        let minimum = minimum::peek(directory)?;
        Ok(Reader { directory: directory.to_owned(), checkpoint, minimum, next: 0 })
    }

    /// Goes on to the newest checkpoint; true if it is a newer one.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        self.minimum = minimum::peek(&self.directory)?;
        let newest = Checkpoint::peek(&self.directory)?;
        let newer = newest.size > self.checkpoint.size;
        self.checkpoint = newest;
        Ok(newer)
    }

    /// The checkpoint that this reader sees. Its signature has not been checked.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How many records the log has.
    pub fn len(&self) -> Result<u64, Error> {
        let Some(last) = self.checkpoint.size.checked_sub(1) else { return Ok(0) };
        let bundle = self.bundle(last / TILE_WIDTH)?;
        let leaf = leaves(&bundle).last().and_then(Result::ok);
        let record = leaf.and_then(|leaf| records(leaf).last()).and_then(Result::ok);
        record.map(|(r, _)| r.seq + 1).ok_or_else(|| damaged(last / TILE_WIDTH))
    }

    /// True if the log has no records.
    pub fn is_empty(&self) -> bool {
        self.checkpoint.size == 0
    }

    fn bundle(&self, index: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut open = self.open_at(index, 0)?;
        for _ in 0..width(0, index, self.checkpoint.size) {
            let leaf = open.leaf()?.ok_or_else(|| damaged(index))?;
            push_leaf(&mut bytes, leaf);
        }
        Ok(bytes)
    }

    /// A bundle's leaves from a place in its file on; a leaf at a time is in memory.
    fn open_at(&self, index: u64, offset: u64) -> Result<OpenBundle, Error> {
        let width = width(0, index, self.checkpoint.size);
        let mut file = BufReader::new(open_bundle(&self.directory, index, width)?);
        file.seek_relative(offset.cast_signed()).map_err(|_| damaged(index))?;
        Ok(OpenBundle { index, file, leaf: Vec::new() })
    }

    /// Sequence number of a bundle's first record.
    fn first_seq(&self, bundle: u64) -> Result<u64, Error> {
        let mut open = self.open_at(bundle, 0)?;
        let leaf = open.leaf()?.ok_or_else(|| damaged(bundle))?;
        let record = records(leaf).next().and_then(Result::ok);
        record.map(|(r, _)| r.seq).ok_or_else(|| damaged(bundle))
    }

    /// The last bundle whose first record is not behind `seq`.
    fn bundle_of(&self, seq: u64) -> u64 {
        let (mut low, mut high) = (self.first(), self.bundles().saturating_sub(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            // One that cannot be read says nothing: the next one does.
            let readable = (middle..=high).find_map(|at| Some((at, self.first_seq(at).ok()?)));
            match readable {
                Some((at, first)) if first <= seq => low = at,
                _ => high = middle - 1,
            }
        }
        low
    }

    /// Where the record `seq` is looked for.
    pub fn cursor(&self, seq: u64) -> Cursor {
        let bundle = if self.is_empty() { self.first() } else { self.bundle_of(seq) };
        Cursor { seq, ..Reader::beginning_of(bundle) }
    }

    /// The beginning of a bundle.
    pub(crate) fn beginning_of(bundle: u64) -> Cursor {
        Cursor { bundle, leaf: 0, offset: 0, seq: 0, damaged: 0 }
    }

    /// The first bundle that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.minimum / TILE_WIDTH
    }

    /// How many bundles there are, those that are not kept any more included.
    pub(crate) fn bundles(&self) -> u64 {
        self.checkpoint.size.div_ceil(TILE_WIDTH)
    }

    /// Hands records on from `cursor` to the end of its bundle, those of leaves that are damaged left out, until `each` breaks or leaves of
    /// `look` bytes were read. `cursor` is left where the next walk goes on.
    pub fn walk(
        &self,
        cursor: &mut Cursor,
        look: u64,
        each: &mut dyn FnMut(&RecordView<'_>, Place) -> ControlFlow<()>,
    ) -> Result<Walk, Error> {
        let end = width(0, cursor.bundle, self.checkpoint.size);
        if end == 0 {
            return Ok(Walk::End);
        }
        let mut open = match self.open_at(cursor.bundle, cursor.offset) {
            Ok(open) => open,
            Err(error) => {
                // Taken away since this reader looked.
                let first = minimum::peek(&self.directory)? / TILE_WIDTH;
                if cursor.bundle >= first {
                    return Err(error);
                }
                cursor.go_to(first);
                return Ok(Walk::Bundle);
            }
        };
        let stop = cursor.offset.saturating_add(look);
        while cursor.leaf < end {
            let leaf = open.leaf()?.ok_or_else(|| damaged(cursor.bundle))?;
            let index = cursor.bundle * TILE_WIDTH + cursor.leaf;
            for (position, record) in records(leaf).enumerate() {
                let Ok((record, _)) = record else {
                    cursor.damaged += 1;
                    break;
                };
                if record.seq < cursor.seq {
                    continue;
                }
                cursor.seq = record.seq + 1;
                if each(&record, Place { leaf: index, position }).is_break() {
                    return Ok(Walk::Stopped);
                }
            }
            cursor.offset += 2 + leaf.len() as u64;
            cursor.leaf += 1;
            if cursor.offset >= stop && cursor.leaf < end {
                return Ok(Walk::Paused);
            }
        }
        Ok(self.behind(cursor))
    }

    /// Goes on behind a bundle.
    fn behind(&self, cursor: &mut Cursor) -> Walk {
        cursor.go_to(cursor.bundle + 1);
        if cursor.bundle < self.bundles() { Walk::Bundle } else { Walk::End }
    }

    /// As [`Reader::walk`]; what is left of a bundle that cannot be read is passed over.
    pub fn walk_on(
        &self,
        cursor: &mut Cursor,
        look: u64,
        each: &mut dyn FnMut(&RecordView<'_>, Place) -> ControlFlow<()>,
    ) -> Walk {
        self.walk(cursor, look, each).unwrap_or_else(|_| {
            cursor.damaged += width(0, cursor.bundle, self.checkpoint.size) - cursor.leaf;
            self.behind(cursor)
        })
    }

    /// Hands every record from `seq` on to `each`, in order, until it breaks.
    pub fn for_each(
        &self,
        seq: u64,
        mut each: impl FnMut(&RecordView<'_>, Place) -> ControlFlow<()>,
    ) {
        let mut cursor = self.cursor(seq);
        loop {
            match self.walk_on(&mut cursor, u64::MAX, &mut each) {
                Walk::End | Walk::Stopped => return,
                Walk::Paused | Walk::Bundle => {}
            }
        }
    }

    /// The first `limit` records that `filter` lets through, the oldest first.
    pub fn query(&self, filter: &Filter, limit: usize) -> Vec<Record> {
        let mut found = Vec::new();
        self.for_each(filter.from_seq.unwrap_or(0), |record, _| {
            if filter.matches(record) && found.len() < limit {
                found.push(record.to_record());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found
    }

    /// Puts the place that [`Reader::fresh`] goes on from behind the newest record.
    pub fn skip_to_end(&mut self) -> Result<(), Error> {
        self.next = self.len()?;
        Ok(())
    }

    /// The records that were added since the last call (or since the beginning).
    pub fn fresh(&mut self, filter: &Filter) -> Result<Vec<Record>, Error> {
        self.refresh()?;
        let (mut found, mut next) = (Vec::new(), self.next);
        self.for_each(self.next, |record, _| {
            next = record.seq + 1;
            if filter.matches(record) {
                found.push(record.to_record());
            }
            ControlFlow::Continue(())
        });
        self.next = next;
        Ok(found)
    }

    /// Where the record `seq` lies.
    pub fn locate(&self, seq: u64) -> Result<Place, Error> {
        let mut found = None;
        self.for_each(seq, |record, place| {
            found = (record.seq == seq).then_some(place);
            ControlFlow::Break(())
        });
        found.ok_or(Error::NoRecord(seq))
    }

    /// A proof that anybody can check that the record `seq` is in the log.
    pub fn prove(&self, seq: u64) -> Result<Proof, Error> {
        let place = self.locate(seq)?;
        let note = read_note(&self.directory)?;
        let mut now = self.clone();
        now.refresh()?;
        let bytes = now.bundle(place.leaf / TILE_WIDTH)?;
        let leaf = leaves(&bytes).nth((place.leaf % TILE_WIDTH) as usize).and_then(Result::ok);
        let leaf = leaf.ok_or_else(|| damaged(place.leaf / TILE_WIDTH))?.to_vec();
        let tree = TileTree { directory: &self.directory, size: now.checkpoint.size };
        let path = prove_inclusion(&tree, place.leaf, now.checkpoint.size)?;
        debug_assert_eq!(leaf_hash(&leaf).len(), 32);
        let note = String::from_utf8_lossy(&note).into_owned();
        Ok(Proof { index: place.leaf, position: place.position, leaf, path, note })
    }

    /// A proof that the tree of `old` leaves is the beginning of this one.
    pub fn prove_extension(&self, old: u64) -> Result<Vec<crate::hash::Hash>, Error> {
        let tree = TileTree { directory: &self.directory, size: self.checkpoint.size };
        prove_consistency(&tree, old, self.checkpoint.size)
    }
}

/// A bundle that is read leaf by leaf.
struct OpenBundle {
    index: u64,
    file: BufReader<File>,
    leaf: Vec<u8>,
}

impl OpenBundle {
    /// The next leaf; none at the end of the file.
    fn leaf(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.file.fill_buf().map_err(|_| damaged(self.index))?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 2];
        self.file.read_exact(&mut length).map_err(|_| damaged(self.index))?;
        self.leaf.resize(usize::from(u16::from_be_bytes(length)), 0);
        self.file.read_exact(&mut self.leaf).map_err(|_| damaged(self.index))?;
        Ok(Some(&self.leaf))
    }
}
