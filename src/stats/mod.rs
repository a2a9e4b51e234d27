//! Statistics of small, noisy samples: order statistics, intervals, and tests that assume no distribution.

pub mod dependence;
pub mod detectable;
pub mod distributions;
mod family;
mod interval;
pub mod random;
mod rank;
mod shift;

pub use family::holm;
pub use interval::median_interval;
pub use rank::RankSum;
pub use shift::Shift;

/// Median; the mean of the middle two for even counts. `None` for no samples.
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// Quantile `q` in 0..=1 by linear interpolation between order statistics. `None` for no samples.
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    // Infinities would make the interpolation NaN.
    if sorted[below] == sorted[above] {
        return Some(sorted[below]);
    }
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64))
}

/// Median absolute deviation, scaled to the standard deviation of a normal distribution.
pub fn mad(samples: &[f64]) -> Option<f64> {
    let middle = median(samples)?;
    let deviations: Vec<f64> = samples.iter().map(|x| (x - middle).abs()).collect();
    Some(1.4826 * median(&deviations)?)
}

/// Splits off samples more than `spread` deviations (MAD) slower than the median: interruptions by others.
/// Returns those kept, in order, and how many were discarded; never discards more than a tenth.
pub fn without_interruptions(samples: &[f64], spread: f64) -> (Vec<f64>, usize) {
    let (Some(middle), Some(deviation)) = (median(samples), mad(samples)) else {
        return (samples.to_vec(), 0);
    };
    let limit = middle + spread * deviation.max(middle * 1e-3);
    let kept: Vec<f64> = samples.iter().copied().filter(|&x| x <= limit).collect();
    let discarded = samples.len() - kept.len();
    if discarded * 10 > samples.len() { (samples.to_vec(), 0) } else { (kept, discarded) }
}
