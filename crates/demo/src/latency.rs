//! What is told of many latencies.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Significant digits: a figure is what was measured or at most 0.1 % more.
const DIGITS: u8 = 3;

/// Milliseconds, to three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub runs: usize,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Slowest.
    pub max_ms: f64,
}

impl Latency {
    /// Of samples in milliseconds, counted by the nanosecond; none without samples.
    pub fn of(ms: &[f64]) -> Option<Self> {
        let mut all = Histogram::<u64>::new(DIGITS).ok()?;
        ms.iter().try_for_each(|ms| all.record((ms * 1e6).round() as u64)).ok()?;
        let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
        let (p50_ms, p99_ms, max_ms) = (at(0.5), at(0.99), at(1.0));
        (!ms.is_empty()).then_some(Self { runs: ms.len(), p50_ms, p99_ms, max_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_sample_or_a_thousandth_more() {
        // From a microsecond to an hour: the precision is that of the figure, not of the largest one.
        for unit in [0.001, 1.0, 36_000.0] {
            let ms: Vec<f64> = (1..=100).map(|n| f64::from(n) * unit).collect();
            let told = Latency::of(&ms).unwrap();
            for (told, measured) in [(told.p50_ms, 50.0), (told.p99_ms, 99.0), (told.max_ms, 100.0)]
            {
                let over = told / (measured * unit);
                assert!((1.0..=1.001).contains(&over), "{told} for {measured} × {unit}");
            }
            assert_eq!(told.runs, 100);
        }
    }

    #[test]
    fn one_is_all_of_them_and_none_is_nothing() {
        let one = Latency::of(&[7.0]).unwrap();
        assert_eq!((one.p50_ms, one.p50_ms), (one.p99_ms, one.max_ms));
        assert_eq!(Latency::of(&[]), None);
    }
}
