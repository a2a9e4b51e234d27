//! What must be equal before times can be compared, and what throws doubt on a run.

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

/// What throws doubt on a side's figures.
pub(super) fn taints(runs: &[Run]) -> Vec<String> {
    let mut taints = Vec::new();
    for run in runs {
        let of = if runs.len() > 1 { format!("the run of {}: ", run.created) } else { String::new() };
        let (mut throttled, mut samples) = (0, 0);
        for trial in run.points.iter().filter(|p| p.stage.is_none()) {
            throttled += trial.throttled_samples.unwrap_or(0) as usize;
            samples += trial.seconds.samples.len();
        }
        if throttled > 0 {
            let of_all = if samples > 0 { format!(" of {samples}") } else { String::new() };
            taints.push(format!(
                "{of}{throttled}{of_all} samples were taken while the GPU held its clocks down"
            ));
        }
        if let Some(load) =
            run.conditions.as_ref().and_then(|c| c.foreign_load).filter(|&l| l >= FOREIGN_LOAD)
        {
            taints.push(format!("{of}other processes kept {} cores busy meanwhile", figures(load)));
        }
        match run.status {
            RunStatus::Invalid => taints.push(format!("{of}some of it cannot be true: it is marked invalid")),
            RunStatus::Partial => taints.push(format!("{of}it is partial: not all of its plan was measured")),
            RunStatus::Complete | RunStatus::Predicted => {}
        }
        if run.verification.as_ref().is_some_and(|v| !v.passed) {
            taints.push(format!("{of}its kernels failed their verification"));
        }
    }
    taints
}
