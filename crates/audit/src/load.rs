//! Taking a log up where it was left: from its newest state on, not from its first record.

use crate::chain::Chains;
use crate::checkpoint::{Checkpoint, read as read_checkpoint};
use crate::edge::Edge;
use crate::error::Error;
use crate::hash::{Hash, leaf_hash};
use crate::layout::{TILE_HEIGHT, TILE_WIDTH, Tile, leaves, width};
use crate::minimum;
use crate::note::VerifierKey;
use crate::state::{State, Summary, sizes};
use crate::tiles::{read_bundle, read_hashes};
use crate::tree::complete_root;
use record::records;
use std::path::Path;

/// A log as its writer goes on with it.
pub(crate) struct Loaded {
    /// The newest signed checkpoint.
    pub note: String,
    pub chains: Chains,
    pub edge: Edge,
    /// The leaves of the bundle that is not full.
    pub bundle: Vec<u8>,
    /// Of the whole log.
    pub summary: Summary,
    /// The first leaf that is kept.
    pub minimum: u64,
    /// Records behind the newest state.
    pub unsaved: u64,
}

/// Takes the log up. What lies before its newest state is not read: that is `verify`'s work.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Checkpoint`] and some of [`Error::Io`] if it is not what its checkpoint says.
pub(crate) fn load(directory: &Path, key: &VerifierKey) -> Result<Loaded, Error> {
    let note = read_checkpoint(directory)?;
    let checkpoint = Checkpoint::open(&note, key).map_err(|e| Error::Checkpoint(e.to_string()))?;
    let minimum = minimum::open(directory, key)?;
    let before = |size: &u64| (minimum..=checkpoint.size).contains(size);
    let states = sizes(directory)?.into_iter().rev().filter(before);
    let state = states.into_iter().find_map(|size| State::load(directory, size, key));
    let state = match state {
        Some(state) => state,
        None if minimum == 0 => State::empty(),
        None => return Err(Error::Damaged("it was pruned and has no state".to_owned())),
    };
    let mut loaded = replay(directory, &checkpoint, state)?;
    loaded.note = String::from_utf8_lossy(&note).into_owned();
    loaded.minimum = minimum;
    Ok(loaded)
}

/// Follows the records behind `state`; what they lead to must be the checkpoint's root.
fn replay(directory: &Path, checkpoint: &Checkpoint, state: State) -> Result<Loaded, Error> {
    let State { mut summary, mut chains } = state;
    let mut edge = edge_at(directory, summary.size, &summary.root)?;
    let (saved, first) = (chains.next_seq, summary.size / TILE_WIDTH);
    let mut bundle = Vec::new();
    for index in first..checkpoint.size.div_ceil(TILE_WIDTH) {
        let wide = width(0, index, checkpoint.size);
        let bytes = read_bundle(directory, index, wide)?;
        let known = (edge.size() - index * TILE_WIDTH) as usize;
        for (at, leaf) in leaves(&bytes).flatten().enumerate() {
            let hash = leaf_hash(leaf);
            if at < known {
                if edge.leaf(at) != Some(&hash) {
                    return Err(not_signed(index * TILE_WIDTH + at as u64));
                }
                continue;
            }
            follow(leaf, edge.size(), &mut chains, &mut summary)?;
            let _ = edge.push(hash, |_, _| Ok::<_, std::convert::Infallible>(()));
        }
        if wide < TILE_WIDTH {
            bundle = bytes;
        }
    }
    if edge.root() != checkpoint.root || edge.size() != checkpoint.size {
        return Err(not_signed(summary.size));
    }
    (summary.size, summary.root) = (checkpoint.size, checkpoint.root);
    let unsaved = chains.next_seq - saved;
    Ok(Loaded { note: String::new(), chains, edge, bundle, summary, minimum: 0, unsaved })
}

fn not_signed(leaf: u64) -> Error {
    Error::Damaged(format!("what it has from leaf {leaf} on is not what was signed"))
}

fn follow(leaf: &[u8], at: u64, chains: &mut Chains, summary: &mut Summary) -> Result<(), Error> {
    for item in records(leaf) {
        let (record, bytes) = item.map_err(|_| not_signed(at))?;
        if chains.follow(&record, bytes, at).1.is_some() {
            return Err(not_signed(at));
        }
    }
    summary.bytes += 2 + leaf.len() as u64;
    Ok(())
}

/// The edge of the tree of `size` leaves whose root is `root`. Partial tiles that were damaged are made anew.
pub(crate) fn edge_at(directory: &Path, size: u64, root: &Hash) -> Result<Edge, Error> {
    let stored = Edge::load(size, |tile| read_hashes(directory, tile));
    match stored {
        Ok(edge) if edge.root() == *root => return Ok(edge),
        _ => {}
    }
    let anew = Edge::load(size, |tile| compute(directory, tile))?;
    if anew.root() == *root { Ok(anew) } else { Err(not_signed(0)) }
}

/// A tile's hashes from what is below it.
fn compute(directory: &Path, tile: Tile) -> Result<Vec<Hash>, Error> {
    let Some(below) = tile.level.and_then(|level| level.checked_sub(1)) else {
        let bytes = read_bundle(directory, tile.index, tile.width)?;
        return Ok(leaves(&bytes).flatten().map(leaf_hash).collect());
    };
    let first = tile.index << TILE_HEIGHT;
    let root = |index| {
        let hashes = read_hashes(directory, Tile::hashes(below, index, TILE_WIDTH))?;
        Ok(complete_root(&hashes))
    };
    (first..first + tile.width).map(root).collect()
}
