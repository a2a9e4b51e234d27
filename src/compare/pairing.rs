//! From two sides to judged pairs.

use super::gather::{Gathered, Work};
use super::judge::{self, Outcome};
use super::reasons::{self, Evidence};
use super::{Cycles, Interval, Metric, Options, Pair, PairVerdict};
use crate::run::{PointTrial, Status};
use crate::stats::dependence::{Dependence, Times, TwoSides};

/// Stages of a smaller share of the step are not judged: caches and clocks blur them.
const SHORT: f64 = 0.01;

/// Both sides' points of one key.
pub(super) struct Both<'a> {
    pub base: &'a Work<'a>,
    pub new: &'a Work<'a>,
    /// Why it is not tested; `None` where it is.
    excuse: Option<(PairVerdict, String)>,
}

impl Both<'_> {
    /// Logarithms of a figure of each trial; empty on both sides where a trial does not have it.
    fn logarithms(&self, figure: impl Fn(&PointTrial) -> Option<f64>) -> TwoSides {
        let (base, new) = (self.base.logarithms(&figure), self.new.logarithms(&figure));
        if base.is_empty() || new.is_empty() { TwoSides::default() } else { TwoSides { base, new } }
    }
}

/// What the tests found of all pairs, beside the pairs.
pub(super) struct Judged {
    pub pairs: Vec<Pair>,
    pub dependence: Dependence,
}

/// Pairs the sides' points and judges those that can be judged, all together.
pub(super) fn pairs(
    base: &Gathered,
    new: &Gathered,
    times: &Times,
    options: &Options,
    same_device: bool,
) -> Judged {
    let both: Vec<Both> = base
        .works
        .iter()
        .filter_map(|work| Some((work, new.get(&work.key)?)))
        .map(|(base, new)| Both { base, new, excuse: excuse(base, new, options.metric) })
        .collect();
    let of = |figure: fn(&PointTrial) -> Option<f64>| -> Vec<TwoSides> {
        let values = |one: &Both| match one.excuse {
            None => one.logarithms(figure),
            Some(_) => TwoSides::default(),
        };
        both.iter().map(values).collect()
    };
    let seconds = of(|trial| Some(trial.seconds));
    let over_roof = of(|trial| trial.fraction_of_roof.map(f64::recip));
    let main = if options.metric == Metric::Roof { &over_roof } else { &seconds };
    let dependence = Dependence::of(times, main);
    let judge = |points: &[TwoSides]| judge::judge(points, times, &dependence, options.threshold);
    let outcomes = judge(main);
    let cycles = if same_device && options.metric == Metric::Time {
        judge(&of(|trial| trial.sm_clock_hz.map(|clock| trial.seconds * clock)))
    } else {
        both.iter().map(|_| None).collect()
    };
    // Only of what moved it is asked whether its roof moved with it.
    let moved = |outcome: &Option<Outcome>| {
        let verdict = outcome.as_ref().map(|outcome| outcome.verdict);
        options.metric == Metric::Time && matches!(verdict, Some(PairVerdict::Slower | PairVerdict::Faster))
    };
    let under = |(outcome, values): (&Option<Outcome>, &TwoSides)| {
        if moved(outcome) { values.clone() } else { TwoSides::default() }
    };
    let roofs = judge(&outcomes.iter().zip(&over_roof).map(under).collect::<Vec<_>>());

    let in_time: Vec<Option<Interval>> = match options.metric {
        Metric::Time => outcomes.iter().map(|outcome| Some(outcome.as_ref()?.interval)).collect(),
        Metric::Roof => judge(&seconds).into_iter().map(|outcome| Some(outcome?.interval)).collect(),
    };

    let judged = outcomes.iter().flatten().count();
    let mut matched = both.iter().zip(outcomes).zip(in_time).zip(cycles.into_iter().zip(roofs)).map(
        |(((both, outcome), time), (cycles, roof))| {
            let evidence = Evidence {
                outcome,
                time,
                cycles,
                roof,
                judged,
                power: options.power,
                threshold: options.threshold,
            };
            pair(both, &evidence, options.metric)
        },
    );
    let mut pairs: Vec<Pair> = base
        .works
        .iter()
        .filter_map(|work| match new.get(&work.key) {
            Some(_) => matched.next(),
            None => Some(alone(work, true)),
        })
        .collect();
    pairs
        .extend(new.works.iter().filter(|work| base.get(&work.key).is_none()).map(|work| alone(work, false)));
    Judged { pairs, dependence }
}

/// Why a pair is not tested.
fn excuse(base: &Work, new: &Work, metric: Metric) -> Option<(PairVerdict, String)> {
    let inconclusive = |why: String| Some((PairVerdict::Inconclusive, why));
    for (name, side) in [("BASE", base), ("NEW", new)] {
        match side.status() {
            Status::Predicted => {
                return inconclusive(format!("{name} is predicted: there are no trials to test"));
            }
            Status::Invalid => return inconclusive(format!("{name} is invalid: {}", why_invalid(side))),
            Status::Ok | Status::Partial => {}
        }
    }
    let short = |side: &Work| side.points.iter().all(|point| point.share_of_step < SHORT);
    if base.key.stage.is_some() && short(base) && short(new) {
        return Some((PairVerdict::NotJudged, "not judged: under 1% of the step".into()));
    }
    for (name, side) in [("BASE", base), ("NEW", new)] {
        if side.trials.is_empty() {
            return inconclusive(format!("{name} has no trials to test"));
        }
        if metric == Metric::Roof && side.logarithms(|trial| trial.fraction_of_roof).is_empty() {
            return inconclusive(format!("{name} has trials without a roof probed beside them"));
        }
    }
    None
}

fn why_invalid(side: &Work) -> String {
    let invalid = side.points.iter().find(|point| point.status == Status::Invalid);
    invalid.and_then(|point| point.notes.last()).map_or("it cannot be true".into(), Clone::clone)
}

/// A pair with its verdict.
fn pair(both: &Both, evidence: &Evidence, metric: Metric) -> Pair {
    let (base, new) = (both.base.measured(), both.new.measured());
    let plain = match metric {
        Metric::Time => new.median_seconds / base.median_seconds,
        Metric::Roof => base.fraction_of_roof / new.fraction_of_roof,
    };
    let mut pair = Pair {
        key: both.base.key.clone(),
        ratio: Some(plain),
        interval: None,
        time_interval: None,
        verdict: PairVerdict::Inconclusive,
        reason: String::new(),
        p_difference: None,
        p_beyond_margin: None,
        p_same: None,
        detectable: None,
        cycles: None,
        notes: Vec::new(),
        base: Some(base),
        new: Some(new),
    };
    if let Some((verdict, reason)) = &both.excuse {
        (pair.verdict, pair.reason) = (*verdict, reason.clone());
        return pair;
    }
    let Some(outcome) = &evidence.outcome else { return pair };
    pair.ratio = Some(outcome.ratio);
    pair.interval = Some(outcome.interval);
    pair.time_interval = evidence.time;
    pair.p_difference = Some(outcome.p_difference);
    pair.p_beyond_margin = Some(outcome.p_beyond_margin);
    pair.p_same = Some(outcome.p_same);
    pair.detectable = evidence.power.then(|| outcome.detectable());
    pair.cycles = evidence.cycles.as_ref().and_then(|cycles| {
        Some(Cycles {
            base_hz: pair.base.as_ref()?.sm_clock_hz?,
            new_hz: pair.new.as_ref()?.sm_clock_hz?,
            ratio: cycles.ratio,
            interval: cycles.interval,
            verdict: cycles.verdict,
        })
    });
    reasons::explain(&mut pair, evidence);
    pair
}

/// A point that only one side has.
fn alone(work: &Work, of_base: bool) -> Pair {
    let side = Some(work.measured());
    let (base, new) = if of_base { (side, None) } else { (None, side) };
    let has_not = if of_base { "NEW" } else { "BASE" };
    Pair {
        key: work.key.clone(),
        base,
        new,
        ratio: None,
        interval: None,
        time_interval: None,
        verdict: PairVerdict::Unmatched,
        reason: format!("{has_not} has no such point"),
        p_difference: None,
        p_beyond_margin: None,
        p_same: None,
        detectable: None,
        cycles: None,
        notes: Vec::new(),
    }
}
