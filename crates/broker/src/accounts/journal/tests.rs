use super::*;

fn record(call: u128) -> Usage {
    Usage {
        call: Uuid::from_u128(call),
        agent: Uuid::from_u128(7),
        tenant: "maya".into(),
        model: "m".into(),
        time_ns: u64::try_from(call).unwrap(),
        ..Usage::default()
    }
}

/// (number, call, tokens written, whether it was lost)
fn told(settled: &[Settled]) -> Vec<(u64, u128, u32, bool)> {
    let lost = |record: &Usage| record.refused.as_deref() == Some(LOST);
    let all = settled
        .iter()
        .map(|s| (s.number, s.record.call.as_u128(), s.record.completion_tokens, lost(&s.record)));
    all.collect()
}

fn settle(journal: &Journal, slot: Slot, record: Usage) -> Settled {
    let mut sent = None;
    journal.settle(Some(slot), record, |settled| sent = Some(settled));
    sent.unwrap()
}

#[test]
fn whatever_is_left_is_told_once_with_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, left) = Journal::open(folder.path()).unwrap();
    assert!(left.is_empty());
    let slots: Vec<Slot> = (1..=4).map(|call| journal.begin(&record(call)).unwrap()).collect();
    journal.progress(slots[0], Tokens { prompt: 5, completion: 2 }).unwrap();
    journal.progress(slots[0], Tokens { prompt: 5, completion: 3 }).unwrap();
    let done = |call, tokens| Usage { completion_tokens: tokens, ..record(call) };
    let third = settle(&journal, slots[2], done(3, 9));
    settle(&journal, slots[1], done(2, 4));
    journal.delivered(&[third]).unwrap();
    let id = journal.id();
    journal.progress(slots[3], Tokens { prompt: 5, completion: 8 }).unwrap();
    journal.complete(slots[3]).unwrap();
    // Killed here: the file is as it is.
    drop(journal);
    let (journal, left) = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.id(), id);
    assert_eq!(told(&left), [(2, 2, 4, false), (3, 1, 3, true), (4, 4, 8, false)]);
    assert_eq!(left[1].record.prompt_tokens, 5);
    // Killed again before anything was delivered: the same numbers, the same records.
    drop(journal);
    let (journal, again) = Journal::open(folder.path()).unwrap();
    assert_eq!(again, left);
    journal.delivered(&again).unwrap();
    drop(journal);
    let (journal, left) = Journal::open(folder.path()).unwrap();
    assert_eq!(left, []);
    let slot = journal.begin(&record(5)).unwrap();
    assert_eq!(settle(&journal, slot, record(5)).number, 5, "no number is given twice");
}

#[test]
fn killed_between_the_header_and_the_slots_nothing_is_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let slot = journal.begin(&record(1)).unwrap();
    settle(&journal, slot, record(1));
    let header = Header { id: journal.id(), through: 1 };
    journal.file.write_all_at(&header.bytes(), 0).unwrap();
    drop(journal);
    let (journal, left) = Journal::open(folder.path()).unwrap();
    assert_eq!(left, []);
    assert_eq!(journal.begin(&record(2)).unwrap(), slot, "its place is free");
}

#[test]
fn slots_are_used_again_and_long_texts_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    for call in 1..100 {
        let long = Usage { model: "\u{1}ü".repeat(10_000), ..record(call) };
        let slot = journal.begin(&long).unwrap();
        let settled = settle(&journal, slot, long);
        journal.delivered(&[settled]).unwrap();
    }
    let size = journal.file.metadata().unwrap().len();
    assert_eq!(size, 2 * SIZE as u64);
    let slot = journal.begin(&Usage { model: "\u{1}ü".repeat(10_000), ..record(100) }).unwrap();
    drop(journal);
    let (_, left) = Journal::open(folder.path()).unwrap();
    assert_eq!((left.len(), left[0].slot), (1, Some(slot)));
    assert!(left[0].record.model.starts_with("\u{1}ü"));
}

#[test]
fn one_process_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, _) = Journal::open(folder.path()).unwrap();
    assert!(Journal::open(folder.path()).is_err());
    std::fs::write(folder.path().join("other"), [1; 4096]).unwrap();
    std::fs::rename(folder.path().join("other"), folder.path().join(NAME)).unwrap();
    let error = Journal::open(folder.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("no journal"), "{error}");
}
