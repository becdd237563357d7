//! Percentiles and fairness figures.

/// The value below which the share `p` (0..=1) of the samples lies, by nearest rank; `None` without samples.
pub fn percentile(samples: &[f64], p: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (p * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

/// An interval that holds the median of what the samples are drawn from, whatever its distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The samples' own median.
    pub median: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// With this probability it holds the median.
    pub confidence: f64,
}

impl Interval {
    /// The narrowest one between two samples, as many from either end, with at least 95 %; between the
    /// smallest and the largest if there are too few for that. `None` without samples.
    pub fn of_median(samples: &[f64]) -> Option<Interval> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let last = n.checked_sub(1)?;
        // Each sample is below the median with probability 1/2 (Conover, Practical Nonparametric Statistics).
        let mut outside = 0.5_f64.powi(n as i32);
        let (mut left_out, mut term) = (0, outside);
        while left_out + 1 < n / 2 {
            term *= (n - left_out) as f64 / (left_out + 1) as f64;
            if outside + term > 0.025 {
                break;
            }
            outside += term;
            left_out += 1;
        }
        Some(Interval {
            median: percentile(&sorted, 0.5)?,
            low: sorted[left_out],
            high: sorted[last - left_out],
            confidence: 1.0 - 2.0 * outside,
        })
    }
}

/// Jain's fairness index: 1 is equal shares, 1/n is one taking all.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&samples, 0.5), Some(50.0));
        assert_eq!(percentile(&samples, 0.99), Some(99.0));
        assert_eq!(percentile(&samples, 1.0), Some(100.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn an_interval_of_the_median_is_one_of_ranks() {
        let of = |n: i32| {
            let samples: Vec<f64> = (1..=n).map(f64::from).collect();
            let i = Interval::of_median(&samples).unwrap();
            (i.low, i.high, (i.confidence * 1000.0).round())
        };
        // As in the tables of the binomial distribution.
        assert_eq!(of(6), (1.0, 6.0, 969.0));
        assert_eq!(of(9), (2.0, 8.0, 961.0));
        assert_eq!(of(12), (3.0, 10.0, 961.0));
        assert_eq!(of(3), (1.0, 3.0, 750.0), "too few for more");
        assert_eq!(Interval::of_median(&[]), None);
    }

    #[test]
    fn jain_knows_equal_and_unequal() {
        assert!((jain(&[1.0, 1.0, 1.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }
}
