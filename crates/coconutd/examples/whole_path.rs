//! What a use of a right costs on its whole way, from the bytes of the kernel's event to its leaf in the
//! sealed log: `whole_path [EVENTS]`. Prints one JSON object; the log lies in `TMPDIR`.
//!
//! The daemon is the real one, with its thread that takes events, its book-keeping, its translation, its
//! queue and its writer; only the ring is a channel. Needs root, as the daemon's tests do.
#![allow(clippy::unwrap_used)] // a measurement falls over where it stands

#[path = "../tests/daemon/fake/mod.rs"]
mod fake;

use abi::event::{EVENT_USE, Event, Hook};
use audit::{VerifierKey, VerifyOptions, verify};
use fake::Running;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Agents that take turns.
const AGENTS: usize = 20;
/// Events that are on their way at most, as a ring would hold.
const ON_THEIR_WAY: u64 = 20_000;

fn main() {
    let events: u64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().unwrap());
    let running = Running::start();
    let name = |n| format!("agent-{n}");
    let agents: Vec<_> =
        (0..AGENTS).map(|n| running.spawned(&name(n), &["fs.read=/srv"])).collect();
    let ring = ring(&running, &agents);
    running.on(running.daemon.sink.flush());
    let (before, bytes) = (running.daemon.sink.records(), size(&running.daemon.config.audit));
    let (start, computed) = (Instant::now(), computed());
    push(&running, &ring, events);
    running.on(running.daemon.sink.flush());
    let (wall, computed) = (start.elapsed(), self::computed() - computed);
    let written = running.daemon.sink.records() - before;
    assert_eq!(written, events, "an event is a record, no more and no less");
    let bytes = size(&running.daemon.config.audit) - bytes;
    sound(&running.daemon.config.audit);
    running.stop();
    let each = |sum: f64| sum / events as f64;
    println!(
        "{{\"path_events\": {events}, \"path_per_second\": {:.0}, \"path_per_core_second\": {:.0}, \
         \"path_bytes_per_record\": {:.1}}}",
        events as f64 / wall.as_secs_f64(),
        1.0 / each(computed.as_secs_f64()),
        each(bytes as f64),
    );
}

/// Hands the events over as fast as they are taken, and returns when all are records.
fn push(running: &Running, ring: &[u8], events: u64) {
    let records = || running.daemon.sink.records();
    let before = records();
    for sequence in 0..events {
        let at = sequence as usize % (ring.len() / size_of::<Event>()) * size_of::<Event>();
        let mut event = Event::read_from_bytes(&ring[at..at + size_of::<Event>()]).unwrap();
        event.sequence = sequence + 1;
        running.fake.tell(event);
        while sequence % 1_000 == 0 && sequence > records() - before + ON_THEIR_WAY {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    while records() - before < events {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the kernel would have written: opens of files by a rule of each agent's.
fn ring(running: &Running, agents: &[abi::AgentId]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..1_000 {
        let aid = agents[n % agents.len()];
        let set = running.fake.agents.lock().unwrap()[&aid].sets[0];
        let path = format!("/srv/input/src/module/file-{n}.rs");
        let mut event = Event::new_zeroed();
        event.time_ns = coconutd::clock::boot_ns();
        event.aid = aid.0;
        event.kind = EVENT_USE;
        event.hook = Hook::FileOpen as u32;
        event.wanted = abi::caps::RIGHT_READ;
        event.pid = 4_242;
        (event.set, event.rule) = (set.0, 1);
        event.comm[..7].copy_from_slice(b"python3");
        event.object[..path.len()].copy_from_slice(path.as_bytes());
        event.object_len = u32::try_from(path.len()).unwrap();
        bytes.extend_from_slice(event.as_bytes());
    }
    bytes
}

/// Processor time of all threads.
fn computed() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn sound(log: &Path) {
    let key = std::fs::read_to_string(log.join("log.vkey")).unwrap();
    let report = verify(log, &VerifierKey::parse(key.trim()).unwrap(), &VerifyOptions::default());
    assert!(report.unwrap().is_sound());
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        meta if meta.is_dir() => size(&entry.path()),
        meta => meta.len(),
    };
    entries.map(of).sum()
}
