//! Reading a log: from a place on, the newest ones, what is new, what a filter lets through.
//!
//! A reader sees what the newest checkpoint covers. It checks nothing: that is `verify`'s work.

use crate::checkpoint::{Checkpoint, read as read_note};
use crate::error::Error;
use crate::hash::leaf_hash;
use crate::layout::{TILE_WIDTH, leaves, width};
use crate::proof::Proof;
use crate::query::Filter;
use crate::record::{Record, RecordView, records};
use crate::tiles::{TileTree, read_bundle};
use crate::tree::{prove_consistency, prove_inclusion};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A log, open for reading.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
    checkpoint: Checkpoint,
    next: u64,
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
        Ok(Reader { directory: directory.to_owned(), checkpoint, next: 0 })
    }

    /// Goes on to the newest checkpoint; true if it is a newer one.
    pub fn refresh(&mut self) -> Result<bool, Error> {
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

    fn bundles(&self) -> u64 {
        self.checkpoint.size.div_ceil(TILE_WIDTH)
    }

    fn bundle(&self, index: u64) -> Result<Vec<u8>, Error> {
        let width = width(0, index, self.checkpoint.size);
        match read_bundle(&self.directory, index, width) {
            // The writer has replaced the partial bundle since the checkpoint was read.
            Err(Error::Io { .. }) if width < TILE_WIDTH => {
                let newer = Checkpoint::peek(&self.directory)?;
                let wider = self::width(0, index, newer.size);
                let bytes = read_bundle(&self.directory, index, wider)?;
                Ok(first_leaves(&bytes, width).to_vec())
            }
            other => other,
        }
    }

    /// Sequence number of a bundle's first record.
    fn first_seq(&self, bundle: u64) -> Result<u64, Error> {
        let bytes = self.bundle(bundle)?;
        let leaf = leaves(&bytes).next().and_then(Result::ok);
        let record = leaf.and_then(|leaf| records(leaf).next()).and_then(Result::ok);
        record.map(|(r, _)| r.seq).ok_or_else(|| damaged(bundle))
    }

    /// The last bundle whose first record is not behind `seq`.
    fn bundle_of(&self, seq: u64) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.bundles().saturating_sub(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.first_seq(middle)? <= seq { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }

    /// Hands every record from `seq` on to `each`, in order, until it breaks.
    pub fn for_each(
        &self,
        seq: u64,
        mut each: impl FnMut(&RecordView<'_>, Place) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        for bundle in self.bundle_of(seq)?..self.bundles() {
            let bytes = self.bundle(bundle)?;
            for (leaf, bytes) in (bundle * TILE_WIDTH..).zip(leaves(&bytes)) {
                let bytes = bytes.map_err(|()| damaged(bundle))?;
                for (position, record) in records(bytes).enumerate() {
                    let (record, _) = record.map_err(|_| damaged(bundle))?;
                    if record.seq >= seq && each(&record, Place { leaf, position }).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The first `limit` records that `filter` lets through, the oldest first.
    pub fn query(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>, Error> {
        let mut found = Vec::new();
        self.for_each(filter.from_seq.unwrap_or(0), |record, _| {
            if filter.matches(record) && found.len() < limit {
                found.push(record.to_record());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// The last `limit` records that `filter` lets through, the oldest first.
    pub fn tail(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>, Error> {
        let mut found: VecDeque<Record> = VecDeque::new();
        for bundle in (0..self.bundles()).rev() {
            let bytes = self.bundle(bundle)?;
            let mut here = Vec::new();
            for leaf in leaves(&bytes) {
                for record in records(leaf.map_err(|()| damaged(bundle))?) {
                    let (record, _) = record.map_err(|_| damaged(bundle))?;
                    if filter.matches(&record) {
                        here.push(record.to_record());
                    }
                }
            }
            for record in here.into_iter().rev() {
                if found.len() == limit {
                    return Ok(found.into());
                }
                found.push_front(record);
            }
        }
        Ok(found.into())
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
        })?;
        self.next = next;
        Ok(found)
    }

    /// Where the record `seq` lies.
    pub fn locate(&self, seq: u64) -> Result<Place, Error> {
        let mut found = None;
        self.for_each(seq, |record, place| {
            found = (record.seq == seq).then_some(place);
            ControlFlow::Break(())
        })?;
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

fn first_leaves(bundle: &[u8], count: u64) -> &[u8] {
    let lengths = leaves(bundle).take(count as usize).map_while(Result::ok).map(|l| l.len() + 2);
    &bundle[..lengths.sum()]
}
