//! How many records a second one core appends and verifies: `throughput [RECORDS] [DIRECTORY]`.
//!
//! Prints one JSON object. Batches of 256 records of 20 agents, as a busy ring gives them; sealed
//! by checkpoints every second and synced to the disk that DIRECTORY is on.

use abi::{Capability, Entry, Kind, Verdict};
use coconut_audit::{VerifyOptions, Writer, WriterOptions, keys, verify};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;
use uuid::Uuid;

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
        detail: String::new(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("coconut-log-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let signer = keys::generate("bench.local/log", &directory.join("log.key"))?;
    let log = directory.join("log");
    let (mut writer, _) = Writer::open(&log, signer.clone(), WriterOptions::default())?;

    let batches: Vec<Vec<Entry>> =
        (0..8).map(|b| (b * 256..b * 256 + 256).map(entry).collect()).collect();
    let start = Instant::now();
    let mut batch = batches.iter().cycle();
    while writer.records() < records {
        if let Some(batch) = batch.next() {
            writer.append(batch)?;
        }
    }
    writer.checkpoint()?;
    let append = start.elapsed().as_secs_f64();
    let written = writer.records();
    drop(writer);

    let start = Instant::now();
    let report = verify(&log, &signer.verifier(), &VerifyOptions::default())?;
    let verified = start.elapsed().as_secs_f64();
    if let Some(violation) = &report.violation {
        return Err(format!("the log is not sound: {violation}").into());
    }
    let bytes = size(&log)?;
    std::fs::remove_dir_all(&directory)?;
    println!(
        "{{\"records\": {written}, \"leaves\": {}, \"bytes_per_record\": {:.1}, \
         \"append_per_second\": {:.0}, \"verify_per_second\": {:.0}}}",
        report.leaves,
        bytes as f64 / written as f64,
        written as f64 / append,
        written as f64 / verified
    );
    Ok(())
}

fn size(directory: &std::path::Path) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
