//! How much is kept, and what is left when the rest was taken away.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod common;

use coconut_audit::layout::Tile;
use coconut_audit::{
    Checkpoint, Error, Filter, Page, Reader, Report, Retention, Scan, VerifyOptions, ViolationKind,
    Writer, WriterOptions, tree,
};
use common::{Log, copy, entry, patient, walk};
use record::Entry;
use std::path::Path;

const BYTES: u64 = 400_000;

/// At most 400 KB, in segments of 32 KiB.
fn little() -> WriterOptions {
    let segment = (32 << 10, 32 << 10);
    let retention = Retention { bytes: BYTES, segment, state_every: 64 };
    WriterOptions { retention, ..patient() }
}

/// Appends leaves of ten records to a log that keeps little; says what was taken away, and when.
fn grow(log: &Log, leaves: std::ops::Range<u64>, mut each: impl FnMut(&mut Writer)) -> u64 {
    let (mut writer, _) = Writer::open(log.path(), &log.signer, little()).unwrap();
    let mut minimum = 0;
    for leaf in leaves {
        let records = leaf * 10..(leaf + 1) * 10;
        let batch: Vec<Entry> = records.map(|i| entry(u128::from(i % 3) + 1, i)).collect();
        writer.append(&batch).unwrap();
        writer.checkpoint().unwrap();
        if let Some(pruned) = writer.pruned() {
            assert!(pruned.minimum > minimum && pruned.bytes > 0, "{pruned:?}");
            minimum = pruned.minimum;
        }
        each(&mut writer);
    }
    minimum
}

fn bytes(directory: &Path) -> u64 {
    let entries = walk(&directory.join("tile/entries"));
    entries.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
}

fn judged(log: &Log, heads: Vec<Vec<u8>>) -> Report {
    let options = VerifyOptions { heads, ..VerifyOptions::default() };
    coconut_audit::verify(log.path(), &log.signer.verifier(), &options).unwrap()
}

#[test]
fn no_more_is_kept_than_was_asked_for_and_it_is_sound() {
    let log = Log::new(0, 1);
    let (mut heads, mut most) = (Vec::new(), 0);
    let minimum = grow(&log, 0..2_000, |writer| {
        heads.push(writer.note().as_bytes().to_vec());
        if heads.len() % 50 == 0 {
            most = most.max(bytes(log.path()));
        }
    });
    assert!(minimum > 1_000, "{minimum}");
    // The oldest bundle is kept whole, and the newest is there as two files at most.
    let slack = 3 * 256 * 1_300;
    assert!(most < BYTES + slack && most > BYTES / 2, "{most} bytes at the most");
    let report = judged(&log, heads.clone());
    assert!(report.is_sound(), "{:?}", report.violation);
    assert_eq!((report.minimum, report.leaves), (minimum, 2_000));
    assert_eq!((report.first_record, report.records), (minimum * 10, 20_000 - minimum * 10));
    // Without states and lowest tiles before it, with all that is above.
    assert!(!log.path().join(Tile::hashes(0, 0, 256).path()).exists());
    assert!(log.path().join(Tile::hashes(1, 0, 7).path()).exists());
    // A log that grows on after it was taken up again.
    let again = grow(&log, 2_000..2_600, |_| {});
    assert!(again > minimum);
    assert!(judged(&log, vec![log.head.clone()].split_off(1)).is_sound());
}

#[test]
fn states_hold_where_a_checkpoint_has_several_leaves() {
    let log = Log::new(0, 1);
    let (mut writer, _) = Writer::open(log.path(), &log.signer, little()).unwrap();
    for batch in 0..60 {
        let records = (batch * 333..(batch + 1) * 333).map(|i| entry(u128::from(i % 7), i));
        writer.append(&records.collect::<Vec<_>>()).unwrap();
        writer.checkpoint().unwrap();
    }
    drop(writer);
    let report = judged(&log, Vec::new());
    assert!(report.is_sound() && report.minimum > 0, "{:?}", report.violation);
}

#[test]
fn control_without_a_limit_nothing_goes() {
    let log = Log::new(1_000, 10);
    assert!(bytes(log.path()) > 2 * BYTES);
    assert_eq!(log.verify().minimum, 0);
}

#[test]
fn readers_begin_where_the_log_does() {
    let log = Log::new(0, 1);
    let mut early = None;
    let minimum = grow(&log, 0..1_500, |writer| {
        if writer.size() == 10 {
            early = Some(Reader::open(writer.directory()).unwrap());
        }
    });
    let reader = Reader::open(log.path()).unwrap();
    let first = reader.query(&Filter::default(), 1)[0].seq;
    assert_eq!(first, minimum / 256 * 2_560);
    let all = reader.tail(&Filter::default(), usize::MAX);
    assert_eq!((all[0].seq, all.len() as u64), (first, 15_000 - first));
    assert!(matches!(reader.prove(7), Err(Error::NoRecord(7))));
    let proof = reader.prove(14_000).unwrap();
    assert_eq!(proof.check(&log.signer.verifier()).unwrap().seq, 14_000);
    // One that was opened before goes on with what there is.
    let mut scan = Scan::from(early.unwrap(), Filter::default(), 0, None);
    let mut seen = 0;
    while scan.step(Page::default(), &mut |_| true, &mut |_| seen += 1) {}
    assert_eq!(seen, 0, "its own ten leaves are gone");
    let mut old = Reader::open(log.path()).unwrap();
    grow(&log, 1_500..2_200, |_| {});
    let newer = old.fresh(&Filter::default()).unwrap();
    assert_eq!(newer.last().unwrap().seq, 21_999);
}

#[test]
fn later_trees_are_extensions_of_those_that_were_pruned() {
    let log = Log::new(0, 1);
    let mut old = Vec::new();
    grow(&log, 0..2_000, |writer| {
        if [256, 1_900, 1_999].contains(&writer.size()) {
            old.push(Checkpoint::open(writer.note().as_bytes(), &writer.key()).unwrap());
        }
    });
    let reader = Reader::open(log.path()).unwrap();
    let now = reader.checkpoint();
    for old in old {
        let path = reader.prove_extension(old.size).unwrap();
        assert!(tree::check_consistency(old.size, &old.root, now.size, &now.root, &path));
    }
}

#[test]
fn what_was_taken_away_without_the_key_is_missed() {
    let log = Log::new(0, 1);
    let mut before = None;
    let minimum = grow(&log, 0..1_600, |writer| {
        if writer.size() == 1_200 {
            let dir = common::directory();
            copy(writer.directory(), dir.path());
            before = Some(dir);
        }
    });
    assert!(judged(&log, Vec::new()).is_sound());
    let kind = || judged(&log, Vec::new()).violation.map(|violation| violation.kind);
    // One bundle more.
    let path = log.path().join(Tile::entries(minimum / 256, 256).path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kind(), Some(ViolationKind::FileMissing));
    std::fs::write(&path, bytes).unwrap();
    // The minimum is forgotten, changed, that of an earlier time.
    let path = log.path().join("minimum");
    let note = std::fs::read_to_string(&path).unwrap();
    let later = note.replace(&format!("\n{minimum}\n"), &format!("\n{}\n", minimum + 256));
    assert_ne!(later, note);
    std::fs::write(&path, later).unwrap();
    assert_eq!(kind(), Some(ViolationKind::CheckpointChanged));
    std::fs::copy(before.unwrap().path().join("minimum"), &path).unwrap();
    assert_eq!(kind(), Some(ViolationKind::StateDamaged));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kind(), Some(ViolationKind::FileMissing));
    std::fs::write(&path, note).unwrap();
    assert_eq!(kind(), None);
}

#[test]
fn what_a_crash_leaves_before_the_minimum_is_taken_away() {
    let log = Log::new(0, 1);
    let mut before = common::directory();
    let mut last = 0;
    let minimum = grow(&log, 0..2_000, |writer| {
        let now = std::fs::read_to_string(writer.directory().join("minimum")).unwrap_or_default();
        if now.len() as u64 != last || writer.size() % 256 == 255 {
            last = now.len() as u64;
        }
        if writer.size() == 1_900 {
            before = common::directory();
            copy(writer.directory(), before.path());
        }
    });
    // The files of an earlier time beside the newest minimum: signed, nothing removed yet.
    copy(log.path(), before.path());
    let half = Log { dir: before, ..log };
    let report = judged(&half, Vec::new());
    assert!(report.is_sound(), "{:?}", report.violation);
    let first = half.path().join(Tile::entries(minimum / 256 - 1, 256).path());
    std::fs::create_dir_all(first.parent().unwrap()).unwrap();
    let any = std::fs::read(half.path().join(Tile::entries(minimum / 256, 256).path())).unwrap();
    std::fs::write(&first, any).unwrap();
    Writer::open(half.path(), &half.signer, little()).unwrap();
    assert!(!first.exists());
    assert!(judged(&half, Vec::new()).is_sound());
}
