//! The audit ring's reader.

use crate::state::Shared;
use crate::{Error, Result, maps};
use abi::AgentId;
use abi::agent::FLAG_THROTTLED;
use abi::event::Event;
use libbpf_rs::{MapCore, MapFlags, RingBuffer, RingBufferBuilder};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zerocopy::FromBytes;

/// Events taken from the ring and not yet handed over.
type Batch = Arc<Mutex<Vec<Event>>>;

/// Most events that are held at a time: the rest stays in the ring, where it makes agents wait.
const BATCH: usize = 1024;

/// Reads what the kernel programs decided; one thread of the daemon owns it.
pub struct EventReader {
    ring: RingBuffer<'static>,
    batch: Batch,
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
        let bpf = |source| Error::Bpf { action: "read the ring of", source };
        let batch = Batch::default();
        let into = Arc::clone(&batch);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&kernel.maps.events, move |bytes| {
                if let (Ok((event, _)), Ok(mut batch)) =
                    (Event::read_from_prefix(bytes), into.lock())
                {
                    batch.push(event);
                }
                0
            })
            .map_err(bpf)?;
        let ring = builder.build().map_err(bpf)?;
        Ok(EventReader { ring, batch, kernel, busy: false, resumed: 0 })
    }

    /// Waits for events up to `timeout` and hands each to `sink`, in the order of the ring.
    ///
    /// Returns how many there were. Agents that were stopped because the ring was nearly full
    /// are resumed once it is nearly empty.
    pub fn poll(&mut self, timeout: Duration, mut sink: impl FnMut(&Event)) -> Result<usize> {
        let mut count = self.take(&mut sink);
        if count == 0 {
            self.wait(if self.busy { timeout.min(SOON) } else { timeout })?;
        }
        loop {
            let taken = self.take(&mut sink);
            count += taken;
            if taken < BATCH || count >= 64 * BATCH {
                break;
            }
        }
        self.busy = count > 0;
        self.resume();
        Ok(count)
    }

    /// Events that found no room since the start: a gap in the log.
    pub fn lost(&self) -> Result<u64> {
        let all = self
            .kernel
            .maps
            .tallies
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::Map { action: "read", map: "tallies", source })?;
        let lost = |cpu: &Vec<u8>| cpu.get(8..16).and_then(|b| u64::read_from_bytes(b).ok());
        Ok(all.unwrap_or_default().iter().filter_map(lost).sum())
    }

    fn take(&self, sink: &mut impl FnMut(&Event)) -> usize {
        self.ring.consume_raw_n(BATCH);
        let Ok(mut batch) = self.batch.lock() else { return 0 };
        let events = std::mem::take(&mut *batch);
        drop(batch);
        events.iter().for_each(sink);
        events.len()
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        // The ring's own epoll descriptor becomes readable with an event.
        let fd = crate::sys::ring_fd(&self.ring);
        let bell = self.kernel.bell.as_fd();
        let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [look(fd), look(bell)];
        let limit = rustix::event::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&limit)) {
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
        if throttles == self.resumed || self.used() > self.kernel.low_water {
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

    /// Bytes in the ring.
    fn used(&self) -> u64 {
        crate::sys::ring_used(&self.ring)
    }
}
