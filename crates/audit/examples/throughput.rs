//! How many records a second one core appends and verifies: `throughput [RECORDS] [DIRECTORY]`.
//!
//! Prints one JSON object. Batches of 256 records of 20 agents, as a busy ring gives them; sealed
//! by checkpoints every second and synced to the disk that DIRECTORY is on. Beside it the bare
//! counterpart: the same records as lines of JSON in one file, synced as often, read back and hashed.

use abi::{Capability, Kind, Verdict};
use coconut_audit::{VerifyOptions, Writer, WriterOptions, keys, verify};
use record::Entry;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use uuid::Uuid;

/// Records a second, and what a record takes on disk.
struct Speed {
    append: f64,
    verify: f64,
    bytes: f64,
}

fn entry(i: u64) -> Entry {
    let agent = i % 20 + 1;
    Entry {
        time_ns: 1_700_000_000_000_000_000 + i * 1_000,
        aid: agent << 32 | agent,
        agent: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 | u128::from(agent)),
        parent: Uuid::from_u128(1),
        tenant: "maya".to_owned(),
        kind: Kind::Use,
        capability: Capability::FsRead,
        verdict: Verdict::Allow,
        object: format!("/srv/input/src/module/file-{}.rs", i % 1_000),
        body: record::Body::default(),
        cut: 0,
        count: 1,
        ring: 0,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("coconut-log-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let batches: Vec<Vec<Entry>> =
        (0..8).map(|b| (b * 256..b * 256 + 256).map(entry).collect()).collect();
    let measured = sealed(&directory, &batches, records).and_then(|(sealed, leaves)| {
        let plain = plain(&directory.join("plain"), &batches, records)?;
        Ok((sealed, leaves, plain))
    });
    fs::remove_dir_all(&directory)?;
    let (sealed, leaves, plain) = measured?;
    println!(
        "{{\"records\": {records}, \"leaves\": {leaves}, \"bytes_per_record\": {:.1}, \
         \"append_per_second\": {:.0}, \"verify_per_second\": {:.0}, \
         \"plain_bytes_per_record\": {:.1}, \"plain_append_per_second\": {:.0}, \
         \"plain_hash_per_second\": {:.0}}}",
        sealed.bytes, sealed.append, sealed.verify, plain.bytes, plain.append, plain.verify
    );
    Ok(())
}

/// The log; also how many leaves it has.
fn sealed(
    directory: &Path,
    batches: &[Vec<Entry>],
    records: u64,
) -> Result<(Speed, u64), Box<dyn Error>> {
    let signer = keys::generate("bench.local/log", &directory.join("log.key"))?;
    let log = directory.join("log");
    let (mut writer, _) = Writer::open(&log, &signer, WriterOptions::default())?;
    let start = Instant::now();
    let mut batch = batches.iter().cycle();
    while writer.records() < records {
        if let Some(batch) = batch.next() {
            writer.append(batch)?;
        }
    }
    writer.checkpoint()?;
    let append = start.elapsed().as_secs_f64();
    let written = writer.records() as f64;
    drop(writer);

    let start = Instant::now();
    let report = verify(&log, &signer.verifier(), &VerifyOptions::default())?;
    let verified = start.elapsed().as_secs_f64();
    if let Some(violation) = &report.violation {
        return Err(format!("the log is not sound: {violation}").into());
    }
    let bytes = size(&log)? as f64 / written;
    Ok((Speed { append: written / append, verify: written / verified, bytes }, report.leaves))
}

/// The same records without chain, tree or signature.
fn plain(path: &Path, batches: &[Vec<Entry>], records: u64) -> Result<Speed, Box<dyn Error>> {
    let mut file = File::create(path)?;
    let start = Instant::now();
    let (mut written, mut synced) = (0, Instant::now());
    let mut text = Vec::new();
    for batch in batches.iter().cycle() {
        if written >= records {
            break;
        }
        text.clear();
        for entry in batch {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        written += batch.len() as u64;
        if synced.elapsed() >= WriterOptions::default().checkpoint_every {
            file.sync_data()?;
            synced = Instant::now();
        }
    }
    file.sync_data()?;
    let append = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let mut hash = Sha256::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        hash.update(&line?);
    }
    std::hint::black_box(hash.finalize());
    let hashed = start.elapsed().as_secs_f64();
    let (written, bytes) = (written as f64, fs::metadata(path)?.len() as f64);
    Ok(Speed { append: written / append, verify: written / hashed, bytes: bytes / written })
}

fn size(directory: &Path) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
