//! The rank-sum statistic (Mann and Whitney's U) where there is no difference.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::distributions::{normal_above, normal_quantile};

/// Up to this many pairs the distribution is exact.
const EXACT_PAIRS: usize = 10_000;

/// The distribution of U, the number of pairs of one value of each of two samples in which the second is the larger,
/// where both samples are of one distribution without ties.
#[derive(Debug)]
pub struct RankSum {
    pairs: usize,
    /// P(U <= u) for u up to half of the pairs; empty where the normal approximation serves.
    at_most: Vec<f64>,
    deviation: f64,
}

impl RankSum {
    /// The distribution for samples of `n` and `m` values, kept for the next who asks.
    pub fn of(n: usize, m: usize) -> Arc<RankSum> {
        static KNOWN: Mutex<BTreeMap<(usize, usize), Arc<RankSum>>> = Mutex::new(BTreeMap::new());
        let sizes = (n.min(m), n.max(m));
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&sizes) {
            return Arc::clone(found);
        }
        let made = Arc::new(RankSum::new(sizes.0, sizes.1));
        known().insert(sizes, Arc::clone(&made));
        made
    }

    fn new(n: usize, m: usize) -> RankSum {
        let pairs = n * m;
        let deviation = (pairs as f64 * (n + m + 1) as f64 / 12.0).sqrt();
        let at_most = if pairs <= EXACT_PAIRS { exact(n, m) } else { Vec::new() };
        RankSum { pairs, at_most, deviation }
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// P(U <= u).
    pub fn at_most(&self, u: usize) -> f64 {
        if u >= self.pairs {
            return 1.0;
        }
        if self.at_most.is_empty() {
            return normal_above((self.pairs as f64 / 2.0 - u as f64 - 0.5) / self.deviation);
        }
        match self.at_most.get(u) {
            Some(&p) => p,
            // The distribution is symmetric: U > u is U < pairs - u.
            None => 1.0 - self.at_most[self.pairs - u - 1],
        }
    }

    /// P(U >= u).
    pub fn at_least(&self, u: usize) -> f64 {
        self.pairs.checked_sub(u).map_or(0.0, |mirrored| self.at_most(mirrored))
    }

    /// The largest u with P(U <= u) at most `level` (under one half); `None` where even u = 0 is likelier.
    pub fn critical(&self, level: f64) -> Option<usize> {
        let count = if self.at_most.is_empty() {
            let near = self.pairs as f64 / 2.0 + normal_quantile(level) * self.deviation - 0.5;
            // The approximation of the quantile may be off by the last digit.
            (near.max(0.0) as usize..).take_while(|&u| self.at_most(u) <= level).last().map_or(0, |u| u + 1)
        } else {
            self.at_most.partition_point(|&p| p <= level)
        };
        count.checked_sub(1)
    }
}

/// P(U <= u) for u up to half of the pairs. With i of one sample and j of the other the largest value is of the first
/// in i cases of i + j, and is then larger than all j; only positive terms are added, so that the tails are exact too.
fn exact(n: usize, m: usize) -> Vec<f64> {
    let size = n * m / 2 + 1;
    let mut counts = vec![vec![0.0; size]; m + 1];
    counts.iter_mut().for_each(|one| one[0] = 1.0);
    for i in 1..=n {
        for j in 1..=m {
            let first = i as f64 / (i + j) as f64;
            let (before, rest) = counts.split_at_mut(j);
            let (shorter, here) = (&before[j - 1], &mut rest[0]);
            for u in (0..size).rev() {
                let with = if u >= j { here[u - j] } else { 0.0 };
                here[u] = first * with + (1.0 - first) * shorter[u];
            }
        }
    }
    let mut sum = 0.0;
    counts[m]
        .iter()
        .map(|p| {
            sum += p;
            sum
        })
        .collect()
}
