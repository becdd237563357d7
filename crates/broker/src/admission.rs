//! Admission: who may send to the backend now. Wraps the fair queue with a lock, tickets and wake-ups.
//!
//! A request enters the queue, waits for its turn, and then holds a [`Ticket`] until its answer has
//! been sent. The backend is kept full but never given more than it can batch, so a flooder queues
//! in its own lane. Two kinds of backend need two kinds of care:
//!
//! * one that **yields** (the embedded engine: the fair queue orders every step) takes a newcomer's
//!   request at once, over its slots; the over-served rest meanwhile;
//! * one that does not (any URL) must keep slots free for newcomers. How many is learnt from how
//!   often newcomers come and how often slots come free, because what was admitted together also
//!   ends together ([`reserve`](crate::reserve)).

use crate::fair::{FairQueue, Flow, Lane};
use crate::reserve::Reserve;
use inference::Share;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How the backend is filled.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Requests that the backend works on at once.
    pub slots: usize,
    /// The backend orders every step by the fair queue's accounts.
    pub yields: bool,
    /// Control for measurements: first come, first served, nobody told apart.
    pub fifo: bool,
    /// Most requests of one tenant that may wait.
    pub max_queued: usize,
}

/// Why a request was not let in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The tenant has too many requests waiting.
    #[error("tenant {tenant} has {queued} requests waiting already")]
    QueueFull {
        /// The tenant.
        tenant: String,
        /// Its waiting requests.
        queued: usize,
    },
}

/// Credit in tokens where every step is ordered by the accounts: a usual request.
const STEP_CREDIT: u32 = 512;
/// Credit in tokens for each slot where requests run to their end: a long answer.
const SLOT_CREDIT: u32 = 256;

struct Waiting {
    id: u64,
    admit: oneshot::Sender<()>,
}

struct State {
    fair: FairQueue<Waiting>,
    /// The control's queue.
    line: VecDeque<(Flow, u64)>,
    running: usize,
    next_id: u64,
    reserve: Reserve,
}

/// The queue in front of one backend.
pub struct Admission {
    state: Mutex<State>,
    policy: Policy,
    epoch: Instant,
}

/// A place in the queue, then at the backend. Dropping it gives the place up.
pub struct Ticket {
    admission: Arc<Admission>,
    flow: Flow,
    id: u64,
    admitted: bool,
    queued_for: Duration,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Requests at the backend.
    pub running: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Slots kept free for newcomers.
    pub reserve: usize,
    /// Tenants remembered.
    pub tenants: usize,
}

impl Admission {
    /// An empty queue.
    pub fn new(policy: Policy) -> Arc<Self> {
        let credit = if policy.yields {
            STEP_CREDIT
        } else {
            u32::try_from(policy.slots).unwrap_or(u32::MAX).saturating_mul(SLOT_CREDIT)
        };
        let state = State {
            fair: FairQueue::new(credit),
            line: VecDeque::new(),
            running: 0,
            next_id: 0,
            reserve: Reserve::new(policy.slots),
        };
        Arc::new(Self { state: Mutex::new(state), policy, epoch: Instant::now() })
    }

    /// Waits for the request's turn. Dropping the future gives the place up.
    pub async fn admit(self: &Arc<Self>, lane: &Lane<'_>) -> Result<Ticket, Refused> {
        let came = Instant::now();
        let (mut ticket, turn) = self.enter(lane)?;
        // The sender lives in the queue and is only dropped when it is used or withdrawn.
        let _ = turn.await;
        ticket.admitted = true;
        ticket.queued_for = came.elapsed();
        Ok(ticket)
    }

    fn enter(
        self: &Arc<Self>,
        lane: &Lane<'_>,
    ) -> Result<(Ticket, oneshot::Receiver<()>), Refused> {
        let (admit, turn) = oneshot::channel();
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let flow = state.fair.arrive(lane, |_| Waiting { id, admit });
        let queued = state.fair.queued_of(flow);
        if queued > self.policy.max_queued {
            state.fair.withdraw(flow, |w| w.id == id);
            return Err(Refused::QueueFull { tenant: lane.tenant.to_owned(), queued: queued - 1 });
        }
        if self.policy.fifo {
            state.line.push_back((flow, id));
        } else if state.fair.holding(flow).entitled(self.policy.slots) {
            state.reserve.newcomer(self.epoch.elapsed());
        }
        self.dispatch(&mut state);
        let queued_for = Duration::ZERO;
        let ticket = Ticket { admission: self.clone(), flow, id, admitted: false, queued_for };
        Ok((ticket, turn))
    }

    /// Admits as many as may start now.
    fn dispatch(&self, state: &mut State) {
        while let Some(waiting) = self.next(state) {
            state.running += 1;
            // A caller that has just gone away drops its ticket, which undoes this.
            let _ = waiting.admit.send(());
        }
    }

    fn next(&self, state: &mut State) -> Option<Waiting> {
        let slots = self.policy.slots;
        if self.policy.fifo {
            return if state.running < slots { state.first_in_line() } else { None };
        }
        let full = state.running >= slots;
        if self.policy.yields {
            // Who is owed a slot may overtake up to a second set; the engine has room for both.
            let room = state.running < 2 * slots;
            return state.fair.next(|h| !full || (room && h.entitled(slots))).map(|(_, w)| w);
        }
        if full {
            return None;
        }
        let keep = state.reserve.slots(self.epoch.elapsed());
        let spare = state.running + keep < slots;
        state.fair.next(|h| spare || h.entitled(slots)).map(|(_, w)| w)
    }

    /// How full it is.
    pub fn depth(&self) -> Depth {
        let state = self.lock();
        Depth {
            running: state.running,
            queued: state.fair.queued(),
            reserve: if self.policy.yields || self.policy.fifo {
                0
            } else {
                state.reserve.slots(self.epoch.elapsed())
            },
            tenants: state.fair.remembered(),
        }
    }

    /// How it fills the backend.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first_in_line(&mut self) -> Option<Waiting> {
        while let Some((flow, id)) = self.line.pop_front() {
            if let Some(waiting) = self.fair.start(flow, |w| w.id == id) {
                return Some(waiting);
            }
        }
        None
    }
}

impl Ticket {
    /// How long the request waited.
    pub fn queued_for(&self) -> Duration {
        self.queued_for
    }
}

impl Share for Ticket {
    fn key(&self) -> (u64, u64) {
        if self.admission.policy.fifo {
            return (self.id, 0);
        }
        self.admission.lock().fair.key(self.flow)
    }

    fn charge(&self, tokens: u32) {
        self.admission.lock().fair.charge(self.flow, tokens);
    }

    fn owed(&self) -> bool {
        let admission = &self.admission;
        !admission.policy.fifo && admission.lock().fair.holding(self.flow).behind
    }

    fn crowded(&self) -> bool {
        let admission = &self.admission;
        !admission.policy.fifo && admission.lock().reserve.expects(admission.epoch.elapsed())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let admission = self.admission.clone();
        let mut state = admission.lock();
        // Admitted but never told: the turn came while the caller was going away.
        let id = self.id;
        if self.admitted || state.fair.withdraw(self.flow, |w| w.id == id).is_none() {
            state.fair.leave(self.flow);
            state.running -= 1;
            state.reserve.released(admission.epoch.elapsed());
        }
        admission.dispatch(&mut state);
    }
}

#[cfg(test)]
mod tests;
