//! Taking a log up: how little is read for it, and what is done where it is not what it was.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod common;

use abi::Kind;
use coconut_audit::layout::Tile;
use coconut_audit::{
    ASIDE_FOLDER, Filter, Reader, Retention, VerifyOptions, ViolationKind, Writer, WriterOptions,
};
use common::{Log, copy, entry, patient, walk};
use record::Entry;
use std::collections::BTreeSet;
use std::path::Path;

/// A state at least every hundred records.
fn often() -> WriterOptions {
    let retention = Retention { state_every: 100, ..Retention::default() };
    WriterOptions { retention, ..patient() }
}

/// A log of `leaves` leaves of ten records, three agents in turn, with states.
fn long(leaves: u64) -> Log {
    let log = Log::new(0, 1);
    let (mut writer, _) = Writer::open(log.path(), &log.signer, often()).unwrap();
    for leaf in 0..leaves {
        append(&mut writer, leaf * 10, 10);
    }
    drop(writer);
    Log { records: leaves * 10, ..log }
}

fn append(writer: &mut Writer, from: u64, count: u64) {
    let batch: Vec<Entry> = (from..from + count).map(|i| entry(u128::from(i % 3) + 1, i)).collect();
    writer.append(&batch).unwrap();
    writer.checkpoint().unwrap();
}

fn states(log: &Log) -> Vec<u64> {
    let list = std::fs::read_dir(log.path().join("state")).unwrap();
    let mut list: Vec<u64> =
        list.map(|item| item.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    list.sort_unstable();
    list
}

/// Paths of what is older than the bundle that has leaf `size`.
fn older(log: &Log, size: u64) -> Vec<std::path::PathBuf> {
    let bundles = (0..size / 256).flat_map(|i| [Tile::entries(i, 256), Tile::hashes(0, i, 256)]);
    bundles.map(|tile| log.path().join(tile.path())).collect()
}

#[test]
fn what_lies_before_the_newest_state_is_not_read() {
    let log = long(1_105);
    let newest = *states(&log).last().unwrap();
    assert!(newest > 1_024 && newest < 1_105, "{newest}");
    for file in older(&log, newest) {
        std::fs::remove_file(file).unwrap();
    }
    let (mut writer, recovery) = Writer::open(log.path(), &log.signer, often()).unwrap();
    assert_eq!((recovery.set_aside, writer.records()), (None, 11_050));
    append(&mut writer, 11_050, 10);
    let reader = Reader::open(log.path()).unwrap();
    assert_eq!(reader.tail(&Filter::default(), 1)[0].seq, 11_059);
    // What is not read is still looked at, by who is to.
    assert_eq!(log.verify().violation.unwrap().kind, ViolationKind::FileMissing);
}

#[test]
fn what_was_closed_in_order_has_nothing_to_be_followed() {
    let log = Log::new(0, 1);
    let (mut writer, _) = Writer::open(log.path(), &log.signer, patient()).unwrap();
    (0..300).for_each(|leaf| append(&mut writer, leaf * 10, 10));
    writer.close().unwrap();
    writer.close().unwrap();
    drop(writer);
    assert_eq!(states(&log), [300]);
    std::fs::remove_file(&older(&log, 300)[0]).unwrap();
    let (writer, recovery) = Writer::open(log.path(), &log.signer, patient()).unwrap();
    assert_eq!((recovery.set_aside, writer.records()), (None, 3_000));
}

#[test]
fn control_without_its_states_it_is_read_whole() {
    let log = long(300);
    std::fs::remove_dir_all(log.path().join("state")).unwrap();
    let whole = common::directory();
    copy(log.path(), whole.path());
    let (writer, recovery) = Writer::open(whole.path(), &log.signer, often()).unwrap();
    assert_eq!((recovery.set_aside, writer.records()), (None, 3_000));
    std::fs::remove_file(log.path().join(Tile::entries(0, 256).path())).unwrap();
    let (writer, recovery) = Writer::open(log.path(), &log.signer, often()).unwrap();
    assert!(recovery.set_aside.is_some() && writer.records() == 0);
}

#[test]
fn a_log_that_was_taken_up_is_the_one_that_was_left() {
    // Left and taken up at every place of a state, a bundle and a tile.
    let log = Log::new(0, 1);
    let mut total = 0;
    for step in 0..420 {
        let (mut writer, recovery) = Writer::open(log.path(), &log.signer, often()).unwrap();
        assert_eq!((&recovery.set_aside, writer.records()), (&None, total), "step {step}");
        let count = 1 + step % 7;
        let mut batch: Vec<Entry> =
            (total..total + count).map(|i| entry(u128::from(i % 5) + 1, i)).collect();
        // Agents end, and some are heard of later.
        batch[0].kind = if step % 3 == 0 { Kind::Exit } else { Kind::Use };
        writer.append(&batch).unwrap();
        if step % 4 != 0 {
            writer.checkpoint().unwrap();
        }
        total += count;
    }
    Writer::open(log.path(), &log.signer, often()).unwrap();
    let report = log.verify();
    assert!(report.is_sound(), "{:?}", report.violation);
    assert_eq!((report.records, report.agents), (total, 5));
}

#[test]
fn chains_of_agents_that_ended_take_no_room() {
    let log = Log::new(0, 1);
    let (mut writer, _) = Writer::open(log.path(), &log.signer, often()).unwrap();
    for i in 0..2_000 {
        let spawn = Entry { kind: Kind::Spawn, ..entry(u128::from(i) + 1, i) };
        let exit = Entry { kind: Kind::Exit, ..spawn.clone() };
        writer.append(&[spawn, exit]).unwrap();
        writer.checkpoint().unwrap();
    }
    let newest = *states(&log).last().unwrap();
    let bytes = std::fs::metadata(log.path().join(format!("state/{newest}"))).unwrap().len();
    assert!(bytes < 1_024, "{bytes} bytes for no agent that lives");
    // One of them is heard of once more: its chain begins anew, and that is no break.
    append(&mut writer, 0, 3);
    drop(writer);
    Writer::open(log.path(), &log.signer, often()).unwrap();
    let report = log.verify();
    assert!(report.is_sound(), "{:?}", report.violation);
    assert_eq!(report.agents, 2_000);
}

/// All records with this text in the log and in what was set aside from it.
fn objects(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let asides = std::fs::read_dir(directory.join(ASIDE_FOLDER)).into_iter().flatten();
    let logs = asides.map(|item| item.unwrap().path()).chain([directory.to_owned()]);
    for log in logs {
        for file in walk(&log).iter().filter(|f| f.to_str().unwrap().contains("/tile/entries/")) {
            let bytes = std::fs::read(file).unwrap();
            for leaf in coconut_audit::layout::leaves(&bytes).flatten() {
                let records = coconut_audit::records(leaf).filter_map(Result::ok);
                found.extend(records.map(|(record, _)| record.object.to_owned()));
            }
        }
    }
    found
}

#[test]
fn whatever_file_is_damaged_the_node_goes_on_and_says_so() {
    let log = long(290);
    // Two records that were acknowledged and are in the journal only.
    let (mut writer, _) = Writer::open(log.path(), &log.signer, often()).unwrap();
    writer.append(&[entry(1, 2_900), entry(2, 2_901)]).unwrap();
    drop(writer);
    let files = walk(log.path());
    let (mut gone_on, mut set_aside) = (0, 0);
    for file in files.iter().filter(|f| !f.ends_with("lock") && !f.ends_with("journal")) {
        let bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        let mut flipped = bytes.clone();
        flipped[middle] ^= 1;
        for change in [Some(flipped), Some(bytes[..middle].to_vec()), Some(Vec::new()), None] {
            let dir = common::directory();
            copy(log.path(), dir.path());
            let path = dir.path().join(file.strip_prefix(log.path()).unwrap());
            match &change {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let what = format!("{} with {:?}", path.display(), change.map(|c| c.len()));
            let opened = Writer::open(dir.path(), &log.signer, often());
            let (mut writer, recovery) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
            append(&mut writer, 9_000, 3);
            let found = objects(dir.path());
            for kept in ["/srv/input/2900", "/srv/input/2901", "/srv/input/9002"] {
                assert!(found.contains(kept), "{what}: {kept} is lost");
            }
            let key = log.signer.verifier();
            let judge = |current| {
                let options = VerifyOptions { current, ..VerifyOptions::default() };
                coconut_audit::verify(dir.path(), &key, &options).unwrap().violation
            };
            match recovery.set_aside {
                Some(aside) => {
                    set_aside += 1;
                    assert!(aside.to.ends_with("set-aside/1") && !aside.why.is_empty());
                    assert_eq!(judge(false).unwrap().kind, ViolationKind::SetAside, "{what}");
                    assert_eq!(judge(true), None, "{what}");
                    assert_eq!(writer.key().name(), "test.example/log/2");
                }
                None => gone_on += 1,
            }
            drop(writer);
            // Once more: no second log is begun.
            let again = Writer::open(dir.path(), &log.signer, often()).unwrap().1;
            assert_eq!(again.set_aside, None, "{what}");
        }
    }
    // The edge, the checkpoint and what the newest state leaves to be followed cannot be done without.
    assert!(set_aside >= 8 && gone_on >= 16, "{set_aside} set aside, {gone_on} gone on");
}

#[test]
fn a_partial_tile_of_hashes_is_made_anew() {
    let log = long(300);
    for tile in [Tile::hashes(0, 1, 44), Tile::hashes(1, 0, 1)] {
        let path = log.path().join(tile.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(log.verify().violation.unwrap().kind, ViolationKind::TileDamaged);
        let (mut writer, recovery) = Writer::open(log.path(), &log.signer, often()).unwrap();
        assert_eq!((recovery.set_aside, writer.records()), (None, 3_000));
        drop(writer);
        let copied = common::directory();
        copy(log.path(), copied.path());
        writer = Writer::open(copied.path(), &log.signer, often()).unwrap().0;
        append(&mut writer, 3_000, 3);
        let key = log.signer.verifier();
        let report = coconut_audit::verify(copied.path(), &key, &VerifyOptions::default()).unwrap();
        assert!(report.is_sound(), "{tile:?}: {:?}", report.violation);
        bytes = std::fs::read(&path).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_state_that_was_changed_is_passed_over_and_named() {
    let log = long(300);
    let newest = *states(&log).last().unwrap();
    let path = log.path().join(format!("state/{newest}"));
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let violation = log.verify().violation.unwrap();
    assert_eq!(violation.kind, ViolationKind::StateDamaged);
    assert_eq!(violation.file, Some(format!("state/{newest}")));
    let (writer, recovery) = Writer::open(log.path(), &log.signer, often()).unwrap();
    assert_eq!((recovery.set_aside, writer.records()), (None, 3_000));
}

#[test]
fn a_log_under_another_key_is_set_aside() {
    let (log, other) = (long(5), Log::new(1, 1));
    let (writer, recovery) = Writer::open(log.path(), &other.signer, often()).unwrap();
    assert!(recovery.set_aside.unwrap().why.contains("key"), "it says why");
    assert_eq!((writer.records(), writer.key().name()), (0, "test.example/log/2"));
}

#[test]
fn a_log_that_cannot_be_looked_at_is_not_set_aside() {
    let log = long(5);
    let (first, _) = Writer::open(log.path(), &log.signer, often()).unwrap();
    assert!(Writer::open(log.path(), &log.signer, often()).is_err());
    drop(first);
    assert!(!log.path().join(ASIDE_FOLDER).exists());
}
