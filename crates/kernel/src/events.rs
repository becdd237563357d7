//! The audit ring's reader.

use crate::ring::Ring;
use crate::state::Shared;
use crate::{Counters, Error, Result, maps};
use abi::AgentId;
use abi::agent::FLAG_THROTTLED;
use abi::event::{EVENT_DENIAL, EVENT_SEAL, Event};
use libbpf_rs::{MapCore, MapFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zerocopy::FromBytes;

/// Most events that are handed over at a time: the rest stays in the ring, where it makes agents wait.
const BATCH: usize = 8 * 1024;

/// Reads what the kernel programs decided; one thread of the daemon owns it.
///
/// What was handed over keeps its room until [`EventReader::release`]: where the daemon ends before it is in
/// the log, the next one reads it again.
pub struct EventReader {
    ring: Ring,
    kernel: Arc<Shared>,
    /// There was something at the last look: more is likely, and uses do not wake the reader.
    busy: bool,
    /// [`abi::control::Policy::throttles`] when all that were stopped had been resumed.
    resumed: u64,
}

/// How soon the reader looks again while there are events.
const SOON: Duration = Duration::from_millis(10);

impl EventReader {
    pub(crate) fn new(kernel: Arc<Shared>) -> Result<EventReader> {
        let ring = Ring::map(kernel.maps.events.as_fd(), kernel.maps.events.max_entries())?;
        Ok(EventReader { ring, kernel, busy: false, resumed: 0 })
    }

    /// Waits for events up to `timeout` and hands each to `sink`, in the order of the ring, with its position.
    ///
    /// Returns how many there were. Agents that were stopped because the ring was nearly full
    /// are resumed once it is nearly empty.
    pub fn poll(&mut self, timeout: Duration, mut sink: impl FnMut(&Event, u64)) -> Result<usize> {
        let mut count = self.take(&mut sink);
        if count == 0 {
            self.wait(if self.busy { timeout.min(SOON) } else { timeout })?;
            count = self.take(&mut sink);
        }
        self.busy = count > 0 || self.ring.holds();
        self.resume();
        Ok(count)
    }

    /// Every event up to this position is in the log: its room may be used again.
    pub fn release(&mut self, position: u64) {
        self.ring.release(position);
        self.resume();
    }

    /// Behind the last event that was handed over.
    pub fn position(&self) -> u64 {
        self.ring.position()
    }

    /// Per agent, what is in the ring behind `position` and was not handed over: what an earlier daemon did
    /// not bring into the log.
    pub fn waiting(&self, position: u64) -> HashMap<AgentId, Counters> {
        let mut all: HashMap<AgentId, Counters> = HashMap::new();
        self.ring.look(|at, bytes| {
            let Ok((event, _)) = Event::read_from_prefix(bytes) else { return };
            if at <= position || event.aid == 0 || event.kind == EVENT_SEAL {
                return;
            }
            let counters = all.entry(AgentId(event.aid)).or_default();
            match event.kind {
                EVENT_DENIAL => counters.denials += 1,
                _ => counters.uses += 1,
            }
        });
        all
    }

    /// Events that found no room, and are not on record yet; they are from now on, for every daemon.
    pub fn lost(&mut self) -> Result<u64> {
        // What calls and what packets come to.
        let lost: u64 = [0u32, 1].map(|of| self.lost_of(of)).into_iter().sum::<Result<u64>>()?;
        let told = self.kernel.maps.policy.lost_told().swap(lost, Ordering::SeqCst);
        Ok(lost.saturating_sub(told))
    }

    fn lost_of(&self, tally: u32) -> Result<u64> {
        let all = self
            .kernel
            .maps
            .tallies
            .lookup_percpu(&tally.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::Map { action: "read", map: "tallies", source })?;
        let lost = |cpu: &Vec<u8>| cpu.get(8..16).and_then(|b| u64::read_from_bytes(b).ok());
        Ok(all.unwrap_or_default().iter().filter_map(lost).sum())
    }

    fn take(&mut self, sink: &mut impl FnMut(&Event, u64)) -> usize {
        self.ring.take(BATCH, |at, bytes| {
            if let Ok((event, _)) = Event::read_from_prefix(bytes) {
                sink(&event, at);
            }
        })
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        let ring = self.kernel.maps.events.as_fd();
        let bell = self.kernel.bell.as_fd();
        let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [look(bell), look(ring)];
        // The ring is readable as long as it holds what was handed over and is not in the log.
        let fds = if self.ring.holds() { &mut fds[..1] } else { &mut fds[..] };
        let limit = rustix::event::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match rustix::event::poll(fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {
                // Whoever rang is served by the look that follows.
                let _ = rustix::io::read(bell, &mut [0u8; 8]);
                Ok(())
            }
            Err(e) => Err(Error::System { action: "wait for events", source: e.into() }),
        }
    }

    /// Lets the stopped run again, all at once and not one by one at every drain.
    fn resume(&mut self) {
        let throttled = &self.kernel.maps.throttled;
        // To find nothing in an empty table takes a look at each of its 32,768 buckets.
        let throttles = self.kernel.maps.policy.throttles();
        if self.ring.used() > self.kernel.low_water {
            return;
        }
        self.kernel.maps.policy.next_round();
        if throttles == self.resumed {
            return;
        }
        self.resumed = throttles;
        let keys: Vec<Vec<u8>> = throttled.keys().collect();
        for key in keys {
            let (Ok(tgid), Ok(Some(aid))) =
                (u32::read_from_bytes(&key), throttled.lookup(&key, MapFlags::ANY))
            else {
                continue;
            };
            let aid = AgentId(u64::read_from_bytes(&aid).unwrap_or_default());
            let _ = self.kernel.clear_flags(aid, FLAG_THROTTLED);
            let _ = maps::remove(throttled, "throttled", &tgid);
            self.go_on(tgid, aid);
        }
    }

    /// Its number may be another process's by now: only one that is still the agent's is told.
    fn go_on(&self, tgid: u32, aid: AgentId) {
        let Some(pid) = Pid::from_raw(tgid.cast_signed()) else { return };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
        if matches!(self.kernel.agent_of_pidfd(pidfd.as_fd()), Ok(Some(owner)) if owner == aid) {
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::CONT);
        }
    }
}
