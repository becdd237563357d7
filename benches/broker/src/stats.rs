//! Latencies and Jain's fairness index.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant digits of a latency: a figure is what was measured or at most 0.1 % more.
const DIGITS: u8 = 3;

/// Jain's index: 1 when all are equal, `1/n` when one has everything.
pub fn jain(values: &[f64]) -> Option<f64> {
    let squares: f64 = values.iter().map(|v| v * v).sum();
    let sum: f64 = values.iter().sum();
    (squares > 0.0).then(|| sum * sum / (values.len() as f64 * squares))
}

/// What each would get of `capacity` by max-min fairness, given what each asks for.
pub fn max_min(demands: &[f64], capacity: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let mut share = vec![0.0; demands.len()];
    let mut left = capacity;
    for (done, index) in order.iter().enumerate() {
        let equal = left / (demands.len() - done) as f64;
        share[*index] = demands[*index].min(equal);
        left -= share[*index];
    }
    share
}

/// Times to first token, in milliseconds, to three significant digits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub samples: usize,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// 99th percentile over median.
    pub p99_over_p50: f64,
}

impl Latency {
    /// None without samples.
    pub fn of(ms: &[f64]) -> Option<Self> {
        let mut all = Histogram::<u64>::new(DIGITS).ok()?;
        ms.iter().try_for_each(|ms| all.record((ms * 1e6).round() as u64)).ok()?;
        let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
        let (p50_ms, p99_ms, max_ms) = (at(0.5), at(0.99), at(1.0));
        let p99_over_p50 = p99_ms / p50_ms;
        (!ms.is_empty()).then_some(Self { samples: ms.len(), p50_ms, p99_ms, max_ms, p99_over_p50 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_a_sample_or_a_thousandth_more() {
        let ms: Vec<f64> = (1..=100).map(f64::from).collect();
        let told = Latency::of(&ms).unwrap();
        for (told, measured) in [(told.p50_ms, 50.0), (told.p99_ms, 99.0), (told.max_ms, 100.0)] {
            assert!((1.0..=1.001).contains(&(told / measured)), "{told} for {measured}");
        }
        assert_eq!(told.samples, 100);
        assert!(Latency::of(&[]).is_none());
    }

    #[test]
    fn fairness() {
        assert_eq!(jain(&[2.0, 2.0]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0]), Some(0.5));
        assert_eq!(max_min(&[1.0, 10.0, 10.0], 9.0), [1.0, 4.0, 4.0]);
    }
}
