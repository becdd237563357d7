//! A file that knows every call whose record coconutd has not acknowledged: who asked, and what was done so far.
//!
//! It is a file of slots of one size, of which none crosses a page: whatever moment this process is killed at,
//! a slot is as it was before a write or as it is after. (It lies in memory, beside coconutd's own registry: a
//! power cut ends the calls, too.) The first slot names the journal and says up to which number its records are
//! in the log. The others are free, open (a call runs; its two counters are written in place), complete
//! (its answer is), or settled (the call is over; its record has a number).

mod slot;

use api::broker::Usage;
use ports::Tokens;
pub use slot::cut;
use slot::{HEADER, Header, SIZE, State};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// The file's name.
const NAME: &str = "calls";
/// Why a call has ended that was open when this process was not there any more.
const LOST: &str = "the broker ended while the call was open";

/// A call's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// A record that has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The first of a journal is 1, and none is left out.
    pub number: u64,
    /// What coconutd is told.
    pub record: Usage,
    slot: Option<Slot>,
}

/// The journal.
pub struct Journal {
    file: File,
    id: Uuid,
    books: Mutex<Books>,
}

struct Books {
    free: Vec<Slot>,
    /// Slots in the file, the header included.
    slots: u32,
    /// The last number that was given.
    last: u64,
    /// Up to here all are in coconutd's log.
    through: u64,
}

impl Journal {
    /// Opens the journal in `folder`, and settles what an earlier process left open. The records are in the
    /// order of their numbers.
    ///
    /// # Errors
    /// When it cannot be read or written, or another process has it.
    pub fn open(folder: &Path) -> io::Result<(Self, Vec<Settled>)> {
        let path = folder.join(NAME);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        let slots = u32::try_from(file.metadata()?.len() / SIZE as u64).unwrap_or(u32::MAX);
        let header = match slots {
            0 => Header { id: Uuid::now_v7(), through: 0 },
            _ => Header::parse(&read(&file, Slot(0))?)?,
        };
        file.write_all_at(&header.bytes(), 0)?;
        let Header { id, through } = header;
        let books = Books { free: Vec::new(), slots: slots.max(1), last: through, through };
        let journal = Self { file, id, books: Mutex::new(books) };
        let left = journal.take_up()?;
        Ok((journal, left))
    }

    /// What an earlier process left.
    fn take_up(&self) -> io::Result<Vec<Settled>> {
        let mut books = self.books();
        let (mut settled, mut open) = (Vec::new(), Vec::new());
        for slot in (HEADER..books.slots).map(Slot) {
            match slot::parse(&read(&self.file, slot)?) {
                State::Settled(number, record) if number > books.through => {
                    books.last = books.last.max(number);
                    settled.push(Settled { number, record, slot: Some(slot) });
                }
                State::Open(record) => {
                    open.push((slot, Usage { refused: Some(LOST.to_owned()), ..record }));
                }
                // All was done but the settling.
                State::Complete(record) => open.push((slot, record)),
                State::Settled(..) | State::Free => {
                    self.file.write_all_at(&slot::FREE, offset(slot))?;
                    books.free.push(slot);
                }
            }
        }
        // In the order in which they came.
        open.sort_by_key(|(_, record)| (record.time_ns, record.call));
        for (slot, record) in open {
            books.last += 1;
            let number = books.last;
            self.file.write_all_at(&slot::settled(number, &record), offset(slot))?;
            settled.push(Settled { number, record, slot: Some(slot) });
        }
        settled.sort_by_key(|settled| settled.number);
        Ok(settled)
    }

    /// Its name: coconutd counts each journal's records.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// A call begins.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn begin(&self, record: &Usage) -> io::Result<Slot> {
        let bytes = slot::open(record);
        let slot = {
            let mut books = self.books();
            books.free.pop().unwrap_or_else(|| {
                books.slots += 1;
                Slot(books.slots - 1)
            })
        };
        let written = self.file.write_all_at(&bytes, offset(slot));
        if written.is_err() {
            self.books().free.push(slot);
        }
        written.map(|()| slot)
    }

    /// So much was done for an open call.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn progress(&self, slot: Slot, tokens: Tokens) -> io::Result<()> {
        self.file.write_all_at(&slot::counters(tokens), offset(slot) + slot::COUNTERS as u64)
    }

    /// The answer to an open call is complete.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn complete(&self, slot: Slot) -> io::Result<()> {
        self.file.write_all_at(&slot::COMPLETE, offset(slot))
    }

    /// A call is over. What cannot be written down goes on all the same, as long as this process lives. `send`
    /// is called in the order of the numbers.
    pub fn settle(&self, slot: Option<Slot>, record: Usage, send: impl FnOnce(Settled)) {
        let mut books = self.books();
        books.last += 1;
        let number = books.last;
        if let Some(slot) = slot
            && let Err(error) =
                self.file.write_all_at(&slot::settled(number, &record), offset(slot))
        {
            tracing::error!(%error, "the end of a call is not written down");
        }
        send(Settled { number, record, slot });
    }

    /// These are in coconutd's log; they are the next ones.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn delivered(&self, settled: &[Settled]) -> io::Result<()> {
        let mut books = self.books();
        let Some(last) = settled.last() else { return Ok(()) };
        books.through = last.number;
        let header = Header { id: self.id, through: books.through };
        // Before the slots: a number must not be given twice.
        self.file.write_all_at(&header.bytes(), 0)?;
        for slot in settled.iter().filter_map(|settled| settled.slot) {
            self.file.write_all_at(&slot::FREE, offset(slot))?;
            books.free.push(slot);
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn offset(Slot(number): Slot) -> u64 {
    u64::from(number) * SIZE as u64
}

fn read(file: &File, slot: Slot) -> io::Result<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    file.read_exact_at(&mut bytes, offset(slot))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
