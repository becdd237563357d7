//! A log to be tampered with, and the tools to do it.
#![allow(clippy::unwrap_used, dead_code)] // test code; not every test uses all of it

use abi::{Capability, Kind, Verdict};
use coconut_audit::layout::{leaves, push_leaf};
use coconut_audit::{NoteSigner, Report, VerifyOptions, Writer, WriterOptions, keys, verify};
use record::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

pub fn entry(agent: u128, i: u64) -> Entry {
    Entry {
        time_ns: 1_000 + i,
        aid: agent as u64,
        agent: Uuid::from_u128(agent),
        parent: Uuid::nil(),
        tenant: "maya".into(),
        kind: Kind::Use,
        capability: Capability::FsRead,
        verdict: Verdict::Allow,
        object: format!("/srv/input/{i}"),
        body: record::Body::default(),
        cut: 0,
        count: 1,
        ring: 0,
    }
}

/// No checkpoint but those that a test asks for.
pub fn patient() -> WriterOptions {
    WriterOptions { checkpoint_every: Duration::from_secs(3600), ..WriterOptions::default() }
}

/// In memory where there is such a place: these tests seal thousands of checkpoints, each synced.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target)
        } else {
            std::fs::copy(&path, &target).map(|_| ()).unwrap()
        }
    }
}

/// Every file below a folder.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list.extend(walk(&path)) } else { list.push(path) }
    }
    list.sort();
    list
}

pub struct Log {
    pub dir: TempDir,
    pub keys: TempDir,
    pub signer: NoteSigner,
    /// Signed checkpoint half way.
    pub head: Vec<u8>,
    pub records: u64,
}

impl Log {
    /// `leaves` leaves of `per_leaf` records each, of three agents in turn.
    pub fn new(leaves: u64, per_leaf: u64) -> Log {
        let (dir, keys) = (directory(), directory());
        let signer = keys::generate("test.example/log", &keys.path().join("k")).unwrap();
        let (mut writer, _) = Writer::open(dir.path(), &signer, patient()).unwrap();
        let mut head = Vec::new();
        for leaf in 0..leaves {
            let batch: Vec<Entry> = (leaf * per_leaf..(leaf + 1) * per_leaf)
                .map(|i| entry(u128::from(i % 3) + 1, i))
                .collect();
            writer.append(&batch).unwrap();
            writer.checkpoint().unwrap();
            if leaf == leaves / 2 {
                head = writer.note().as_bytes().to_vec();
            }
        }
        Log { dir, keys, signer, head, records: leaves * per_leaf }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn verify(&self) -> Report {
        verify(self.path(), &self.signer.verifier(), &VerifyOptions::default()).unwrap()
    }

    pub fn verify_with_head(&self) -> Report {
        let options = VerifyOptions { heads: vec![self.head.clone()], ..VerifyOptions::default() };
        verify(self.path(), &self.signer.verifier(), &options).unwrap()
    }

    /// The bundle file that has the leaf, its leaves, and the leaf's place among them.
    pub fn bundle(&self, leaf: u64, size: u64) -> (PathBuf, Vec<Vec<u8>>, usize) {
        let width = (size - leaf / 256 * 256).min(256);
        let tile = coconut_audit::layout::Tile::entries(leaf / 256, width);
        let path = self.path().join(tile.path());
        let bytes = std::fs::read(&path).unwrap();
        let list = leaves(&bytes).map(|l| l.unwrap().to_vec()).collect();
        (path, list, (leaf % 256) as usize)
    }
}

pub fn write_bundle(path: &Path, list: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    list.iter().for_each(|leaf| push_leaf(&mut bytes, leaf));
    std::fs::write(path, bytes).unwrap();
}

/// The records of a leaf, each as its bytes.
pub fn split(leaf: &[u8]) -> Vec<Vec<u8>> {
    coconut_audit::records(leaf).map(|r| r.unwrap().1.to_vec()).collect()
}
