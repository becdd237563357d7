//! Where records of calls go. None is dropped: while coconutd cannot take them they wait, and when too many
//! wait, no new call is let in.

use super::delivery;
use super::journal::{Journal, Settled, Slot};
use super::waits::{self, Waits};
use crate::openai::ApiError;
use api::broker::Usage;
use ports::Tokens;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Records that may wait before new calls are refused.
const MOST_WAITING: usize = 20_000;

/// Takes records.
#[derive(Clone)]
pub struct UsageLog(Arc<Inner>);

struct Inner {
    to: To,
    /// Calls whose accounts are open.
    open: AtomicUsize,
    /// Records that coconutd has not acknowledged.
    waiting: Arc<AtomicUsize>,
    /// Whose those are that are open.
    waits: Arc<Waits>,
}

enum To {
    Nobody,
    Stdout,
    Channel(UnboundedSender<Usage>),
    Daemon(Arc<Journal>, UnboundedSender<Settled>),
}

/// A call's place in the log, from its beginning to its end.
pub struct Entry {
    log: UsageLog,
    slot: Option<Slot>,
}

impl UsageLog {
    fn to(to: To) -> Self {
        Self::with(to, Arc::default())
    }

    fn with(to: To, waiting: Arc<AtomicUsize>) -> Self {
        let (open, waits) = (AtomicUsize::new(0), Arc::default());
        Self(Arc::new(Inner { to, open, waiting, waits }))
    }

    /// Without a daemon: records only go to our own log, at level debug.
    pub fn none() -> Self {
        Self::to(To::Nobody)
    }

    /// Without a daemon: records go to stdout, as lines of JSON.
    pub fn to_stdout() -> Self {
        Self::to(To::Stdout)
    }

    /// Records go to whoever receives.
    pub fn channel() -> (Self, UnboundedReceiver<Usage>) {
        let (sender, receiver) = unbounded_channel();
        (Self::to(To::Channel(sender)), receiver)
    }

    /// Sends records to coconutd, first those that `journal` holds from before, and who waits for a model while
    /// the stream of lanes is there; must be called within a tokio runtime.
    pub fn to_daemon(
        socket: PathBuf,
        journal: Arc<Journal>,
        left: Vec<Settled>,
        synced: watch::Receiver<bool>,
    ) -> Self {
        let (sender, receiver) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(left.len()));
        for settled in left {
            // The receiver lives as long as the process.
            let _ = sender.send(settled);
        }
        let deliver = delivery::deliver(socket.clone(), journal.clone(), receiver, waiting.clone());
        tokio::spawn(deliver);
        let log = Self::with(To::Daemon(journal, sender), waiting);
        tokio::spawn(waits::tell(socket, log.0.waits.clone(), synced));
        log
    }

    /// Refuses a new call while too many records wait.
    ///
    /// # Errors
    /// Then.
    pub fn check_room(&self) -> Result<(), ApiError> {
        if self.0.waiting.load(Relaxed) < MOST_WAITING {
            return Ok(());
        }
        Err(ApiError::unavailable("coconutd takes no usage records, so nothing is served"))
    }

    /// A call begins.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub fn open(&self, record: &Usage) -> Result<Entry, ApiError> {
        let slot = match &self.0.to {
            To::Daemon(journal, _) => Some(journal.begin(record).map_err(|error| {
                tracing::error!(%error, "a call cannot be recorded");
                ApiError::unavailable(format!("calls cannot be recorded now: {error}"))
            })?),
            _ => None,
        };
        self.0.open.fetch_add(1, Relaxed);
        self.0.waits.began(record.agent);
        Ok(Entry { log: self.clone(), slot })
    }

    /// Returns once every call is settled and every record is in the log, or the time is over.
    pub async fn close(&self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(10);
        let settled = async {
            while self.0.open.load(Relaxed) > 0 || self.0.waiting.load(Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(patience, settled).await.is_err() {
            let (open, waiting) = (self.0.open.load(Relaxed), self.0.waiting.load(Relaxed));
            tracing::warn!(open, waiting, "records of calls are left to the next broker");
        }
    }
}

impl Entry {
    /// So much was done until now.
    pub fn progress(&self, tokens: Tokens) {
        if let (To::Daemon(journal, _), Some(slot)) = (&self.log.0.to, self.slot)
            && let Err(error) = journal.progress(slot, tokens)
        {
            tracing::error!(%error, "what a call has cost is not written down");
        }
    }

    /// The answer is complete.
    pub fn complete(&self) {
        if let (To::Daemon(journal, _), Some(slot)) = (&self.log.0.to, self.slot)
            && let Err(error) = journal.complete(slot)
        {
            tracing::error!(%error, "that an answer is complete is not written down");
        }
    }

    /// The call is over; to be called once.
    pub fn settle(&self, record: &Usage) {
        tracing::debug!(?record, "call");
        match &self.log.0.to {
            To::Nobody => {}
            To::Stdout => {
                if let Err(error) = print(record) {
                    tracing::warn!(%error, "a record could not be printed");
                }
            }
            To::Channel(sender) => {
                let _ = sender.send(record.clone());
            }
            To::Daemon(journal, sender) => {
                self.log.0.waiting.fetch_add(1, Relaxed);
                // In the order of their numbers, so the journal sends it.
                journal.settle(self.slot, record.clone(), |settled| drop(sender.send(settled)));
            }
        }
        self.log.0.open.fetch_sub(1, Relaxed);
        self.log.0.waits.ended(record.agent);
    }
}

fn print(usage: &Usage) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(usage)?)?;
    out.flush()
}
