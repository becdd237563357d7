//! A proof for one record that needs nothing but the log's public key (c2sp.org/tlog-proof).

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{Hash, leaf_hash};
use crate::note::VerifierKey;
use crate::tree::root_from_inclusion;
use base64::prelude::{BASE64_STANDARD, Engine};
use record::{Record, records};
use std::fmt::Write;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A leaf, its way to the root, and the signed checkpoint over that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// Index of the leaf.
    pub index: u64,
    /// Position of the record within the leaf.
    pub position: usize,
    /// The leaf: records as they lie in the log.
    pub leaf: Vec<u8>,
    /// Hashes from the leaf's sibling upward.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

/// Why a proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ProofError {
    #[error("the checkpoint is not accepted: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("the leaf is not in the tree that the checkpoint signs")]
    NotIncluded,
    #[error("the leaf has no such record")]
    NoRecord,
    #[error("the text is no proof")]
    Malformed,
}

impl Proof {
    /// Checks the proof; returns the record that it proves.
    pub fn check(&self, key: &VerifierKey) -> Result<Record, ProofError> {
        let checkpoint = Checkpoint::open(self.note.as_bytes(), key)?;
        let leaf = leaf_hash(&self.leaf);
        let root = root_from_inclusion(leaf, self.index, checkpoint.size, &self.path);
        if root != Some(checkpoint.root) {
            return Err(ProofError::NotIncluded);
        }
        match records(&self.leaf).nth(self.position) {
            Some(Ok((record, _))) => Ok(record.to_record()),
            _ => Err(ProofError::NoRecord),
        }
    }

    /// The text form: leaf and position are in its `extra` line, as four bytes of position, big
    /// endian, and the leaf.
    pub fn to_text(&self) -> String {
        let position = (self.position as u32).to_be_bytes();
        let extra = BASE64_STANDARD.encode([&position, self.leaf.as_slice()].concat());
        let mut text = format!("{HEADER}\nextra {extra}\nindex {}\n", self.index);
        for hash in &self.path {
            let _ = writeln!(text, "{}", BASE64_STANDARD.encode(hash));
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        Self::read(text).ok_or(ProofError::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        if lines.next()? != HEADER {
            return None;
        }
        let extra = BASE64_STANDARD.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
        let (position, leaf) = extra.split_first_chunk::<4>()?;
        let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
        let path: Option<Vec<Hash>> =
            lines.map(|line| BASE64_STANDARD.decode(line).ok()?.try_into().ok()).collect();
        Some(Proof {
            index,
            position: u32::from_be_bytes(*position) as usize,
            leaf: leaf.to_vec(),
            path: path?,
            note: note.to_owned(),
        })
    }
}
