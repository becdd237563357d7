//! Where things lie (c2sp.org/tlog-tiles): tiles of 256 hashes, bundles of 256 leaves.

use std::path::PathBuf;

/// Hashes of a full tile, leaves of a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u32 = 8;

/// A tile of hashes or a bundle of leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// `None` for a bundle of leaves.
    pub level: Option<u32>,
    /// Position within the level.
    pub index: u64,
    /// Hashes or leaves, 1 to 256.
    pub width: u64,
}

impl Tile {
    /// A bundle of leaves.
    pub fn entries(index: u64, width: u64) -> Self {
        Tile { level: None, index, width }
    }

    /// A tile of hashes.
    pub fn hashes(level: u32, index: u64, width: u64) -> Self {
        Tile { level: Some(level), index, width }
    }

    /// Path below the log's directory.
    pub fn path(&self) -> PathBuf {
        let level = self.level.map_or("entries".to_owned(), |level| level.to_string());
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let partial =
            if self.width == TILE_WIDTH { String::new() } else { format!(".p/{}", self.width) };
        PathBuf::from(format!("tile/{level}/{number}{partial}"))
    }
}

/// Width of the tile `index` at `level` in a tree of `size` leaves; 0 if it has none.
pub fn width(level: u32, index: u64, size: u64) -> u64 {
    let hashes = size.checked_shr(level * TILE_HEIGHT).unwrap_or(0);
    hashes.saturating_sub(index * TILE_WIDTH).min(TILE_WIDTH)
}

/// Appends a leaf to a bundle: its length in two bytes, big endian, then itself.
pub fn push_leaf(bundle: &mut Vec<u8>, leaf: &[u8]) {
    debug_assert!(u16::try_from(leaf.len()).is_ok());
    bundle.extend_from_slice(&(leaf.len() as u16).to_be_bytes());
    bundle.extend_from_slice(leaf);
}

/// The leaves of a bundle in order; `None` behind a leaf that is cut short.
pub struct Leaves<'a>(&'a [u8]);

/// Reads a bundle.
pub fn leaves(bundle: &[u8]) -> Leaves<'_> {
    Leaves(bundle)
}

impl<'a> Iterator for Leaves<'a> {
    type Item = Result<&'a [u8], ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let leaf = self.0.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        self.0 = leaf.map_or(&[], |(_, rest)| rest);
        Some(leaf.map(|(leaf, _)| leaf).ok_or(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |tile: Tile| tile.path().to_str().unwrap().to_owned();
        assert_eq!(path(Tile::hashes(0, 1_234_067, 256)), "tile/0/x001/x234/067");
        assert_eq!(path(Tile::hashes(1, 0, 5)), "tile/1/000.p/5");
        assert_eq!(path(Tile::entries(1_000, 256)), "tile/entries/x001/000");
        assert_eq!(path(Tile::entries(999, 1)), "tile/entries/999.p/1");
    }

    #[test]
    fn widths() {
        assert_eq!((width(0, 0, 256), width(0, 1, 256), width(1, 0, 256)), (256, 0, 1));
        assert_eq!((width(0, 1, 300), width(1, 0, 70_000), width(2, 0, 70_000)), (44, 256, 1));
        assert_eq!(width(8, 0, u64::MAX), 0);
    }

    #[test]
    fn a_short_bundle_is_noticed() {
        let mut bundle = Vec::new();
        push_leaf(&mut bundle, b"one");
        push_leaf(&mut bundle, b"");
        assert_eq!(leaves(&bundle).collect::<Vec<_>>(), [Ok(&b"one"[..]), Ok(&b""[..])]);
        bundle.pop();
        assert_eq!(leaves(&bundle).last(), Some(Err(())));
    }
}
