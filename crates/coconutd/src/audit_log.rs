//! The tile log on this machine: opened and repaired at start, then written by [`crate::sink`]
//! alone.

use crate::config::Config;
use crate::sink::{AuditLog, own};
use abi::{Entry, Kind};
use anyhow::Context;
use audit::{Recovery, Writer, WriterOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

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
}

/// Opens the log, verifies it, and takes in what a crash left in its journal.
///
/// # Errors
/// When it cannot be read or written, or is not what its checkpoint says: then nothing may run.
pub fn open(config: &Config) -> anyhow::Result<Opened> {
    for (directory, mode) in [(&config.audit, 0o750), (&config.keys, 0o700)] {
        make(directory, mode)?;
    }
    let key = config.keys.join("log.key");
    let signer = audit::keys::load_or_generate(&origin(), &key)
        .with_context(|| format!("the log key {}", key.display()))?;
    let name = format!("{} {}", signer.name(), signer.verifier().id());
    let options = WriterOptions::default();
    let (writer, recovery) = Writer::open(&config.audit, signer, options)
        .with_context(|| format!("the audit log {}", config.audit.display()))?;
    let records = writer.records();
    let repaired = repaired(recovery);
    Ok(Opened { log: Box::new(Log(writer)), records, key: name, repaired })
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
        let newest = reader.tail(&filter, most)?;
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

fn repaired(recovery: Recovery) -> Option<Entry> {
    if recovery == Recovery::default() {
        return None;
    }
    let detail = format!("records={} torn_bytes={}", recovery.records, recovery.torn_bytes);
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
}
