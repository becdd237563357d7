//! Reading tiles and bundles from a log's directory.

use crate::error::Error;
use crate::hash::Hash;
use crate::layout::{TILE_WIDTH, Tile, leaves};
use crate::state::canonical;
use crate::tree::{Subtrees, complete_root};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Reads a tile into `bytes`; where the partial one is gone, the full one has it as its beginning.
pub(crate) fn read_tile(
    directory: &Path,
    tile: Tile,
    bytes: &mut Vec<u8>,
) -> Result<PathBuf, Error> {
    bytes.clear();
    let (mut file, relative) = open_tile(directory, tile)?;
    let path = directory.join(&relative);
    file.read_to_end(bytes).map_err(|error| Error::io("read", &path, error))?;
    Ok(relative)
}

/// A bundle's file; it may hold more leaves than were asked for.
pub(crate) fn open_bundle(directory: &Path, index: u64, width: u64) -> Result<File, Error> {
    open_tile(directory, Tile::entries(index, width)).map(|(file, _)| file)
}

/// How often a tile is looked for anew while the writer replaces it.
const LOOKS: u32 = 8;

/// A tile's file, or the narrowest of the wider ones where it is gone: each has it as its beginning.
fn open_tile(directory: &Path, tile: Tile) -> Result<(File, PathBuf), Error> {
    let mut looks = 0;
    loop {
        let relative = if looks == 0 { tile.path() } else { there(directory, tile) };
        let path = directory.join(&relative);
        match File::open(&path) {
            Ok(file) => return Ok((file, relative)),
            Err(error) if error.kind() == ErrorKind::NotFound && looks < LOOKS => looks += 1,
            Err(error) => return Err(Error::io("read", &path, error)),
        }
    }
}

/// The narrowest file that has the tile; the tile's own if there is none.
fn there(directory: &Path, tile: Tile) -> PathBuf {
    let exact = tile.path();
    let Some(folder) = exact.parent().filter(|_| tile.width < TILE_WIDTH) else { return exact };
    let list = std::fs::read_dir(directory.join(folder)).into_iter().flatten();
    let width = list.filter_map(|item| canonical(item.ok()?.file_name().to_str()?));
    let wider = width.filter(|width| (tile.width..TILE_WIDTH).contains(width)).min();
    Tile { width: wider.unwrap_or(TILE_WIDTH), ..tile }.path()
}

/// True if there is a file that has the tile.
pub(crate) fn is_there(directory: &Path, tile: Tile) -> bool {
    open_tile(directory, tile).is_ok()
}

/// The first `tile.width` hashes of a tile.
pub(crate) fn read_hashes(directory: &Path, tile: Tile) -> Result<Vec<Hash>, Error> {
    let mut bytes = Vec::new();
    let path = read_tile(directory, tile, &mut bytes)?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    let wide = tile.width..=TILE_WIDTH;
    if !rest.is_empty() || !wide.contains(&(hashes.len() as u64)) {
        return Err(Error::Damaged(format!("{} has {} bytes", path.display(), bytes.len())));
    }
    Ok(hashes[..tile.width as usize].to_vec())
}

/// The first `width` leaves of a bundle, as they lie.
pub(crate) fn read_bundle(directory: &Path, index: u64, width: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let path = read_tile(directory, Tile::entries(index, width), &mut bytes)?;
    let mut end = 0;
    let mut list = leaves(&bytes);
    for _ in 0..width {
        match list.next() {
            Some(Ok(leaf)) => end += 2 + leaf.len(),
            _ => return Err(Error::Damaged(format!("{} is cut short", path.display()))),
        }
    }
    bytes.truncate(end);
    Ok(bytes)
}

/// Subtree roots from the tiles of a log of `size` leaves.
pub(crate) struct TileTree<'d> {
    pub directory: &'d Path,
    pub size: u64,
}

impl Subtrees for TileTree<'_> {
    type Error = Error;

    fn root(&self, height: u32, index: u64) -> Result<Hash, Error> {
        let (level, inside) = (height / 8, height % 8);
        let first = index << inside;
        let tile = first / TILE_WIDTH;
        let width = crate::layout::width(level, tile, self.size);
        let hashes = read_hashes(self.directory, Tile::hashes(level, tile, width))?;
        let at = (first % TILE_WIDTH) as usize;
        hashes
            .get(at..at + (1 << inside))
            .map(complete_root)
            .ok_or_else(|| Error::Damaged(format!("tile {level}/{tile} is too narrow")))
    }
}
