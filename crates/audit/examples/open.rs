//! How long it takes to open a log: `open [RECORDS] [DIRECTORY]`.
//!
//! Prints one JSON object: the log of so many records, and one of a hundredth of them, each opened as a crash left
//! it, with what no checkpoint covers yet, and then four times more, of which the shortest is told; and, as the
//! counterpart, how long it takes to verify the longer one whole, which every opening did before there were states.

use abi::{Capability, Kind, Verdict};
use coconut_audit::{NoteSigner, VerifyOptions, Writer, WriterOptions, keys, verify};
use record::Entry;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use uuid::Uuid;

/// Agents whose chains a state has.
const AGENTS: u64 = 1_000;

fn entry(i: u64) -> Entry {
    let agent = i % AGENTS + 1;
    Entry {
        time_ns: 1_700_000_000_000_000_000 + i * 1_000,
        aid: agent,
        agent: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 | u128::from(agent)),
        parent: Uuid::nil(),
        tenant: "maya".to_owned(),
        kind: Kind::Use,
        capability: Capability::FsRead,
        verdict: Verdict::Allow,
        object: "/srv/in".to_owned(),
        body: record::Body::default(),
        cut: 0,
        count: 1,
        ring: 0,
    }
}

/// Writes so many records and goes as if it had been killed.
fn write(log: &Path, signer: &NoteSigner, records: u64) -> Result<(), Box<dyn Error>> {
    let batches: Vec<Vec<Entry>> =
        (0..8).map(|b| (b * 500..(b + 1) * 500).map(entry).collect()).collect();
    let (mut writer, _) = Writer::open(log, signer, WriterOptions::default())?;
    for batch in batches.iter().cycle() {
        if writer.records() >= records {
            break;
        }
        writer.append(batch)?;
    }
    Ok(())
}

/// Seconds of the first opening, and of the shortest of four more.
fn open(log: &Path, signer: &NoteSigner) -> Result<(f64, f64), Box<dyn Error>> {
    let once = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let (_, recovery) = Writer::open(log, signer, WriterOptions::default())?;
        match recovery.set_aside {
            Some(_) => Err("the log was set aside".into()),
            None => Ok(start.elapsed().as_secs_f64()),
        }
    };
    let first = once()?;
    let mut shortest = f64::MAX;
    for _ in 0..4 {
        shortest = shortest.min(once()?);
    }
    Ok((first, shortest))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(2_000_000), |n| n.parse())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("coconut-open-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let measured = measure(&directory, records);
    std::fs::remove_dir_all(&directory)?;
    let ((crashed, open), (short_crashed, short), whole) = measured?;
    println!(
        "{{\"records\": {records}, \"open_seconds\": {open:.4}, \"open_crashed_seconds\": {crashed:.4}, \
         \"hundredth_open_seconds\": {short:.4}, \"hundredth_open_crashed_seconds\": {short_crashed:.4}, \
         \"verify_whole_seconds\": {whole:.3}}}"
    );
    Ok(())
}

type Opened = (f64, f64);

fn measure(directory: &Path, records: u64) -> Result<(Opened, Opened, f64), Box<dyn Error>> {
    let signer = keys::generate("bench.local/log", &directory.join("log.key"))?;
    let (long, short) = (directory.join("long"), directory.join("short"));
    write(&short, &signer, records / 100)?;
    write(&long, &signer, records)?;
    let opened = (open(&long, &signer)?, open(&short, &signer)?);
    let start = Instant::now();
    let report = verify(&long, &signer.verifier(), &VerifyOptions::default())?;
    match report.violation {
        Some(violation) => Err(violation.to_string().into()),
        None => Ok((opened.0, opened.1, start.elapsed().as_secs_f64())),
    }
}
