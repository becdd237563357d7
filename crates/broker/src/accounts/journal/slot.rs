//! What one slot of the journal holds, byte by byte.
//!
//! | bytes | header | call |
//! |---|---|---|
//! | 0..4 | magic and version | state |
//! | 4..8 | | length of the record |
//! | 8..16 | number up to which all is in the log | number of a settled record |
//! | 16..24 | id (16 bytes, to 32) | tokens read, tokens written |
//! | 24.. | | the record, as JSON |
//!
//! Numbers are little-endian.

use api::broker::Usage;
use ports::Tokens;
use std::io;
use uuid::Uuid;

/// Bytes of a slot. Two of them fill a page of the smallest size that there is.
pub const SIZE: usize = 2048;
/// Slots before the first call's.
pub const HEADER: u32 = 1;
/// Where the counters of a call begin.
pub const COUNTERS: usize = 16;
/// A slot that nobody uses.
pub const FREE: [u8; 4] = [0; 4];

/// What is written over the state of an open call.
pub const COMPLETE: [u8; 4] = 3u32.to_le_bytes();

const MAGIC: [u8; 4] = *b"ccj1";
const OPEN: u32 = 1;
const SETTLED: u32 = 2;
const LENGTH: usize = 4;
const NUMBER: usize = 8;
const ID: usize = 16;
const RECORD: usize = 24;

/// What the first slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: Uuid,
    pub through: u64,
}

/// What a slot says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Free,
    /// With what was counted.
    Open(Usage),
    /// The same, and its answer was complete.
    Complete(Usage),
    /// With its number.
    Settled(u64, Usage),
}

impl Header {
    pub fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[NUMBER..NUMBER + 8].copy_from_slice(&self.through.to_le_bytes());
        bytes[ID..ID + 16].copy_from_slice(self.id.as_bytes());
        bytes
    }

    pub fn parse(bytes: &[u8; SIZE]) -> io::Result<Self> {
        if bytes[..4] != MAGIC {
            return Err(io::Error::other("it is no journal of this version's"));
        }
        let id = Uuid::from_slice(&bytes[ID..ID + 16]).map_err(io::Error::other)?;
        Ok(Self { id, through: number(bytes) })
    }
}

/// A call that begins.
pub fn open(record: &Usage) -> [u8; SIZE] {
    call(OPEN, 0, record)
}

/// A call that is over.
pub fn settled(number: u64, record: &Usage) -> [u8; SIZE] {
    call(SETTLED, number, record)
}

/// The counters of an open call.
pub fn counters(tokens: Tokens) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&tokens.prompt.to_le_bytes());
    bytes[4..].copy_from_slice(&tokens.completion.to_le_bytes());
    bytes
}

fn call(state: u32, number: u64, record: &Usage) -> [u8; SIZE] {
    let json = fitting(record);
    let tokens = Tokens { prompt: record.prompt_tokens, completion: record.completion_tokens };
    let mut bytes = [0; SIZE];
    bytes[..4].copy_from_slice(&state.to_le_bytes());
    // It fits into a slot.
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&(json.len() as u32).to_le_bytes());
    bytes[NUMBER..NUMBER + 8].copy_from_slice(&number.to_le_bytes());
    bytes[COUNTERS..RECORD].copy_from_slice(&counters(tokens));
    bytes[RECORD..RECORD + json.len()].copy_from_slice(&json);
    bytes
}

/// A record as JSON; texts that are too long for a slot are cut: a caller chooses the model's name.
fn fitting(record: &Usage) -> Vec<u8> {
    let mut record = record.clone();
    loop {
        // Maps with keys that are no texts and numbers that are none are not among what is written.
        let json = serde_json::to_vec(&record).unwrap_or_default();
        if json.len() <= SIZE - RECORD {
            return json;
        }
        let texts = [Some(&mut record.model), Some(&mut record.tenant), record.refused.as_mut()];
        if let Some(longest) = texts.into_iter().flatten().max_by_key(|text| text.len()) {
            cut(longest, longest.len() / 2);
        }
    }
}

/// Leaves `most` bytes at most.
pub fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
}

/// What cannot be read counts as free: nothing was written there that anybody was told of.
pub fn parse(bytes: &[u8; SIZE]) -> State {
    let state = u32::from_le_bytes(four(bytes, 0));
    let length = u32::from_le_bytes(four(bytes, LENGTH)) as usize;
    let json = bytes.get(RECORD..RECORD + length);
    let record = json.and_then(|json| serde_json::from_slice::<Usage>(json).ok());
    let counted = |record| Usage {
        prompt_tokens: u32::from_le_bytes(four(bytes, COUNTERS)),
        completion_tokens: u32::from_le_bytes(four(bytes, COUNTERS + 4)),
        ..record
    };
    match (state, record) {
        (OPEN, Some(record)) => State::Open(counted(record)),
        (SETTLED, Some(record)) => State::Settled(number(bytes), record),
        (_, Some(record)) if four(bytes, 0) == COMPLETE => State::Complete(counted(record)),
        _ => State::Free,
    }
}

fn number(bytes: &[u8; SIZE]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[NUMBER..NUMBER + 8]);
    u64::from_le_bytes(number)
}

fn four(bytes: &[u8; SIZE], at: usize) -> [u8; 4] {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    four
}
