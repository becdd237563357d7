//! Records on their way to coconutd, in the order of their numbers: it records each number once, so what may
//! have arrived is sent again.

use super::journal::{Journal, Settled};
use crate::daemon;
use api::broker::SettledCalls;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Records sent at once.
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_millis(500);

/// Sends records for as long as there are any to come.
pub async fn deliver(
    socket: PathBuf,
    journal: Arc<Journal>,
    mut records: UnboundedReceiver<Settled>,
    waiting: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while records.recv_many(&mut batch, BATCH).await > 0 {
        let Some(first) = batch.first().map(|settled| settled.number) else { continue };
        let calls = batch.iter().map(|settled| settled.record.clone()).collect();
        let message = SettledCalls { journal: journal.id(), first, calls };
        while let Err(error) = daemon::post(&socket, "/v1/broker/usage", &message).await {
            let (error, records) = (format!("{error:#}"), batch.len());
            tracing::warn!(error, records, "usage records wait");
            tokio::time::sleep(RETRY).await;
        }
        if let Err(error) = journal.delivered(&batch) {
            // They will be sent again by the next broker, and not be recorded again.
            tracing::error!(%error, "the journal of calls");
        }
        waiting.fetch_sub(batch.len(), Relaxed);
        batch.clear();
    }
}
