//! What somebody with write access to the log's files could do: the tile log's public layout
//! (c2sp.org/tlog-tiles) is all that it takes.

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Copies a log, directories and all.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in listed(from)? {
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            // What was there when the folder was listed may be gone: a partial tile's longer successor came.
            false => drop(std::fs::copy(entry.path(), &target)),
        }
    }
    Ok(())
}

/// What is in a folder of a log that may be written meanwhile: one that is gone has nothing in it any more.
///
/// # Errors
/// When it cannot be read.
pub fn listed(folder: &Path) -> Result<Vec<std::fs::DirEntry>> {
    let list = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.with_context(|| folder.display().to_string())?,
    };
    list.map(|entry| Ok(entry?)).collect()
}

/// Every file with log entries, oldest first; for a partial one only its longest form.
fn bundles(log: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    walk(&log.join("tile/entries"), &mut all)?;
    // `000` before `000.p/12` before `001`; of partial ones only the widest counts.
    all.sort_by_key(|path| position(path));
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in all {
        if kept.last().is_some_and(|last| position(last).0 == position(&path).0) {
            kept.pop();
        }
        kept.push(path);
    }
    Ok(kept)
}

fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in listed(dir)? {
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), into)?,
            false => into.push(entry.path()),
        }
    }
    Ok(())
}

/// Index of a bundle and how many entries its name promises.
fn position(path: &Path) -> (u64, u64) {
    let words: Vec<String> = path
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .skip_while(|w| w != "entries")
        .skip(1)
        .collect();
    let digits = |w: &str| w.chars().filter(char::is_ascii_digit).collect::<String>();
    let partial = words.iter().any(|w| w.ends_with(".p"));
    let (name, width) = match (partial, words.split_last()) {
        (true, Some((width, name))) => (name.to_vec(), width.parse().unwrap_or(0)),
        _ => (words, 256),
    };
    (name.iter().map(|w| digits(w)).collect::<String>().parse().unwrap_or(0), width)
}

/// The entries of one bundle: each has its length in front, two bytes, big end first.
fn entries(bundle: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut rest = bundle;
    let mut all = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        ensure!(after.len() >= length, "an entry bundle ends in the middle of an entry");
        all.push(after[..length].to_vec());
        rest = &after[length..];
    }
    Ok(all)
}

fn bundle_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let with_length =
        |entry: &Vec<u8>| [&(entry.len() as u16).to_be_bytes(), entry.as_slice()].concat();
    entries.iter().flat_map(with_length).collect()
}

fn change(path: &Path, edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<()> {
    let mut all = entries(&std::fs::read(path)?)?;
    edit(&mut all);
    Ok(std::fs::write(path, bundle_of(&all))?)
}

/// Where a text lies in the log: bundle, entry, byte of its first letter.
fn find(log: &Path, text: &str) -> Result<(PathBuf, usize, usize)> {
    for path in bundles(log)? {
        let all = entries(&std::fs::read(&path)?)?;
        for (n, entry) in all.iter().enumerate() {
            if let Some(at) = entry.windows(text.len()).position(|w| w == text.as_bytes()) {
                let letter = text.bytes().position(|b| b.is_ascii_alphabetic()).unwrap_or(0);
                return Ok((path, n, at + letter));
            }
        }
    }
    anyhow::bail!("{text:?} is nowhere in the log")
}

/// Changes one letter of `text`, wherever it stands first.
///
/// # Errors
/// When the text is not in the log.
pub fn edit(log: &Path, text: &str) -> Result<()> {
    let (path, n, at) = find(log, text)?;
    change(&path, |all| all[n][at] ^= 0x20)
}

/// The same, and puts the right hash of the changed leaf into the tree.
///
/// # Errors
/// As [`edit`].
pub fn edit_with_hash(log: &Path, text: &str) -> Result<()> {
    let (path, n, at) = find(log, text)?;
    change(&path, |all| all[n][at] ^= 0x20)?;
    let entry = entries(&std::fs::read(&path)?)?.swap_remove(n);
    let tile = PathBuf::from(path.display().to_string().replacen("tile/entries", "tile/0", 1));
    let mut hashes = std::fs::read(&tile).with_context(|| tile.display().to_string())?;
    let leaf = Sha256::new_with_prefix([0]).chain_update(&entry).finalize();
    let place = hashes.get_mut(n * 32..(n + 1) * 32).context("the tile is too short")?;
    place.copy_from_slice(&leaf);
    Ok(std::fs::write(tile, hashes)?)
}

/// Takes out the entry that holds `text`.
///
/// # Errors
/// When the text is not in the log.
pub fn delete(log: &Path, text: &str) -> Result<()> {
    let (path, n, _) = find(log, text)?;
    change(&path, |all| drop(all.remove(n)))
}

/// Swaps the entry that holds `text` with a neighbour.
///
/// # Errors
/// When the text is not in the log, or its bundle has one entry only.
pub fn reorder(log: &Path, text: &str) -> Result<()> {
    let (path, n, _) = find(log, text)?;
    let count = entries(&std::fs::read(&path)?)?.len();
    ensure!(count > 1, "a bundle with one entry cannot be reordered");
    let with = if n + 1 < count { n + 1 } else { n - 1 };
    change(&path, |all| all.swap(n, with))
}

/// Drops the newest entry.
///
/// # Errors
/// When there is none.
pub fn truncate(log: &Path) -> Result<()> {
    let path = bundles(log)?.pop().context("the log has no entries")?;
    change(&path, |all| drop(all.pop()))
}

/// Signs the checkpoint with a key of the forger's own, and puts that key beside the log.
///
/// # Errors
/// When the checkpoint is no signed note.
pub fn swap_key(log: &Path) -> Result<()> {
    let note = std::fs::read_to_string(log.join("checkpoint")).context("checkpoint")?;
    let (text, signatures) = note.split_once("\n\n").context("the checkpoint has no signature")?;
    let text = format!("{text}\n");
    let name = signatures.split_whitespace().nth(1).context("the signature has no name")?;
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = [&[1u8], key.verifying_key().as_bytes().as_slice()].concat();
    let id = Sha256::new().chain_update(name).chain_update("\n").chain_update(&public).finalize();
    let signature = [&id[..4], &key.sign(text.as_bytes()).to_bytes()].concat();
    let line = format!("\u{2014} {name} {}\n", BASE64_STANDARD.encode(signature));
    std::fs::write(log.join("checkpoint"), format!("{text}\n{line}"))?;
    let hex: String = id[..4].iter().map(|b| format!("{b:02x}")).collect();
    let verifier = format!("{name}+{hex}+{}\n", BASE64_STANDARD.encode(public));
    Ok(std::fs::write(log.join("log.vkey"), verifier)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let tiles = dir.path().join("tile");
        for d in ["entries/000.p", "0/000.p"] {
            std::fs::create_dir_all(tiles.join(d)).unwrap();
        }
        let three = bundle_of(&[b"one".to_vec(), b"two secret".to_vec(), b"three".to_vec()]);
        std::fs::write(tiles.join("entries/000.p/2"), bundle_of(&[b"one".to_vec()])).unwrap();
        std::fs::write(tiles.join("entries/000.p/3"), three).unwrap();
        std::fs::write(tiles.join("0/000.p/3"), [0u8; 96]).unwrap();
        std::fs::write(dir.path().join("checkpoint"), "o\n3\nroot\n\n\u{2014} o AAAA\n").unwrap();
        dir
    }

    fn newest(dir: &Path) -> Vec<Vec<u8>> {
        let path = bundles(dir).unwrap().pop().unwrap();
        entries(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn only_the_widest_partial_bundle_counts() {
        let dir = log();
        assert_eq!(bundles(dir.path()).unwrap(), [dir.path().join("tile/entries/000.p/3")]);
        assert_eq!(position(Path::new("/l/tile/entries/x001/234.p/17")), (1234, 17));
        assert_eq!(position(Path::new("/l/tile/entries/x001/234")), (1234, 256));
    }

    #[test]
    fn each_forgery_does_what_it_says() {
        let dir = log();
        edit(dir.path(), "secret").unwrap();
        assert_eq!(newest(dir.path())[1], b"two Secret");
        reorder(dir.path(), "Secret").unwrap();
        assert_eq!(newest(dir.path())[2], b"two Secret");
        delete(dir.path(), "Secret").unwrap();
        assert_eq!(newest(dir.path()), [b"one".to_vec(), b"three".to_vec()]);
        truncate(dir.path()).unwrap();
        assert_eq!(newest(dir.path()), [b"one".to_vec()]);
        assert!(edit(dir.path(), "not there").is_err());
    }

    #[test]
    fn a_fitting_hash_is_the_leaf_hash_of_rfc_6962() {
        let dir = log();
        edit_with_hash(dir.path(), "secret").unwrap();
        let tile = std::fs::read(dir.path().join("tile/0/000.p/3")).unwrap();
        let leaf = Sha256::digest(b"\0two Secret");
        assert_eq!(&tile[32..64], leaf.as_slice());
        assert_eq!(&tile[..32], [0; 32]);
    }

    #[test]
    fn a_swapped_key_keeps_the_text_and_the_name() {
        let dir = log();
        swap_key(dir.path()).unwrap();
        let note = std::fs::read_to_string(dir.path().join("checkpoint")).unwrap();
        assert!(note.starts_with("o\n3\nroot\n\n\u{2014} o "), "{note}");
        let key = std::fs::read_to_string(dir.path().join("log.vkey")).unwrap();
        assert!(key.starts_with("o+"), "{key}");
    }
}
