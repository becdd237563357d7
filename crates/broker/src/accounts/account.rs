//! One call's account.

use super::journal::cut;
use super::log::{Entry, UsageLog};
use crate::admission::{Ticket, Waited};
use crate::identity::limits::Reservation;
use crate::metrics::Metrics;
use crate::openai::ApiError;
use api::broker::Usage;
use ports::{Meter, Tokens};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::time::Instant;
use uuid::Uuid;

/// A call's account, opened before the call waits for anything. The caller's side and the backend hold it; when
/// neither does any more, nothing more can be done for the call, and it is settled.
pub struct Account {
    entry: Entry,
    metrics: Arc<Metrics>,
    prompt: AtomicU32,
    completion: AtomicU32,
    state: Mutex<State>,
}

struct State {
    record: Usage,
    /// What it may use of its agent's limits.
    reservation: Option<Reservation>,
    turn: Option<Turn>,
    /// It was answered, or it is known why not.
    over: bool,
}

/// Its turn came.
struct Turn {
    at: Instant,
    waited: Arc<OnceLock<Waited>>,
}

/// Longest text in a record, in bytes.
const TEXT: usize = 512;

impl Account {
    /// Opens the account of a call; `record` says whose it is, and of which model.
    ///
    /// # Errors
    /// When it cannot be recorded: then it must not run.
    pub fn open(
        log: &UsageLog,
        metrics: &Arc<Metrics>,
        mut record: Usage,
    ) -> Result<Arc<Self>, ApiError> {
        // The caller has chosen it.
        cut(&mut record.model, TEXT);
        let entry = log.open(&record)?;
        let state = State { record, reservation: None, turn: None, over: false };
        Ok(Arc::new(Self {
            entry,
            metrics: metrics.clone(),
            prompt: AtomicU32::new(0),
            completion: AtomicU32::new(0),
            state: Mutex::new(state),
        }))
    }

    /// The call's id.
    pub fn call(&self) -> Uuid {
        self.state().record.call
    }

    /// What it may use; the rest is given back when the account is settled.
    pub fn hold(&self, reservation: Reservation) {
        self.state().reservation = Some(reservation);
    }

    /// Its turn has come.
    pub fn turn(&self, ticket: &Ticket) {
        let mut state = self.state();
        state.record.queued_us = micros(ticket.queued_for());
        state.turn = Some(Turn { at: ticket.turn(), waited: ticket.waited() });
    }

    /// The answer is complete; so much was done for it. To be called before the caller hears of it.
    pub fn complete(&self) -> Tokens {
        self.state().over = true;
        self.entry.complete();
        self.tokens()
    }

    /// The call was refused, or it failed. The first reason holds.
    pub fn fail(&self, why: &str) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.over, true) {
            let mut why = why.to_owned();
            cut(&mut why, TEXT);
            state.record.refused = Some(why);
        }
    }

    fn tokens(&self) -> Tokens {
        Tokens { prompt: self.prompt.load(Relaxed), completion: self.completion.load(Relaxed) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for Account {
    fn read(&self, tokens: u32) {
        self.prompt.fetch_add(tokens, Relaxed);
        self.entry.progress(self.tokens());
    }

    fn wrote(&self, tokens: u32) {
        if self.completion.fetch_add(tokens, Relaxed) == 0 {
            let mut state = self.state();
            let since = state.turn.as_ref().map(|turn| micros(turn.at.elapsed()).max(1));
            state.record.first_token_us = since.unwrap_or(0);
        }
        self.entry.progress(self.tokens());
    }

    fn counted(&self, tokens: Tokens) {
        self.prompt.store(tokens.prompt, Relaxed);
        self.completion.store(tokens.completion, Relaxed);
        self.entry.progress(tokens);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Tokens { prompt, completion } = self.tokens();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let record = &mut state.record;
        record.prompt_tokens = prompt;
        record.completion_tokens = completion;
        if !state.over {
            let away = match state.turn {
                Some(_) => "the caller went away",
                None => "the caller went away before its turn",
            };
            record.refused = Some(away.to_owned());
        }
        if let Some(waited) = state.turn.as_ref().and_then(|turn| turn.waited.get()) {
            record.steps = waited.steps;
            record.passed_steps = waited.passed;
            record.others_tokens = waited.others;
        }
        if let Some(reservation) = &mut state.reservation {
            reservation.used(u64::from(prompt) + u64::from(completion));
        }
        if state.turn.is_some() {
            self.metrics.finished(record);
        }
        self.entry.settle(record);
    }
}

fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
