//! A number of equal things that many callers share.
//!
//! A caller may hold at most a fixed number, and at most a part of what is still free: the fuller
//! the pool, the less for each, so that a few cannot fill it and a newcomer finds room (dynamic
//! thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). A quarter is
//! for those who hold nothing yet.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// This part of a pool is kept for callers that hold nothing of it.
const FIRSTS: usize = 4;

/// How much of a pool there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all callers together.
    pub total: usize,
    /// For one caller.
    pub each: usize,
    /// A caller holds at most this part of what is free: 8 is an eighth, 0 sets no such bound.
    pub part: usize,
}

impl Limits {
    /// No limit: what a test's control runs with.
    pub const NONE: Limits = Limits { total: usize::MAX, each: usize::MAX, part: 0 };

    /// True if a caller that holds `held` may take `more` while `used` are taken in all.
    fn allow(&self, held: usize, used: usize, more: usize) -> bool {
        let free = self.total.saturating_sub(used);
        let own = held.saturating_add(more);
        // The last quarter is for those who hold nothing: however many came before.
        let open = free.saturating_sub(self.total / FIRSTS);
        let modest = held == 0 || own <= open.checked_div(self.part).unwrap_or(usize::MAX);
        more <= free && own <= self.each && modest
    }
}

/// The caller holds as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What it holds.
    pub held: usize,
}

#[derive(Debug)]
struct State<K> {
    used: usize,
    held: HashMap<K, usize>,
}

/// A pool whose callers are known by `K`.
#[derive(Debug)]
pub struct Pool<K> {
    limits: Limits,
    state: Mutex<State<K>>,
}

impl<K: Eq + Hash + Clone> Pool<K> {
    /// An untouched pool.
    pub fn new(limits: Limits) -> Arc<Self> {
        let state = Mutex::new(State { used: 0, held: HashMap::new() });
        Arc::new(Pool { limits, state })
    }

    /// Takes one; it is given back when the place is dropped.
    ///
    /// # Errors
    /// When the caller holds as much as it may.
    pub fn take(self: &Arc<Self>, caller: K) -> Result<Place<K>, Full> {
        let mut place = Place { pool: self.clone(), caller, size: 0 };
        place.grow(1)?;
        Ok(place)
    }

    /// A place that holds nothing yet.
    pub fn empty(self: &Arc<Self>, caller: K) -> Place<K> {
        Place { pool: self.clone(), caller, size: 0 }
    }

    /// What a caller holds now.
    pub fn held(&self, caller: &K) -> usize {
        self.lock().held.get(caller).copied().unwrap_or(0)
    }

    /// What all callers hold now.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a caller holds of a pool.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    pool: Arc<Pool<K>>,
    caller: K,
    size: usize,
}

impl<K: Eq + Hash + Clone> Place<K> {
    /// Takes more into the same place.
    ///
    /// # Errors
    /// When the caller holds as much as it may; the place stays as it is.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let mut state = self.pool.lock();
        let held = state.held.get(&self.caller).copied().unwrap_or(0);
        if !self.pool.limits.allow(held, state.used, more) {
            return Err(Full { held });
        }
        state.used += more;
        state.held.insert(self.caller.clone(), held + more);
        self.size += more;
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.used -= self.size;
        if let Some(held) = state.held.get_mut(&self.caller) {
            *held -= self.size;
            if *held == 0 {
                state.held.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(pool: &Arc<Pool<u32>>, caller: u32) -> Vec<Place<u32>> {
        std::iter::from_fn(|| pool.take(caller).ok()).collect()
    }

    #[test]
    fn a_hoarder_leaves_room_and_loses_nothing_to_others() {
        let pool = Pool::new(Limits { total: 1_000, each: 1_000, part: 8 });
        let hoard = fill(&pool, 1);
        // x = (1000 - 250 - x) / 8
        assert_eq!(hoard.len(), 83);
        let other = fill(&pool, 2);
        assert_eq!((other.len(), pool.held(&1)), (74, 83));
        drop(hoard);
        assert_eq!((pool.held(&1), pool.used()), (0, 74));
        // The control: without such a bound one caller has all, and the next gets nothing.
        let pool = Pool::new(Limits { total: 1_000, ..Limits::NONE });
        let hoard = fill(&pool, 1);
        assert_eq!((hoard.len(), fill(&pool, 2).len()), (1_000, 0));
    }

    #[test]
    fn a_thousand_hoarders_leave_one_for_a_newcomer() {
        let pool = Pool::new(Limits { total: 4_096, each: 128, part: 8 });
        let hoards: Vec<_> = (0..1_000).flat_map(|caller| fill(&pool, caller)).collect();
        assert!(pool.take(1_001).is_ok(), "{} are taken", hoards.len());
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let pool = Pool::new(Limits { total: 100, each: 10, part: 1 });
        let mut place = pool.empty(1);
        place.grow(8).unwrap();
        assert_eq!(place.grow(3), Err(Full { held: 8 }));
        assert_eq!((pool.held(&1), pool.used()), (8, 8));
        place.grow(2).unwrap();
        drop(place);
        assert_eq!((pool.held(&1), pool.used()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_sum_is_kept_and_never_passed(steps in prop::collection::vec((0u32..6, 0usize..9, any::<bool>()), 0..200)) {
            let limits = Limits { total: 40, each: 12, part: 2 };
            let pool = Pool::new(limits);
            let mut places: Vec<Place<u32>> = Vec::new();
            for (caller, size, back) in steps {
                if back && !places.is_empty() {
                    places.remove(size % places.len());
                } else {
                    let mut place = pool.empty(caller);
                    let _ = place.grow(size);
                    places.push(place);
                }
                let sum: usize = places.iter().map(|p| p.size).sum();
                prop_assert_eq!(pool.used(), sum);
                prop_assert!(sum <= limits.total);
                for caller in 0..6 {
                    let own: usize = places.iter().filter(|p| p.caller == caller).map(|p| p.size).sum();
                    prop_assert_eq!(pool.held(&caller), own);
                    prop_assert!(own <= limits.each);
                }
            }
        }
    }
}
