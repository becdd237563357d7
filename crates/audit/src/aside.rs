//! A log that is not what its checkpoint says is set aside whole, and a new one begun: nothing is added
//! to it, and nothing of it is lost.
//!
//! A log's name may not be given to another (c2sp.org/tlog-checkpoint), so the second log of a machine is
//! `NAME/2`, and so on. What was set aside lies in `set-aside/N`.

use crate::checkpoint::{CHECKPOINT_FILE, peek_text};
use crate::error::Error;
use crate::note::VerifierKey;
use crate::state::canonical;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Folder of the logs that were set aside.
pub const ASIDE_FOLDER: &str = "set-aside";
/// File that stays where it is.
pub(crate) const LOCK_FILE: &str = "lock";

/// The name of a machine's log: the first has none behind it.
pub(crate) fn name_of(first: &str, generation: u64) -> String {
    if generation == 1 { first.to_owned() } else { format!("{first}/{generation}") }
}

/// Which of the logs named after `first` has this name.
pub(crate) fn generation_of(first: &str, name: &str) -> Option<u64> {
    if name == first {
        return Some(1);
    }
    let generation = canonical(name.strip_prefix(first)?.strip_prefix('/')?)?;
    (generation > 1).then_some(generation)
}

/// The key of the log in `directory`, if it is one of those that `key` may sign: the first one's key, or
/// that of any other of them. What is not is compared with `key` itself.
pub(crate) fn key_of(directory: &Path, key: &VerifierKey) -> (VerifierKey, u64) {
    let note = std::fs::read(directory.join(CHECKPOINT_FILE)).unwrap_or_default();
    let name = peek_text(&note).map(|checkpoint| checkpoint.origin).unwrap_or_default();
    let firsts = [Some(key.name()), key.name().rsplit_once('/').map(|(first, _)| first)];
    for first in firsts.into_iter().flatten() {
        let own = generation_of(first, key.name());
        let named = own.and(generation_of(first, &name));
        if let Some((generation, key)) = named.zip(key.renamed(&name).ok()) {
            return (key, generation);
        }
    }
    (key.clone(), 1)
}

/// Which of the machine's logs lies in `directory`; the next one's number if none does.
pub(crate) fn generation(directory: &Path, first: &str) -> Result<u64, Error> {
    let note = std::fs::read(directory.join(CHECKPOINT_FILE)).unwrap_or_default();
    let named = peek_text(&note).and_then(|checkpoint| generation_of(first, &checkpoint.origin));
    let newest = aside(directory)?.last().copied().unwrap_or(0);
    Ok(named.unwrap_or(newest + 1))
}

/// The logs that were set aside, the oldest first.
pub(crate) fn aside(directory: &Path) -> Result<Vec<u64>, Error> {
    let folder = directory.join(ASIDE_FOLDER);
    let list = match std::fs::read_dir(&folder) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &folder, error)),
    };
    let names = list.filter_map(|item| canonical(item.ok()?.file_name().to_str()?));
    let mut names: Vec<u64> = names.collect();
    names.sort_unstable();
    Ok(names)
}

/// Where a log that was set aside lies.
pub(crate) fn folder(directory: &Path, generation: u64) -> PathBuf {
    directory.join(ASIDE_FOLDER).join(generation.to_string())
}

/// True if the error says that the log is not what it must be, and not that it cannot be looked at now.
pub(crate) fn is_damage(error: &Error) -> bool {
    /// The file system's own words for damage: EIO, EBADMSG, EUCLEAN.
    const DAMAGED: [i32; 3] = [5, 74, 117];
    match error {
        Error::Damaged(_) | Error::Checkpoint(_) => true,
        Error::Io { source, .. } => {
            let kinds = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::IsADirectory];
            kinds.contains(&source.kind())
                || source.raw_os_error().is_some_and(|code| DAMAGED.contains(&code))
        }
        _ => false,
    }
}

/// Moves all that is in the log's directory aside; returns where it lies now. May be broken off and
/// begun again.
pub(crate) fn set_aside(directory: &Path, generation: u64) -> Result<PathBuf, Error> {
    let target = folder(directory, generation);
    std::fs::create_dir_all(&target).map_err(|error| Error::io("make", &target, error))?;
    let io = |error| Error::io("set aside", directory, error);
    let names = std::fs::read_dir(directory).map_err(io)?.map(|item| Ok(item?.file_name()));
    let mut names: Vec<_> = names.collect::<Result<_, _>>().map_err(io)?;
    names.retain(|name| name != ASIDE_FOLDER && name != LOCK_FILE);
    // The checkpoint, which tells whose number this is, goes last.
    names.sort_by_key(|name| name == CHECKPOINT_FILE);
    for name in names {
        std::fs::rename(directory.join(&name), target.join(&name)).map_err(io)?;
    }
    for changed in [&target, directory] {
        let synced = std::fs::File::open(changed).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io("sync", changed, error))?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_later_logs_are_told_from_others() {
        assert_eq!(generation_of("a/log", "a/log"), Some(1));
        assert_eq!(generation_of("a/log", &name_of("a/log", 12)), Some(12));
        for other in ["a/log/1", "a/log/02", "a/log/x", "a/logs", "b/log/2", "a/log/2/3", "a/log/"]
        {
            assert_eq!(generation_of("a/log", other), None, "{other}");
        }
    }
}
