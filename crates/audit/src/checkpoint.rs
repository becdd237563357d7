//! Checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of the tree, as a signed note.

use crate::error::Error;
use crate::hash::Hash;
use crate::note::{NoteError, NoteSigner, VerifierKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::path::Path;

/// File name of the newest checkpoint.
pub const CHECKPOINT_FILE: &str = "checkpoint";

/// What a log commits itself to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name; also the name of its key.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum CheckpointError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("its text is no checkpoint")]
    Malformed,
    #[error("it is of the log `{0}`")]
    Origin(String),
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }

    /// Reads the text; extension lines are allowed and ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let number: u64 = size.parse().ok()?;
        let root: Hash = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        let canonical =
            number.to_string() == size && !origin.is_empty() && lines.all(|l| !l.is_empty());
        canonical.then(|| Checkpoint { origin: origin.to_owned(), size: number, root })
    }

    /// The signed note.
    pub fn sign(&self, signer: &NoteSigner) -> String {
        signer.sign(&self.text())
    }

    /// Checks a signed note and reads it. The key's name must be the origin.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::parse(key.open(note)?).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin(checkpoint.origin));
        }
        Ok(checkpoint)
    }

    /// Reads the newest checkpoint of a log without checking its signature: for what only shows.
    pub fn peek(directory: &Path) -> Result<Self, Error> {
        peek_text(&read(directory)?)
            .ok_or_else(|| Error::Checkpoint(CheckpointError::Malformed.to_string()))
    }
}

/// Reads a signed note without checking its signature.
pub(crate) fn peek_text(note: &[u8]) -> Option<Checkpoint> {
    let (text, _) = std::str::from_utf8(note).ok()?.split_once("\n\n")?;
    Checkpoint::parse(&format!("{text}\n"))
}

/// The bytes of a log's newest checkpoint.
pub fn read(directory: &Path) -> Result<Vec<u8>, Error> {
    let path = directory.join(CHECKPOINT_FILE);
    std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoLog(directory.to_owned()),
        _ => Error::io("read", &path, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    #[test]
    fn both_ways_and_bound_to_the_origin() {
        let signer = NoteSigner::new("a.example/log", SigningKey::from_bytes(&[3; 32])).unwrap();
        let checkpoint = Checkpoint { origin: "a.example/log".into(), size: 7, root: [9; 32] };
        let note = checkpoint.sign(&signer);
        assert_eq!(Checkpoint::open(note.as_bytes(), &signer.verifier()), Ok(checkpoint.clone()));
        let stranger = Checkpoint { origin: "b".into(), ..checkpoint };
        let note = stranger.sign(&signer);
        let error = Checkpoint::open(note.as_bytes(), &signer.verifier());
        assert_eq!(error, Err(CheckpointError::Origin("b".into())));
    }

    #[test]
    fn only_one_spelling() {
        assert!(Checkpoint::parse("a\n07\nAAAA\n").is_none());
        assert!(Checkpoint::parse("a\n7\nAAAA\n").is_none());
        let root = BASE64_STANDARD.encode([0; 32]);
        assert!(Checkpoint::parse(&format!("a\n7\n{root}\n")).is_some());
        assert!(Checkpoint::parse(&format!("a\n+7\n{root}\n")).is_none());
        assert!(Checkpoint::parse(&format!("a\n7\n{root}\nextension 1\n")).is_some());
    }

    #[test]
    fn an_independent_reader_accepts_it() {
        let signer = NoteSigner::new("a.example/log", SigningKey::from_bytes(&[3; 32])).unwrap();
        let checkpoint = Checkpoint { origin: "a.example/log".into(), size: 7, root: [9; 32] };
        let note = signed_note::Note::from_bytes(checkpoint.sign(&signer).as_bytes()).unwrap();
        let key = signed_note::StandardVerifier::new(&signer.verifier().to_string()).unwrap();
        let (good, other) =
            note.verify(&signed_note::VerifierList::new(vec![Box::new(key)])).unwrap();
        assert_eq!((good.len(), other.len()), (1, 0));
        let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!(
            (theirs.origin(), theirs.size(), theirs.hash().0),
            ("a.example/log", 7, [9; 32])
        );
    }
}
