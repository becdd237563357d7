//! How the records that somebody wants to see are found a page at a time.

use crate::filter::Filter;
use crate::reader::{Cursor, Reader, Walk};
use record::{Record, RecordView};
use std::ops::ControlFlow;

/// What one step of a [`Scan`] hands on at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Records.
    pub records: usize,
    /// Bytes of their texts; the record that reaches it is the last.
    pub bytes: usize,
}

impl Default for Page {
    fn default() -> Self {
        Page { records: 256, bytes: 64 << 10 }
    }
}

/// Bytes of the log that one step looks at, beside the rest of a leaf.
const LOOK: u64 = 256 << 10;

/// A query that is answered a page at a time. Between two steps it holds no record.
///
/// The newest so many are found by counting backwards, a bundle at a time, and are then read
/// forwards: nothing is kept on the way.
#[derive(Clone, Debug)]
pub struct Scan {
    reader: Reader,
    filter: Filter,
    /// Records that may still be handed on.
    left: u64,
    reached: u64,
    damaged: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Counts what a bundle has; `found` are behind it.
    Count {
        bundle: u64,
        at: Cursor,
        here: u64,
        found: u64,
    },
    /// Passes over the first so many of a bundle.
    Skip {
        at: Cursor,
        over: u64,
    },
    /// Hands on.
    Read {
        at: Cursor,
    },
    Done,
}

impl Scan {
    /// The newest `limit` records of a filter, or all, the oldest first.
    pub fn newest(reader: Reader, filter: Filter, limit: Option<u64>) -> Scan {
        let stage = match (limit, reader.bundles().checked_sub(1)) {
            (Some(0), _) | (_, None) => Stage::Done,
            (None, _) => Stage::Read { at: Reader::beginning_of(reader.first()) },
            (Some(_), Some(last)) => Stage::count(last, 0),
        };
        Scan { reader, filter, left: limit.unwrap_or(u64::MAX), reached: 0, damaged: 0, stage }
    }

    /// The first `limit` records of a filter from the record `seq` on, or all.
    pub fn from(reader: Reader, filter: Filter, seq: u64, limit: Option<u64>) -> Scan {
        let stage = Stage::Read { at: reader.cursor(seq) };
        Scan { reader, filter, left: limit.unwrap_or(u64::MAX), reached: 0, damaged: 0, stage }
    }

    /// Goes on: hands records that the filter lets through and `visible` agrees to on to `each`.
    /// False when there are no more. What cannot be read is passed over and [counted](Scan::damaged).
    pub fn step(
        &mut self,
        page: Page,
        visible: &mut dyn FnMut(&RecordView<'_>) -> bool,
        each: &mut dyn FnMut(&RecordView<'_>),
    ) -> bool {
        let filter = &self.filter;
        let mut wanted = |record: &RecordView<'_>| filter.matches(record) && visible(record);
        self.stage = match self.stage {
            Stage::Count { bundle, mut at, mut here, found } => {
                let walk = self.reader.walk_on(&mut at, LOOK, &mut |record, _| {
                    here += u64::from(wanted(record));
                    ControlFlow::Continue(())
                });
                match walk {
                    Walk::Paused | Walk::Stopped => Stage::Count { bundle, at, here, found },
                    Walk::Bundle | Walk::End => {
                        let before = bundle.checked_sub(1).filter(|b| *b >= self.reader.first());
                        Stage::counted((before, bundle), found + here, self.left)
                    }
                }
            }
            Stage::Skip { mut at, mut over } => {
                let walk = self.reader.walk_on(&mut at, LOOK, &mut |record, _| {
                    over -= u64::from(wanted(record));
                    if over == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                // What may be seen can have become less since it was counted.
                let all = over == 0 || walk == Walk::End;
                if all { Stage::Read { at } } else { Stage::Skip { at, over } }
            }
            Stage::Read { at } => self.read(at, page, visible, each),
            Stage::Done => Stage::Done,
        };
        !matches!(self.stage, Stage::Done)
    }

    /// The record behind the last one that was looked at, once records are handed on.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Leaves that could not be read and were passed over: `verify` says what is wrong with them.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn read(
        &mut self,
        mut at: Cursor,
        page: Page,
        visible: &mut dyn FnMut(&RecordView<'_>) -> bool,
        each: &mut dyn FnMut(&RecordView<'_>),
    ) -> Stage {
        let (filter, left) = (&self.filter, &mut self.left);
        let (mut records, mut bytes) = (0, 0);
        let walk = self.reader.walk_on(&mut at, LOOK, &mut |record, _| {
            if !filter.matches(record) || !visible(record) {
                return ControlFlow::Continue(());
            }
            each(record);
            *left -= 1;
            records += 1;
            bytes += record.object.len() + record.words.len() + record.body.len();
            let full = records >= page.records || bytes >= page.bytes || *left == 0;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (self.reached, self.damaged) = (at.seq(), at.damaged());
        if walk == Walk::End || self.left == 0 { Stage::Done } else { Stage::Read { at } }
    }
}

impl Reader {
    /// The last `limit` records that `filter` lets through, the oldest first. All of them are in
    /// memory: for what may be much there is [`Scan`].
    pub fn tail(&self, filter: &Filter, limit: usize) -> Vec<Record> {
        let mut found = Vec::new();
        let mut scan = Scan::newest(self.clone(), filter.clone(), Some(limit as u64));
        while scan.step(Page::default(), &mut |_| true, &mut |r| found.push(r.to_record())) {}
        found
    }
}

impl Stage {
    fn count(bundle: u64, found: u64) -> Stage {
        Stage::Count { bundle, at: Reader::beginning_of(bundle), here: 0, found }
    }

    /// A bundle was counted: with what is behind it there are `found` of `wanted`.
    fn counted((before, bundle): (Option<u64>, u64), found: u64, wanted: u64) -> Stage {
        match (found.checked_sub(wanted), before) {
            (Some(0), _) | (None, None) => Stage::Read { at: Reader::beginning_of(bundle) },
            (Some(over), _) => Stage::Skip { at: Reader::beginning_of(bundle), over },
            (None, Some(before)) => Stage::count(before, found),
        }
    }
}
