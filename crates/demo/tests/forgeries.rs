//! Each forgery of the audit demonstration, on a real log: the verifier must find it.
#![allow(clippy::unwrap_used)] // test code

use abi::{Capability, Kind, Verdict};
use audit::{Report, VerifyOptions, ViolationKind, Writer, WriterOptions, keys, verify};
use demo::tamper;
use record::Entry;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const OBJECT: &str = "/srv/secret/7";

fn entry(n: u64) -> Entry {
    let agent = u128::from(n % 3) + 1;
    Entry {
        time_ns: 1_000 + n,
        aid: agent as u64,
        agent: Uuid::from_u128(agent),
        parent: Uuid::nil(),
        tenant: "maya".into(),
        kind: Kind::Denial,
        capability: Capability::FsRead,
        verdict: Verdict::Deny,
        object: format!("/srv/secret/{n}"),
        body: record::Body::default(),
        cut: 0,
        count: 1,
        ring: 0,
    }
}

fn written(leaves: u64, dir: &Path, keys: &Path) -> audit::VerifierKey {
    let signer = keys::load_or_generate("test.example/log", keys).unwrap();
    let options =
        WriterOptions { checkpoint_every: Duration::from_secs(3600), ..WriterOptions::default() };
    let (mut writer, _) = Writer::open(dir, &signer, options).unwrap();
    for leaf in 0..leaves {
        writer.append(&[entry(leaf * 2), entry(leaf * 2 + 1)]).unwrap();
        writer.checkpoint().unwrap();
    }
    signer.verifier()
}

fn checked(dir: &Path, key: &audit::VerifierKey) -> Report {
    verify(dir, key, &VerifyOptions::default()).unwrap()
}

#[test]
fn each_forgery_is_found() {
    for leaves in [20, 300] {
        let dir = tempfile::tempdir().unwrap();
        let (log, copy) = (dir.path().join("log"), dir.path().join("copy"));
        let key = written(leaves, &log, &dir.path().join("key"));
        assert!(checked(&log, &key).is_sound());
        type Forge = fn(&Path) -> anyhow::Result<()>;
        let forgeries: &[(&str, Forge)] = &[
            ("edit", |l| tamper::edit(l, OBJECT)),
            ("edit-with-hash", |l| tamper::edit_with_hash(l, OBJECT)),
            ("delete", |l| tamper::delete(l, OBJECT)),
            ("reorder", |l| tamper::reorder(l, OBJECT)),
            ("truncate", |l| tamper::truncate(l)),
            ("swap-key", |l| tamper::swap_key(l)),
        ];
        for (name, forge) in forgeries {
            tamper::copy(&log, &copy).unwrap();
            assert!(checked(&copy, &key).is_sound(), "the copy itself");
            forge(&copy).unwrap();
            let violation = checked(&copy, &key).violation;
            let violation =
                violation.unwrap_or_else(|| panic!("{name} of {leaves} went unnoticed"));
            if *name == "swap-key" {
                assert_eq!(violation.kind, ViolationKind::KeySwapped);
            } else {
                assert!(violation.seq.is_some(), "{name}: no record is named: {violation}");
            }
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
}
