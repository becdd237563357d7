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

use crate::fair::{Computed, FairQueue, Flow, Holding, Lineage, May};
use crate::reserve::Reserve;
use ports::{Key, Share};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
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

/// What is done at the very moment at which the turn comes.
pub type AtTurn = Box<dyn FnOnce(Arc<Ticket>) + Send>;

struct Waiting {
    id: u64,
    admit: oneshot::Sender<()>,
    ticket: Weak<Ticket>,
    at_turn: AtTurn,
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
    came: Instant,
    /// What was computed before the request came: for all, and for its tenant.
    before: [Computed; 2],
    turn: OnceLock<Instant>,
    waited: Arc<OnceLock<Waited>>,
}

/// What the backend did between a request's arrival and its first token. Counts of work, not of time:
/// the same on a busy machine as on an idle one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Steps, the one under way at the arrival included.
    pub steps: u64,
    /// Of these, those in which nothing was computed for the request's tenant.
    pub passed: u64,
    /// Tokens computed in them for other tenants.
    pub others: u64,
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

    /// Waits for the request's turn. Dropping the future gives the place up. `at_turn` runs while the
    /// queue is locked: it must not wait, and what it starts sees the queue as it is.
    pub async fn admit(
        self: &Arc<Self>,
        lane: &Lineage,
        at_turn: AtTurn,
    ) -> Result<Arc<Ticket>, Refused> {
        let (ticket, turn) = self.enter(lane, at_turn)?;
        // The sender lives in the queue and is only dropped when it is used or withdrawn.
        let _ = turn.await;
        Ok(ticket)
    }

    fn enter(
        self: &Arc<Self>,
        lane: &Lineage,
        at_turn: AtTurn,
    ) -> Result<(Arc<Ticket>, oneshot::Receiver<()>), Refused> {
        let (admit, turn) = oneshot::channel();
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let ticket = Arc::new_cyclic(|ticket: &Weak<Ticket>| {
            let ticket = ticket.clone();
            let flow = state.fair.arrive(lane, |_| Waiting { id, admit, ticket, at_turn });
            let before = state.fair.computed(flow);
            let (admission, came) = (self.clone(), Instant::now());
            let (turn, waited) = Default::default();
            Ticket { admission, flow, id, came, before, turn, waited }
        });
        let flow = ticket.flow;
        let queued = state.fair.queued_of(flow);
        if queued > self.policy.max_queued {
            drop(state);
            // With the ticket, the place is given up.
            return Err(Refused::QueueFull {
                tenant: lane.tenant.name.clone(),
                queued: queued - 1,
            });
        }
        if self.policy.fifo {
            state.line.push_back((flow, id));
        } else if state.fair.holding(flow).entitled(self.policy.slots) {
            state.reserve.newcomer(self.epoch.elapsed());
        }
        let started = self.dispatch(&mut state);
        drop(state);
        drop(started);
        Ok((ticket, turn))
    }

    /// Admits as many as may start now. Drop what it returns only when the lock is released: it may
    /// be the last that is left of a ticket.
    #[must_use]
    fn dispatch(&self, state: &mut State) -> Vec<Arc<Ticket>> {
        let mut started = Vec::new();
        while let Some(waiting) = self.next(state) {
            state.running += 1;
            // A caller that has just gone away drops its ticket, which undoes this.
            let Some(ticket) = waiting.ticket.upgrade() else { continue };
            let _ = ticket.turn.set(Instant::now());
            (waiting.at_turn)(ticket.clone());
            let _ = waiting.admit.send(());
            started.push(ticket);
        }
        started
    }

    fn next(&self, state: &mut State) -> Option<Waiting> {
        let slots = self.policy.slots;
        if self.policy.fifo {
            return if state.running < slots { state.first_in_line() } else { None };
        }
        let full = state.running >= slots;
        // Who is owed a slot may overtake up to a second set where the engine has room for both.
        let (anybody, owed) = if self.policy.yields {
            (!full, state.running < 2 * slots)
        } else {
            let keep = state.reserve.slots(self.epoch.elapsed());
            (state.running + keep < slots, !full)
        };
        state.fair.next(|h| May::of(h, slots, anybody, owed)).map(|(_, waiting)| waiting)
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

impl May {
    /// Of a tenant that holds this, where `anybody` may start, or those who are `owed` one of the slots. Whoever
    /// is behind and not owed one holds some, so few are asked in vain, however many tenants wait.
    fn of(holding: Holding, slots: usize, anybody: bool, owed: bool) -> May {
        match (anybody, owed && holding.behind) {
            (true, _) => May::Start,
            (false, false) => May::End,
            (false, true) if holding.entitled(slots) => May::Start,
            (false, true) => May::Wait,
        }
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
    /// When the request's turn came.
    pub fn turn(&self) -> Instant {
        self.turn.get().copied().unwrap_or(self.came)
    }

    /// How long the request waited.
    pub fn queued_for(&self) -> Duration {
        self.turn().duration_since(self.came)
    }

    /// Where it will stand what was done before the first token; also after the ticket's end.
    pub fn waited(&self) -> Arc<OnceLock<Waited>> {
        self.waited.clone()
    }
}

impl Share for Ticket {
    fn key(&self) -> Key {
        if self.admission.policy.fifo {
            return vec![self.id];
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

    fn computed(&self, step: u64, tokens: u32) {
        self.admission.lock().fair.book(self.flow, step, tokens);
    }

    fn answered(&self) {
        let [all, own] = self.admission.lock().fair.computed(self.flow);
        let [all_before, own_before] = self.before;
        let steps = all.steps - all_before.steps;
        let passed = steps.saturating_sub(own.steps - own_before.steps);
        let others = (all.tokens - all_before.tokens) - (own.tokens - own_before.tokens);
        // Only the first token's counts are kept.
        let _ = self.waited.set(Waited { steps, passed, others });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let admission = self.admission.clone();
        let mut state = admission.lock();
        let id = self.id;
        // Neither started nor in the queue: its turn came while the caller was going away.
        let started = self.turn.get().is_some();
        if started || state.fair.withdraw(self.flow, |w| w.id == id).is_none() {
            state.fair.leave(self.flow);
            state.running -= 1;
            state.reserve.released(admission.epoch.elapsed());
        }
        let next = admission.dispatch(&mut state);
        drop(state);
        drop(next);
    }
}

#[cfg(test)]
mod tests;
