//! How many slots to keep free for newcomers, at a backend that cannot yield.
//!
//! Newcomers come at some rate and take a free slot each; slots come free at some rate and refill
//! what is kept. Like a queue of utilisation ρ, `n` kept slots are all taken with probability about
//! ρⁿ. Each kept slot costs throughput, so no more are kept than [`RISK`] asks for, and none while
//! there are no newcomers.

use std::time::Duration;

/// Accepted share of newcomers that find no free slot.
const RISK: f64 = 0.03;
/// Rates are averaged over about this long.
const WINDOW: Duration = Duration::from_secs(20);
/// No newcomer for this long: keep nothing.
const FORGET: Duration = Duration::from_secs(30);

/// A rate, averaged with exponential forgetting.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    level: f64,
    at: Duration,
    began: Option<Duration>,
}

impl Rate {
    fn decayed(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level * (-passed / WINDOW.as_secs_f64()).exp()
    }

    fn event(&mut self, now: Duration) {
        self.level = self.decayed(now) + 1.0;
        self.at = now;
        self.began.get_or_insert(now);
    }

    fn per_second(&self, now: Duration) -> f64 {
        let Some(began) = self.began else { return 0.0 };
        let age = now.saturating_sub(began).as_secs_f64().max(1.0);
        // While young, divide by what was seen, not by the whole window.
        let seen = WINDOW.as_secs_f64() * (1.0 - (-age / WINDOW.as_secs_f64()).exp());
        self.decayed(now) / seen
    }
}

/// The estimator.
#[derive(Clone, Debug)]
pub struct Reserve {
    slots: usize,
    newcomers: Rate,
    releases: Rate,
}

impl Reserve {
    /// For a backend of so many slots.
    pub fn new(slots: usize) -> Self {
        Self { slots, newcomers: Rate::default(), releases: Rate::default() }
    }

    /// A tenant that is owed a slot asks for one.
    pub fn newcomer(&mut self, now: Duration) {
        self.newcomers.event(now);
    }

    /// A slot came free.
    pub fn released(&mut self, now: Duration) {
        self.releases.event(now);
    }

    /// Newcomers have come lately, so more may come.
    pub fn expects(&self, now: Duration) -> bool {
        self.newcomers.began.is_some() && now.saturating_sub(self.newcomers.at) <= FORGET
    }

    /// Slots to keep free now, at most half of all.
    pub fn slots(&self, now: Duration) -> usize {
        if !self.expects(now) || self.slots < 2 {
            return 0;
        }
        let use_of = self.newcomers.per_second(now) / self.releases.per_second(now).max(1e-3);
        if use_of <= 0.0 {
            return 0;
        }
        let most = self.slots / 2;
        let wanted = if use_of >= 1.0 { most } else { (RISK.ln() / use_of.ln()).ceil() as usize };
        wanted.clamp(1, most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(newcomers_a_second: f64, releases_a_second: f64) -> usize {
        let mut r = Reserve::new(16);
        let seconds = 60.0;
        let mut events: Vec<(f64, bool)> = Vec::new();
        events.extend(
            (0..(newcomers_a_second * seconds) as u32)
                .map(|i| (f64::from(i) / newcomers_a_second, true)),
        );
        events.extend(
            (0..(releases_a_second * seconds) as u32)
                .map(|i| (f64::from(i) / releases_a_second, false)),
        );
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, newcomer) in events {
            let at = Duration::from_secs_f64(at);
            if newcomer { r.newcomer(at) } else { r.released(at) }
        }
        r.slots(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn more_newcomers_more_reserve_and_none_without() {
        assert_eq!(after(0.0, 12.0), 0);
        assert_eq!(after(1.0, 12.0), 2);
        assert!(after(3.0, 10.0) > after(1.0, 10.0));
        assert!(after(50.0, 10.0) <= 8);
    }

    #[test]
    fn it_forgets() {
        let mut r = Reserve::new(16);
        r.newcomer(Duration::from_secs(1));
        assert_eq!(r.slots(Duration::from_secs(40)), 0);
    }
}
