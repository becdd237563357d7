//! Records of finished and refused calls, for coconutd's audit log. None is dropped: while coconutd
//! cannot take them they wait, and when too many wait, no new call is let in.

use crate::daemon;
use crate::openai::ApiError;
use api::broker::Usage;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Records that may wait before new calls are refused.
const MOST_WAITING: usize = 20_000;
/// Records sent at once.
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_millis(500);

/// Takes records.
#[derive(Clone)]
pub struct UsageLog {
    sender: Option<UnboundedSender<Usage>>,
    print: bool,
    waiting: Arc<AtomicUsize>,
}

impl UsageLog {
    /// Without a daemon: records only go to our own log, at level debug.
    pub fn none() -> Self {
        Self { sender: None, print: false, waiting: Arc::default() }
    }

    /// Without a daemon: records go to stdout, as lines of JSON.
    pub fn to_stdout() -> Self {
        Self { print: true, ..Self::none() }
    }

    /// Sends records to coconutd; must be called within a tokio runtime.
    pub fn to_daemon(socket: PathBuf) -> Self {
        let (log, receiver) = Self::channel();
        tokio::spawn(deliver(socket, receiver, log.waiting.clone()));
        log
    }

    /// Records go to whoever receives.
    pub fn channel() -> (Self, UnboundedReceiver<Usage>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender: Some(sender), ..Self::none() }, receiver)
    }

    /// Refuses a new call while too many records wait.
    pub fn check_room(&self) -> Result<(), ApiError> {
        if self.waiting.load(Relaxed) < MOST_WAITING {
            return Ok(());
        }
        Err(ApiError::unavailable("coconutd takes no usage records, so nothing is served"))
    }

    /// One more record.
    pub fn record(&self, usage: Usage) {
        tracing::debug!(?usage, "call");
        if self.print
            && let Err(error) = print(&usage)
        {
            tracing::warn!(%error, "a record could not be printed");
        }
        if let Some(sender) = &self.sender {
            self.waiting.fetch_add(1, Relaxed);
            // The receiver lives as long as the process.
            let _ = sender.send(usage);
        }
    }
}

fn print(usage: &Usage) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(usage)?)?;
    out.flush()
}

async fn deliver(
    socket: PathBuf,
    mut records: UnboundedReceiver<Usage>,
    waiting: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while records.recv_many(&mut batch, BATCH).await > 0 {
        while let Err(error) = daemon::post(&socket, "/v1/broker/usage", &batch).await {
            tracing::warn!(error = %format!("{error:#}"), records = batch.len(), "usage records wait");
            tokio::time::sleep(RETRY).await;
        }
        waiting.fetch_sub(batch.len(), Relaxed);
        batch.clear();
    }
}
