//! The right edge of the tree: the tiles that are not full yet.

use crate::hash::Hash;
use crate::layout::{TILE_HEIGHT, TILE_WIDTH, Tile, width};
use crate::tree::{Peaks, complete_root};

/// The growing tiles of each level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    /// `levels[l]` holds the hashes of the partial tile of level `l`.
    levels: Vec<Vec<Hash>>,
    size: u64,
}

impl Edge {
    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = Peaks::default();
        for (level, tile) in self.levels.iter().enumerate().rev() {
            tile.iter().for_each(|hash| peaks.push_subtree(level as u32 * TILE_HEIGHT, *hash));
        }
        peaks.root()
    }

    /// Hash of a leaf of the bundle that is not full.
    pub fn leaf(&self, at: usize) -> Option<&Hash> {
        self.levels.first()?.get(at)
    }

    /// Adds a leaf; hands every tile that becomes full to `full`.
    pub fn push<E>(
        &mut self,
        leaf: Hash,
        mut full: impl FnMut(Tile, &[Hash]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.size += 1;
        let size = self.size;
        let (mut level, mut hash) = (0, leaf);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH as usize));
            }
            let tile = &mut self.levels[level];
            tile.push(hash);
            if (tile.len() as u64) < TILE_WIDTH {
                return Ok(());
            }
            let index = (size >> (TILE_HEIGHT * (level as u32 + 1))) - 1;
            full(Tile::hashes(level as u32, index, TILE_WIDTH), tile)?;
            hash = complete_root(tile);
            tile.clear();
            level += 1;
        }
    }

    /// The tiles that are not full, with their hashes.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        let size = self.size();
        self.levels.iter().enumerate().filter(|(_, tile)| !tile.is_empty()).map(move |(l, tile)| {
            let level = l as u32;
            let index = size >> (TILE_HEIGHT * (level + 1));
            (Tile::hashes(level, index, tile.len() as u64), tile.as_slice())
        })
    }

    /// Rebuilds the edge of a tree of `size` leaves from its partial tiles.
    pub fn load<E>(
        size: u64,
        mut read: impl FnMut(Tile) -> Result<Vec<Hash>, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut level = 0;
        while size.checked_shr(level * TILE_HEIGHT).unwrap_or(0) > 0 {
            let index = size.checked_shr((level + 1) * TILE_HEIGHT).unwrap_or(0);
            let tile = Tile::hashes(level, index, width(level, index, size));
            levels.push(if tile.width == 0 { Vec::new() } else { read(tile)? });
            level += 1;
        }
        Ok(Edge { levels, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;
    use std::collections::HashMap;
    use std::convert::Infallible;

    #[test]
    fn a_loaded_edge_goes_on_like_the_one_that_was_saved() {
        let mut edge = Edge::default();
        let mut plain = Peaks::default();
        let mut tiles: HashMap<(u32, u64), Vec<Hash>> = HashMap::new();
        for i in 0_u32..66_000 {
            let leaf = leaf_hash(&i.to_be_bytes());
            plain.push(leaf);
            edge.push::<Infallible>(leaf, |tile, hashes| {
                tiles.insert((tile.level.unwrap(), tile.index), hashes.to_vec());
                Ok(())
            })
            .unwrap();
            if [1, 255, 256, 257, 65_535, 65_536, 65_537].contains(&(i + 1)) {
                for (tile, hashes) in edge.partial() {
                    tiles.insert((tile.level.unwrap(), tile.index), hashes.to_vec());
                }
                let read = |tile: Tile| {
                    let hashes = &tiles[&(tile.level.unwrap(), tile.index)];
                    Ok::<_, Infallible>(hashes[..tile.width as usize].to_vec())
                };
                let loaded = Edge::load(u64::from(i) + 1, read).unwrap();
                assert_eq!((loaded.root(), loaded.size()), (plain.root(), edge.size()));
                edge = loaded;
            }
        }
        assert_eq!(edge.root(), plain.root());
        assert_eq!(tiles[&(1, 0)].len(), 256);
    }
}
