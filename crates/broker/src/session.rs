//! One call from admission to its last byte: what it holds, and the record that it leaves.

use crate::admission::{Ticket, Waited};
use crate::identity::limits::Reservation;
use crate::identity::right::Right;
use crate::metrics::Metrics;
use crate::openai::ApiError;
use crate::openai::answer::TokenUsage;
use crate::usage::UsageLog;
use api::broker::Usage;
use inference::Share;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// An admitted call. Dropping it frees its slot and writes its record.
pub struct Session {
    ticket: Option<Arc<Ticket>>,
    reservation: Reservation,
    right: Right,
    record: Usage,
    log: UsageLog,
    metrics: Arc<Metrics>,
    admitted: Instant,
    waited: Arc<OnceLock<Waited>>,
    charged: u32,
    ended: bool,
}

impl Session {
    /// `record` names the caller and the model; the rest is filled in.
    pub fn new(
        ticket: Arc<Ticket>,
        reservation: Reservation,
        right: Right,
        record: Usage,
        log: UsageLog,
        metrics: Arc<Metrics>,
    ) -> Self {
        let record = Usage { queued_us: micros(ticket.queued_for()), ..record };
        let (admitted, waited) = (ticket.turn(), ticket.waited());
        let ticket = Some(ticket);
        let (charged, ended) = (0, false);
        Self { ticket, reservation, right, record, log, metrics, admitted, waited, charged, ended }
    }

    /// Ends when the caller may not go on: its right was taken, or it has ended.
    pub async fn lost(&mut self) -> ApiError {
        self.right.lost().await
    }

    /// Who pays; none after [`Session::hand_over`].
    pub fn ticket(&self) -> Option<Arc<Ticket>> {
        self.ticket.clone()
    }

    /// The backend holds the slot from now on: a caller that reads slowly must not keep it taken.
    pub fn hand_over(&mut self) {
        self.ticket = None;
    }

    fn charge(&mut self, tokens: u32) {
        if let Some(ticket) = &self.ticket {
            ticket.charge(tokens);
            // Another server tells of no steps.
            ticket.computed(0, tokens);
            if self.charged == 0 && tokens > 0 {
                ticket.answered();
            }
            self.charged += tokens;
        }
    }

    /// Some tokens were written.
    pub fn wrote(&mut self, tokens: u32) {
        if self.record.completion_tokens == 0 && tokens > 0 {
            self.record.first_token_us = micros(self.admitted.elapsed()).max(1);
        }
        self.record.completion_tokens += tokens;
    }

    /// Some tokens were written by a backend that does not charge for them itself.
    pub fn wrote_uncharged(&mut self, tokens: u32) {
        self.wrote(tokens);
        self.charge(tokens);
    }

    /// The backend's own count, which is better than ours.
    pub fn counted(&mut self, prompt_tokens: u32, completion_tokens: u32) {
        self.charge(completion_tokens.saturating_sub(self.charged));
        self.record.prompt_tokens = prompt_tokens;
        self.record.completion_tokens = completion_tokens;
    }

    /// The answer is complete.
    pub fn complete(&mut self) -> TokenUsage {
        self.ended = true;
        TokenUsage::new(self.record.prompt_tokens, self.record.completion_tokens)
    }

    /// The answer failed.
    pub fn failed(&mut self, reason: &str) {
        self.ended = true;
        self.record.refused = Some(reason.to_owned());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            self.record.refused = Some("the caller went away".to_owned());
        }
        let used = u64::from(self.record.prompt_tokens) + u64::from(self.record.completion_tokens);
        self.reservation.used(used);
        if let Some(waited) = self.waited.get() {
            self.record.steps = waited.steps;
            self.record.passed_steps = waited.passed;
            self.record.others_tokens = waited.others;
        }
        self.metrics.finished(&self.record);
        self.log.record(self.record.clone());
    }
}

fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
