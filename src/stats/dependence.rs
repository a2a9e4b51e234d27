//! What trials that lie after each other in time have in common: a drift, and the correlation of neighbours.
//!
//! Rank tests take the values of a sample to be independent. Where one side is measured after the other, a machine that
//! warms up, or one whose state lasts for several trials, moves one side against the other without any difference
//! between them. Both are estimated within the sides, where no difference between them can enter, from all points
//! together, since all share the machine and the moments.

use super::median;

/// The values of one point on both sides.
#[derive(Debug, Clone, Default)]
pub struct TwoSides {
    /// The first side's values, each with the index of its trial among the side's.
    pub base: Vec<(usize, f64)>,
    /// The second side's.
    pub new: Vec<(usize, f64)>,
}

/// When the trials of both sides began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    /// The first side's trials, in any unit of time.
    pub base: Vec<f64>,
    /// The second side's.
    pub new: Vec<f64>,
}

/// What neighbouring trials have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Dependence {
    /// Drift per unit of time, in standard deviations of a trial.
    pub slope: f64,
    /// Standard error of the drift.
    pub slope_error: f64,
    /// Correlation of a side's neighbouring trials, 0 to 0.9.
    pub correlation: f64,
    /// Distance of a side's neighbouring trials in time.
    pub spacing: f64,
}

/// A drift this many standard errors from zero is taken off before the correlation is estimated.
const SIGNIFICANT: f64 = 2.5;

impl TwoSides {
    /// The bare values of both sides.
    pub fn values(&self) -> [Vec<f64>; 2] {
        [&self.base, &self.new].map(|side| side.iter().map(|&(_, value)| value).collect())
    }

    /// Standard deviation within the sides, both together; `None` under three values in all.
    pub fn deviation(&self) -> Option<f64> {
        let freedom = (self.base.len() + self.new.len()).checked_sub(2).filter(|&n| n > 0)?;
        let squares: f64 = [&self.base, &self.new]
            .into_iter()
            .map(|side| {
                let mean = mean(side.iter().map(|&(_, value)| value));
                side.iter().map(|&(_, value)| (value - mean).powi(2)).sum::<f64>()
            })
            .sum();
        Some((squares / freedom as f64).sqrt())
    }

    /// Deviations from the side's mean, in units of the deviation within the sides; `None` where that is 0 or unknown.
    pub fn residuals(&self) -> Option<[Vec<(usize, f64)>; 2]> {
        let deviation = self.deviation().filter(|&d| d > 0.0)?;
        Some([&self.base, &self.new].map(|side| {
            let mean = mean(side.iter().map(|&(_, value)| value));
            side.iter().map(|&(trial, value)| (trial, (value - mean) / deviation)).collect()
        }))
    }
}

impl Times {
    /// Whether the sides were taken in turns: the first side's moments are spread over the second's.
    pub fn interleaved(&self) -> bool {
        let pairs = self.base.len() * self.new.len();
        let before =
            self.new.iter().map(|new| self.base.iter().filter(|base| *base < new).count()).sum::<usize>();
        let share = before as f64 / pairs.max(1) as f64;
        pairs > 1 && (0.25..=0.75).contains(&share)
    }

    /// How far apart in time the sides' middles are, and at most as far as if one had followed the other at once: a
    /// drift within some minutes says nothing of one over days.
    fn distance(&self) -> f64 {
        let span = |times: &[f64]| {
            let fold = |f: fn(f64, f64) -> f64, from: f64| times.iter().copied().fold(from, f);
            fold(f64::max, f64::NEG_INFINITY) - fold(f64::min, f64::INFINITY)
        };
        let apart = (mean(self.new.iter().copied()) - mean(self.base.iter().copied())).abs();
        let spans = span(&self.base) + span(&self.new);
        let count = (self.base.len() + self.new.len()) as f64;
        apart.min(spans / 2.0 * count / (count - 2.0).max(1.0))
    }

    fn sides(&self) -> [&[f64]; 2] {
        [&self.base, &self.new]
    }
}

impl Dependence {
    /// Estimates drift and correlation from the values of all points.
    pub fn of(times: &Times, points: &[TwoSides]) -> Dependence {
        let residuals: Vec<[Vec<(usize, f64)>; 2]> = points.iter().filter_map(TwoSides::residuals).collect();
        let spacing = spacing(times);
        if residuals.is_empty() || spacing <= 0.0 {
            return Dependence::default();
        }
        let (slope, slope_error) = drift(times, &residuals);
        let removed = if slope.abs() > SIGNIFICANT * slope_error { slope } else { 0.0 };
        Dependence {
            slope,
            slope_error,
            correlation: correlation(times, &residuals, removed, spacing),
            spacing,
        }
    }

    /// The shift between the sides that a drift may explain, in standard deviations of a trial: that of the slope seen,
    /// significant or not, and half of its standard error on top. Where points share their noise a slope is uncertain,
    /// and sides measured one after the other tell less.
    pub fn drift(&self, times: &Times) -> f64 {
        (self.slope.abs() + 0.5 * self.slope_error) * times.distance()
    }

    /// Variance of the difference of the sides' means over that of independent trials, at least 1: trials taken in
    /// turns share what lasts, and gain by it; that gain is not counted.
    pub fn inflation(&self, times: &Times) -> f64 {
        if self.correlation <= 0.0 {
            return 1.0;
        }
        let all: Vec<(f64, f64)> = times
            .sides()
            .into_iter()
            .zip([-1.0, 1.0])
            .flat_map(|(side, sign)| side.iter().map(move |&time| (time, sign / side.len() as f64)))
            .collect();
        let mut variance = 0.0;
        for &(at, weight) in &all {
            for &(other, weighs) in &all {
                variance += weight * weighs * self.correlation.powf((at - other).abs() / self.spacing);
            }
        }
        let independent: f64 = all.iter().map(|(_, weight)| weight * weight).sum();
        (variance / independent).max(1.0)
    }

    /// Variance within a side over what is left of it when its mean is taken off, both sides together: neighbours that
    /// are alike hide some of their spread in the mean.
    pub fn hidden(&self, times: &Times) -> f64 {
        let mut seen = 0.0;
        let mut freedom = 0.0;
        for side in times.sides() {
            let n = side.len() as f64;
            let together: f64 = side
                .iter()
                .flat_map(|at| side.iter().map(move |other| (at - other).abs() / self.spacing))
                .map(|steps| if steps == 0.0 { 1.0 } else { self.correlation.powf(steps) })
                .sum();
            seen += n - together / n;
            freedom += n - 1.0;
        }
        if seen > 0.0 { (freedom / seen).max(1.0) } else { 1.0 }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Median distance of neighbouring trials of a side; 0 where no side has two.
fn spacing(times: &Times) -> f64 {
    let mut gaps = Vec::new();
    for side in times.sides() {
        let mut sorted = side.to_vec();
        sorted.sort_by(f64::total_cmp);
        gaps.extend(sorted.windows(2).map(|pair| pair[1] - pair[0]));
    }
    median(&gaps).unwrap_or(0.0)
}

/// Common slope within the sides and its standard error, from the mean over points of each trial's residuals: points
/// that share their noise count as one.
fn drift(times: &Times, residuals: &[[Vec<(usize, f64)>; 2]]) -> (f64, f64) {
    let (mut xx, mut xy, mut yy, mut count) = (0.0, 0.0, 0.0, 0.0);
    for (which, side) in times.sides().into_iter().enumerate() {
        let mut sums = vec![(0.0, 0.0); side.len()];
        for (trial, value) in residuals.iter().flat_map(|point| &point[which]) {
            sums[*trial].0 += value;
            sums[*trial].1 += 1.0;
        }
        let common: Vec<(f64, f64)> = side
            .iter()
            .zip(sums)
            .filter(|(_, (_, points))| *points > 0.0)
            .map(|(&time, (sum, points))| (time, sum / points))
            .collect();
        if common.is_empty() {
            continue;
        }
        let [middle, level] =
            [mean(common.iter().map(|&(time, _)| time)), mean(common.iter().map(|&(_, value)| value))];
        for (time, value) in &common {
            xx += (time - middle).powi(2);
            xy += (time - middle) * (value - level);
            yy += (value - level).powi(2);
        }
        count += common.len() as f64;
    }
    let freedom = count - 3.0;
    if xx <= 0.0 || freedom < 1.0 {
        return (0.0, 0.0);
    }
    let slope = xy / xx;
    (slope, ((yy - slope * xy).max(0.0) / freedom / xx).sqrt())
}

/// Correlation of neighbouring trials, without the bias that comes of taking the mean off so few.
fn correlation(times: &Times, residuals: &[[Vec<(usize, f64)>; 2]], slope: f64, spacing: f64) -> f64 {
    let (mut product, mut square, mut neighbours, mut values, mut sides) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (which, side) in times.sides().into_iter().enumerate() {
        let middle = mean(side.iter().copied());
        for point in residuals {
            let mut series: Vec<(f64, f64)> = point[which]
                .iter()
                .map(|&(trial, value)| (side[trial], value - slope * (side[trial] - middle)))
                .collect();
            series.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            square += series.iter().map(|(_, value)| value * value).sum::<f64>();
            values += series.len() as f64;
            sides += 1.0;
            // What lies further apart is another session.
            for pair in series.windows(2).filter(|pair| pair[1].0 - pair[0].0 <= 2.5 * spacing) {
                product += pair[0].1 * pair[1].1;
                neighbours += 1.0;
            }
        }
    }
    let per_side = values / sides;
    if per_side < 5.0 || neighbours == 0.0 || square <= 0.0 {
        return 0.0;
    }
    // As many products as squares: the usual estimate, whose expectation is about rho - (1 + 4 rho) / n.
    let raw = product / neighbours * (per_side - 1.0) / square * values / per_side;
    ((per_side * raw + 1.0) / (per_side - 4.0)).clamp(0.0, 0.9)
}
