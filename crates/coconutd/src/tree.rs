//! One change at a time of the rights of agents that hang together.

use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// An agent without a parent, with all who were made below it. Whoever loses its parent stays in it.
#[derive(Debug, Default)]
pub struct Tree {
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Tree {
    /// Waits until nobody else changes this tree.
    pub async fn lock(&self) -> OwnedMutexGuard<()> {
        self.lock.clone().lock_owned().await
    }
}
