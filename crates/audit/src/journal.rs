//! What was appended since the last checkpoint, so that a crash of the daemon loses none of it.
//!
//! A frame is a length, a checksum (the exclusive or of the records' hashes, cut to 8 bytes) and
//! the records. A frame that is torn or does not continue the chains was never acknowledged.

use crate::chain::Chains;
use crate::error::Error;
use crate::hash::Hash;
use record::{Entry, records};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// File name of the journal.
pub(crate) const JOURNAL_FILE: &str = "journal";
const HEADER: usize = 12;

/// The open journal.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
}

/// What was found in a journal.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Encoded records that no checkpoint covers, with the length of each.
    pub pending: Vec<u8>,
    pub lengths: Vec<u32>,
    /// Bytes behind the last whole frame.
    pub torn: u64,
}

/// Checksum of a frame.
pub(crate) fn fold(sum: u64, hash: &Hash) -> u64 {
    // Rotated, so that two equal hashes do not cancel out and order counts.
    let head = [hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]];
    sum.rotate_left(1) ^ u64::from_le_bytes(head)
}

impl Journal {
    /// Opens or makes the journal and replays it on top of `chains`.
    pub fn open(directory: &Path, chains: &mut Chains, leaf: u64) -> Result<(Self, Replay), Error> {
        let path = directory.join(JOURNAL_FILE);
        let io = |action, error| Error::io(action, &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| io("open", error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| io("read", error))?;
        let mut replay = Replay::default();
        let mut good = 0;
        while let Some(frame) = whole_frame(&bytes[good..]) {
            if !replay_frame(frame, chains, leaf, &mut replay) {
                break;
            }
            good += HEADER + frame.1.len();
        }
        replay.torn = (bytes.len() - good) as u64;
        let mut journal = Journal { file, path, length: good as u64 };
        journal.cut()?;
        Ok((journal, replay))
    }

    /// Adds a frame; nothing of it stays if it cannot be written whole.
    pub fn append(&mut self, checksum: u64, records: &[u8]) -> Result<(), Error> {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&(records.len() as u32).to_le_bytes());
        header[4..].copy_from_slice(&checksum.to_le_bytes());
        let written = self.file.write_all(&header).and_then(|()| self.file.write_all(records));
        if let Err(error) = written {
            self.cut()?;
            return Err(Error::io("write", &self.path, error));
        }
        self.length += (HEADER + records.len()) as u64;
        Ok(())
    }

    /// Makes all frames durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Forgets all frames: a checkpoint covers them.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.length = 0;
        self.cut()
    }

    fn cut(&mut self) -> Result<(), Error> {
        let length = self.length;
        self.file
            .set_len(length)
            .and_then(|()| self.file.seek(SeekFrom::Start(length)))
            .map(|_| ())
            .map_err(|error| Error::io("cut", &self.path, error))
    }
}

/// The whole frames of a log that was set aside, in order, as their producers told them.
pub(crate) fn entries(directory: &Path) -> Vec<Entry> {
    let bytes = std::fs::read(directory.join(JOURNAL_FILE)).unwrap_or_default();
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((checksum, frame)) = whole_frame(&bytes[at..]) {
        at += HEADER + frame.len();
        let list: Result<Vec<_>, _> = records(frame).collect();
        let Ok(list) = list else { break };
        let sum =
            list.iter().fold(0, |sum, (_, bytes)| fold(sum, &crate::hash::record_hash(bytes)));
        if sum != checksum {
            break;
        }
        all.extend(list.iter().filter_map(|(record, _)| record.to_record().to_entry().ok()));
    }
    all
}

fn whole_frame(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let checksum = u64::from_le_bytes(header[4..].try_into().ok()?);
    (length > 0).then(|| rest.get(..length)).flatten().map(|records| (checksum, records))
}

/// Takes a frame over; false if it is torn. Records that a checkpoint covers are skipped.
fn replay_frame(frame: (u64, &[u8]), chains: &mut Chains, leaf: u64, replay: &mut Replay) -> bool {
    let (checksum, bytes) = frame;
    let mut next = chains.clone();
    let (mut sum, mut fresh) = (0, Vec::new());
    for item in records(bytes) {
        let Ok((record, encoded)) = item else { return false };
        if record.seq < chains.next_seq {
            sum = fold(sum, &crate::hash::record_hash(encoded));
            continue;
        }
        let (hash, broken) = next.follow(&record, encoded, leaf);
        if broken.is_some() {
            return false;
        }
        sum = fold(sum, &hash);
        fresh.push(encoded);
    }
    if sum != checksum {
        return false;
    }
    *chains = next;
    for encoded in fresh {
        replay.pending.extend_from_slice(encoded);
        replay.lengths.push(encoded.len() as u32);
    }
    true
}
