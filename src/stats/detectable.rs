//! What a test of so many trials can find.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::dependence::TwoSides;
use super::distributions::{normal_above, normal_quantile};
use super::random::Random;
use super::{RankSum, median, quantile};

/// How often what is called detectable is found.
pub const POWER: f64 = 0.9;

/// A rank test's standard error over that of a test of means, for normal noise: sqrt(pi / 3).
const RANKS: f64 = 1.023_326_707_946_488_5;

/// Up to this many trials a side, or as many pairs as that makes, power is simulated.
const SIMULATED: usize = 50;

/// Two tests that must both reject: that there is no shift, and that it is at most the margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Level of the first, one-sided.
    pub difference: f64,
    /// Level of the second, one-sided.
    pub margin: f64,
}

/// How trials scatter, as they did: what all points saw, each in units of its own standard deviation. A few trials of one
/// point say little of how often trials are interrupted and by how much; those of all points together do.
#[derive(Debug, Default)]
pub struct Noise {
    /// Deviations from the side's mean, of variance 1.
    residuals: Vec<f64>,
    needed: RefCell<BTreeMap<(Sizes, Sizes), Rc<Needed>>>,
    seen: RefCell<BTreeMap<Sizes, f64>>,
}

/// A count for each side.
type Sizes = (usize, usize);

impl Noise {
    /// The noise of these points.
    pub fn of(points: &[TwoSides]) -> Noise {
        let residuals = points.iter().filter_map(|point| {
            let count = (point.base.len() + point.new.len()) as f64;
            // Taking off the means takes some of the spread with it.
            let hidden = (count / (count - 2.0)).sqrt();
            Some(point.residuals()?.into_iter().flatten().map(move |(_, value)| value * hidden))
        });
        Noise { residuals: residuals.flatten().collect(), ..Noise::default() }
    }

    /// The standard deviation of a point whose trials had `deviation`. Where few trials are far off, most points have
    /// none or hardly any of these, and their own standard deviation is too small: what is printed must be right for
    /// half of the points.
    pub fn deviation(&self, sizes: Sizes, deviation: f64) -> f64 {
        if self.residuals.is_empty() {
            return deviation;
        }
        let sizes = ordered(sizes);
        let typical = *self.seen.borrow_mut().entry(sizes).or_insert_with(|| {
            let mut random = Random::new(2);
            let seen: Vec<f64> = (0..1000)
                .filter_map(|_| {
                    let numbered = |side: Vec<f64>| side.into_iter().enumerate().collect();
                    let [base, new] = [sizes.0, sizes.1].map(|n| numbered(self.draw(n, &mut random)));
                    TwoSides { base, new }.deviation()
                })
                .collect();
            median(&seen).filter(|&typical| typical > 0.0).unwrap_or(1.0)
        });
        deviation / typical
    }

    /// Smallest shift that is found nine times in ten, for trials with the standard deviation `deviation`; `widened` is
    /// what both tests allow for drift. `None` where so few trials cannot reject at these levels.
    pub fn shift(
        &self,
        sizes: Sizes,
        levels: Levels,
        margin: f64,
        widened: f64,
        deviation: f64,
    ) -> Option<f64> {
        if deviation <= 0.0 || self.residuals.is_empty() || sizes.0 * sizes.1 <= SIMULATED * SIMULATED {
            let cuts = cuts(sizes, levels)?;
            return Some(if deviation > 0.0 && !self.residuals.is_empty() {
                widened + deviation * self.needed(sizes, cuts).at(margin / deviation)
            } else {
                widened + margin
            });
        }
        let error = self.error(sizes, levels) * deviation;
        let reach = |level: f64| (normal_quantile(1.0 - level) + normal_quantile(POWER)) * error;
        Some(widened + reach(levels.difference).max(margin + reach(levels.margin)))
    }

    /// Trials per side with which a shift of `seen` would be told from the margin nine times in ten; `None` for more
    /// than `most`.
    pub fn trials_to_settle(
        &self,
        seen: f64,
        levels: Levels,
        margin: f64,
        deviation: f64,
        most: usize,
    ) -> Option<usize> {
        let beyond = seen.abs() > margin;
        let settled = |n: usize| {
            if beyond {
                let found = self.shift((n, n), levels, margin, 0.0, deviation);
                return found.is_some_and(|found| found <= seen.abs());
            }
            // Both one-sided tests against the margin must reject, at 5%.
            let error = self.error((n, n), levels) * deviation;
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

    /// The rank test's standard error for many trials of standard deviation 1: that for normal noise, by as much off as
    /// it is where both can be had.
    fn error(&self, sizes: Sizes, levels: Levels) -> f64 {
        let of_normal = |sizes: Sizes| RANKS * (1.0 / sizes.0 as f64 + 1.0 / sizes.1 as f64).sqrt();
        let most = (SIMULATED, SIMULATED);
        let reach = normal_quantile(1.0 - levels.difference) + normal_quantile(POWER);
        let off = match cuts(most, levels) {
            Some(cuts) if !self.residuals.is_empty() => {
                self.needed(most, cuts).at(0.0) / (reach * of_normal(most))
            }
            _ => 1.0,
        };
        off * of_normal(sizes)
    }

    fn needed(&self, sizes: Sizes, cuts: Sizes) -> Rc<Needed> {
        let key = (ordered(sizes), cuts);
        if let Some(known) = self.needed.borrow().get(&key) {
            return Rc::clone(known);
        }
        let made = Rc::new(self.simulate(key.0, cuts));
        self.needed.borrow_mut().insert(key, Rc::clone(&made));
        made
    }

    fn simulate(&self, sizes: Sizes, cuts: Sizes) -> Needed {
        let mut random = Random::new((sizes.0 * 1_000_003 + sizes.1) as u64);
        let simulations = (400_000 / (sizes.0 * sizes.1)).clamp(500, 4_000);
        let at_cuts = (0..simulations)
            .map(|_| {
                let (base, new) = (self.draw(sizes.0, &mut random), self.draw(sizes.1, &mut random));
                let mut differences: Vec<f64> =
                    new.iter().flat_map(|new| base.iter().map(move |base| new - base)).collect();
                // Two of them are wanted: no need to have them all in order.
                let mut at = |cut| *differences.select_nth_unstable_by(cut, f64::total_cmp).1;
                (at(cuts.0), at(cuts.1))
            })
            .collect();
        Needed { at_cuts }
    }

    fn draw(&self, count: usize, random: &mut Random) -> Vec<f64> {
        let any = |random: &mut Random| (random.uniform() * self.residuals.len() as f64) as usize;
        (0..count).map(|_| self.residuals[any(random)]).collect()
    }
}

fn ordered(sizes: Sizes) -> Sizes {
    (sizes.0.min(sizes.1), sizes.0.max(sizes.1))
}

/// The most pairs the wrong way round with which each test rejects; `None` where it never does.
fn cuts(sizes: Sizes, levels: Levels) -> Option<Sizes> {
    let null = RankSum::of(sizes.0, sizes.1);
    Some((null.critical(levels.difference)?, null.critical(levels.margin)?))
}

/// Trials per side below which no difference can be found at this level.
pub fn trials_at_least(level: f64) -> usize {
    (1..60).find(|&n| RankSum::of(n, n).critical(level).is_some()).unwrap_or(60)
}

/// What the tests need of trials that scatter with a standard deviation of 1.
///
/// A sample that is shifted moves all its differences alike. So each simulated pair of samples tells by one order
/// statistic of its differences from which shift on a test rejects, and the quantile over the pairs is the answer.
#[derive(Debug)]
struct Needed {
    /// Per simulation the order statistics at both tests' cuts.
    at_cuts: Vec<(f64, f64)>,
}

impl Needed {
    /// The shift at which both tests reject nine times in ten.
    fn at(&self, margin: f64) -> f64 {
        let needed: Vec<f64> = self.at_cuts.iter().map(|(zero, edge)| (-zero).max(margin - edge)).collect();
        quantile(&needed, POWER).unwrap_or(f64::INFINITY)
    }
}
