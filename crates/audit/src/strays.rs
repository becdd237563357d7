//! What lies in a log's directory and is not of the log.
//!
//! In the folders of tiles and states every byte must be one that a checkpoint leads to, or will: what a
//! crash or a copy made meanwhile leaves is told apart from what somebody put there.

use crate::aside::{ASIDE_FOLDER, LOCK_FILE};
use crate::checkpoint::CHECKPOINT_FILE;
use crate::error::Error;
use crate::journal::JOURNAL_FILE;
use crate::keys::VKEY_FILE;
use crate::layout::{TILE_HEIGHT, TILE_WIDTH, Tile, leaves, width};
use crate::minimum::MINIMUM_FILE;
use crate::recent::RECENT_FILE;
use crate::report::{Violation, ViolationKind};
use crate::state::{STATE_FOLDER, canonical};
use crate::tiles::read_tile;
use std::path::Path;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// The first byte that nothing refers to.
    pub violation: Option<Violation>,
    /// What is left over and does no harm.
    pub notes: Vec<String>,
}

const TILE_FOLDER: &str = "tile";
const OWN: [&str; 9] = [
    CHECKPOINT_FILE,
    RECENT_FILE,
    VKEY_FILE,
    MINIMUM_FILE,
    JOURNAL_FILE,
    LOCK_FILE,
    STATE_FOLDER,
    TILE_FOLDER,
    ASIDE_FOLDER,
];

/// Looks at all files of a log of `size` leaves that begins at `minimum`.
pub(crate) fn find(directory: &Path, size: u64, minimum: u64) -> Result<Strays, Error> {
    let mut look = Look { directory, size, minimum, ahead: 0, left: 0, strays: Strays::default() };
    for name in names(directory)? {
        if name == TILE_FOLDER {
            look.tiles(Path::new(TILE_FOLDER))?;
        } else if name == STATE_FOLDER {
            look.states()?;
        } else if !OWN.contains(&name.trim_end_matches(".new")) {
            look.strays.notes.push(format!("`{name}` is no part of the log"));
        }
    }
    if look.ahead > 0 {
        let files = look.ahead;
        look.strays.notes.push(format!("{files} files are newer than the checkpoint"));
    }
    if look.left > 0 {
        let files = look.left;
        look.strays.notes.push(format!("{files} files are left of what was cut off or replaced"));
    }
    Ok(look.strays)
}

struct Look<'d> {
    directory: &'d Path,
    size: u64,
    minimum: u64,
    /// Files that no checkpoint leads to yet.
    ahead: u64,
    /// Files that the log does not need any more.
    left: u64,
    strays: Strays,
}

impl Look<'_> {
    fn stray(&mut self, file: &Path, what: &str) {
        let found = || Violation::new(ViolationKind::Unreferenced, what);
        self.strays.violation.get_or_insert_with(|| found().at(&file.display().to_string()));
    }

    fn tiles(&mut self, folder: &Path) -> Result<(), Error> {
        for name in names(&self.directory.join(folder))? {
            let relative = folder.join(&name);
            if self.directory.join(&relative).is_dir() {
                self.tiles(&relative)?;
                continue;
            }
            if name.ends_with(".new") {
                self.left += 1;
                continue;
            }
            match Tile::parse(&relative) {
                Some(tile) => self.tile(tile, &relative)?,
                // A folder that went while it was looked at was no file.
                None if !there(&self.directory.join(&relative)) => {}
                None => self.stray(&relative, "a file that is no tile lies among the tiles"),
            }
        }
        Ok(())
    }

    fn tile(&mut self, tile: Tile, relative: &Path) -> Result<(), Error> {
        let level = tile.level.unwrap_or(0);
        let known = width(level, tile.index, self.size);
        let lowest = level == 0 && tile.index < self.minimum / TILE_WIDTH;
        if tile.width > known {
            self.ahead += 1;
        } else if tile.width < known || lowest {
            self.left += 1;
        }
        let mut bytes = Vec::new();
        let read = match std::fs::read(self.directory.join(relative)) {
            Ok(read) => read,
            // Replaced meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("read", &self.directory.join(relative), error)),
        };
        if exact(tile, &read) < read.len() {
            self.stray(relative, "a file has more bytes than its leaves or hashes");
        } else if tile.width < known
            && read_tile(self.directory, Tile { width: known, ..tile }, &mut bytes).is_ok()
            && !bytes.starts_with(&read)
        {
            self.stray(relative, "a partial tile is not the beginning of the one that replaced it");
        }
        Ok(())
    }

    fn states(&mut self) -> Result<(), Error> {
        for name in names(&self.directory.join(STATE_FOLDER))? {
            match canonical(&name) {
                Some(size) if size > self.size => self.ahead += 1,
                Some(size) if size < self.minimum => self.left += 1,
                Some(_) => {}
                None if name.ends_with(".new") => self.left += 1,
                None => {
                    let path = Path::new(STATE_FOLDER).join(&name);
                    self.stray(&path, "a file that is no state lies among the states");
                }
            }
        }
        Ok(())
    }
}

fn there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// How many of a tile's bytes its leaves or hashes are.
fn exact(tile: Tile, bytes: &[u8]) -> usize {
    match tile.level {
        Some(_) => tile.width as usize * 32,
        None => leaves(bytes).take(tile.width as usize).flatten().map(|leaf| 2 + leaf.len()).sum(),
    }
}

/// Names in a folder, in order; what is not UTF-8 is none of ours and keeps its look.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let io = |error| Error::io("read", folder, error);
    let list = match std::fs::read_dir(folder) {
        Ok(list) => list,
        // Replaced meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let name = |item: std::io::Result<std::fs::DirEntry>| {
        item.map(|item| item.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = list.map(name).collect::<Result<_, _>>().map_err(io)?;
    names.sort();
    Ok(names)
}

impl Tile {
    /// Reads [`Tile::path`]; only the one spelling.
    fn parse(path: &Path) -> Option<Tile> {
        let mut parts = path.iter().map(|part| part.to_str());
        if parts.next()?? != TILE_FOLDER {
            return None;
        }
        let level = match parts.next()?? {
            "entries" => None,
            level => Some(level.parse().ok()?),
        };
        let (mut index, mut width) = (0_u64, TILE_WIDTH);
        for part in parts {
            let part = part?;
            let digits = match part.strip_suffix(".p") {
                Some(digits) => digits,
                None if width == 0 => {
                    width = part.parse().ok().filter(|width| *width > 0)?;
                    continue;
                }
                None => part,
            };
            if part.ends_with(".p") {
                width = 0;
            }
            let digits: u64 = digits.trim_start_matches('x').parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(digits)?;
        }
        let tile = Tile { level, index, width };
        let levels = 64 / TILE_HEIGHT;
        let fits = level.is_none_or(|level| level < levels) && width <= TILE_WIDTH && width > 0;
        (fits && *path == tile.path()).then_some(tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for tile in [
            Tile::entries(0, 1),
            Tile::entries(1_234_067, 256),
            Tile::hashes(0, 999, 255),
            Tile::hashes(2, 1_000, 7),
        ] {
            assert_eq!(Tile::parse(&tile.path()), Some(tile));
        }
        for other in [
            "tile/entries/1",
            "tile/entries/000.p/0",
            "tile/entries/000.p/256",
            "tile/entries/000.p/01",
            "tile/entries/x000/001",
            "tile/entries",
            "tile/9/000",
            "tile/0/000.p",
            "tile/0/evil",
            "tile/00/000",
        ] {
            assert_eq!(Tile::parse(Path::new(other)), None, "{other}");
        }
    }
}
