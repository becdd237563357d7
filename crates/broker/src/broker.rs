//! What all calls share.

use crate::accounts::UsageLog;
use crate::callers::Callers;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::route::Routes;
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that a call needs.
pub struct Broker {
    /// Who calls.
    pub identity: Identity,
    /// Who answers, and whose turn it is there.
    pub routes: Arc<Routes>,
    /// Where records go.
    pub usage: UsageLog,
    /// What was done.
    pub metrics: Arc<Metrics>,
    /// Who holds how much of what all share.
    pub callers: Callers,
    /// Becomes true when nothing more is answered.
    pub ending: watch::Sender<bool>,
}

impl Broker {
    /// What every broker has the same.
    pub fn new(identity: Identity, routes: Routes, usage: UsageLog, callers: Callers) -> Self {
        let routes = Arc::new(routes);
        let metrics = Arc::new(Metrics::new(&routes));
        Self { identity, routes, usage, metrics, callers, ending: watch::Sender::new(false) }
    }
}
