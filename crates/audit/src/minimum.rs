//! The minimum index of a log that was pruned (c2sp.org/tlog-tiles): leaves before it are not there any
//! more, and were taken away by who has the log's key.

use crate::error::Error;
use crate::note::{NoteSigner, VerifierKey};
use std::path::Path;

/// File of the minimum index; a log that was never pruned has none.
pub(crate) const MINIMUM_FILE: &str = "minimum";
const FORMAT: &str = "coconut-log-minimum/1";

/// The file.
pub(crate) fn seal(minimum: u64, signer: &NoteSigner) -> String {
    signer.sign(&format!("{FORMAT}\n{}\n{minimum}\n", signer.name()))
}

/// The minimum index of a log; 0 if it was never pruned.
///
/// # Errors
/// When it is not what was signed.
pub(crate) fn open(directory: &Path, key: &VerifierKey) -> Result<u64, Error> {
    let Some(note) = read(directory)? else { return Ok(0) };
    let text = key.open(&note).ok();
    text.and_then(|text| parse(text, Some(key.name())))
        .ok_or_else(|| Error::Damaged(format!("the file `{MINIMUM_FILE}` is not what was signed")))
}

/// As [`open`], without looking at the signature: for what only shows.
pub(crate) fn peek(directory: &Path) -> Result<u64, Error> {
    let note = read(directory)?.unwrap_or_default();
    Ok(std::str::from_utf8(&note).ok().and_then(|note| parse(note, None)).unwrap_or(0))
}

fn parse(text: &str, origin: Option<&str>) -> Option<u64> {
    let mut lines = text.lines();
    let format = lines.next()? == FORMAT;
    let same = lines.next().is_some_and(|line| origin.is_none_or(|origin| origin == line));
    (format && same).then(|| lines.next()?.parse().ok()).flatten()
}

fn read(directory: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(MINIMUM_FILE);
    match std::fs::read(&path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path, error)),
    }
}
