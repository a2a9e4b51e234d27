//! By how much one sample lies above another.

use std::sync::Arc;

use super::RankSum;

/// All differences between the values of two samples, in order: what the rank-sum test, the estimate that belongs to it
/// (Hodges and Lehmann) and its interval are made of.
#[derive(Debug, Clone)]
pub struct Shift {
    differences: Vec<f64>,
    sizes: (usize, usize),
    null: Arc<RankSum>,
}

impl Shift {
    /// The shift from `base` to `new`; `None` where either has no values.
    pub fn between(base: &[f64], new: &[f64]) -> Option<Shift> {
        if base.is_empty() || new.is_empty() {
            return None;
        }
        let mut differences: Vec<f64> =
            new.iter().flat_map(|&new| base.iter().map(move |&base| new - base)).collect();
        differences.sort_unstable_by(f64::total_cmp);
        Some(Shift { differences, sizes: (base.len(), new.len()), null: RankSum::of(base.len(), new.len()) })
    }

    /// The median of all differences.
    pub fn estimate(&self) -> f64 {
        let (count, d) = (self.differences.len(), &self.differences);
        (d[(count - 1) / 2] + d[count / 2]) / 2.0
    }

    /// How many values each sample has.
    pub fn sizes(&self) -> (usize, usize) {
        self.sizes
    }

    /// The difference of this rank, from 0.
    pub fn difference(&self, rank: usize) -> f64 {
        self.differences[rank]
    }

    /// Probability of values that lie as high above base as these or higher, were the shift `shift`. Ties count
    /// against.
    pub fn p_above(&self, shift: f64) -> f64 {
        let above = self.differences.len() - self.differences.partition_point(|&d| d <= shift);
        self.null.at_least(above)
    }

    /// The same for as low or lower.
    pub fn p_below(&self, shift: f64) -> f64 {
        self.null.at_least(self.differences.partition_point(|&d| d < shift))
    }

    /// Both ends of the interval of the shift, and its confidence: `confidence`, or what so few values allow. Between
    /// the ranks the ends are interpolated, so that small samples do not get more than was asked for.
    pub fn interval(&self, confidence: f64) -> (f64, f64, f64) {
        let last = self.differences.len() - 1;
        let covered = |cut: usize| 1.0 - 2.0 * self.null.at_most(cut);
        // The interval from the difference of rank u up to that of rank `last - u` misses the truth at U <= u.
        let Some(cut) = self.null.critical((1.0 - confidence) / 2.0) else {
            return (self.differences[0], self.differences[last], covered(0).max(0.0));
        };
        let inner = (cut + 1).min(last / 2);
        let part =
            if inner == cut { 0.0 } else { (covered(cut) - confidence) / (covered(cut) - covered(inner)) };
        let at = |outer: usize, inner: usize| {
            self.differences[outer] * (1.0 - part) + self.differences[inner] * part
        };
        (at(cut, inner), at(last - cut, last - inner), confidence)
    }
}
