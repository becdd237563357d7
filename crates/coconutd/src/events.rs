//! The kernel's events: one thread takes them from the ring, in order, into records and states.

mod fold;

use self::fold::Fold;
use crate::owner::Owner;
use crate::port::EventSource;
use crate::sink::own;
use crate::state::{Daemon, Inner};
use crate::translate::{self, Said};
use abi::event::{EVENT_DENIAL, EVENT_EXEC, EVENT_USE, Event};
use abi::{AgentId, Kind};
use record::{Entry, body};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long one wait for events lasts; only the daemon's end needs it to be short.
const WAIT: Duration = Duration::from_millis(500);

/// Starts the thread; it ends when nobody holds the daemon any more. Events up to the position `logged` are in
/// the log already: an earlier daemon brought them there.
///
/// # Errors
/// When there can be no thread.
pub fn start(
    daemon: &Arc<Daemon>,
    source: Box<dyn EventSource>,
    logged: u64,
) -> std::io::Result<()> {
    let daemon = Arc::downgrade(daemon);
    let (sequences, fold) = (HashMap::new(), Fold::default());
    let mut drain = Drain { daemon, source, sequences, fold, logged, handed: 0 };
    let run = move || drain.run();
    std::thread::Builder::new().name("events".into()).spawn(run).map(|_| ())
}

struct Drain {
    daemon: Weak<Daemon>,
    source: Box<dyn EventSource>,
    /// Last sequence number of each CPU.
    sequences: HashMap<u32, u64>,
    fold: Fold,
    /// Up to here an earlier daemon brought everything into the log.
    logged: u64,
    /// Behind the last event that has records.
    handed: u64,
}

impl Drain {
    fn run(&mut self) {
        while let Some(daemon) = self.daemon.upgrade() {
            let polled = self.batch(&daemon);
            match polled {
                Ok(0) => daemon.emptied.notify_waiters(),
                Ok(_) => daemon.drained.notify_waiters(),
                Err(error) => {
                    tracing::error!(%error, "cannot read the kernel's events");
                    daemon.emptied.notify_waiters();
                    std::thread::sleep(WAIT);
                }
            }
            self.release(&daemon);
            self.count_lost(&daemon);
        }
    }

    /// What is in the ring, as one batch of records.
    fn batch(&mut self, daemon: &Daemon) -> kernel::Result<usize> {
        let Drain { source, sequences, fold, logged, handed, .. } = self;
        let (mut owners, mut last, mut whole) = (Vec::new(), 0, None);
        let mut take = |event: &Event, position: u64| {
            if position > *logged || position == 0 {
                whole.get_or_insert_with(|| daemon.batch.lock());
                let owner = take(daemon, sequences, fold, event);
                owners.extend(owner.map(|owner| (owner, AgentId(event.aid))));
                last = position;
            } else {
                sequences.insert(event.cpu, event.sequence);
            }
        };
        let polled = source.poll(WAIT, &mut take);
        let entries = fold.finish(last);
        // Of events that have no records nothing has to get into the log.
        if !entries.is_empty() {
            *handed = last;
        }
        daemon.sink.record_all(entries);
        drop(whole);
        if daemon.inner().supervisor.has_overstepped() {
            daemon.overstepped.notify_one();
        }
        // Told as it is by then: a quarantine that came in between stays one.
        for (owner, aid) in owners {
            if let Err(error) = owner.tell(daemon, aid) {
                tracing::debug!(%error, "the kernel did not take the new state");
            }
        }
        polled
    }

    /// What is in the log needs its room in the ring no longer.
    fn release(&mut self, daemon: &Daemon) {
        let written = daemon.sink.ring();
        let all = written >= self.handed;
        self.source.release(if all { self.source.position() } else { written });
    }

    /// Events that found no room: each new loss is a record.
    fn count_lost(&mut self, daemon: &Daemon) {
        let missing = self.source.lost().unwrap_or_default();
        if missing > 0 {
            let total = daemon.lost.fetch_add(missing, Ordering::AcqRel) + missing;
            let (missing, total) = (Some(missing), Some(total));
            let gap = body::Gap { missing, total, ..Default::default() };
            daemon.sink.record(own(Kind::Gap, "ring", gap));
        }
    }
}

/// Makes an event's records; whom to tell if the agent has a new state.
fn take(
    daemon: &Daemon,
    sequences: &mut HashMap<u32, u64>,
    fold: &mut Fold,
    event: &Event,
) -> Option<Arc<Owner>> {
    if let Some(gap) = gap(sequences, event) {
        daemon.lost.fetch_add(gap, Ordering::AcqRel);
        let (missing, cpu, before) = (Some(gap), Some(event.cpu.into()), Some(event.sequence));
        let gap = body::Gap { missing, cpu, before, ..Default::default() };
        fold.note(own(Kind::Gap, "sequence", gap));
    }
    let mut said = translate::said(event)?;
    if let Some(target) = translate::target(event) {
        said.object = daemon.uuid_of(target).map_or_else(
            || "a process outside the agent".to_owned(),
            |uuid| format!("agent {uuid}"),
        );
    }
    let (entries, owner) = daemon.inner().book(event, &said);
    fold.take(event.aid, entries, event.time_ns);
    owner
}

/// How many sequence numbers of the event's CPU are missing in front of it.
fn gap(sequences: &mut HashMap<u32, u64>, event: &Event) -> Option<u64> {
    let last = sequences.insert(event.cpu, event.sequence)?;
    event.sequence.checked_sub(last + 1).filter(|missing| *missing > 0)
}

impl Inner {
    /// The records of an event, and whom to tell if the agent has a new state.
    fn book(&mut self, event: &Event, said: &Said) -> (Vec<Entry>, Option<Arc<Owner>>) {
        let aid = AgentId(event.aid);
        let step = match event.kind {
            EVENT_DENIAL => {
                let attempt = attempt(event, said);
                if let Some(info) = self.info.get_mut(&aid) {
                    info.kernel_denials += 1;
                }
                self.supervisor.deny(aid, attempt).ok().and_then(|noted| noted.transition)
            }
            EVENT_USE | EVENT_EXEC => {
                if let Some(info) = self.info.get_mut(&aid) {
                    info.uses += 1;
                }
                let allowed = self.supervisor.event(aid, supervisor::Event::Allow);
                allowed.ok().and_then(Result::ok).flatten()
            }
            _ => None,
        };
        let mut entry = self.entry(aid, said.kind);
        entry.time_ns = said.time_ns;
        entry.capability = said.capability;
        entry.verdict = said.verdict;
        entry.object.clone_from(&said.object);
        let rule = self.number(aid, event.set, event.rule);
        entry.body = translate::body(event, said, rule).into();
        let mut entries = vec![entry];
        entries.extend(step.map(|step| self.state_entry(aid, step)));
        let owner = step.and_then(|_| self.info.get(&aid)).map(|info| info.kernel.clone());
        (entries, owner)
    }
}

fn attempt(event: &Event, said: &Said) -> supervisor::Attempt {
    supervisor::Attempt {
        time_ns: said.time_ns,
        boot_ns: event.time_ns,
        capability: said.capability,
        object: said.object.clone(),
        operation: said.operation.clone(),
        program: said.program.clone(),
        errno: event.verdict,
        count: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_hole_in_a_cpus_sequence_is_a_gap() {
        let mut sequences = HashMap::new();
        let mut event = Event::new_zeroed();
        let mut at = |cpu, sequence| {
            event.cpu = cpu;
            event.sequence = sequence;
            gap(&mut sequences, &event)
        };
        assert_eq!(at(0, 10), None);
        assert_eq!(at(0, 11), None);
        assert_eq!(at(1, 3), None, "each CPU counts for itself");
        assert_eq!(at(0, 15), Some(3));
        assert_eq!(at(0, 16), None);
    }
}
