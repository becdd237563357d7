//! What an agent's manifest says a number of denials leads to.

use super::{blocking, quarantine};
use crate::reap;
use crate::state::{Daemon, Ending};
use abi::AgentId;
use futures_util::future::join_all;
use manifest::{Consequence, DenialLimit};
use std::sync::Arc;
use supervisor::End;

/// Acts on whoever has reached a limit, as long as the daemon runs.
pub async fn act(daemon: Arc<Daemon>) {
    loop {
        let due = daemon.inner().supervisor.take_overstepped();
        // Trees do not wait for each other.
        join_all(due.into_iter().map(|(aid, limit)| act_on(&daemon, aid, limit))).await;
        daemon.overstepped.notified().await;
    }
}

async fn act_on(daemon: &Arc<Daemon>, aid: AgentId, limit: DenialLimit) {
    let why = format!("its manifest, after {} denials", limit.count);
    match limit.then {
        Consequence::Quarantine => {
            // One that has ended, or is quarantined meanwhile, needs nothing more.
            if let Err(error) = quarantine::quarantine(daemon, why, aid).await {
                tracing::warn!(?aid, ?error, "not quarantined; its next denial tries again");
            }
        }
        Consequence::End => blocking(|| {
            let reason = format!("ended by {why}");
            reap::end(daemon, aid, &Ending::new(End::Failed, reason));
        }),
    }
}
