//! The Merkle tree of RFC 6962: growing it, proving and checking. Pure.

use crate::hash::{Hash, empty_root, node_hash};

/// The complete subtrees that make up a tree of some size, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    size: u64,
    hashes: Vec<Hash>,
}

impl Peaks {
    /// Adds a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Adds a complete subtree of `1 << height` leaves. The size must be a multiple of that.
    pub(crate) fn push_subtree(&mut self, height: u32, root: Hash) {
        debug_assert_eq!(self.size & ((1 << height) - 1), 0);
        let mut root = root;
        let mut merges = (self.size >> height).trailing_ones();
        while merges > 0 {
            if let Some(left) = self.hashes.pop() {
                root = node_hash(&left, &root);
            }
            merges -= 1;
        }
        self.hashes.push(root);
        self.size += 1 << height;
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.hashes.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Root of a complete tree over `hashes`; their number is a power of two.
pub(crate) fn complete_root(hashes: &[Hash]) -> Hash {
    let mut peaks = Peaks::default();
    hashes.iter().for_each(|hash| peaks.push(*hash));
    peaks.root()
}

/// Where the proofs get the roots of complete subtrees from.
pub trait Subtrees {
    /// Why a root cannot be had.
    type Error;
    /// Root of the leaves `index << height .. (index + 1) << height`.
    fn root(&self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Largest power of two below `n`; `n` is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Root of the leaves `low..high`.
pub fn range_root<S: Subtrees>(subtrees: &S, low: u64, high: u64) -> Result<Hash, S::Error> {
    let count = high - low;
    if count == 0 {
        return Ok(empty_root());
    }
    if count.is_power_of_two() && low.is_multiple_of(count) {
        let height = count.trailing_zeros();
        return subtrees.root(height, low >> height);
    }
    let middle = low + split(count);
    let left = range_root(subtrees, low, middle)?;
    Ok(node_hash(&left, &range_root(subtrees, middle, high)?))
}

/// Proof that leaf `index` is in the tree of `size` leaves (RFC 6962 §2.1.1), the lowest first.
pub fn prove_inclusion<S: Subtrees>(s: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(range_root(s, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(s, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Root that the proof leads to, if the proof has the right length (RFC 9162 §2.1.3.2).
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = node_hash(step, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, step);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Proof that the tree of `old` leaves is a prefix of that of `new` leaves (RFC 6962 §2.1.2).
pub fn prove_consistency<S: Subtrees>(s: &S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut low, mut high) = (0, new);
    let mut whole = true;
    // Invariant: low < old <= high; `whole` says that the old tree is known at `low..old`.
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            path.push(range_root(s, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(s, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range_root(s, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// True if `path` proves that the tree (`old`, `old_root`) is a prefix of (`new`, `new_root`)
/// (RFC 9162 §2.1.4.2).
pub fn check_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> bool {
    if old == new || old == 0 {
        let same = old != new || old_root == new_root;
        return path.is_empty() && same && (old != 0 || *old_root == empty_root());
    }
    if old > new {
        return false;
    }
    let mut steps = path.iter();
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let start = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(start) = start else { return false };
    let (mut first, mut second) = (*start, *start);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            first = node_hash(step, &first);
            second = node_hash(step, &second);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            second = node_hash(&second, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && first == *old_root && second == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{hex, leaf_hash};

    /// Keeps every leaf: the slow and plain definition.
    struct Leaves(Vec<Hash>);

    impl Subtrees for Leaves {
        type Error = std::convert::Infallible;
        fn root(&self, height: u32, index: u64) -> Result<Hash, Self::Error> {
            let low = (index << height) as usize;
            Ok(plain_root(&self.0[low..low + (1 << height)]))
        }
    }

    fn plain_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            several => {
                let (left, right) = several.split_at(split(several.len() as u64) as usize);
                node_hash(&plain_root(left), &plain_root(right))
            }
        }
    }

    /// Leaves and roots of the Certificate Transparency reference tests for RFC 6962.
    const VECTORS: [(&str, &str); 8] = [
        ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        (
            "606162636465666768696a6b6c6d6e6f",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ];

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn roots_are_those_of_the_known_vectors() {
        assert_eq!(
            hex(&empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut peaks = Peaks::default();
        for (leaf, root) in VECTORS {
            peaks.push(leaf_hash(&unhex(leaf)));
            assert_eq!(hex(&peaks.root()), root, "{} leaves", peaks.size());
        }
    }

    #[test]
    fn every_proof_up_to_seventy_leaves_checks_and_no_other_does() {
        let leaves: Vec<Hash> = (0_u32..70).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let all = Leaves(leaves.clone());
        for size in 1..=70_u64 {
            let root = plain_root(&leaves[..size as usize]);
            for index in 0..size {
                let leaf = leaves[index as usize];
                let path = prove_inclusion(&all, index, size).unwrap();
                assert_eq!(root_from_inclusion(leaf, index, size, &path), Some(root));
                let other = root_from_inclusion(leaf, (index + 1) % size, size, &path);
                assert!(size == 1 || other != Some(root));
                let longer = [path.as_slice(), &[root]].concat();
                assert_eq!(root_from_inclusion(leaf, index, size, &longer), None);
            }
            for old in 0..=size {
                let old_root = plain_root(&leaves[..old as usize]);
                let path = prove_consistency(&all, old, size).unwrap();
                assert!(check_consistency(old, &old_root, size, &root, &path), "{old} {size}");
                if old > 0 && old < size {
                    assert!(!check_consistency(old, &leaves[0], size, &root, &path) || old == 1);
                    assert!(!check_consistency(old, &old_root, size, &old_root, &path));
                    assert!(!check_consistency(old, &old_root, size, &root, &[]));
                }
            }
        }
    }
}
