//! Paths in rules: what a path led to when it was given is what stays allowed.
//!
//! A set is written to the kernel anew when it changes, and an agent may have put something else
//! where one of its paths was, a link to a folder of somebody else's for instance. Then the rule
//! allows nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Agent and number of the rule.
type Key = (u64, u32);
/// Device and inode.
type Identity = (u64, u64);

/// What paths led to.
#[derive(Default)]
pub struct Pins {
    seen: Mutex<HashMap<Key, Identity>>,
}

impl Pins {
    /// True if the path leads to something, and to the same as when this rule was first asked
    /// about.
    pub fn holds(&self, aid: u64, rule: u32, path: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let identity = (metadata.dev(), metadata.ino());
        *self.lock().entry((aid, rule)).or_insert(identity) == identity
    }

    /// Forgets an ended agent's paths.
    pub fn forget(&self, aid: u64) {
        self.lock().retain(|(owner, _), _| *owner != aid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Identity>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_replaced_allows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("in"), dir.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        let pins = Pins::default();
        assert!(pins.holds(1, 1, &path) && pins.holds(1, 1, &path));
        std::fs::rename(&path, &away).unwrap();
        assert!(!pins.holds(1, 1, &path));
        std::os::unix::fs::symlink("/etc", &path).unwrap();
        assert!(!pins.holds(1, 1, &path), "a link to another folder");
        assert!(pins.holds(1, 2, &path), "a new rule takes what is there");
        pins.forget(1);
        assert!(pins.holds(1, 1, &path));
    }
}
