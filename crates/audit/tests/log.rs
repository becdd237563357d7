//! Writing, crashing, reading and proving.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod common;

use abi::{Kind, Verdict};
use coconut_audit::{
    Error, Filter, Page, Proof, ProofError, Reader, Recovery, Scan, VerifyOptions, Writer,
    WriterOptions, keys, tree, verify,
};
use common::{Log, copy, entry, patient};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

fn signer(dir: &Path) -> coconut_audit::NoteSigner {
    keys::load_or_generate("test.example/log", &dir.join("k")).unwrap()
}

#[test]
fn what_was_appended_survives_a_crash_before_its_checkpoint() {
    let (dir, keys) = (common::directory(), common::directory());
    let (mut writer, first) = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap();
    assert_eq!(first, Recovery::default());
    assert_eq!(writer.append(&[entry(1, 0), entry(2, 1)]).unwrap(), 0..2);
    assert_eq!(writer.append(&[entry(1, 2)]).unwrap(), 2..3);
    assert_eq!(Reader::open(dir.path()).unwrap().len().unwrap(), 0, "no checkpoint yet");
    drop(writer); // the process dies: nothing is sealed
    let (mut writer, recovery) = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap();
    assert_eq!(recovery, Recovery { records: 3, ..Recovery::default() });
    assert_eq!(writer.append(&[entry(2, 3)]).unwrap(), 3..4);
    writer.checkpoint().unwrap();
    let report =
        verify(dir.path(), &signer(keys.path()).verifier(), &VerifyOptions::default()).unwrap();
    assert!(report.is_sound(), "{:?}", report.violation);
    assert_eq!(report.records, 4);
}

#[test]
fn a_torn_tail_is_cut_and_nothing_before_it() {
    let (dir, keys) = (common::directory(), common::directory());
    let (mut writer, _) = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap();
    writer.append(&[entry(1, 0)]).unwrap();
    let whole = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    writer.append(&[entry(1, 1), entry(2, 2)]).unwrap();
    drop(writer);
    let bytes = std::fs::read(dir.path().join("journal")).unwrap();
    for end in whole as usize..bytes.len() {
        let torn = common::directory();
        copy(dir.path(), torn.path());
        std::fs::write(torn.path().join("journal"), &bytes[..end]).unwrap();
        let (writer, recovery) =
            Writer::open(torn.path(), &signer(keys.path()), patient()).unwrap();
        assert_eq!((recovery.records, recovery.torn_bytes), (1, end as u64 - whole));
        assert_eq!(writer.records(), 1);
    }
    for at in whole as usize..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        let torn = common::directory();
        copy(dir.path(), torn.path());
        std::fs::write(torn.path().join("journal"), &changed).unwrap();
        let (writer, _) = Writer::open(torn.path(), &signer(keys.path()), patient()).unwrap();
        assert_eq!(writer.records(), 1, "byte {at}");
    }
}

#[test]
fn a_crash_between_any_two_steps_of_a_checkpoint_loses_nothing() {
    let (dir, keys) = (common::directory(), common::directory());
    let (mut writer, _) = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap();
    for i in 0..255 {
        writer.append(&[entry(1, i)]).unwrap();
        writer.checkpoint().unwrap();
    }
    writer.append(&[entry(1, 255), entry(2, 256)]).unwrap();
    let before = common::directory();
    copy(dir.path(), before.path());
    writer.checkpoint().unwrap();
    // Tiles written, checkpoint not: the old checkpoint and the journal beside the new tiles.
    let half = common::directory();
    copy(before.path(), half.path());
    copy(&dir.path().join("tile"), &half.path().join("tile"));
    // Checkpoint written, journal not cleared.
    let late = common::directory();
    copy(dir.path(), late.path());
    std::fs::copy(before.path().join("journal"), late.path().join("journal")).unwrap();
    for (state, recovered) in [(&before, 2), (&half, 2), (&late, 0)] {
        let (writer, recovery) =
            Writer::open(state.path(), &signer(keys.path()), patient()).unwrap();
        assert_eq!((recovery.records, recovery.torn_bytes), (recovered, 0));
        assert_eq!(writer.records(), 257);
        let key = signer(keys.path()).verifier();
        let report = verify(state.path(), &key, &VerifyOptions::default()).unwrap();
        assert!(report.is_sound(), "{:?}", report.violation);
        assert_eq!(report.records, 257);
    }
}

#[test]
fn denials_are_sealed_at_once_and_the_rest_in_time() {
    let (dir, keys) = (common::directory(), common::directory());
    let options = WriterOptions { checkpoint_every: Duration::from_millis(30), ..patient() };
    let (mut writer, _) = Writer::open(dir.path(), &signer(keys.path()), options).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let sealed = || {
        let mut reader = reader.clone();
        reader.refresh().unwrap();
        reader.len().unwrap()
    };
    let mut denial = entry(1, 0);
    (denial.kind, denial.verdict) = (Kind::Denial, Verdict::Deny);
    writer.append(&[denial]).unwrap();
    assert_eq!(sealed(), 1);
    writer.append(&[entry(1, 1)]).unwrap();
    std::thread::sleep(Duration::from_millis(40));
    writer.tick().unwrap();
    assert_eq!(sealed(), 2);
}

#[test]
fn there_is_one_writer() {
    let log = Log::new(1, 1);
    let _open = Writer::open(log.path(), &log.signer, patient()).unwrap();
    let second = Writer::open(log.path(), &log.signer, patient()).err().unwrap();
    assert!(matches!(second, Error::Locked(_)));
}

/// What a scan hands on, with the most that one step handed on and looked at.
fn scanned(mut scan: Scan, page: Page, visible: impl Fn(u128) -> bool) -> (Vec<u64>, usize, u64) {
    let (mut seqs, mut most, mut looked_most) = (Vec::new(), 0, 0);
    loop {
        let (before, mut looked) = (seqs.len(), 0);
        let more = scan.step(
            page,
            &mut |record| {
                looked += 1;
                visible(record.agent.as_u128())
            },
            &mut |record| seqs.push(record.seq),
        );
        most = most.max(seqs.len() - before);
        looked_most = looked_most.max(looked);
        if !more {
            return (seqs, most, looked_most);
        }
    }
}

#[test]
fn a_scan_holds_a_page_and_finds_the_newest_that_may_be_seen() {
    let log = Log::new(800, 3);
    let reader = Reader::open(log.path()).unwrap();
    let mut agents = Vec::new();
    reader.for_each(0, |record, _| {
        agents.push(record.agent.as_u128());
        ControlFlow::Continue(())
    });
    let page = Page { records: 7, bytes: usize::MAX };
    for own in [None, Some(2)] {
        let visible = |agent| own.is_none_or(|own| own == agent);
        let all: Vec<u64> =
            (0..).zip(&agents).filter(|(_, agent)| visible(**agent)).map(|(seq, _)| seq).collect();
        for limit in [0, 1, 2, 255, 256, 257, 1_000, 5_000] {
            let scan = Scan::newest(reader.clone(), Filter::default(), Some(limit));
            let (seqs, most, _) = scanned(scan, page, visible);
            assert_eq!(seqs, all[all.len().saturating_sub(limit as usize)..], "{limit}");
            assert!(most <= 7, "{most} at once");
        }
        let scan = Scan::newest(reader.clone(), Filter::default(), None);
        assert_eq!(scanned(scan, page, visible).0, all);
        let scan = Scan::from(reader.clone(), Filter::default(), 2_000, Some(9));
        let from = all.partition_point(|seq| *seq < 2_000);
        assert_eq!(scanned(scan, page, visible).0, all[from..from + 9]);
    }
}

#[test]
fn a_step_that_finds_nothing_ends_all_the_same() {
    let (mut log, large) = (Log::new(0, 1), "x".repeat(4_000));
    let (mut writer, _) = Writer::open(log.path(), &log.signer, patient()).unwrap();
    for _ in 0..2_000 {
        writer.append(&[record::Entry { object: large.clone(), ..entry(1, 1) }]).unwrap();
    }
    writer.checkpoint().unwrap();
    log.records = 2_000;
    let reader = Reader::open(log.path()).unwrap();
    for limit in [None, Some(5)] {
        let scan = Scan::newest(reader.clone(), Filter::default(), limit);
        let (seqs, _, looked) = scanned(scan, Page::default(), |_| false);
        assert!(seqs.is_empty());
        // 256 KiB of records of 4 KB, and the rest of a leaf.
        assert!(looked <= 64 + 16, "{looked} records in one step");
    }
    let (_, most, _) =
        scanned(Scan::newest(reader, Filter::default(), None), Page::default(), |_| true);
    assert!(most <= 17, "{most} records of 4 KB at once: 64 KiB are a page");
}

#[test]
fn what_is_too_much_for_a_record_is_left_out_and_said() {
    let log = Log::new(0, 1);
    let (mut writer, _) = Writer::open(log.path(), &log.signer, patient()).unwrap();
    // A character of three bytes lies over each limit; together they would be no leaf.
    let long = "€".repeat(400_000);
    let large = record::Entry {
        object: long.clone(),
        body: long.clone().into(),
        tenant: long.clone(),
        ..entry(1, 1)
    };
    let all: Vec<_> = (0..200).map(|_| large.clone()).chain([entry(1, 2)]).collect();
    assert_eq!(writer.append(&all).unwrap(), 0..201);
    writer.checkpoint().unwrap();
    let report = verify(log.path(), &log.signer.verifier(), &VerifyOptions::default()).unwrap();
    assert!(report.is_sound() && report.records == 201, "{:?}", report.violation);
    let records = Reader::open(log.path()).unwrap().query(&Filter::default(), 999);
    let first = &records[0];
    let detail = first.detail();
    let kept = [&first.tenant, &first.object, &detail];
    assert_eq!(kept.map(|text| text.len()), [255, 16_383, 16_383]);
    assert!(kept.iter().all(|text| long.starts_with(text.as_str())));
    assert_eq!(first.cut as usize, 3 * long.len() - 255 - 2 * 16_383);
    assert_eq!((records[200].cut, records[200].object.as_str()), (0, entry(1, 2).object.as_str()));
}

#[test]
fn queries_tails_and_what_is_fresh() {
    let log = Log::new(700, 2);
    let mut reader = Reader::open(log.path()).unwrap();
    assert_eq!(reader.len().unwrap(), 1_400);
    let seqs = |list: Vec<coconut_audit::Record>| list.iter().map(|r| r.seq).collect::<Vec<_>>();
    let one = Filter { agents: vec![uuid::Uuid::from_u128(2)], ..Filter::default() };
    assert_eq!(seqs(reader.query(&one, 3)), [1, 4, 7]);
    assert_eq!(seqs(reader.tail(&one, 2)), [1_396, 1_399]);
    let late = Filter { from_seq: Some(1_200), object: Some("/1203".into()), ..Filter::default() };
    assert_eq!(seqs(reader.query(&late, 9)), [1_203]);
    let span = Filter { since_ns: Some(1_010), until_ns: Some(1_012), ..Filter::default() };
    assert_eq!(seqs(reader.query(&span, 9)), [10, 11]);
    let none = Filter { kinds: vec![Kind::Denial], ..Filter::default() };
    assert!(reader.query(&none, 9).is_empty());
    reader.skip_to_end().unwrap();
    assert!(reader.fresh(&Filter::default()).unwrap().is_empty());
    let (mut writer, _) = Writer::open(log.path(), &log.signer, patient()).unwrap();
    writer.append(&[entry(2, 0)]).unwrap();
    writer.checkpoint().unwrap();
    assert_eq!(seqs(reader.fresh(&one).unwrap()), [1_400]);
    assert!(reader.fresh(&one).unwrap().is_empty());
}

#[test]
fn a_proof_needs_only_the_public_key() {
    let log = Log::new(300, 3);
    let reader = Reader::open(log.path()).unwrap();
    let key = log.signer.verifier();
    for seq in [0, 1, 767, 768, 899] {
        let proof = reader.prove(seq).unwrap();
        let again = Proof::parse(&proof.to_text()).unwrap();
        assert_eq!(again, proof);
        assert_eq!(again.check(&key).unwrap().seq, seq);
        let mut moved = proof.clone();
        moved.index ^= 1;
        assert_eq!(moved.check(&key), Err(ProofError::NotIncluded));
        let mut changed = proof.clone();
        changed.leaf[3] ^= 1;
        assert_eq!(changed.check(&key), Err(ProofError::NotIncluded));
    }
    assert!(matches!(reader.prove(900), Err(Error::NoRecord(900))));
}

#[test]
fn every_tree_is_an_extension_of_those_before() {
    let log = Log::new(300, 1);
    let old = coconut_audit::Checkpoint::open(&log.head, &log.signer.verifier()).unwrap();
    let reader = Reader::open(log.path()).unwrap();
    let path = reader.prove_extension(old.size).unwrap();
    let now = reader.checkpoint();
    assert!(tree::check_consistency(old.size, &old.root, now.size, &now.root, &path));
    assert!(!tree::check_consistency(old.size, &now.root, now.size, &now.root, &path));
}

#[test]
fn an_independent_implementation_accepts_our_tree() {
    // tlog_tiles computes the root from the leaves in its own way.
    let log = Log::new(270, 1);
    struct Stored(Vec<tlog_tiles::Hash>);
    impl tlog_tiles::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
            Ok(indexes.iter().map(|i| self.0[*i as usize]).collect())
        }
    }
    let mut stored = Stored(Vec::new());
    for leaf in 0..270 {
        let (_, list, at) = log.bundle(leaf, 270);
        let hashes = tlog_tiles::stored_hashes(leaf, &list[at], &stored).unwrap();
        stored.0.extend(hashes);
    }
    let root = tlog_tiles::tree_hash(270, &stored).unwrap();
    let reader = Reader::open(log.path()).unwrap();
    assert_eq!(root.0, reader.checkpoint().root);
    let proof = reader.prove(100).unwrap();
    let path = proof.path.iter().map(|hash| tlog_tiles::Hash(*hash)).collect();
    let leaf = tlog_tiles::record_hash(&proof.leaf);
    tlog_tiles::check_record(&path, 270, root, 100, leaf).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_appends_checkpoints_and_restarts_is_sound(
        steps in prop::collection::vec((0_u64..90, any::<bool>(), any::<bool>()), 1..30)
    ) {
        let (dir, keys) = (common::directory(), common::directory());
        let (mut writer, _) = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap();
        let mut total = 0;
        for (count, seal, restart) in steps {
            let batch: Vec<_> = (total..total + count).map(|i| entry(u128::from(i % 5), i)).collect();
            prop_assert_eq!(writer.append(&batch).unwrap(), total..total + count);
            total += count;
            if seal { writer.checkpoint().unwrap(); }
            if restart {
                drop(writer);
                writer = Writer::open(dir.path(), &signer(keys.path()), patient()).unwrap().0;
            }
        }
        writer.checkpoint().unwrap();
        let report = verify(dir.path(), &signer(keys.path()).verifier(), &VerifyOptions::default()).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report.violation);
        prop_assert_eq!(report.records, total);
    }
}

#[test]
fn what_cannot_be_read_is_passed_over_and_counted() {
    let log = Log::new(700, 2);
    // A record of leaf 300 is damaged, and the length of leaf 600: what lies behind it is lost to a reader.
    let (path, mut list, at) = log.bundle(300, 700);
    list[at][0] = 0xff;
    common::write_bundle(&path, &list);
    let (path, list, at) = log.bundle(600, 700);
    let offset: usize = list[..at].iter().map(|leaf| 2 + leaf.len()).sum();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let reader = Reader::open(log.path()).unwrap();
    let mut scan = Scan::newest(reader.clone(), Filter::default(), None);
    let mut seen = Vec::new();
    while scan.step(Page::default(), &mut |_| true, &mut |record| seen.push(record.seq)) {}
    let expected: Vec<u64> = (0..1_200).filter(|seq| ![600, 601].contains(seq)).collect();
    assert_eq!(seen, expected);
    assert_eq!(scan.damaged(), 1 + 100);
    // Counted backwards and looked for by number it is the same.
    assert_eq!(reader.tail(&Filter::default(), 3).last().map(|r| r.seq), Some(1_199));
    let from: Vec<u64> = reader
        .query(&Filter { from_seq: Some(599), ..Filter::default() }, 2)
        .iter()
        .map(|r| r.seq)
        .collect();
    assert_eq!(from, [599, 602]);
    assert_eq!(log.verify().violation.unwrap().kind, coconut_audit::ViolationKind::RecordChanged);
}
