//! Two sets of runs against each other: which points are slower, faster, the same, and how sure that is.
//!
//! The trial is the unit. Every word that people read of a comparison (reasons, sentences, notes) is made here, so that
//! all formats say the same. Ratios of times are NEW over BASE: above 1 is slower. Ratios of speed, across devices, are
//! NEW over BASE as well: above 1 is faster; their fields say so.

mod conditions;
mod devices;
mod gather;
mod judge;
mod pair;
mod pairing;
mod price;
mod reasons;
mod summary;
mod verdict;

pub use devices::{DevicePass, DeviceRatio, Devices, Limit};
pub use pair::{Cycles, Detectable, Interval, Measured, Pair};
pub use price::{Cost, Money, Prices};
pub use reasons::{pass, title};
pub use verdict::{Counts, PairVerdict, Verdict};

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Code, Failure, Result};
use crate::run::{Condition, Difference, Run, RunStatus};
use crate::stats::dependence::Times;
use gather::Gathered;
use pairing::Judged;

/// What a comparison is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The practical margin, as a share: 0.02 calls nothing slower or faster that is within 2%.
    pub threshold: f64,
    /// What is compared.
    pub metric: Metric,
    /// Conditions that may differ. `device` allows driver, clocks, ecc, mig, threads and isa to differ as well.
    pub across: Vec<Condition>,
    /// What an hour of each device costs.
    pub prices: Option<Prices>,
    /// Whether to say what could have been found and what would settle the rest: simulations, which take longer than all
    /// else.
    pub power: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { threshold: 0.02, metric: Metric::Time, across: Vec::new(), prices: None, power: true }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Seconds of one execution.
    Time,
    /// Seconds over the shortest that the roofs probed beside them allow: what a machine that is slower or faster by
    /// itself today does not change.
    Roof,
}

/// The result of comparing two sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "llmroof comparison")]
pub struct Comparison {
    /// The one verdict.
    pub verdict: Verdict,
    /// The verdict in one sentence, with what it rests on.
    pub sentence: String,
    /// What must stand out: the comparison says less than its exit code 0 may suggest; null where nothing must.
    pub warning: Option<String>,
    /// How many pairs got which verdict.
    pub counts: Counts,
    /// The practical margin, as a share.
    pub threshold: f64,
    /// What was compared.
    pub metric: Metric,
    /// The first side.
    pub base: Side,
    /// The second side.
    pub new: Side,
    /// Conditions in which the sides differ, all of them allowed by `across`.
    pub differences: Vec<Difference>,
    /// How the sides' trials lie in time.
    pub order: Order,
    /// One entry for each step and each stage of either side: steps in BASE's order, each before its stages.
    pub pairs: Vec<Pair>,
    /// Datasheet, ceilings and results side by side; null on one device.
    pub devices: Option<Devices>,
    /// Money and energy per token of each step; empty without prices.
    pub costs: Vec<Cost>,
    /// What a reader must know: differences allowed, taints, the order of the trials.
    pub notes: Vec<String>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// Runs.
    pub runs: u32,
    /// Processes that measured.
    pub processes: u32,
    /// Trials in all; 0 for a prediction.
    pub trials: u32,
    /// Device name.
    pub device: String,
    /// Model name of the first run.
    pub model: String,
    /// When the first run began, RFC 3339 in UTC.
    pub created: String,
    /// Version of the program that wrote the first run.
    pub tool: String,
    /// Whether all is predicted.
    pub predicted: bool,
    /// What throws doubt on its figures: throttling, load of other processes, invalid points. Sentences.
    pub taints: Vec<String>,
}

/// How two sides' trials lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Taken in turns: what changes slowly meets both sides alike.
    Interleaved,
    /// One side was measured after the other: what changed in between looks like a difference.
    Sequential,
    /// The runs do not say.
    Unknown,
}

impl Comparison {
    /// The failing code that this comparison ends the process with, `None` for success.
    pub fn code(&self, fail_on_inconclusive: bool) -> Option<Code> {
        match self.verdict {
            Verdict::Slower => Some(Code::CheckFailed),
            Verdict::Inconclusive if fail_on_inconclusive => Some(Code::Inconclusive),
            _ => None,
        }
    }
}

/// Compares two sides, each of one or more runs.
///
/// # Errors
/// A side without runs or runs without a common point; conditions that differ and are not in `across`; runs of one side
/// that differ among themselves.
pub fn compare(base: &[Run], new: &[Run], options: &Options) -> Result<Comparison> {
    let differences = conditions::check(base, new, &options.across)?;
    let (gathered, against) = (Gathered::of(base), Gathered::of(new));
    if !gathered.works.iter().any(|work| against.get(&work.key).is_some()) {
        return Err(nothing_in_common(&gathered, &against));
    }
    let times = Times { base: gathered.times.clone(), new: against.times.clone() };
    let order = match (gathered.timed && against.timed, times.interleaved()) {
        (false, _) => Order::Unknown,
        (true, true) => Order::Interleaved,
        (true, false) => Order::Sequential,
    };
    let same_device = differences.iter().all(|d| d.condition != Condition::Device);
    let Judged { pairs, dependence } = pairing::pairs(&gathered, &against, &times, options, same_device);
    let sides = (Side::of(base, &gathered), Side::of(new, &against));
    let counts = Counts::of(&pairs);
    let verdict = Verdict::of(&counts);
    let mut notes: Vec<String> = conditions::crossed(&differences).collect();
    notes.extend(summary::notes(&sides, order, &dependence, &times));
    Ok(Comparison {
        verdict,
        sentence: summary::sentence(verdict, &counts, &pairs, options),
        warning: summary::warning(verdict, &counts, &pairs, options),
        counts,
        threshold: options.threshold,
        metric: options.metric,
        base: sides.0,
        new: sides.1,
        differences,
        order,
        devices: if same_device { None } else { devices::compare(base, new, &pairs) },
        costs: options.prices.map_or(Vec::new(), |prices| price::costs(&pairs, prices)),
        pairs,
        notes,
    })
}

impl Side {
    fn of(runs: &[Run], gathered: &Gathered) -> Side {
        let first = &runs[0];
        Side {
            runs: runs.len() as u32,
            processes: gathered.processes,
            trials: gathered.times.len() as u32,
            device: first.device.name.clone(),
            model: first.model.name.clone(),
            created: first.created.clone(),
            tool: first.tool.version.clone(),
            predicted: runs.iter().all(|run| run.status == RunStatus::Predicted),
            taints: conditions::taints(runs),
        }
    }
}

fn nothing_in_common(base: &Gathered, new: &Gathered) -> Failure {
    let of = |side: &Gathered| {
        side.works
            .first()
            .map_or("nothing".into(), |work| format!("{} ({})", reasons::title(&work.key), work.key.model))
    };
    Failure::input(format!(
        "BASE and NEW have no point in common: BASE begins with {}, NEW with {}",
        of(base),
        of(new)
    ))
    .hint("measure the same model, phases, batches and lengths on both sides")
}
