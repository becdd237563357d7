//! The tile log on this machine: opened and repaired at start, then written by [`crate::sink`]
//! alone.

use crate::config::Config;
use crate::settings::LOG_LEAST;
use crate::sink::{AuditLog, own};
use abi::Kind;
use anyhow::Context;
use audit::{Pruned, Recovery, Retention, SetAside, Writer, WriterOptions};
use record::{Entry, body};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub mod check;

/// An opened log.
pub struct Opened {
    /// For the writer thread.
    pub log: Box<dyn AuditLog>,
    /// Records that it holds already.
    pub records: u64,
    /// Origin and key id, as in a checkpoint's signature line.
    pub key: String,
    /// What the crash before left, as a record.
    pub repaired: Option<Entry>,
    /// That a log before this one was damaged.
    pub set_aside: Option<String>,
}

/// Bytes of records that are kept where nobody has said how many.
const KEPT: u64 = 16 << 30;

/// Opens the log, and takes in what a crash left in its journal. One that cannot be gone on with is set aside;
/// whether all of it is what was signed is found by [`check`].
///
/// # Errors
/// When it cannot be read or written: then nothing may run.
pub fn open(config: &Config) -> anyhow::Result<Opened> {
    for (directory, mode) in [(&config.audit, 0o750), (&config.keys, 0o700)] {
        make(directory, mode)?;
    }
    let key = config.keys.join("log.key");
    let signer = audit::keys::load_or_generate(&origin(), &key)
        .with_context(|| format!("the log key {}", key.display()))?;
    let retention = Retention { bytes: kept(config), ..Retention::default() };
    let options = WriterOptions { retention, ..WriterOptions::default() };
    let (writer, recovery) = Writer::open(&config.audit, &signer, options)
        .with_context(|| format!("the audit log {}", config.audit.display()))?;
    let records = writer.records();
    let (repaired, set_aside) = (repaired(&recovery), recovery.set_aside.as_ref().map(lost));
    let key = format!("{} {}", writer.key().name(), writer.key().id());
    Ok(Opened { log: Box::new(Log(writer)), records, key, repaired, set_aside })
}

/// The file of the key that the log is signed with.
///
/// # Errors
/// When it cannot be opened.
pub fn key_file(config: &Config) -> anyhow::Result<OwnedFd> {
    let path = config.keys.join("log.key");
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    Ok(file.into())
}

/// Bytes of records that are kept.
fn kept(config: &Config) -> u64 {
    let tenth = rustix::fs::statvfs(&config.audit).map(|fs| fs.f_blocks * fs.f_frsize / 10);
    let usual = tenth.map_or(KEPT, |tenth| tenth.min(KEPT));
    config.log_bytes.unwrap_or(usual.max(LOG_LEAST))
}

fn lost(aside: &SetAside) -> String {
    format!("the log was damaged and lies in {} now: {}", aside.to.display(), aside.why)
}

/// Newest records that are looked at for the position in the kernel's ring, then more.
const LOOKS: [usize; 3] = [4_096, 262_144, usize::MAX];

/// Up to this position of the kernel's ring an earlier daemon brought everything into the log: what the newest
/// record of an event says. To be asked once the log was opened, and only where the policy was taken over: a
/// new ring begins anew.
///
/// # Errors
/// When the log cannot be read.
pub fn ring(config: &Config) -> anyhow::Result<u64> {
    let reader = audit::Reader::open(&config.audit)?;
    let filter = audit::Filter::default();
    for most in LOOKS {
        let newest = reader.tail(&filter, most);
        let found = newest.iter().map(|record| record.ring).max().unwrap_or_default();
        if found > 0 || newest.len() < most {
            return Ok(found);
        }
    }
    Ok(0)
}

fn make(directory: &Path, mode: u32) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(directory).with_context(|| format!("cannot make {}", directory.display()))
}

/// `coconut.local/<machine-id>`.
fn origin() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id = id.trim();
    format!("coconut.local/{}", if id.is_empty() { "unknown" } else { id })
}

fn repaired(recovery: &Recovery) -> Option<Entry> {
    let Recovery { records, torn_bytes, .. } = recovery;
    if (*records, *torn_bytes) == (0, 0) {
        return None;
    }
    let (records, torn_bytes) = (Some(*records), Some(*torn_bytes));
    let detail = body::Degraded { records, torn_bytes, ..Default::default() };
    Some(own(Kind::Degraded, "the log was taken up after a crash", detail))
}

struct Log(Writer);

impl AuditLog for Log {
    fn append(&mut self, entries: &[Entry]) -> anyhow::Result<u64> {
        match self.0.append(entries) {
            Ok(records) => Ok(records.start),
            // They are in the journal; the next checkpoint covers them.
            Err(audit::Error::NotSealed { records, source }) => {
                tracing::error!(error = %source, "a checkpoint has to wait");
                Ok(records.start)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        Ok(self.0.checkpoint()?)
    }

    fn note(&self) -> String {
        self.0.note().to_owned()
    }

    fn close(&mut self) -> anyhow::Result<()> {
        Ok(self.0.close()?)
    }

    fn news(&mut self) -> Option<Entry> {
        let Pruned { minimum, next_seq, bytes } = self.0.pruned()?;
        let (first_record, first_leaf, bytes) = (Some(next_seq), Some(minimum), Some(bytes));
        let body = body::Log { first_record, first_leaf, bytes };
        Some(own(Kind::Log, "the oldest records went, as the log's limit says", body))
    }
}
