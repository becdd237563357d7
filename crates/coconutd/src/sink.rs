//! The way into the audit log: one writer thread, and everybody who follows.
//!
//! Producers hand over entries in order. The queue is bounded: when the log cannot be written, they
//! wait, the kernel's ring fills, and the kernel stops the agents. Nothing runs unrecorded. A change
//! takes [`Room`] before it takes any lock, hands its records over without waiting, and waits for
//! [`Durable`] when its locks are gone. What is booked is [owed](Due) to the log from the same moment on: the registry
//! is written with it, and then it is handed over.

mod owed;

use crate::clock;
use abi::Kind;
pub use owed::{Due, Owed};
use record::{Body, Entry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};
use tokio::sync::{broadcast, oneshot};

/// Orders between producers and the writer.
const QUEUE: usize = 16_384;
/// Entries that are appended at once, at most.
const BATCH: usize = 1_024;
/// Records that a follower may lag behind before it has to read the log itself.
const FOLLOW: usize = 4_096;
/// Longest time that a record is not under a signed checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long the writer waits before it tries a failed write again.
const RETRY: Duration = Duration::from_millis(500);

/// The audit log, as the writer thread uses it.
pub trait AuditLog: Send {
    /// Appends entries in order and returns the sequence number of the first.
    ///
    /// # Errors
    /// When they could not be written; then none of them is in the log.
    fn append(&mut self, entries: &[Entry]) -> anyhow::Result<u64>;
    /// Makes everything appended durable, under a signed checkpoint.
    ///
    /// # Errors
    /// When it could not be written.
    fn checkpoint(&mut self) -> anyhow::Result<()>;
    /// The newest signed checkpoint.
    fn note(&self) -> String;
    /// As `checkpoint`; nothing more comes, so that the next opening may find it at once.
    ///
    /// # Errors
    /// When it could not be written.
    fn close(&mut self) -> anyhow::Result<()>;
    /// What the log has to say of itself since this was last asked.
    fn news(&mut self) -> Option<Entry>;
}

/// A record as followers get it.
#[derive(Clone, Debug)]
pub struct Written {
    /// Position in the log.
    pub sequence: u64,
    /// What it says.
    pub entry: Arc<Entry>,
}

enum Order {
    /// Answer once they are written.
    Append(owed::Handed, Option<oneshot::Sender<()>>),
    /// Answer once everything before is under a checkpoint.
    Seal(oneshot::Sender<()>),
    /// As `Seal`, and nothing more is to come.
    Close(oneshot::Sender<()>),
}

/// Where entries go.
#[derive(Clone)]
pub struct Sink {
    orders: Sender<Order>,
    followers: broadcast::Sender<Written>,
    records: Arc<AtomicU64>,
    head: Arc<Mutex<String>>,
    stuck: Arc<Mutex<Option<String>>>,
    ring: Arc<AtomicU64>,
    owed: Arc<Owed>,
}

/// A place in the queue for the records of one change.
pub struct Room {
    place: OwnedPermit<Order>,
    owed: Arc<Owed>,
}

/// The records of one change, on their way.
pub struct Durable(oneshot::Receiver<()>);

/// Why nothing can be recorded now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// The writer has ended.
    #[error("the audit log is closed")]
    Closed,
    /// The writer tries again and again.
    #[error("nothing can be recorded now: {0}")]
    Stuck(String),
}

impl Room {
    /// Notes that the log is owed these; never waits.
    pub fn owe(&self, entries: Vec<Entry>) -> Due {
        self.owed.take(entries)
    }

    /// Hands over what is owed, in order; never waits.
    pub fn pay(self, due: Due) -> Durable {
        let (done, wait) = oneshot::channel();
        self.place.send(Order::Append(due.handed(), Some(done)));
        Durable(wait)
    }

    /// Hands records over, in order; never waits.
    pub fn record(self, entries: Vec<Entry>) -> Durable {
        let due = self.owe(entries);
        self.pay(due)
    }
}

impl Durable {
    /// Returns when they are written; a checkpoint follows.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn written(self) -> Result<(), Unrecorded> {
        self.0.await.map_err(|_| Unrecorded::Closed)
    }
}

impl Sink {
    /// Starts the writer; `records` is how many the log holds already.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(log: Box<dyn AuditLog>, records: u64) -> std::io::Result<Sink> {
        let (orders, inbox) = channel(QUEUE);
        let (followers, _) = broadcast::channel(FOLLOW);
        let count = Arc::new(AtomicU64::new(records));
        let head = Arc::new(Mutex::new(log.note()));
        let stuck = Arc::new(Mutex::new(None));
        let ring = Arc::new(AtomicU64::new(0));
        let owed = Arc::new(Owed::default());
        let mut writer = Writer {
            log,
            inbox,
            followers: followers.clone(),
            records: count.clone(),
            head: head.clone(),
            stuck: stuck.clone(),
            ring: ring.clone(),
            owed: owed.clone(),
            due: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&runtime))?;
        Ok(Sink { orders, followers, records: count, head, stuck, ring, owed })
    }

    /// Waits for a place in the queue. Hold no lock meanwhile.
    ///
    /// # Errors
    /// When the writer has ended, or cannot write now: who asks is told, and waits for no disk.
    pub async fn room(&self) -> Result<Room, Unrecorded> {
        if let Some(why) = self.stuck() {
            return Err(Unrecorded::Stuck(why));
        }
        let place = self.orders.clone().reserve_owned().await.map_err(|_| Unrecorded::Closed)?;
        Ok(Room { place, owed: self.owed.clone() })
    }

    /// What keeps the writer from writing, if anything does.
    pub fn stuck(&self) -> Option<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands an entry over; waits while the queue is full. Hold no lock meanwhile.
    pub fn record(&self, entry: Entry) {
        self.record_all(vec![entry]);
    }

    /// Hands entries over, in order.
    pub fn record_all(&self, entries: Vec<Entry>) {
        self.pay(self.owe(entries));
    }

    /// Notes that the log is owed these; never waits.
    pub fn owe(&self, entries: Vec<Entry>) -> Due {
        self.owed.take(entries)
    }

    /// Hands over what is owed, in order; waits while the queue is full. Hold no lock meanwhile.
    pub fn pay(&self, due: Due) {
        let left = match self.orders.try_send(Order::Append(due.handed(), None)) {
            // What comes after the log was closed is owed to it, until the next daemon.
            Ok(()) | Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(order)) => order,
        };
        let wait = || self.orders.blocking_send(left).is_ok();
        match tokio::runtime::Handle::try_current() {
            Ok(_) => tokio::task::block_in_place(wait),
            Err(_) => wait(),
        };
    }

    /// Returns when everything handed over before is durable and under a checkpoint.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Seal(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// As [`Sink::flush`], for the last time.
    pub async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// New records from now on.
    pub fn follow(&self) -> broadcast::Receiver<Written> {
        self.followers.subscribe()
    }

    /// The newest signed checkpoint, from memory: whatever happened to the files, this was signed.
    pub fn head(&self) -> String {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Up to this position of the kernel's ring every event is in the log.
    pub fn ring(&self) -> u64 {
        self.ring.load(Ordering::Acquire)
    }

    /// What was handed over and is not in the log yet.
    pub fn owed(&self) -> &Owed {
        &self.owed
    }

    /// How many records the log holds.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }
}

struct Writer {
    log: Box<dyn AuditLog>,
    inbox: Receiver<Order>,
    followers: broadcast::Sender<Written>,
    records: Arc<AtomicU64>,
    head: Arc<Mutex<String>>,
    stuck: Arc<Mutex<Option<String>>>,
    ring: Arc<AtomicU64>,
    owed: Arc<Owed>,
    /// When the oldest record without a checkpoint must have one.
    due: Option<Instant>,
}

impl Writer {
    fn run(&mut self, runtime: &tokio::runtime::Runtime) {
        loop {
            let wait = self.due.map_or(Duration::from_secs(3600), |due| {
                due.saturating_duration_since(Instant::now())
            });
            let first =
                runtime.block_on(async { tokio::time::timeout(wait, self.inbox.recv()).await });
            match first {
                Ok(Some(first)) => self.take(first),
                Ok(None) => {
                    self.seal();
                    return;
                }
                Err(_) => self.seal(),
            }
        }
    }

    /// Writes what is there, then answers those who wait for it.
    fn take(&mut self, first: Order) {
        let (mut batch, mut waiting, mut paid) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sealed, mut closed) = (false, false);
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Append(handed, done) => {
                    batch.extend_from_slice(&handed.entries);
                    paid.extend(handed.number);
                    waiting.extend(done);
                }
                Order::Seal(done) => {
                    waiting.push(done);
                    sealed = true;
                }
                Order::Close(done) => {
                    waiting.push(done);
                    (sealed, closed) = (true, true);
                }
            }
            next = if batch.len() < BATCH { self.inbox.try_recv().ok() } else { None };
        }
        let urgent = batch.iter().any(|entry| entry.kind.is_urgent());
        // Followers see what the log has.
        batch.iter_mut().for_each(Entry::fit);
        let ring = mark(&mut batch);
        self.append(batch, paid);
        self.ring.fetch_max(ring, Ordering::AcqRel);
        let late = self.due.is_some_and(|due| due <= Instant::now());
        if urgent || late || sealed {
            self.seal();
        }
        if closed {
            self.until_done("close the audit log", |log| log.close());
        }
        for done in waiting {
            let _ = done.send(());
        }
    }

    fn append(&mut self, batch: Vec<Entry>, paid: Vec<u64>) {
        if batch.is_empty() {
            return;
        }
        let first = self.until_done("append to the audit log", |log| log.append(&batch));
        let after = first + batch.len() as u64;
        for (sequence, entry) in (first..).zip(batch) {
            let _ = self.followers.send(Written { sequence, entry: Arc::new(entry) });
        }
        // Whoever sees it owed sees a count without it.
        self.owed.paid(paid);
        self.records.store(after, Ordering::Release);
        self.due.get_or_insert_with(|| Instant::now() + CHECKPOINT);
    }

    fn seal(&mut self) {
        if self.due.take().is_some() {
            self.until_done("sign a checkpoint", |log| log.checkpoint());
        }
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = self.log.note();
        if let Some(news) = self.log.news() {
            self.append(vec![news], Vec::new());
        }
    }

    /// A full disk is waited out: meanwhile nothing that must be recorded goes on.
    fn until_done<T>(
        &mut self,
        what: &str,
        mut act: impl FnMut(&mut dyn AuditLog) -> anyhow::Result<T>,
    ) -> T {
        loop {
            match act(self.log.as_mut()) {
                Ok(done) => {
                    if self.say(None).is_some() {
                        tracing::warn!("the audit log is written again");
                    }
                    return done;
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    if self.say(Some(why.clone())).as_ref() != Some(&why) {
                        tracing::error!(error = why, "cannot {what}; agents wait");
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Tells everybody what keeps the log from being written; what was so before.
    fn say(&self, why: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.stuck.lock().unwrap_or_else(PoisonError::into_inner), why)
    }
}

/// A batch gets into the log whole or not at all: only its last event's position says anything.
fn mark(batch: &mut [Entry]) -> u64 {
    let last = batch.iter().map(|entry| entry.ring).max().unwrap_or_default();
    let mut found = false;
    for entry in batch.iter_mut().rev() {
        found = match entry.ring == last && !found {
            true => true,
            false => {
                entry.ring = 0;
                found
            }
        };
    }
    last
}

/// An entry of the daemon's own: no agent, no tenant.
pub fn own(kind: Kind, object: impl Into<String>, body: impl Into<Body>) -> Entry {
    Entry {
        time_ns: clock::wall_ns(),
        aid: 0,
        agent: uuid::Uuid::nil(),
        parent: uuid::Uuid::nil(),
        tenant: String::new(),
        kind,
        capability: abi::Capability::None,
        verdict: abi::Verdict::None,
        object: object.into(),
        body: body.into(),
        cut: 0,
        count: 1,
        ring: 0,
    }
}

#[cfg(test)]
mod tests;
