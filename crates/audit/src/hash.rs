//! RFC 6962 hashing with SHA-256, and the hash that chains one agent's records.

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Root of the tree without leaves (RFC 6962 §2.1): the hash of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(leaf);
    hasher.finalize().into()
}

/// Hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// Hash of an encoded record: what the same agent's next record holds as `prev`.
///
/// The prefix keeps it apart from leaves and nodes.
pub fn record_hash(encoded: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([2]);
    hasher.update(encoded);
    hasher.finalize().into()
}

/// Lower-case hex, for people.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
