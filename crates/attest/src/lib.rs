//! Signing and checking of manifests: who authorised this agent, and was he allowed to?
//!
//! A signature is a DSSE envelope over an in-toto statement that binds the manifest's SHA-256, the
//! authorizer's name and every capability. What a key may grant is written in the trust store,
//! never in the envelope. How capabilities contain one another is told by the caller, so that
//! this crate needs none of ours.

pub mod dsse;
mod keys;
mod statement;
mod trust;
mod verify;

pub use dsse::{Envelope, EnvelopeError, EnvelopeSignature};
pub use keys::{KeyError, PublicKey, SecretKey};
pub use statement::{Grant, ManifestFacts, Statement, Subject};
pub use trust::{Rights, TrustError, TrustStore, TrustedKey};
pub use verify::{Authorized, VerifyError, sign_manifest, verify_manifest, verify_signature};

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of a manifest's bytes, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}
