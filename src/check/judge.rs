//! A run against its floors.

use super::floors::{Basis, Floor, Floors};
use crate::run::{Gpu, Run};

/// What holds clocks back only where something is wrong: heat, or the power supply asking for less. The power limit is
/// not among them: at full load a healthy card is at it. Neither is `hw_slowdown` by itself, which drivers also report
/// while clocks change.
const UNHEALTHY: [&str; 3] = ["sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"];

/// How a device passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every floor was reached, and nothing held the clocks back that should not.
    Ok,
    /// A floor was missed, or heat held the clocks back.
    Failed,
    /// It cannot be told.
    Inconclusive,
}

impl Verdict {
    /// Lower-case name, the first word of the line.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Failed => "failed",
            Verdict::Inconclusive => "inconclusive",
        }
    }
}

/// What was reached of a floor.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The floor.
    pub floor: Floor,
    /// In the figure's unit; `None` where it was not measured.
    pub measured: Option<f64>,
}

impl Finding {
    /// The share of the floor's reference that was reached.
    pub fn share(&self) -> Option<f64> {
        self.measured.map(|measured| measured / self.floor.reference)
    }

    /// Whether the floor was reached; `None` where that was not measured. A share that is no number is none.
    pub fn passed(&self) -> Option<bool> {
        self.share().map(|share| share >= self.floor.share)
    }
}

/// What a check found of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// What the floors are shares of.
    pub basis: Basis,
    /// One for each floor.
    pub findings: Vec<Finding>,
    /// What fails the device besides a missed floor.
    pub troubles: Vec<String>,
    /// Why it cannot be told.
    pub doubts: Vec<String>,
    /// What may explain a missed floor.
    pub remarks: Vec<String>,
}

impl Judgement {
    /// Of a device that was not measured, and why not.
    pub fn none(floors: &Floors, doubt: String) -> Judgement {
        let findings = floors.list.iter().map(|floor| Finding { floor: floor.clone(), measured: None });
        Judgement {
            verdict: Verdict::Inconclusive,
            basis: floors.basis,
            findings: findings.collect(),
            troubles: Vec::new(),
            doubts: vec![doubt],
            remarks: Vec::new(),
        }
    }
}

/// Judges a run. `others` are other processes that were on the device when it ended: what they left of it is no fault
/// of its own, but floors that are reached in spite of them are.
pub fn judge(run: &Run, floors: &Floors, others: u32) -> Judgement {
    let findings: Vec<Finding> = floors
        .list
        .iter()
        .map(|floor| Finding { floor: floor.clone(), measured: floor.figure.reached(run) })
        .collect();
    let gpu = run.conditions.as_ref().and_then(|conditions| conditions.gpu.as_ref());
    let troubles: Vec<String> = gpu.into_iter().filter_map(heat).collect();
    let missed = findings.iter().any(|finding| finding.passed() == Some(false));
    let unmeasured: Vec<String> = findings
        .iter()
        .filter(|finding| finding.passed().is_none())
        .map(|finding| finding.floor.figure.to_string())
        .collect();
    let mut doubts = Vec::new();
    if missed && others > 0 {
        doubts.push(format!("{} came while it was measured", processes(others)));
    }
    if !unmeasured.is_empty() && !missed {
        doubts.push(format!("not measured within the budget: {}", unmeasured.join(", ")));
    }
    let verdict = match () {
        () if !troubles.is_empty() => Verdict::Failed,
        () if !doubts.is_empty() => Verdict::Inconclusive,
        () if missed => Verdict::Failed,
        () => Verdict::Ok,
    };
    let remarks = gpu.filter(|_| missed).map(remarks).unwrap_or_default();
    Judgement { verdict, basis: floors.basis, findings, troubles, doubts, remarks }
}

/// `another process`, `3 other processes`.
pub fn processes(others: u32) -> String {
    if others == 1 { "another process".into() } else { format!("{others} other processes") }
}

/// How many readings name each of these reasons, of how many that know any.
fn held<'a>(gpu: &Gpu, reasons: &[&'a str]) -> (Vec<(&'a str, usize)>, usize) {
    let known: Vec<&Vec<String>> = gpu.readings.iter().filter_map(|r| r.throttle_reasons.as_ref()).collect();
    let count = |reason: &str| known.iter().filter(|names| names.iter().any(|name| name == reason)).count();
    let counted = reasons.iter().map(|&reason| (reason, count(reason))).filter(|(_, count)| *count > 0);
    (counted.collect(), known.len())
}

/// Whether heat or the power supply held the clocks back.
fn heat(gpu: &Gpu) -> Option<String> {
    let (found, known) = held(gpu, &UNHEALTHY);
    if found.is_empty() {
        return None;
    }
    let reasons: Vec<String> =
        found.iter().map(|(reason, count)| format!("{reason} in {count} of {known} readings")).collect();
    let hottest = gpu.readings.iter().filter_map(|r| r.temperature_celsius).max_by(f64::total_cmp);
    let hottest = hottest.map_or(String::new(), |celsius| format!(", up to {celsius:.0} C"));
    Some(format!("throttled: {}{hottest}", reasons.join(", ")))
}

/// What may explain that it is slow.
fn remarks(gpu: &Gpu) -> Vec<String> {
    let mut remarks = Vec::new();
    let limits = gpu.power_limit_watts.zip(gpu.power_limit_default_watts);
    if let Some((limit, default)) = limits.filter(|(limit, default)| *limit < default - 1.0) {
        remarks.push(format!("its power limit is {limit:.0} W, by default {default:.0} W"));
    }
    let (found, known) = held(gpu, &["sw_power_cap"]);
    if let Some((reason, count)) = found.first() {
        remarks.push(format!("{reason} in {count} of {known} readings"));
    }
    remarks
}
