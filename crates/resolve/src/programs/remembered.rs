//! Digests that need not be computed again, because the file is still held as it was hashed.

use super::guard::{Basis, Guard};
use rustix::fs::Stat;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A hashed file.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub guard: Arc<Guard>,
    pub digest: [u8; 32],
}

/// The most recently used last. Each is a descriptor that is kept, and a writer that is asked to
/// wait for a moment.
pub(crate) struct Remembered {
    most: usize,
    known: Mutex<Vec<Known>>,
}

impl Remembered {
    pub fn new(most: usize) -> Self {
        Remembered { most, known: Mutex::default() }
    }

    /// What was hashed of this very file, if nobody could change it since.
    pub fn find(&self, stat: &Stat) -> Option<Known> {
        let mut known = self.lock();
        let at = known.iter().position(|one| one.guard.is_of(stat))?;
        let found = known.remove(at);
        if found.guard.holds() {
            known.push(found.clone());
            return Some(found);
        }
        drop(known);
        None
    }

    /// Keeps one, unless nothing holds its content.
    pub fn keep(&self, new: &Known) {
        if *new.guard.basis() == Basis::Nothing || self.most == 0 {
            return;
        }
        let mut known = self.lock();
        let same = known.iter().position(|one| one.guard.node() == new.guard.node());
        let out = same.or((known.len() >= self.most).then_some(0)).map(|at| known.remove(at));
        known.push(new.clone());
        // Broken before it was in the list: the signal for it has come and found nothing.
        let late = if new.guard.holds() { None } else { known.pop() };
        drop(known);
        drop((out, late));
    }

    /// Lets go of those that somebody waits to write to, and says how many.
    pub fn let_go(&self) -> usize {
        let mut known = self.lock();
        let all = std::mem::take(&mut *known);
        let (held, broken): (Vec<_>, Vec<_>) = all.into_iter().partition(|k| k.guard.holds());
        *known = held;
        drop(known);
        broken.len()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
