//! Earlier checkpoints, beside the newest, for copies that are made while the log is written: a copy whose
//! checkpoint is newer than its tiles has one here that they are enough for.
//!
//! That takes nothing from what `verify` finds: whoever can give it a log that ends at an earlier signed
//! checkpoint can do so in any case, and only a remembered checkpoint tells.

use crate::checkpoint::{Checkpoint, peek_text};
use std::path::Path;
use std::time::{Duration, Instant};

/// File of the earlier checkpoints, the oldest first, an empty line behind each.
pub(crate) const RECENT_FILE: &str = "checkpoints";
/// How often it is written at most.
const EVERY: Duration = Duration::from_secs(1);
/// Checkpoints that are kept of those whose distance from the newest has the same number of bits.
const OF_EACH: usize = 2;

/// The earlier checkpoints: the further back, the fewer.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    notes: Vec<(u64, String)>,
    written: Option<Instant>,
}

impl Recent {
    /// What an earlier writer left; nothing where it cannot be read.
    pub fn load(directory: &Path) -> Recent {
        let notes = read(directory);
        let notes = notes.into_iter().filter_map(|n| Some((peek_text(n.as_bytes())?.size, n)));
        Recent { notes: notes.collect(), written: None }
    }

    /// Takes a checkpoint in; the file's bytes when it is to be written.
    pub fn add(&mut self, size: u64, note: &str) -> Option<Vec<u8>> {
        self.notes.retain(|(known, _)| *known < size);
        if self.written.is_some_and(|at| at.elapsed() < EVERY) {
            return None;
        }
        self.written = Some(Instant::now());
        self.notes.push((size, note.to_owned()));
        self.thin(size);
        Some(self.notes.iter().flat_map(|(_, note)| [note.as_bytes(), b"\n"].concat()).collect())
    }

    /// Of several as far back the oldest and the newest stay.
    fn thin(&mut self, newest: u64) {
        let bits = |size: u64| (newest - size).checked_ilog2();
        let all: Vec<_> = self.notes.iter().map(|(size, _)| bits(*size)).collect();
        let mut at = 0;
        self.notes.retain(|_| {
            let same = |other: &Option<u32>| *other == all[at];
            let before = all[..at].iter().filter(|other| same(other)).count();
            let after = all[at + 1..].iter().filter(|other| same(other)).count();
            at += 1;
            before == 0 || after < OF_EACH - 1
        });
    }
}

/// The notes of a log's earlier checkpoints, the oldest first. Nothing about them has been checked.
pub(crate) fn read(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join(RECENT_FILE)).unwrap_or_default();
    let parts: Vec<&str> = text.split("\n\n").collect();
    parts.chunks_exact(2).map(|pair| format!("{}\n\n{}\n", pair[0], pair[1])).collect()
}

/// Earlier checkpoints that are signed, the newest first.
pub(crate) fn open(directory: &Path, key: &crate::VerifierKey) -> Vec<(String, Checkpoint)> {
    let notes = read(directory).into_iter().rev();
    notes.filter_map(|n| Some((n.clone(), Checkpoint::open(n.as_bytes(), key).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::NoteSigner;
    use ed25519_dalek::SigningKey;

    #[test]
    fn the_further_back_the_fewer_and_never_none() {
        let signer = NoteSigner::new("a/log", SigningKey::from_bytes(&[3; 32])).unwrap();
        let note = |size| Checkpoint { origin: "a/log".into(), size, root: [1; 32] }.sign(&signer);
        let (mut recent, mut file) = (Recent::default(), Vec::new());
        let newest = 3_000;
        for size in 1..=newest {
            recent.written = None;
            file = recent.add(size, &note(size)).unwrap();
        }
        assert!(recent.notes.len() <= 2 * 13, "{} are kept", recent.notes.len());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RECENT_FILE), &file).unwrap();
        let found = open(dir.path(), &signer.verifier());
        assert_eq!(found.len(), recent.notes.len());
        // Whatever a copy has, there is one that covers at least all but twice as much as it lacks.
        for has in 1_500..newest {
            let best = found.iter().map(|(_, c)| c.size).find(|size| *size <= has).unwrap();
            assert!(newest - best <= 2 * (newest - has) + 1, "{has}: {best}");
        }
        assert_eq!(Recent::load(dir.path()).notes, recent.notes);
        assert!(recent.add(newest + 1, &note(newest + 1)).is_none(), "not more than once a second");
    }
}
