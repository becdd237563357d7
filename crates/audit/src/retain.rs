//! Segments and what is kept of them: the oldest go when there are too many bytes. Not when they are old: a
//! clock that somebody set forward would take everything.
//!
//! A segment is what lies between two states that stay. The tree stays whole: tiles above the lowest level
//! are never removed, so that what is left, and every checkpoint, still leads to the signed root.

use crate::error::Error;
use crate::layout::{TILE_WIDTH, Tile};
use crate::minimum::{self, MINIMUM_FILE};
use crate::note::NoteSigner;
use crate::state::{self, Summary};
use crate::store::Store;
use std::collections::VecDeque;
use std::path::Path;

/// A state is written once for so many records of each agent in it, so that it costs each record little.
const RECORDS_PER_HEAD: u64 = 4;
/// Segments that make up what is kept.
const SEGMENTS: u64 = 32;

/// How much of a log is kept. The newest segment always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of records at most. What is kept may be a segment less, a thirty-second.
    pub bytes: u64,
    /// Bytes of a segment, at least and at most.
    pub segment: (u64, u64),
    /// Records behind a state at most, but for one checkpoint's: what an opening has to follow.
    pub state_every: u64,
}

impl Default for Retention {
    /// Everything.
    fn default() -> Self {
        Retention { bytes: u64::MAX, segment: (64 << 10, 64 << 20), state_every: 32 << 10 }
    }
}

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The first leaf that is kept.
    pub minimum: u64,
    /// The first record that is kept.
    pub next_seq: u64,
    /// Bytes of records that went.
    pub bytes: u64,
}

/// The states of a log, and what of it is kept.
#[derive(Debug)]
pub(crate) struct Segments {
    limits: Retention,
    /// The oldest first; the first is where the log begins.
    boundaries: VecDeque<Summary>,
    /// A state that goes when the next one is written.
    rolling: Option<u64>,
    /// Records behind the newest state.
    unsaved: u64,
}

impl Segments {
    /// Of a log that was taken up: `unsaved` records lie behind its newest state.
    pub fn load(
        directory: &Path,
        signer: &NoteSigner,
        limits: Retention,
        (minimum, size): (u64, u64),
        unsaved: u64,
    ) -> Result<Segments, Error> {
        let key = signer.verifier();
        let mut sizes = state::sizes(directory)?;
        sizes.retain(|known| (minimum..=size).contains(known));
        let load = |size: &u64| Summary::load(directory, *size, &key);
        let mut boundaries: VecDeque<_> = sizes.iter().filter_map(load).collect();
        if minimum == 0 {
            boundaries.push_front(state::State::empty().summary);
        }
        let rolling = (boundaries.len() > 1).then(|| boundaries.pop_back()).flatten();
        let rolling = rolling.map(|summary| summary.size);
        Ok(Segments { limits, boundaries, rolling, unsaved })
    }

    /// So many records were appended and sealed.
    pub fn add(&mut self, records: u64) {
        self.unsaved += records;
    }

    /// True if a state is to be written, with so many agents in it.
    pub fn is_due(&self, agents: usize) -> bool {
        self.unsaved >= self.limits.state_every.max(agents as u64 * RECORDS_PER_HEAD)
    }

    /// True if the newest state has every record.
    pub fn is_saved(&self) -> bool {
        self.unsaved == 0
    }

    /// A state was written.
    pub fn saved(&mut self, store: &Store, now: Summary) {
        self.unsaved = 0;
        if let Some(old) = self.rolling.take().filter(|old| *old != now.size) {
            store.remove(&state::path(old));
        }
        let begun = self.boundaries.back().map_or(0, |summary| summary.bytes);
        let (least, most) = self.limits.segment;
        if now.bytes - begun >= (self.limits.bytes / SEGMENTS).clamp(least, most) {
            self.boundaries.push_back(now);
        } else {
            self.rolling = Some(now.size);
        }
    }

    /// The boundary before which everything is to go.
    fn due(&self, now: Summary) -> Option<Summary> {
        let segments = self.boundaries.iter().zip(self.boundaries.iter().skip(1));
        let goes = |(begin, _): &(&Summary, &Summary)| now.bytes - begin.bytes > self.limits.bytes;
        segments.take_while(goes).last().map(|(_, end)| *end)
    }

    /// Takes away what is not to be kept, if there is any.
    ///
    /// The minimum is signed first, so that whatever is cut off, nobody misses what is gone.
    pub fn prune(
        &mut self,
        store: &mut Store,
        signer: &NoteSigner,
        now: Summary,
    ) -> Result<Option<Pruned>, Error> {
        let (Some(from), Some(to)) = (self.boundaries.front().copied(), self.due(now)) else {
            return Ok(None);
        };
        let state = state::State::load(store.root(), to.size, &signer.verifier());
        let Some(state) = state else { return Ok(None) };
        store.write(Path::new(MINIMUM_FILE), minimum::seal(to.size, signer).as_bytes())?;
        store.sync_names()?;
        while self.boundaries.front().is_some_and(|old| old.size < to.size) {
            let old = self.boundaries.pop_front().map_or(0, |old| old.size);
            store.remove(&state::path(old));
        }
        remove(store, from.size / TILE_WIDTH, to.size / TILE_WIDTH);
        let (next_seq, bytes) = (state.chains.next_seq, to.bytes - from.bytes);
        Ok(Some(Pruned { minimum: to.size, next_seq, bytes }))
    }
}

/// Removes the bundles `low..high` and their hashes, the lowest first: what a crash leaves of them is found
/// by [`finish`].
fn remove(store: &Store, low: u64, high: u64) {
    for index in low..high {
        store.remove(&Tile::entries(index, TILE_WIDTH).path());
        store.remove(&Tile::hashes(0, index, TILE_WIDTH).path());
    }
}

/// Ends what a crash broke off: nothing lies before the minimum.
pub(crate) fn finish(store: &Store, minimum: u64) {
    for index in (0..minimum / TILE_WIDTH).rev() {
        let paths = [Tile::entries(index, TILE_WIDTH), Tile::hashes(0, index, TILE_WIDTH)];
        let there = paths.map(|tile| store.root().join(tile.path()).exists());
        if there == [false, false] {
            return;
        }
        paths.iter().for_each(|tile| store.remove(&tile.path()));
    }
}
