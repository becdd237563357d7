//! The log's files as somebody may have left them: bundles, checkpoints, notes, proofs.

use crate::text;
use audit::layout::{leaves, push_leaf};
use audit::{Checkpoint, Proof, VerifierKey};
use ed25519_dalek::SigningKey;

/// The bytes as each of them.
pub fn log(bytes: &[u8]) {
    bundle(bytes);
    let Some(text) = text(bytes) else { return };
    if let Some(checkpoint) = Checkpoint::parse(text) {
        // Behind it are lines of extensions, which nobody reads.
        let own = checkpoint.text();
        assert!(text.starts_with(&own), "two texts for one checkpoint");
        assert_eq!(Checkpoint::parse(&own), Some(checkpoint));
    }
    if let Ok(proof) = Proof::parse(text) {
        assert_eq!(Proof::parse(&proof.to_text()).unwrap().to_text(), proof.to_text());
        assert!(proof.check(&verifier()).is_err(), "a proof of a log that nobody wrote");
    }
    assert!(Checkpoint::open(bytes, &verifier()).is_err(), "a checkpoint that nobody signed");
}

/// Leaves that are read are written as the same bytes; one that is cut short is the last.
fn bundle(bytes: &[u8]) {
    let (mut again, mut broken) = (Vec::new(), false);
    for leaf in leaves(bytes) {
        assert!(!broken, "something is read behind a leaf that is cut short");
        match leaf {
            Ok(leaf) => push_leaf(&mut again, leaf),
            Err(()) => broken = true,
        }
    }
    assert!(bytes.starts_with(&again) && broken == (again.len() < bytes.len()));
}

/// Of a key that signs nothing here.
fn verifier() -> VerifierKey {
    let key = SigningKey::from_bytes(&[9; 32]).verifying_key();
    VerifierKey::new("coconut.example/log", key).unwrap()
}
