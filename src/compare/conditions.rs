//! What must be equal before times can be compared, and what throws doubt on a run.

use std::fmt;
use std::iter::Sum;

use crate::error::{Failure, Result};
use crate::run::{Condition, Difference, Run, RunStatus, differences};
use crate::units::figures;

/// Differences that come with another device.
const OF_A_DEVICE: [Condition; 6] = [
    Condition::Driver,
    Condition::Clocks,
    Condition::Ecc,
    Condition::Mig,
    Condition::Threads,
    Condition::Isa,
];

/// Less of other processes' work than this many cores' worth is what every system does.
const FOREIGN_LOAD: f64 = 0.1;

/// The conditions in which the sides differ.
///
/// # Errors
/// Any that is not to be crossed, and runs of one side that differ among themselves.
pub(super) fn check(base: &[Run], new: &[Run], across: &[Condition]) -> Result<Vec<Difference>> {
    let allowed = |condition: Condition| {
        across.contains(&condition) || across.contains(&Condition::Device) && OF_A_DEVICE.contains(&condition)
    };
    for (name, runs) in [("BASE", base), ("NEW", new)] {
        let [first, others @ ..] = runs else {
            return Err(Failure::input(format!("{name} has no runs"))
                .hint("give run files, or a folder that holds some"));
        };
        for other in others {
            refuse(&format!("the runs of {name} differ in"), &differences(first, other), allowed)?;
        }
    }
    let found = differences(&base[0], &new[0]);
    refuse("BASE and NEW differ in", &found, allowed)?;
    Ok(found)
}

fn refuse(what: &str, found: &[Difference], allowed: impl Fn(Condition) -> bool) -> Result<()> {
    let refused: Vec<&Difference> = found.iter().filter(|d| !allowed(d.condition)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let named: Vec<String> =
        refused.iter().map(|d| format!("{} ({} and {})", d.condition, d.base, d.new)).collect();
    let mut names: Vec<&str> = refused.iter().map(|d| d.condition.name()).collect();
    if names.contains(&Condition::Device.name()) {
        names.retain(|name| !OF_A_DEVICE.iter().any(|condition| condition.name() == *name));
    }
    Err(Failure::input(format!("{what} {}", named.join(", "))).hint(format!(
        "times are not comparable then; `--across {}` compares them all the same",
        names.join(",")
    )))
}

/// What was crossed, as notes.
pub(super) fn crossed(found: &[Difference]) -> impl Iterator<Item = String> {
    found.iter().map(|d| format!("compared across {}: {} on BASE, {} on NEW", d.condition, d.base, d.new))
}

/// What throws doubt on a side's figures: one sentence of each kind, however many runs it is true of.
pub(super) fn taints(runs: &[Run]) -> Vec<String> {
    let load = |run: &Run| run.conditions.as_ref()?.foreign_load.filter(|&load| load >= FOREIGN_LOAD);
    let marked = |status: RunStatus| move |run: &Run| (run.status == status).then_some(());
    let unverified = |run: &Run| run.verification.as_ref().is_some_and(|v| !v.passed).then_some(());
    [
        taint(
            runs,
            throttled,
            |samples| format!("{samples} were taken while the GPU held its clocks down"),
            |of, all| {
                let samples: Throttled = all.iter().sum();
                format!("{samples} were taken while the GPU held its clocks down, in {of}")
            },
        ),
        taint(
            runs,
            load,
            |load| format!("other processes kept {} cores busy meanwhile", figures(*load)),
            |of, all| {
                let most = all.iter().copied().fold(0.0, f64::max);
                format!("other processes kept up to {} cores busy during {of}", figures(most))
            },
        ),
        taint(
            runs,
            marked(RunStatus::Invalid),
            |()| "some of it cannot be true: it is marked invalid".into(),
            |of, _| format!("{of} are marked invalid: some of what they say cannot be true"),
        ),
        taint(
            runs,
            marked(RunStatus::Partial),
            |()| "it is partial: not all of its plan was measured".into(),
            |of, _| format!("{of} are partial: not all of their plans was measured"),
        ),
        taint(
            runs,
            unverified,
            |()| "its kernels failed their verification".into(),
            |of, _| format!("the kernels of {of} failed their verification"),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What was `seen` of some runs as one sentence: `one` where it is a single run, which is named if it is not the only
/// one; otherwise `several` with `3 of 5 runs`.
fn taint<T>(
    runs: &[Run],
    seen: impl Fn(&Run) -> Option<T>,
    one: impl Fn(&T) -> String,
    several: impl Fn(&str, &[T]) -> String,
) -> Option<String> {
    let (of, found): (Vec<&Run>, Vec<T>) = runs.iter().filter_map(|run| Some((run, seen(run)?))).unzip();
    match (of.as_slice(), found.as_slice()) {
        ([], _) => None,
        ([_], [found]) if runs.len() == 1 => Some(one(found)),
        ([run], [found]) => Some(format!("the run of {}: {}", run.created, one(found))),
        _ => Some(several(&format!("{} of {} runs", of.len(), runs.len()), &found)),
    }
}

/// Samples taken while the clocks were held down, and all of them.
#[derive(Debug, Clone, Copy)]
struct Throttled {
    samples: usize,
    all: usize,
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all {
            0 => write!(f, "{} samples", self.samples),
            all => write!(f, "{} of {all} samples", self.samples),
        }
    }
}

impl<'a> Sum<&'a Throttled> for Throttled {
    fn sum<I: Iterator<Item = &'a Throttled>>(several: I) -> Throttled {
        several.fold(Throttled { samples: 0, all: 0 }, |a, b| Throttled {
            samples: a.samples + b.samples,
            all: a.all + b.all,
        })
    }
}

/// Of a run's steps.
fn throttled(run: &Run) -> Option<Throttled> {
    let steps = || run.points.iter().filter(|point| point.stage.is_none());
    let samples = steps().map(|step| step.throttled_samples.unwrap_or(0) as usize).sum();
    let all = steps().map(|step| step.seconds.samples.len()).sum();
    (samples > 0).then_some(Throttled { samples, all })
}
