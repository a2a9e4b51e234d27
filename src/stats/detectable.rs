//! What a test of so many trials can find.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::distributions::{normal_above, normal_quantile};
use super::random::Random;
use super::{RankSum, Shift, quantile};

/// How often what is called detectable is found.
pub const POWER: f64 = 0.9;

/// A rank test's standard error over that of a test of means, for normal noise: sqrt(pi / 3).
const RANKS: f64 = 1.023_326_707_946_488_5;

/// Up to this many pairs power is simulated.
const SIMULATED_PAIRS: usize = 2_500;

/// Two tests that must both reject: that there is no shift, and that it is at most the margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Level of the first, one-sided.
    pub difference: f64,
    /// Level of the second, one-sided.
    pub margin: f64,
}

/// Smallest shift that is found nine times in ten, for trials with the standard deviation `deviation`; `widened` is what
/// both tests allow for drift. `None` where so few trials cannot reject at these levels.
pub fn shift(
    sizes: (usize, usize),
    levels: Levels,
    margin: f64,
    widened: f64,
    deviation: f64,
) -> Option<f64> {
    if deviation <= 0.0 || sizes.0 * sizes.1 <= SIMULATED_PAIRS {
        let null = RankSum::of(sizes.0, sizes.1);
        let cuts = (null.critical(levels.difference)?, null.critical(levels.margin)?);
        return Some(if deviation > 0.0 {
            widened + deviation * Needed::of(sizes, cuts).at(margin / deviation)
        } else {
            widened + margin
        });
    }
    let error = RANKS * deviation * (1.0 / sizes.0 as f64 + 1.0 / sizes.1 as f64).sqrt();
    let reach = |level: f64| (normal_quantile(1.0 - level) + normal_quantile(POWER)) * error;
    Some(widened + reach(levels.difference).max(margin + reach(levels.margin)))
}

/// Trials per side below which no difference can be found at this level.
pub fn trials_at_least(level: f64) -> usize {
    (1..60).find(|&n| RankSum::of(n, n).critical(level).is_some()).unwrap_or(60)
}

/// Trials per side with which a shift of `seen` would be told from the margin nine times in ten; `None` for more than
/// `most`.
pub fn trials_to_settle(
    seen: f64,
    levels: Levels,
    margin: f64,
    deviation: f64,
    most: usize,
) -> Option<usize> {
    let beyond = seen.abs() > margin;
    let settled = |n: usize| {
        if beyond {
            return shift((n, n), levels, margin, 0.0, deviation).is_some_and(|found| found <= seen.abs());
        }
        // Both one-sided tests against the margin must reject, at 5%.
        let error = RANKS * deviation * (2.0 / n as f64).sqrt();
        let rejects = |distance: f64| 1.0 - normal_above(distance / error - normal_quantile(0.95));
        n >= 3 && rejects(margin - seen.abs()) + rejects(margin + seen.abs()) - 1.0 >= POWER
    };
    let mut above = 2;
    while !settled(above) {
        if above >= most {
            return None;
        }
        above = (above * 2).min(most);
    }
    let mut below = above / 2;
    while above - below > 1 {
        let middle = below.midpoint(above);
        if settled(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(above)
}

/// The shift at which both tests reject nine times in ten, in standard deviations, for margins in standard deviations.
///
/// A sample that is shifted moves all its differences alike. So each simulated pair of samples tells by one order
/// statistic of its differences from which shift on a test rejects, and the quantile over the pairs is the answer.
#[derive(Debug)]
struct Needed {
    /// Per simulation the order statistics at both tests' cuts.
    at_margin: Vec<f64>,
}

/// Margins in standard deviations at which [`Needed`] is kept: 0, 1/4, ..., 8.
const STEP: f64 = 0.25;
const STEPS: usize = 33;

impl Needed {
    fn of(sizes: (usize, usize), cuts: (usize, usize)) -> Arc<Needed> {
        type Known = BTreeMap<((usize, usize), (usize, usize)), Arc<Needed>>;
        static KNOWN: Mutex<Known> = Mutex::new(Known::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = (sizes.0.min(sizes.1), sizes.0.max(sizes.1));
        if let Some(found) = known().get(&(sizes, cuts)) {
            return Arc::clone(found);
        }
        let made = Arc::new(Needed::simulate(sizes, cuts));
        known().insert((sizes, cuts), Arc::clone(&made));
        made
    }

    fn simulate(sizes: (usize, usize), cuts: (usize, usize)) -> Needed {
        let mut random = Random::new((sizes.0 * 1_000_003 + sizes.1) as u64);
        let simulations = (400_000 / (sizes.0 * sizes.1)).clamp(500, 4_000);
        let mut normals = |n: usize| -> Vec<f64> { (0..n).map(|_| random.normal()).collect() };
        let cut: Vec<(f64, f64)> = (0..simulations)
            .filter_map(|_| Shift::between(&normals(sizes.0), &normals(sizes.1)))
            .map(|shift| (shift.difference(cuts.0), shift.difference(cuts.1)))
            .collect();
        let at_margin = (0..STEPS)
            .map(|step| {
                let margin = step as f64 * STEP;
                let needed: Vec<f64> = cut.iter().map(|(zero, edge)| (-zero).max(margin - edge)).collect();
                quantile(&needed, POWER).unwrap_or(f64::INFINITY)
            })
            .collect();
        Needed { at_margin }
    }

    fn at(&self, margin: f64) -> f64 {
        let at = margin / STEP;
        let below = (at as usize).min(STEPS - 2);
        if at >= (STEPS - 1) as f64 {
            // Far out only the margin's test matters.
            return self.at_margin[STEPS - 1] + margin - (STEPS - 1) as f64 * STEP;
        }
        let part = at - below as f64;
        self.at_margin[below] * (1.0 - part) + self.at_margin[below + 1] * part
    }
}
