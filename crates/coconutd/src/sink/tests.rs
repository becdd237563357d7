use super::*;
use std::sync::atomic::AtomicBool;

/// Takes nothing while it is full.
struct Flaky {
    full: Arc<AtomicBool>,
    entries: Arc<Mutex<Vec<Entry>>>,
    sealed: Arc<AtomicU64>,
}

impl AuditLog for Flaky {
    fn append(&mut self, entries: &[Entry]) -> anyhow::Result<u64> {
        if self.full.load(Ordering::SeqCst) {
            anyhow::bail!("no space left on device");
        }
        let mut kept = self.entries.lock().unwrap();
        let first = kept.len() as u64;
        kept.extend_from_slice(entries);
        Ok(first)
    }
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.sealed.store(self.entries.lock().unwrap().len() as u64, Ordering::SeqCst);
        Ok(())
    }
    fn note(&self) -> String {
        String::new()
    }

    fn close(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn news(&mut self) -> Option<Entry> {
        None
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_a_flush_means_durable() {
    let (entries, sealed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let full = Arc::new(AtomicBool::new(true));
    let log = Flaky { full: full.clone(), entries: entries.clone(), sealed: sealed.clone() };
    let sink = Sink::start(Box::new(log), 0).unwrap();
    let mut follower = sink.follow();
    for i in 0..5 {
        sink.record(own(Kind::Use, i.to_string(), ""));
    }
    while sink.stuck().is_none() {
        tokio::task::yield_now().await;
    }
    full.store(false, Ordering::SeqCst);
    sink.flush().await;
    assert_eq!(sealed.load(Ordering::SeqCst), 5);
    assert_eq!(sink.records(), 5);
    for i in 0..5u64 {
        let written = follower.recv().await.unwrap();
        assert_eq!((written.sequence, written.entry.object.clone()), (i, i.to_string()));
    }
}

#[tokio::test]
async fn who_asks_while_the_disk_is_full_is_told_and_waits_for_nothing() {
    let (entries, sealed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let full = Arc::new(AtomicBool::new(true));
    let log = Flaky { full: full.clone(), entries: entries.clone(), sealed };
    let sink = Sink::start(Box::new(log), 0).unwrap();
    let first = sink.room().await.unwrap().record(vec![own(Kind::Use, "first", "")]);
    while sink.stuck().is_none() {
        tokio::task::yield_now().await;
    }
    let refused = sink.room().await.err().unwrap();
    assert_eq!(refused, Unrecorded::Stuck("no space left on device".into()));
    // With room again it goes on by itself, and what was handed over is there.
    full.store(false, Ordering::SeqCst);
    first.written().await.unwrap();
    assert_eq!(sink.stuck(), None);
    sink.room().await.unwrap().record(vec![own(Kind::Use, "second", "")]).written().await.unwrap();
    assert_eq!(entries.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn followers_see_of_a_record_what_the_log_has() {
    let (entries, sealed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let log = Flaky { full: Arc::default(), entries: entries.clone(), sealed };
    let sink = Sink::start(Box::new(log), 0).unwrap();
    let mut follower = sink.follow();
    sink.record(own(Kind::Use, "A".repeat(100_000), ""));
    sink.flush().await;
    let written = follower.recv().await.unwrap().entry;
    assert_eq!((written.object.len(), written.cut), (16_384, 100_000 - 16_384));
    assert_eq!(entries.lock().unwrap()[..], [(*written).clone()]);
}

#[tokio::test]
async fn the_log_knows_behind_which_event_of_the_ring_it_is() {
    let (entries, sealed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let log = Flaky { full: Arc::default(), entries: entries.clone(), sealed };
    let sink = Sink::start(Box::new(log), 0).unwrap();
    let event = |ring| Entry { ring, ..own(Kind::Use, ring.to_string(), "") };
    sink.record_all(vec![event(0), event(296)]);
    sink.record(own(Kind::Boot, "of no event", ""));
    sink.record_all(vec![event(592), event(888), event(0)]);
    sink.flush().await;
    assert_eq!(sink.ring(), 888);
    // However they were put together in batches: each batch names its last event, and only that.
    let rings: Vec<u64> = entries.lock().unwrap().iter().map(|e| e.ring).collect();
    assert_eq!((rings[0], rings[2], rings[5]), (0, 0, 0));
    assert_eq!(rings[4], 888, "{rings:?}");
    assert_eq!(rings[3], 0, "another of the same batch");
}

#[tokio::test]
async fn what_is_booked_is_owed_until_the_log_has_it_and_what_did_not_happen_is_not() {
    let (entries, sealed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let full = Arc::new(AtomicBool::new(true));
    let log = Flaky { full: full.clone(), entries: entries.clone(), sealed };
    let sink = Sink::start(Box::new(log), 0).unwrap();
    let owed = || -> Vec<String> {
        let all = sink.owed().all();
        all.values().flat_map(|some| some.iter().map(|entry| entry.object.clone())).collect()
    };
    let room = sink.room().await.unwrap();
    let due = room.owe(vec![own(Kind::Grant, "a right", "")]);
    drop(sink.owe(vec![own(Kind::State, "what the kernel refused", "")]));
    assert_eq!(owed(), ["a right"], "before it is handed over");
    let written = room.pay(due);
    sink.record(Entry { ring: 296, ..own(Kind::Denial, "lies in the ring", "") });
    assert_eq!(owed(), ["a right"], "while the log is full");
    full.store(false, Ordering::SeqCst);
    written.written().await.unwrap();
    sink.flush().await;
    assert_eq!(owed(), [""; 0]);
    assert_eq!(entries.lock().unwrap().len(), 2);
}
