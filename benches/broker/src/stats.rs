//! Percentiles and Jain's fairness index.

use serde::{Deserialize, Serialize};

/// Smallest value that at least `percent` % of the values do not exceed.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

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

/// Times to first token, in milliseconds.
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
        let (p50_ms, p99_ms) = (percentile(ms, 50.0)?, percentile(ms, 99.0)?);
        let max_ms = percentile(ms, 100.0)?;
        Some(Self { samples: ms.len(), p50_ms, p99_ms, max_ms, p99_over_p50: p99_ms / p50_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), Some(50.0));
        assert_eq!(percentile(&values, 99.0), Some(99.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn fairness() {
        assert_eq!(jain(&[2.0, 2.0]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0]), Some(0.5));
        assert_eq!(max_min(&[1.0, 10.0, 10.0], 9.0), [1.0, 4.0, 4.0]);
    }
}
