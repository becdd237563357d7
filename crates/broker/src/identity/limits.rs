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

/// What a request may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// As many as it says.
    Tokens(u64),
    /// It does not say: as many as it may, of so many that there is room for.
    Any(u64),
}

/// Who does not say how much it wants is served with what is left of the minute, if that is at least
/// this part of the minute's tokens.
const PART: u64 = 4;

/// A request's hold on the limits: one of the requests at once, and tokens set aside.
#[derive(Debug)]
pub struct Reservation {
    state: Arc<AgentState>,
    set_aside: u64,
    used: u64,
    per_minute: Option<u64>,
    may_write: u64,
}

impl AgentState {
    /// Sets aside what a request of so many prompt tokens may need, or says which limit stands against it.
    pub fn reserve(
        self: &Arc<Self>,
        limits: Option<&InferLimits>,
        prompt: u64,
        wanted: Wanted,
    ) -> Result<Reservation, ApiError> {
        let per_minute = limits.and_then(|l| l.tokens_per_minute);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(most) =
            limits.and_then(|l| l.concurrency).filter(|most| state.in_flight >= *most)
        {
            let message = format!("the infer capability allows {most} requests at once");
            return Err(ApiError::limited(message, 1).code("concurrency_exceeded"));
        }
        let (Wanted::Tokens(mut may_write) | Wanted::Any(mut may_write)) = wanted;
        let mut set_aside = 0;
        if let Some(limit) = per_minute {
            may_write = state.within(limit, prompt, wanted)?;
            set_aside = prompt.saturating_add(may_write);
            state.take(set_aside as f64);
        }
        state.in_flight += 1;
        Ok(Reservation { state: self.clone(), set_aside, used: 0, per_minute, may_write })
    }
}

impl Use {
    /// How many tokens a request may write within what is left.
    fn within(&mut self, limit: u64, prompt: u64, wanted: Wanted) -> Result<u64, ApiError> {
        let left = self.refill(limit, Instant::now());
        let (least, most) = match wanted {
            Wanted::Tokens(tokens) => (tokens, tokens),
            Wanted::Any(most) => (most.min(limit / PART).max(1), most),
        };
        let needed = prompt.saturating_add(least);
        if needed > limit {
            let message = format!(
                "the request may use {needed} tokens, but the infer capability allows {limit} a minute\n\
                 hint: lower max_tokens"
            );
            return Err(ApiError::invalid(message).code("tokens_per_minute_exceeded"));
        }
        let short = needed as f64 - left;
        if short > 0.0 {
            let wait = (short * 60.0 / limit as f64).ceil() as u64;
            let message = format!("the infer capability allows {limit} tokens a minute");
            return Err(ApiError::limited(message, wait).code("rate_limit_exceeded"));
        }
        Ok(most.min((left as u64).saturating_sub(prompt)).max(least))
    }

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
    /// Tokens that the request may write; no less than it asked for.
    pub fn may_write(&self) -> u64 {
        self.may_write
    }

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

    fn reserve(
        state: &Arc<AgentState>,
        l: &InferLimits,
        prompt: u64,
        tokens: u64,
    ) -> Result<Reservation, ApiError> {
        state.reserve(Some(l), prompt, Wanted::Tokens(tokens))
    }

    #[test]
    fn concurrency_is_given_back() {
        let state = Arc::new(AgentState::default());
        let l = limits(None, Some(1));
        let first = reserve(&state, &l, 5, 5).unwrap();
        assert_eq!(reserve(&state, &l, 5, 5).unwrap_err().code, Some("concurrency_exceeded"));
        drop(first);
        assert!(reserve(&state, &l, 5, 5).is_ok());
    }

    #[test]
    fn unused_tokens_are_given_back_and_used_ones_are_not() {
        let state = Arc::new(AgentState::default());
        let l = limits(Some(1000), None);
        let mut first = reserve(&state, &l, 100, 800).unwrap();
        let refused = reserve(&state, &l, 100, 800).unwrap_err();
        assert_eq!(refused.status.as_u16(), 429);
        assert!(refused.retry_after >= Some(40), "{refused:?}");
        first.used(100);
        drop(first);
        assert!(reserve(&state, &l, 50, 800).is_ok());
    }

    #[test]
    fn what_can_never_fit_is_no_matter_of_waiting() {
        let state = Arc::new(AgentState::default());
        let refused = reserve(&state, &limits(Some(100), None), 1, 100).unwrap_err();
        assert_eq!(refused.status.as_u16(), 400);
    }

    #[test]
    fn who_does_not_say_how_much_is_served_with_what_is_left() {
        let state = Arc::new(AgentState::default());
        let l = limits(Some(600), None);
        let any = |prompt| state.reserve(Some(&l), prompt, Wanted::Any(4000));
        let mut first = any(10).unwrap();
        assert_eq!(first.may_write(), 590, "the first ordinary request");
        first.used(300);
        drop(first);
        let second = any(10).unwrap();
        assert!((280..600).contains(&second.may_write()), "{}", second.may_write());
        let refused = any(10).unwrap_err();
        assert_eq!(refused.status.as_u16(), 429, "a few tokens are no answer");
        drop(second);
        assert_eq!(state.reserve(Some(&l), 10, Wanted::Any(3)).unwrap().may_write(), 3);
        // Without a limit there is nothing to share out.
        let free = state.reserve(None, 10, Wanted::Any(4000)).unwrap();
        assert_eq!(free.may_write(), 4000);
    }
}
