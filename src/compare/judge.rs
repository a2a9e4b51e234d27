//! The tests: is it slower, is it faster, is it the same?
//!
//! On logarithms, so that a shift is a ratio. A change must differ from none at a level that holds for all points of the
//! comparison together, whatever the margin, and beyond the margin likewise; "same" must lie within it on both sides.

use std::rc::Rc;

use super::{Detectable, Interval, PairVerdict};
use crate::stats::dependence::{Dependence, Times, TwoSides};
use crate::stats::detectable::{self, Levels, Noise};
use crate::stats::distributions::student_above;
use crate::stats::{Shift, holm};

/// Chance of even one false "slower" or "faster" in a comparison of equal sides.
pub(super) const DIFFERENCE: f64 = 0.005;
/// Chance of even one "slower" (or "faster") of a point that changed, but by no more than the margin.
pub(super) const MARGIN: f64 = 0.05;
/// Chance that a point which changed by the margin is called the same.
pub(super) const SAME: f64 = 0.05;
/// Confidence of intervals.
const CONFIDENCE: f64 = 0.95;
/// More trials than this nobody takes.
pub(super) const MOST_TRIALS: usize = 1000;

/// What the tests say of one point.
#[derive(Debug)]
pub(super) struct Outcome {
    /// NEW over BASE.
    pub ratio: f64,
    /// Its interval.
    pub interval: Interval,
    /// Slower, faster, same or inconclusive.
    pub verdict: PairVerdict,
    /// Adjusted probability without a difference.
    pub p_difference: f64,
    /// Adjusted probability at the margin.
    pub p_beyond_margin: f64,
    /// Probability of one that is as large as the margin.
    pub p_same: f64,
    tested: Tested,
    noise: Rc<Noise>,
    margin: f64,
    count: usize,
}

/// One point's tests, before the other points are considered.
#[derive(Debug)]
struct Tested {
    shift: Shift,
    deviation: f64,
    widened: f64,
    error: f64,
    freedom: f64,
    inflation: f64,
}

/// Judges points together: logarithms of both sides' trials of each. A point without trials on a side has no outcome.
pub(super) fn judge(
    points: &[TwoSides],
    times: &Times,
    dependence: &Dependence,
    threshold: f64,
) -> Vec<Option<Outcome>> {
    let margin = (1.0 + threshold).ln();
    let (drift, inflation, hidden) =
        (dependence.drift(times), dependence.inflation(times), dependence.hidden(times));
    let tested: Vec<Option<Tested>> =
        points.iter().map(|point| Tested::of(point, drift, inflation, hidden)).collect();
    let known: Vec<&Tested> = tested.iter().flatten().collect();

    let two_sided = known.iter().map(|t| (2.0 * t.p_above(0.0).min(t.p_below(0.0))).min(1.0));
    let differ = holm(&two_sided.collect::<Vec<_>>());
    let above = holm(&known.iter().map(|t| t.p_above(margin)).collect::<Vec<_>>());
    let below = holm(&known.iter().map(|t| t.p_below(-margin)).collect::<Vec<_>>());
    let count = known.len();
    let noise = Rc::new(Noise::of(points));

    let judged: Vec<(PairVerdict, [f64; 3])> = known
        .iter()
        .enumerate()
        .map(|(at, tested)| {
            let slower = tested.shift.estimate() > 0.0;
            let beyond = if slower { above[at] } else { below[at] };
            let same = tested.p_below(margin).max(tested.p_above(-margin));
            let verdict = if differ[at] <= DIFFERENCE && beyond <= MARGIN {
                if slower { PairVerdict::Slower } else { PairVerdict::Faster }
            } else if same <= SAME {
                PairVerdict::Same
            } else {
                PairVerdict::Inconclusive
            };
            (verdict, [differ[at], beyond, same])
        })
        .collect();
    let mut judged = judged.into_iter();
    tested
        .into_iter()
        .map(|tested| {
            let tested = tested?;
            let (verdict, [p_difference, p_beyond_margin, p_same]) = judged.next()?;
            Some(Outcome {
                ratio: tested.shift.estimate().exp(),
                interval: tested.interval(),
                verdict,
                p_difference,
                p_beyond_margin,
                p_same,
                tested,
                noise: Rc::clone(&noise),
                margin,
                count,
            })
        })
        .collect()
}

impl Outcome {
    /// What these trials could have shown, and how many more would show what they did not.
    pub fn detectable(&self) -> Detectable {
        let Tested { shift, widened, .. } = &self.tested;
        let count = self.count as f64;
        let levels = Levels { difference: DIFFERENCE / 2.0 / count, margin: MARGIN / count };
        let deviation =
            self.noise.deviation(shift.sizes(), self.tested.deviation * self.tested.inflation.sqrt());
        let found = self.noise.shift(shift.sizes(), levels, self.margin, *widened, deviation);
        let settle =
            || self.noise.trials_to_settle(shift.estimate(), levels, self.margin, deviation, MOST_TRIALS);
        let open = self.verdict == PairVerdict::Inconclusive;
        Detectable {
            slowdown: found.map(f64::exp_m1),
            trials_to_settle: open.then(settle).flatten().map(|n| n as u32),
            trials_at_least: detectable::trials_at_least(levels.difference.min(levels.margin)) as u32,
        }
    }
}

impl Tested {
    fn of(point: &TwoSides, drift: f64, inflation: f64, hidden: f64) -> Option<Tested> {
        let [base, new] = point.values();
        let shift = Shift::between(&base, &new)?;
        let (n, m) = (base.len() as f64, new.len() as f64);
        let deviation = point.deviation().unwrap_or(0.0) * hidden.sqrt();
        // Without correlation the rank test says all; with it, the effective number of trials decides as well.
        let error = if inflation > 1.0 { deviation * (inflation * (1.0 / n + 1.0 / m)).sqrt() } else { 0.0 };
        let freedom = ((n + m - 2.0) / inflation).max(1.0);
        Some(Tested { shift, deviation, widened: drift * deviation, error, freedom, inflation })
    }

    /// Probability of values as high as these or higher, were the shift `shift` and the drift whatever helps it.
    /// "Within" tests are the same ones from the other side, so drift makes them harder as well.
    fn p_above(&self, shift: f64) -> f64 {
        let shift = shift + self.widened;
        self.shift.p_above(shift).max(self.student(self.shift.estimate() - shift))
    }

    fn p_below(&self, shift: f64) -> f64 {
        let shift = shift - self.widened;
        self.shift.p_below(shift).max(self.student(shift - self.shift.estimate()))
    }

    fn student(&self, beyond: f64) -> f64 {
        if self.error > 0.0 { student_above(beyond / self.error, self.freedom) } else { 0.0 }
    }

    fn interval(&self) -> Interval {
        let (low, high, confidence) = self.shift.interval(CONFIDENCE);
        Interval { low: low.exp(), high: high.exp(), confidence }
    }
}
