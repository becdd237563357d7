//! Where the chains stood at some size of the log, signed, so that nobody has to read it from its first
//! record on: the writer goes on from the newest, `verify` from the oldest of a log that was pruned.
//!
//! A file `state/<leaves>` is a signed note whose text has, line by line, format, origin, leaves, root,
//! number of the next record, bytes of all leaves with their lengths, and the SHA-256 of
//! what follows the note: the chains' heads.

use crate::chain::Chains;
use crate::error::Error;
use crate::hash::{Hash, empty_root};
use crate::note::{NoteSigner, VerifierKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folder of the states.
pub(crate) const STATE_FOLDER: &str = "state";
const FORMAT: &str = "coconut-log-state/1";
/// Longer than any note of a state.
const NOTE_BYTES: u64 = 4096;

/// What is known of a log without its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Leaves.
    pub size: u64,
    pub root: Hash,
    /// Bytes of all leaves so far, those that were pruned included, each with its length.
    pub bytes: u64,
}

/// What is known of a log at some size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub summary: Summary,
    pub chains: Chains,
}

impl State {
    /// Of a log without records.
    pub fn empty() -> State {
        let summary = Summary { size: 0, root: empty_root(), bytes: 0 };
        State { summary, chains: Chains::default() }
    }

    /// The file.
    pub fn seal(&self, signer: &NoteSigner) -> Vec<u8> {
        let body = self.chains.to_bytes();
        let Summary { size, root, bytes } = self.summary;
        let (root, hash) = (BASE64_STANDARD.encode(root), BASE64_STANDARD.encode(sha(&body)));
        let (origin, next) = (signer.name(), self.chains.next_seq);
        let text = format!("{FORMAT}\n{origin}\n{size}\n{root}\n{next}\n{bytes}\n{hash}\n");
        let mut file = signer.sign(&text).into_bytes();
        file.extend_from_slice(&body);
        file
    }

    /// Reads a file; none if it is not what was signed.
    pub fn open(file: &[u8], key: &VerifierKey) -> Option<State> {
        let (header, body) = Header::open(file, key)?;
        if header.hash != sha(body) {
            return None;
        }
        Some(State { summary: header.summary, chains: Chains::from_bytes(header.next_seq, body)? })
    }

    /// The state of a log at `size`; none if it is not there or not what was signed.
    pub fn load(directory: &Path, size: u64, key: &VerifierKey) -> Option<State> {
        let file = std::fs::read(directory.join(path(size))).ok()?;
        State::open(&file, key).filter(|state| state.summary.size == size)
    }
}

impl Summary {
    /// As [`State::load`], without the chains: reads no more than the note.
    pub fn load(directory: &Path, size: u64, key: &VerifierKey) -> Option<Summary> {
        let file = std::fs::File::open(directory.join(path(size))).ok()?;
        let mut head = Vec::new();
        file.take(NOTE_BYTES).read_to_end(&mut head).ok()?;
        let (header, _) = Header::open(&head, key)?;
        Some(header.summary).filter(|summary| summary.size == size)
    }
}

struct Header {
    summary: Summary,
    next_seq: u64,
    hash: Hash,
}

impl Header {
    fn open<'f>(file: &'f [u8], key: &VerifierKey) -> Option<(Header, &'f [u8])> {
        // Text, an empty line, one signature line.
        let text = file.windows(2).position(|two| two == b"\n\n")? + 2;
        let end = text + file[text..].iter().position(|byte| *byte == b'\n')? + 1;
        let (note, body) = file.split_at(end);
        let mut lines = key.open(note).ok()?.lines();
        if lines.next()? != FORMAT || lines.next()? != key.name() {
            return None;
        }
        let number = |text: Option<&str>| text?.parse::<u64>().ok();
        let size = number(lines.next())?;
        let root = hash(lines.next()?)?;
        let next_seq = number(lines.next())?;
        let bytes = number(lines.next())?;
        let summary = Summary { size, root, bytes };
        Some((Header { summary, next_seq, hash: hash(lines.next()?)? }, body))
    }
}

/// The file of the state at `size`, below the log's directory.
pub(crate) fn path(size: u64) -> PathBuf {
    Path::new(STATE_FOLDER).join(size.to_string())
}

/// Sizes of which there are files, the smallest first.
///
/// # Errors
/// When the folder cannot be read; that it is not there is none.
pub(crate) fn sizes(directory: &Path) -> Result<Vec<u64>, Error> {
    let folder = directory.join(STATE_FOLDER);
    let list = match std::fs::read_dir(&folder) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &folder, error)),
    };
    let mut sizes: Vec<u64> =
        list.filter_map(|item| item.ok()?.file_name().to_str().and_then(canonical)).collect();
    sizes.sort_unstable();
    Ok(sizes)
}

/// A number that is written in the one way that [`path`] writes it.
pub(crate) fn canonical(name: &str) -> Option<u64> {
    name.parse().ok().filter(|size: &u64| size.to_string() == name)
}

fn hash(text: &str) -> Option<Hash> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

fn sha(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Head;
    use ed25519_dalek::SigningKey;
    use uuid::Uuid;

    fn state() -> State {
        let mut chains = Chains::default();
        chains.next_seq = 40;
        for n in 1..30 {
            let head = Head { hash: [n; 32], seq: u64::from(n), leaf: None, ended: false };
            chains.set(Uuid::from_u128(u128::from(n)), head);
        }
        let summary = Summary { size: 7, root: [3; 32], bytes: 4_000 };
        State { summary, chains }
    }

    #[test]
    fn both_ways_and_no_changed_byte_passes() {
        let signer = |seed| NoteSigner::new("a/log", SigningKey::from_bytes(&[seed; 32])).unwrap();
        let (file, key) = (state().seal(&signer(1)), signer(1).verifier());
        assert_eq!(State::open(&file, &key), Some(state()));
        assert_eq!(State::open(&file, &signer(2).verifier()), None);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_ne!(State::open(&changed, &key), Some(state()), "byte {at}");
            assert_eq!(State::open(&file[..at], &key), None, "cut at {at}");
        }
    }
}
