//! The interval of a median.

use super::distributions::{ln_choose, normal_quantile};

/// 95% confidence interval of the median from order statistics (no assumption on the distribution).
///
/// The sign test's intervals end at order statistics and cover more than 95%, at ten samples 97.9%. What lies between
/// the last that covers 95% and the first that does not is interpolated (Hettmansperger and Sheather 1986). Under six
/// samples the interval is the range, which is all that such a sample can say.
pub fn median_interval(samples: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 {
        return None;
    }
    if n < 6 {
        return Some((sorted[0], sorted[n - 1]));
    }
    let (depth, weight) = depth(n, 0.95);
    let (outer, inner) = (depth - 1, depth.min((n - 1) / 2));
    let between = |outer: f64, inner: f64| {
        // Infinities would make the interpolation NaN.
        if outer == inner { outer } else { outer * (1.0 - weight) + inner * weight }
    };
    Some((between(sorted[outer], sorted[inner]), between(sorted[n - 1 - outer], sorted[n - 1 - inner])))
}

/// The depth d (from 1) of the order statistics that just cover `confidence`, and how far to go from there to depth
/// d + 1: `(d, weight of d + 1)`.
fn depth(n: usize, confidence: f64) -> (usize, f64) {
    let tail = (1.0 - confidence) / 2.0;
    // The depth is near the normal approximation's; the exact binomial decides.
    let near = (n as f64 / 2.0 + normal_quantile(tail) * (n as f64).sqrt() / 2.0).max(1.0) as usize;
    let mut depth = near.clamp(1, n.div_ceil(2));
    while depth > 1 && at_most(n, depth - 1) > tail {
        depth -= 1;
    }
    while depth < n / 2 && at_most(n, depth) <= tail {
        depth += 1;
    }
    let (covered, next) = (1.0 - 2.0 * at_most(n, depth - 1), 1.0 - 2.0 * at_most(n, depth));
    let part = ((covered - confidence) / (covered - next)).clamp(0.0, 1.0);
    let (n, d) = (n as f64, depth as f64);
    (depth, (n - d) * part / (d + (n - 2.0 * d) * part))
}

/// Probability of at most `k` heads in `n` throws of a fair coin.
fn at_most(n: usize, k: usize) -> f64 {
    let mut term = (ln_choose(n, k) - n as f64 * std::f64::consts::LN_2).exp();
    let mut sum = 0.0;
    for k in (0..=k).rev() {
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
        term *= k as f64 / (n - k + 1) as f64;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Random;

    #[test]
    fn the_binomial_is_that_of_the_tables() {
        assert!((at_most(10, 1) - 11.0 / 1024.0).abs() < 1e-12);
        assert!((at_most(4, 4) - 1.0).abs() < 1e-12);
        assert!((at_most(1001, 500) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn ten_samples_reach_a_little_inside_the_second() {
        let samples: Vec<f64> = (1..=10).map(f64::from).collect();
        let (low, high) = median_interval(&samples).unwrap();
        assert!(low > 2.0 && low < 3.0 && (low + high - 11.0).abs() < 1e-9, "{low} to {high}");
    }

    #[test]
    fn few_samples_have_their_range() {
        assert_eq!(median_interval(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        assert_eq!(median_interval(&[]), None);
        let constant = median_interval(&[f64::INFINITY; 9]);
        assert_eq!(constant, Some((f64::INFINITY, f64::INFINITY)));
    }

    /// Two humps with the median between them are the one case that no rank interval resolves at even n; see
    /// `tests/compare` for every kind of noise.
    #[test]
    fn intervals_hold_the_median_as_often_as_they_say() {
        for n in [6, 8, 9, 10, 15, 30, 100, 1000] {
            let mut random = Random::new(n as u64);
            let trials = 2000;
            let held = (0..trials)
                .filter(|_| {
                    let samples: Vec<f64> = (0..n).map(|_| random.normal()).collect();
                    let (low, high) = median_interval(&samples).unwrap();
                    low <= 0.0 && 0.0 <= high
                })
                .count();
            let covered = held as f64 / f64::from(trials);
            assert!((0.93..=0.97).contains(&covered), "{n} samples: {covered}");
        }
    }
}
