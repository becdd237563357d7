//! The daemon and its log: one that was damaged keeps it from nothing, and is told; one that grows is pruned.

use crate::fake::Running;
use abi::Kind;
use api::Status;
use api::status::LogState;
use audit::{Filter, Reader, Retention, VerifyOptions, ViolationKind, Writer, WriterOptions, keys};
use coconutd::config::Config;
use coconutd::sink::own;
use record::Entry;
use record::body::Degraded;
use std::path::{Path, PathBuf};

/// A log of this machine as an earlier daemon left it, with states; 300 leaves of ten records.
fn left(config: &Config) {
    std::fs::create_dir_all(&config.keys).unwrap();
    // The daemon's own key, under the name that it gives it.
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id = if id.trim().is_empty() { "unknown" } else { id.trim() };
    let name = format!("coconut.local/{id}");
    let signer = keys::load_or_generate(&name, &config.keys.join("log.key")).unwrap();
    let retention = Retention { state_every: 100, ..Retention::default() };
    let options = WriterOptions { retention, ..WriterOptions::default() };
    let (mut writer, _) = Writer::open(&config.audit, &signer, options).unwrap();
    for leaf in 0..300 {
        let entries: Vec<Entry> = (0..10).map(|i| entry(leaf * 10 + i)).collect();
        writer.append(&entries).unwrap();
        writer.checkpoint().unwrap();
    }
}

fn entry(n: u64) -> Entry {
    own(Kind::Use, format!("/srv/{n}"), "")
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn checked(running: &Running) -> Status {
    for _ in 0..4_000 {
        let status: Status = running.client().get("/v1/status").unwrap();
        if status.log_check.state != LogState::Running {
            return status;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the log was never verified");
}

fn records(running: &Running, kind: Kind) -> Vec<audit::Record> {
    let reader = Reader::open(&running.daemon.config.audit).unwrap();
    reader.tail(&Filter { kinds: vec![kind], ..Filter::default() }, 1_000)
}

fn judged(running: &Running, current: bool) -> Option<audit::Violation> {
    let directory = &running.daemon.config.audit;
    let key = keys::load_verifier(&directory.join(keys::VKEY_FILE)).unwrap();
    let options = VerifyOptions { current, ..VerifyOptions::default() };
    audit::verify(directory, &key, &options).unwrap().violation
}

#[test]
fn a_log_that_is_sound_is_said_to_be_once_it_was_read() {
    let running = Running::start_with(left);
    let status = checked(&running);
    assert_eq!((status.log_check.state, &status.log_check.found), (LogState::Sound, &None));
    assert!(status.log_check.leaves >= 300, "{}", status.log_check.leaves);
    assert!(status.degraded.is_empty(), "{:?}", status.degraded);
}

#[test]
fn a_record_that_was_changed_long_ago_is_found_beside_the_daemon_s_work() {
    let running = Running::start_with(|config| {
        left(config);
        flip(&config.audit.join("tile/entries/000"));
    });
    let status = checked(&running);
    assert_eq!(status.log_check.state, LogState::Violated);
    let found = status.log_check.found.unwrap();
    assert!(found.contains("tile/entries/000"), "{found}");
    let body = Degraded { found: found.clone(), ..Degraded::default() }.into();
    let told = |record: &audit::Record| record.body == body;
    running.daemon.sink.record(entry(1));
    for _ in 0..1_000 {
        if records(&running, Kind::Degraded).iter().any(told) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("what was found is not on record");
}

#[test]
fn a_log_that_cannot_be_gone_on_with_is_set_aside_and_the_daemon_starts() {
    let bundle = |config: &Config| config.audit.join("tile/entries/001.p/44");
    let checkpoint = |config: &Config| config.audit.join("checkpoint");
    for damaged in [bundle as fn(&Config) -> PathBuf, checkpoint] {
        let running = Running::start_with(|config| {
            left(config);
            flip(&damaged(config));
        });
        let status = checked(&running);
        let said = status.degraded.join(" ");
        assert!(said.contains("set-aside/1"), "{said}");
        assert!(status.log_key.contains("/2 "), "{}", status.log_key);
        // It is not forgotten as soon as it has scrolled by.
        assert_eq!(status.log_check.state, LogState::Violated);
        let on_record = records(&running, Kind::Degraded);
        assert!(on_record.iter().any(|record| record.object.contains("set-aside/1")));
        assert!(running.daemon.config.audit.join("set-aside/1/tile/entries/000").exists());
        assert_eq!(judged(&running, true), None);
        assert_eq!(judged(&running, false).unwrap().kind, ViolationKind::SetAside);
        let again = running.followed();
        let status = checked(&again);
        assert!(!status.degraded.join(" ").contains("set-aside"), "a second one was begun");
        assert_eq!(status.log_check.state, LogState::Violated);
    }
}

#[test]
fn what_is_kept_is_limited_and_what_went_is_on_record() {
    const LIMIT: u64 = 3_000_000;
    const RECORDS: u64 = 200_000;
    let running = Running::start_as(|config| config.log_bytes = Some(LIMIT));
    for batch in 0..RECORDS / 500 {
        // What is urgent is sealed at once: states stand at seals.
        let denial = |i| Entry { kind: Kind::Denial, ..entry(batch * 500 + i) };
        running.daemon.sink.record_all((0..500).map(denial).collect());
    }
    for _ in 0..12_000 {
        if running.daemon.sink.records() > RECORDS {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let client = running.client();
    let head: api::audit::Head = client.get("/v1/audit/head").unwrap();
    assert!(head.records > RECORDS, "{}", head.records);
    let went = records(&running, Kind::Log);
    let newest = went.last().expect("that records went is not on record");
    assert!(newest.detail().starts_with("first_record="), "{}", newest.detail());
    let mut kept = 0;
    client
        .records(&[], None, |_| {
            kept += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    // A record is some eighty bytes: what is kept is the limit and at most what comes between two states.
    assert!(kept > 10_000 && kept < 140_000, "{kept} are kept");
    assert_eq!(judged(&running, false), None);
}
