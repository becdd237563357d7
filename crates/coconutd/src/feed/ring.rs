//! What was told last, numbered, for any number of listeners that each go at their own pace.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What is told. Everybody hears the same in the same order.
#[derive(Debug)]
pub struct Ring<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    kept: Mutex<Kept<T>>,
    more: Notify,
    listeners: AtomicUsize,
    most: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    /// Number of the oldest one that is kept.
    first: u64,
    items: VecDeque<(Arc<T>, usize)>,
    bytes: usize,
}

/// More was told than is kept for those who are behind: something was missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it was too slow for what changes")]
pub struct TooSlow;

/// One who listens. It holds nobody up, however slow it is.
#[derive(Debug)]
pub struct Listener<T> {
    shared: Arc<Shared<T>>,
    /// Number of what it takes next.
    next: u64,
}

impl<T> Ring<T> {
    /// Keeps so many, and so many bytes of them, for those who are behind.
    pub fn new(most: usize, bytes: usize) -> Self {
        let kept = Mutex::new(Kept { first: 1, items: VecDeque::new(), bytes: 0 });
        let listeners = AtomicUsize::new(0);
        Ring(Arc::new(Shared { kept, more: Notify::new(), listeners, most, bytes }))
    }

    /// Somebody listens.
    pub fn is_heard(&self) -> bool {
        self.0.listeners.load(Ordering::Acquire) > 0
    }

    /// Tells everybody; `bytes` is about what it takes to keep. Never waits: whoever has not taken what has to go for
    /// it is too slow.
    pub fn tell(&mut self, item: T, bytes: usize) {
        let mut kept = self.0.kept();
        kept.items.push_back((Arc::new(item), bytes));
        kept.bytes += bytes;
        // Who listens from now on begins behind this.
        let heard = self.is_heard();
        while !heard || kept.items.len() > self.0.most || kept.bytes > self.0.bytes {
            let Some((_, bytes)) = kept.items.pop_front() else { break };
            kept.bytes -= bytes;
            kept.first += 1;
        }
        drop(kept);
        self.0.more.notify_waiters();
    }

    /// Listens to everything that is told from now on.
    pub fn listen(&self) -> Listener<T> {
        self.0.listeners.fetch_add(1, Ordering::AcqRel);
        let next = self.0.kept().end();
        Listener { shared: self.0.clone(), next }
    }
}

impl<T> Shared<T> {
    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Kept<T> {
    /// Number of what is told next.
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }
}

impl<T> Listener<T> {
    /// What comes next, with its number: each is the one before and one.
    ///
    /// # Errors
    /// When something was missed; it stays so.
    pub async fn next(&mut self) -> Result<(u64, Arc<T>), TooSlow> {
        loop {
            let shared = self.shared.clone();
            // Before the look: what is told after it is noticed all the same.
            let more = shared.more.notified();
            if let Some(next) = self.take() {
                return next;
            }
            more.await;
        }
    }

    /// The same, if it is there already.
    pub fn take(&mut self) -> Option<Result<(u64, Arc<T>), TooSlow>> {
        let kept = self.shared.kept();
        let Some(at) = self.next.checked_sub(kept.first) else { return Some(Err(TooSlow)) };
        let (item, _) = kept.items.get(usize::try_from(at).ok()?)?;
        let taken = (self.next, item.clone());
        self.next += 1;
        Some(Ok(taken))
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.shared.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(listener: &mut Listener<u32>) -> Vec<Result<(u64, u32), TooSlow>> {
        let next = || listener.take().map(|next| next.map(|(number, item)| (number, *item)));
        std::iter::from_fn(next).take(10).collect()
    }

    #[test]
    fn who_is_behind_is_told_and_nobody_else() {
        let mut ring = Ring::new(3, 100);
        ring.tell(1, 1);
        let (mut slow, mut fast) = (ring.listen(), ring.listen());
        (2..=4).for_each(|item| ring.tell(item, 1));
        let all = [Ok((2, 2)), Ok((3, 3)), Ok((4, 4))];
        assert_eq!(numbers(&mut fast), all);
        ring.tell(5, 1);
        assert_eq!(numbers(&mut fast), [Ok((5, 5))]);
        assert_eq!(numbers(&mut slow), [Err(TooSlow); 10]);
        assert!(numbers(&mut ring.listen()).is_empty(), "anew from here");
    }

    #[test]
    fn what_takes_much_room_is_kept_for_fewer() {
        let mut ring = Ring::new(100, 10);
        let mut listener = ring.listen();
        (1..=3).for_each(|item| ring.tell(item, 5));
        assert_eq!(listener.take().map(|next| next.map(drop)), Some(Err(TooSlow)));
    }

    #[test]
    fn nothing_is_kept_while_nobody_listens() {
        let mut ring = Ring::new(100, 100);
        drop(ring.listen());
        (1..=3).for_each(|item| ring.tell(item, 1));
        assert_eq!(ring.0.kept().items.len(), 0);
        let mut listener = ring.listen();
        ring.tell(4, 1);
        assert_eq!(numbers(&mut listener), [Ok((4, 4))]);
    }
}
