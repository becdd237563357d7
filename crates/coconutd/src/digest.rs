//! SHA-256 of the programs that agents start, computed once for each version of a file.

use rustix::fs::{Stat, fstat};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What a file's version is known by; the change time cannot be set from user space.
type Version = (u64, u64, i64, i64, i64, u64);

/// Programs that were seen; each costs about 100 bytes.
const KEPT: usize = 4_096;

static KNOWN: Mutex<Option<HashMap<Version, String>>> = Mutex::new(None);

/// The digest of a file, in hex.
///
/// # Errors
/// When it cannot be read, or changed while it was read.
pub fn of_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let before = version(&fstat(&file)?);
    if let Some(known) = with_known(|known| known.get(&before).cloned()) {
        return Ok(known);
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    if version(&fstat(&file)?) != before {
        return Err(std::io::Error::other("it changed while it was read"));
    }
    let digest = hex(&hash.finalize());
    with_known(|known| {
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(before, digest.clone());
    });
    Ok(digest)
}

/// The digest of a text, in hex.
pub fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn version(stat: &Stat) -> Version {
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_ctime, stat.st_ctime_nsec)
}

fn with_known<T>(act: impl FnOnce(&mut HashMap<Version, String>) -> T) -> T {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    act(known.get_or_insert_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_has_another_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "abc").unwrap();
        let first = of_file(&path).unwrap();
        assert_eq!(first, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of_file(&path).unwrap(), first);
        std::fs::write(&path, "abcd").unwrap();
        assert_ne!(of_file(&path).unwrap(), first);
        assert_eq!(of_text("abc"), first);
    }
}
