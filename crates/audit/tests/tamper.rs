//! The tamper matrix: whatever is done to a log is found, and the first bad record is named.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod common;

use coconut_audit::layout::Tile;
use coconut_audit::{Report, ViolationKind, Writer, keys};
use common::{Log, entry, patient, split, walk, write_bundle};
use proptest::prelude::*;

fn found(report: &Report) -> (ViolationKind, Option<u64>) {
    let violation = report.violation.as_ref().expect("the change was not noticed");
    (violation.kind, violation.seq)
}

/// The true first bad record is the one named, or one of the few that it could be.
fn names(report: &Report, seq: u64) -> bool {
    let violation = report.violation.as_ref().expect("the change was not noticed");
    violation.seq == Some(seq) || violation.or_seq.contains(&seq)
}

#[test]
fn an_untouched_log_is_sound() {
    let log = Log::new(300, 2);
    for report in [log.verify(), log.verify_with_head()] {
        assert!(report.is_sound(), "{:?}", report.violation);
        assert_eq!((report.records, report.leaves, report.agents), (600, 300, 3));
        assert_eq!((report.first_time_ns, report.last_time_ns), (Some(1_000), Some(1_599)));
    }
    assert_eq!(log.verify().warnings.len(), 1);
}

#[test]
fn edit_any_byte_of_a_record() {
    let log = Log::new(12, 1);
    let (path, list, at) = log.bundle(7, 12);
    for byte in 0..list[at].len() {
        let mut changed = list.clone();
        changed[at][byte] ^= 1;
        write_bundle(&path, &changed);
        let report = log.verify();
        assert!(names(&report, 7), "byte {byte}: {:?}", report.violation);
        assert_eq!(report.violation.unwrap().leaf, Some(7), "byte {byte}");
    }
    write_bundle(&path, &list);
    assert!(log.verify().is_sound());
}

#[test]
fn edit_a_record_among_others_of_its_leaf() {
    let log = Log::new(4, 12);
    let (path, list, at) = log.bundle(1, 4);
    let records = split(&list[at]);
    for (position, record) in records.iter().enumerate() {
        let text = record.windows(5).position(|w| w == b"input").unwrap();
        let mut changed = records.clone();
        changed[position][text] = b'X';
        let mut bundle = list.clone();
        bundle[at] = changed.concat();
        write_bundle(&path, &bundle);
        let report = log.verify();
        let violation = report.violation.clone().unwrap();
        assert_eq!(violation.kind, ViolationKind::RecordChanged);
        assert_eq!((violation.seq, violation.or_seq), (Some(12 + position as u64), vec![]));
        assert_eq!(violation.file.as_deref(), Some("tile/entries/000.p/4"));
    }
}

#[test]
fn delete_a_record() {
    let log = Log::new(5, 4);
    let (path, mut list, at) = log.bundle(2, 5);
    let mut records = split(&list[at]);
    records.remove(1);
    list[at] = records.concat();
    write_bundle(&path, &list);
    assert_eq!(found(&log.verify()), (ViolationKind::RecordsMissing, Some(9)));
}

#[test]
fn delete_a_leaf() {
    let log = Log::new(300, 2);
    let (path, mut list, at) = log.bundle(100, 300);
    list.remove(at);
    write_bundle(&path, &list);
    let report = log.verify();
    assert_eq!(found(&report), (ViolationKind::RecordsMissing, Some(200)));
    assert_eq!(report.violation.unwrap().detail, "records 200 to 201 are missing");
}

#[test]
fn swap_two_records_or_two_leaves() {
    let log = Log::new(6, 4);
    let (path, list, at) = log.bundle(2, 6);
    let mut records = split(&list[at]);
    records.swap(1, 2);
    let mut changed = list.clone();
    changed[at] = records.concat();
    write_bundle(&path, &changed);
    assert_eq!(found(&log.verify()), (ViolationKind::RecordsReordered, Some(9)));
    let mut changed = list;
    changed.swap(1, 4);
    write_bundle(&path, &changed);
    assert_eq!(found(&log.verify()), (ViolationKind::RecordsReordered, Some(4)));
}

#[test]
fn insert_and_repeat() {
    let log = Log::new(6, 1);
    let (path, list, at) = log.bundle(3, 6);
    let mut changed = list.clone();
    changed[at] = [list[at].clone(), list[at].clone()].concat();
    write_bundle(&path, &changed);
    assert_eq!(found(&log.verify()).0, ViolationKind::RecordsReordered);
    assert!(names(&log.verify(), 4));
}

#[test]
fn truncate_the_bundle() {
    let log = Log::new(6, 2);
    let (path, mut list, _) = log.bundle(0, 6);
    list.truncate(4);
    write_bundle(&path, &list);
    assert_eq!(found(&log.verify()), (ViolationKind::FileMissing, Some(8)));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(found(&log.verify()), (ViolationKind::FileMissing, Some(6)));
}

#[test]
fn roll_the_whole_log_back() {
    let log = Log::new(6, 2);
    let old = log.head.clone();
    // What the directory looked like after four leaves, as a backup would have kept it.
    let (path, mut list, _) = log.bundle(0, 6);
    list.truncate(4);
    std::fs::write(log.path().join("checkpoint"), &old).unwrap();
    write_bundle(&path.with_file_name("4"), &list);
    let hashes = std::fs::read(log.path().join("tile/0/000.p/6")).unwrap();
    std::fs::write(log.path().join("tile/0/000.p/4"), &hashes[..4 * 32]).unwrap();
    assert!(log.verify().is_sound(), "a consistent old state is sound by itself");
    let newest = Log::new(6, 2);
    let ahead = coconut_audit::Checkpoint {
        origin: log.signer.name().into(),
        size: 6,
        root: coconut_audit::Checkpoint::peek(newest.path()).unwrap().root,
    };
    let options = coconut_audit::VerifyOptions {
        heads: vec![ahead.sign(&log.signer).into_bytes()],
        ..Default::default()
    };
    let report = coconut_audit::verify(log.path(), &log.signer.verifier(), &options).unwrap();
    assert_eq!(found(&report), (ViolationKind::RolledBack, Some(8)));
}

#[test]
fn rewrite_history_with_the_key() {
    // An insider with the key builds another history; a remembered checkpoint tells.
    let log = Log::new(6, 2);
    let head = log.head.clone();
    let other = common::directory();
    let (mut writer, _) = Writer::open(other.path(), &log.signer, patient()).unwrap();
    for i in 0..12 {
        writer.append(&[entry(9, i)]).unwrap();
        writer.checkpoint().unwrap();
    }
    let key = log.signer.verifier();
    let alone = coconut_audit::verify(other.path(), &key, &Default::default()).unwrap();
    assert!(alone.is_sound());
    let options = coconut_audit::VerifyOptions { heads: vec![head], ..Default::default() };
    let report = coconut_audit::verify(other.path(), &key, &options).unwrap();
    assert_eq!(found(&report).0, ViolationKind::Forked);
}

#[test]
fn swap_the_key() {
    let log = Log::new(4, 1);
    let other = keys::generate("test.example/log", &log.keys.path().join("other")).unwrap();
    let checkpoint = coconut_audit::Checkpoint::peek(log.path()).unwrap();
    std::fs::write(log.path().join("checkpoint"), checkpoint.sign(&other)).unwrap();
    assert_eq!(found(&log.verify()).0, ViolationKind::KeySwapped);
    let renamed = keys::generate("else.example/log", &log.keys.path().join("renamed")).unwrap();
    std::fs::write(log.path().join("checkpoint"), checkpoint.sign(&renamed)).unwrap();
    assert_eq!(found(&log.verify()).0, ViolationKind::KeySwapped);
}

#[test]
fn change_or_drop_the_checkpoint() {
    let log = Log::new(4, 1);
    let path = log.path().join("checkpoint");
    let note = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, note.replace("\n4\n", "\n3\n")).unwrap();
    assert_eq!(found(&log.verify()).0, ViolationKind::CheckpointChanged);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found(&log.verify()).0, ViolationKind::CheckpointMissing);
}

#[test]
fn drop_a_bundle_or_a_tile() {
    let log = Log::new(600, 1);
    let bundle = log.path().join(Tile::entries(1, 256).path());
    let bytes = std::fs::read(&bundle).unwrap();
    std::fs::remove_file(&bundle).unwrap();
    let report = log.verify();
    assert_eq!(found(&report), (ViolationKind::FileMissing, Some(256)));
    assert_eq!(report.violation.unwrap().file.as_deref(), Some("tile/entries/001"));
    std::fs::write(&bundle, bytes).unwrap();
    for tile in [Tile::hashes(0, 1, 256), Tile::hashes(1, 0, 2)] {
        let path = log.path().join(tile.path());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found(&log.verify()).0, ViolationKind::TileDamaged, "{tile:?} dropped");
        let mut changed = bytes.clone();
        changed[40] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let report = log.verify();
        assert_eq!(found(&report).0, ViolationKind::TileDamaged, "{tile:?} changed");
        assert_eq!(report.violation.unwrap().file.as_deref(), tile.path().to_str());
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(log.verify().is_sound());
}

#[test]
fn edit_records_and_all_tiles_alike() {
    // Hashes are recomputed by the attacker; only the signature stands in the way.
    let log = Log::new(6, 1);
    let (path, mut list, at) = log.bundle(2, 6);
    let text = list[at].windows(5).position(|w| w == b"input").unwrap();
    list[at][text] = b'X';
    write_bundle(&path, &list);
    let hashes: Vec<u8> =
        list.iter().flat_map(|leaf| coconut_audit::hash::leaf_hash(leaf)).collect();
    std::fs::write(log.path().join("tile/0/000.p/6"), hashes).unwrap();
    let report = log.verify();
    assert_eq!(found(&report).0, ViolationKind::RecordChanged);
    assert!(names(&report, 2), "{:?}", report.violation);
}

#[test]
fn a_gap_in_what_was_signed() {
    // A writer that skips a number signs a log whose tree is sound and whose records are not.
    let log = Log::new(3, 2);
    let (path, mut list, _) = log.bundle(0, 3);
    let dropped = list.remove(1);
    assert!(!dropped.is_empty());
    write_bundle(&path.with_file_name("2"), &list);
    let hashes: Vec<_> = list.iter().map(|leaf| coconut_audit::hash::leaf_hash(leaf)).collect();
    std::fs::write(log.path().join("tile/0/000.p/2"), hashes.as_flattened()).unwrap();
    let root = coconut_audit::hash::node_hash(&hashes[0], &hashes[1]);
    let origin = log.signer.name().into();
    let note = coconut_audit::Checkpoint { origin, size: 2, root }.sign(&log.signer);
    std::fs::write(log.path().join("checkpoint"), note).unwrap();
    assert_eq!(found(&log.verify()), (ViolationKind::RecordsMissing, Some(2)));
}

/// The control: the same records as lines of JSON, as services commonly keep them. A reader has
/// nothing to notice any of this with.
#[test]
fn control_a_plain_log_does_not_notice() {
    let lines: Vec<String> =
        (0..10).map(|i| serde_json::to_string(&entry(1, i)).unwrap()).collect();
    let readable = |lines: &[String]| {
        lines.iter().all(|line| serde_json::from_str::<record::Entry>(line).is_ok())
    };
    assert!(readable(&lines));
    let mut edited = lines.clone();
    edited[3] = edited[3].replace("input", "other");
    let mut removed = lines.clone();
    removed.remove(3);
    let mut swapped = lines.clone();
    swapped.swap(2, 5);
    for tampered in [edited, removed, swapped, lines[..6].to_vec()] {
        assert_ne!(tampered, lines);
        assert!(readable(&tampered), "a plain log would have noticed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_random_change_of_any_file_passes(
        leaves in 1_u64..20, per_leaf in 1_u64..6,
        file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut: bool,
    ) {
        let log = Log::new(leaves, per_leaf);
        let mut files: Vec<_> = walk(log.path());
        // The lock, the journal and the copy of the public key are no part of what is signed.
        files.retain(|path| path.ends_with("checkpoint") || path.to_str().unwrap().contains("/tile/"));
        let path = file.get(&files);
        let mut bytes = std::fs::read(path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        std::fs::write(path, bytes).unwrap();
        let report = log.verify();
        prop_assert!(!report.is_sound(), "{} at {at}", path.display());
    }
}
