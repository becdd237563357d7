//! The brokers' streams: what is told goes to every broker that listens.

use api::broker::LaneEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::broadcast;

/// Changes that a broker may lag behind before its stream is cut and it starts again.
const LAG: usize = 8_192;

/// The brokers' streams.
pub struct LaneHub {
    changes: broadcast::Sender<LaneEvent>,
    connected: Arc<AtomicUsize>,
}

impl Default for LaneHub {
    fn default() -> Self {
        LaneHub { changes: broadcast::channel(LAG).0, connected: Arc::default() }
    }
}

/// One broker's stream; counted until it is dropped.
pub struct Subscription {
    connected: Arc<AtomicUsize>,
    /// Changes after the moment of the subscription.
    pub changes: broadcast::Receiver<LaneEvent>,
}

impl LaneHub {
    /// Tells every broker.
    pub fn tell(&self, event: LaneEvent) {
        // Nobody listens: the next broker gets every lane at its start.
        let _ = self.changes.send(event);
    }

    /// A stream of changes from now on.
    pub fn subscribe(&self) -> Subscription {
        self.connected.fetch_add(1, Ordering::AcqRel);
        Subscription { connected: self.connected.clone(), changes: self.changes.subscribe() }
    }

    /// A broker listens.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire) > 0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
    }
}
