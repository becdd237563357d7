//! Copies that are made while the log is written, and bytes that are not of the log.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod common;

use coconut_audit::layout::Tile;
use coconut_audit::{Report, Retention, VerifyOptions, ViolationKind, Writer, WriterOptions};
use common::{Log, entry, patient, walk};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn judged(dir: &Path, log: &Log, copy: bool) -> Report {
    let options = VerifyOptions { copy, ..VerifyOptions::default() };
    coconut_audit::verify(dir, &log.signer.verifier(), &options).unwrap()
}

/// Appends leaves of three records until it is told to stop.
fn write(log: &Log, stop: &AtomicBool) {
    let retention = Retention { state_every: 100, ..Retention::default() };
    let options = WriterOptions { retention, ..patient() };
    let (mut writer, _) = Writer::open(log.path(), &log.signer, options).unwrap();
    let mut i = writer.records();
    while !stop.load(Ordering::Relaxed) {
        writer.append(&[entry(1, i), entry(2, i + 1), entry(1, i + 2)]).unwrap();
        writer.checkpoint().unwrap();
        i += 3;
    }
}

/// As `cp -r`: what is gone when its turn comes is passed over.
fn copy_what_is_there(from: &Path, to: &Path, order: &dyn Fn(&mut Vec<PathBuf>)) {
    let mut items: Vec<PathBuf> =
        std::fs::read_dir(from).unwrap().map(|item| item.unwrap().path()).collect();
    order(&mut items);
    std::fs::create_dir_all(to).unwrap();
    for path in items {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_what_is_there(&path, &target, order);
        } else if let Ok(bytes) = std::fs::read(&path) {
            std::fs::write(target, bytes).unwrap();
        }
    }
}

#[test]
fn copies_in_any_order_raise_no_alarm() {
    let log = Log::new(3, 3);
    let stop = AtomicBool::new(false);
    let pause = std::time::Duration::from_millis(30);
    std::thread::scope(|threads| {
        let end = scopeguard(&stop);
        threads.spawn(|| write(&log, &stop));
        // Until there is an earlier checkpoint of its own, whose last tile is copied unless the next one comes meanwhile.
        let earlier =
            || std::fs::read_to_string(log.path().join("checkpoints")).unwrap_or_default();
        let sizes = |text: &str| text.lines().filter_map(|line| line.parse().ok()).max();
        while sizes(&earlier()).unwrap_or(0_u64) < 10 {
            std::thread::sleep(pause);
        }
        let is_top = |path: &PathBuf| path.is_file() && path.parent() == Some(log.path());
        type Order<'a> = &'a dyn Fn(&mut Vec<PathBuf>);
        let orders: [(&str, Order<'_>); 4] = [
            ("by name", &|items| items.sort()),
            ("backwards", &|items| items.sort_by(|a, b| b.cmp(a))),
            ("checkpoint first", &|items| {
                items.sort_by_key(|path| !is_top(path));
                if items.iter().any(is_top) {
                    std::thread::sleep(pause);
                }
            }),
            ("checkpoint last", &|items| {
                items.sort_by_key(is_top);
                std::thread::sleep(pause);
            }),
        ];
        let (mut incomplete, mut most) = (0, 0);
        for round in 0..6 {
            for (name, order) in orders {
                let dir = common::directory();
                copy_what_is_there(log.path(), dir.path(), order);
                let report = judged(dir.path(), &log, true);
                assert!(report.is_sound(), "{name}, {round}: {:?}", report.violation);
                incomplete += u64::from(report.incomplete > 0);
                most = most.max(report.records);
            }
        }
        assert!(incomplete > 0, "none was made while the log was written");
        assert!(most > 9, "no copy has more than what was there before");
        drop(end);
    });
}

/// Sets `stop` when it goes, also in a panic.
fn scopeguard(stop: &AtomicBool) -> impl Drop + '_ {
    struct Guard<'s>(&'s AtomicBool);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    Guard(stop)
}

#[test]
fn control_of_a_log_that_is_no_copy_nothing_may_be_missing() {
    let log = Log::new(300, 1);
    std::fs::remove_dir_all(log.path().join("tile/entries/001.p")).unwrap();
    let report = judged(log.path(), &log, false);
    assert_eq!(report.violation.unwrap().kind, ViolationKind::FileMissing);
    // The same as a copy ends at an earlier checkpoint, and says how much is not there.
    let report = judged(log.path(), &log, true);
    assert!(report.is_sound(), "{:?}", report.violation);
    assert_eq!(report.incomplete + report.leaves, 300);
    assert!(report.incomplete >= 44);
    // Against a checkpoint that was seen before it is a roll-back all the same.
    let note = std::fs::read(log.path().join("checkpoint")).unwrap();
    let options = VerifyOptions { heads: vec![note], copy: true, ..VerifyOptions::default() };
    let report = coconut_audit::verify(log.path(), &log.signer.verifier(), &options).unwrap();
    assert_eq!(report.violation.unwrap().kind, ViolationKind::RolledBack);
}

#[test]
fn in_the_middle_of_a_copy_nothing_may_be_missing() {
    let log = Log::new(600, 1);
    for tile in [Tile::entries(0, 256), Tile::entries(1, 256)] {
        let path = log.path().join(tile.path());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let report = judged(log.path(), &log, true);
        assert_eq!(report.violation.unwrap().kind, ViolationKind::FileMissing);
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn bytes_that_nothing_refers_to_are_found() {
    let log = Log::new(300, 1);
    let clean = common::directory();
    common::copy(log.path(), clean.path());
    assert!(judged(clean.path(), &log, false).is_sound());
    let bundle = Tile::entries(0, 256).path();
    let partial = Tile::entries(1, 44).path();
    let more =
        |file: &Path| [std::fs::read(log.path().join(file)).unwrap(), vec![0, 1, 7]].concat();
    let shorter = |file: &Path| std::fs::read(log.path().join(file)).unwrap()[..100].to_vec();
    let hidden: Vec<(PathBuf, Vec<u8>)> = vec![
        (bundle.clone(), more(&bundle)),
        (partial.clone(), more(&partial)),
        (Tile::hashes(0, 0, 256).path(), more(&Tile::hashes(0, 0, 256).path())),
        ("tile/entries/000.p/7".into(), b"\0\x01x".to_vec()),
        ("tile/0/001.p/3".into(), [7; 96].to_vec()),
        ("tile/entries/evil".into(), b"hidden".to_vec()),
        ("tile/entries/001.p/044".into(), more(&partial)),
        ("tile/notes/x001/000".into(), b"hidden".to_vec()),
        ("tile/0/000.p/256".into(), Vec::new()),
        ("state/notes".into(), shorter(&bundle)),
    ];
    for (file, bytes) in hidden {
        let dir = common::directory();
        common::copy(clean.path(), dir.path());
        let path = dir.path().join(&file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let report = judged(dir.path(), &log, false);
        let violation = report.violation.unwrap_or_else(|| panic!("{}", file.display()));
        // Hashes that are too many are damage already.
        let kinds = [ViolationKind::Unreferenced, ViolationKind::TileDamaged];
        assert!(kinds.contains(&violation.kind), "{}: {violation}", file.display());
        assert_eq!(violation.file.as_deref(), file.to_str());
    }
}

#[test]
fn what_a_crash_leaves_is_told_apart_from_what_somebody_hid() {
    let log = Log::new(300, 1);
    // A partial bundle that was replaced, one that no checkpoint covers yet, and a file half written.
    let partial = log.path().join(Tile::entries(1, 44).path());
    let bytes = std::fs::read(&partial).unwrap();
    let leaves: Vec<_> =
        coconut_audit::layout::leaves(&bytes).map(|leaf| leaf.unwrap().to_vec()).collect();
    common::write_bundle(&partial.with_file_name("43"), &leaves[..43]);
    let more = [leaves.clone(), leaves[..1].to_vec()].concat();
    common::write_bundle(&partial.with_file_name("45"), &more);
    std::fs::write(partial.with_file_name("46.new"), &bytes[..99]).unwrap();
    std::fs::write(log.path().join("README"), "kept here by an operator").unwrap();
    let report = judged(log.path(), &log, false);
    assert!(report.is_sound(), "{:?}", report.violation);
    let said = report.warnings.join("\n");
    assert!(said.contains("1 files are newer") && said.contains("2 files are left"), "{said}");
    assert!(said.contains("`README` is no part of the log"), "{said}");
    assert!(!walk(log.path()).is_empty());
}
