//! Hard limits of an agent's `infer` capability: tokens a minute, requests at once.

use crate::openai::ApiError;
use api::broker::InferLimits;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What an agent has in flight and has used.
#[derive(Debug, Default)]
pub struct AgentState(Mutex<Use>);

#[derive(Debug, Default)]
struct Use {
    in_flight: u32,
    /// Tokens left in the bucket, and when that was so; none until the first use.
    bucket: Option<(f64, Instant)>,
}

/// A request's hold on the limits: one of the requests at once, and tokens set aside.
#[derive(Debug)]
pub struct Reservation {
    state: Arc<AgentState>,
    set_aside: u64,
    used: u64,
    per_minute: Option<u64>,
}

impl AgentState {
    /// Sets aside what a request may need, or says which limit stands against it.
    pub fn reserve(
        self: &Arc<Self>,
        limits: Option<&InferLimits>,
        tokens: u64,
    ) -> Result<Reservation, ApiError> {
        let per_minute = limits.and_then(|l| l.tokens_per_minute);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(most) =
            limits.and_then(|l| l.concurrency).filter(|most| state.in_flight >= *most)
        {
            let message = format!("the infer capability allows {most} requests at once");
            return Err(ApiError::limited(message, 1).code("concurrency_exceeded"));
        }
        if let Some(limit) = per_minute {
            let left = state.refill(limit, Instant::now());
            if tokens > limit {
                let message = format!(
                    "the request may use {tokens} tokens, but the infer capability allows {limit} a minute\n\
                     hint: lower max_tokens"
                );
                return Err(ApiError::invalid(message).code("tokens_per_minute_exceeded"));
            }
            let short = tokens as f64 - left;
            if short > 0.0 {
                let wait = (short * 60.0 / limit as f64).ceil() as u64;
                let message = format!("the infer capability allows {limit} tokens a minute");
                return Err(ApiError::limited(message, wait).code("rate_limit_exceeded"));
            }
            state.take(tokens as f64);
        }
        state.in_flight += 1;
        Ok(Reservation { state: self.clone(), set_aside: tokens, used: 0, per_minute })
    }
}

impl Use {
    fn refill(&mut self, per_minute: u64, now: Instant) -> f64 {
        let full = per_minute as f64;
        let (level, at) = self.bucket.unwrap_or((full, now));
        let level = (level + full / 60.0 * (now - at).as_secs_f64()).min(full);
        self.bucket = Some((level, now));
        level
    }

    fn take(&mut self, tokens: f64) {
        if let Some((level, _)) = &mut self.bucket {
            *level -= tokens;
        }
    }
}

impl Reservation {
    /// Tokens that were really used.
    pub fn used(&mut self, tokens: u64) {
        self.used = tokens;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight -= 1;
        if self.per_minute.is_some() {
            state.take(self.used as f64 - self.set_aside as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tokens_per_minute: Option<u64>, concurrency: Option<u32>) -> InferLimits {
        InferLimits { models: vec!["*".into()], tokens_per_minute, concurrency, context: None }
    }

    #[test]
    fn concurrency_is_given_back() {
        let state = Arc::new(AgentState::default());
        let l = limits(None, Some(1));
        let first = state.reserve(Some(&l), 10).unwrap();
        assert_eq!(state.reserve(Some(&l), 10).unwrap_err().code, Some("concurrency_exceeded"));
        drop(first);
        assert!(state.reserve(Some(&l), 10).is_ok());
    }

    #[test]
    fn unused_tokens_are_given_back_and_used_ones_are_not() {
        let state = Arc::new(AgentState::default());
        let l = limits(Some(1000), None);
        let mut first = state.reserve(Some(&l), 900).unwrap();
        let refused = state.reserve(Some(&l), 900).unwrap_err();
        assert_eq!(refused.status.as_u16(), 429);
        assert!(refused.retry_after >= Some(40), "{refused:?}");
        first.used(100);
        drop(first);
        assert!(state.reserve(Some(&l), 850).is_ok());
    }

    #[test]
    fn what_can_never_fit_is_no_matter_of_waiting() {
        let state = Arc::new(AgentState::default());
        let refused = state.reserve(Some(&limits(Some(100), None)), 101).unwrap_err();
        assert_eq!(refused.status.as_u16(), 400);
    }
}
