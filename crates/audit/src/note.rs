//! Signed notes (c2sp.org/signed-note) with Ed25519 keys: what carries a checkpoint.

use crate::error::Error;
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Signature type byte of Ed25519 in a signed note.
const ED25519: u8 = 1;
/// A note is text; nothing that is longer is one of ours.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// The public key that notes are checked with: `<name>+<key id>+<base64 key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

/// The key that notes are signed with.
#[derive(Clone)]
pub struct NoteSigner {
    name: String,
    id: [u8; 4],
    key: SigningKey,
}

/// Key id as the specification computes it.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let hash = hasher.finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// True if `name` may be a key's name: not empty, no white space, no plus.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

fn read_id(text: &str) -> Option<[u8; 4]> {
    if text.len() != 8 {
        return None;
    }
    u32::from_str_radix(text, 16).ok().map(u32::to_be_bytes)
}

impl VerifierKey {
    /// A key under a name.
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, Error> {
        if !is_key_name(name) {
            return Err(Error::Key(format!("`{name}` cannot be a key's name")));
        }
        Ok(VerifierKey { name: name.to_owned(), id: key_id(name, &key), key })
    }

    /// Reads the text form; the key id in it must be the key's.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let broken = |why: &str| Error::Key(format!("no verifier key: {why}"));
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(broken("write <name>+<key id>+<base64 key>"));
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| broken("the key is not base64"))?;
        let Some((&ED25519, key)) = bytes.split_first() else {
            return Err(broken("only Ed25519 keys (type 1) are known"));
        };
        let key: &[u8; 32] = key.try_into().map_err(|_| broken("the key has not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| broken("the key is no curve point"))?;
        let verifier = VerifierKey::new(name, key)?;
        if read_id(id) != Some(verifier.id) {
            return Err(broken("the key id does not belong to the key"));
        }
        Ok(verifier)
    }

    /// The same key under another name.
    pub(crate) fn renamed(&self, name: &str) -> Result<Self, Error> {
        VerifierKey::new(name, self.key)
    }

    /// The key's name: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id in hex, as the text form has it.
    pub fn id(&self) -> String {
        crate::hash::hex(&self.id)
    }

    /// Checks a note; returns its text with the last newline.
    pub fn open<'n>(&self, note: &'n [u8]) -> Result<&'n str, NoteError> {
        let note = Note::parse(note)?;
        let mut named = false;
        for signature in &note.signatures {
            if signature.name != self.name {
                continue;
            }
            named = true;
            if signature.id != self.id {
                continue;
            }
            let bytes: &[u8; 64] =
                signature.bytes.as_slice().try_into().map_err(|_| NoteError::Signature)?;
            let checked =
                self.key.verify_strict(note.text.as_bytes(), &Signature::from_bytes(bytes));
            return checked.map(|()| note.text).map_err(|_| NoteError::Signature);
        }
        let signers =
            note.signatures.iter().map(|s| format!("{}+{}", s.name, crate::hash::hex(&s.id)));
        let signers = signers.collect::<Vec<_>>().join(", ");
        Err(if named { NoteError::OtherKey(signers) } else { NoteError::OtherName(signers) })
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, self.id(), BASE64_STANDARD.encode(key))
    }
}

/// Why a note is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum NoteError {
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    #[error("its signature does not match its text")]
    Signature,
    #[error("it was signed with another key of that name: {0}")]
    OtherKey(String),
    #[error("it was signed under another name: {0}")]
    OtherName(String),
}

struct NoteSignature<'n> {
    name: &'n str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

struct Note<'n> {
    text: &'n str,
    signatures: Vec<NoteSignature<'n>>,
}

impl<'n> Note<'n> {
    fn parse(note: &'n [u8]) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too long"));
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("no UTF-8"))?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("control characters"));
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Malformed("no signatures"))?;
        let (text, rest) = (&note[..=at], &note[at + 2..]);
        if rest.is_empty() || !rest.ends_with('\n') {
            return Err(NoteError::Malformed("no newline at the end"));
        }
        let signatures: Option<Vec<_>> = rest.lines().map(parse_signature).collect();
        let signatures = signatures.ok_or(NoteError::Malformed("a broken signature line"))?;
        Ok(Note { text, signatures })
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature<'_>> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(encoded).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (is_key_name(name) && !bytes.is_empty()).then(|| NoteSignature {
        name,
        id: *id,
        bytes: bytes.to_vec(),
    })
}

impl NoteSigner {
    /// A signer under a name.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, Error> {
        let verifier = VerifierKey::new(name, key.verifying_key())?;
        Ok(NoteSigner { name: verifier.name, id: verifier.id, key })
    }

    /// The same key under another name.
    pub(crate) fn renamed(&self, name: &str) -> Result<Self, Error> {
        NoteSigner::new(name, self.key.clone())
    }

    /// The public half.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), id: self.id, key: self.key.verifying_key() }
    }

    /// The key's name: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret key, to be stored.
    pub(crate) fn secret(&self) -> &SigningKey {
        &self.key
    }

    /// Signs `text`, which must end in a newline and have no line that is empty at its end.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let bytes = [self.id.as_slice(), &signature].concat();
        format!("{text}\n\u{2014} {} {}\n", self.name, BASE64_STANDARD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Go implementation that the specification grew out of (PeterNeumann).
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_known_note_is_accepted() {
        let key = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(key.to_string(), VKEY);
        assert!(key.open(NOTE.as_bytes()).unwrap().ends_with("problem is.\n"));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = VerifierKey::parse(VKEY).unwrap();
        for at in 0..NOTE.len() - 4 {
            let mut note = NOTE.as_bytes().to_vec();
            note[at] ^= 1;
            assert!(key.open(&note).is_err(), "byte {at}");
        }
    }

    #[test]
    fn own_notes_and_other_keys() {
        let signer = |seed| NoteSigner::new("log", SigningKey::from_bytes(&[seed; 32])).unwrap();
        let note = signer(1).sign("one\ntwo\n");
        assert_eq!(signer(1).verifier().open(note.as_bytes()), Ok("one\ntwo\n"));
        let swapped = signer(2).verifier().open(note.as_bytes());
        assert!(matches!(swapped, Err(NoteError::OtherKey(_))), "{swapped:?}");
        let renamed = NoteSigner::new("gol", SigningKey::from_bytes(&[1; 32])).unwrap();
        assert!(matches!(renamed.verifier().open(note.as_bytes()), Err(NoteError::OtherName(_))));
    }

    #[test]
    fn a_key_id_must_belong_to_its_key() {
        assert!(VerifierKey::parse(&VKEY.replace("c74f20a3", "c74f20a4")).is_err());
        assert!(VerifierKey::parse("a b+c74f20a3+AAAA").is_err());
        assert!(VerifierKey::parse("").is_err());
    }
}
