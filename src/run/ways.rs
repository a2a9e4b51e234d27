//! What each way past the memory wall is worth, as the run file keeps it; `crate::ways` computes it from the points.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::impossible;
use crate::error::Result;

/// One way past the memory wall, held against decode in the run's first types at its smallest batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// What is done: `int4 weights`, `batch 8`, `2 ranks`.
    pub way: String,
    /// Gain in tokens per second that the width of the numbers alone promises; null where no width changes.
    pub nominal_gain: Option<f64>,
    /// Gain that the bytes of the whole step allow: with head, cache, scales and activations.
    pub ideal_gain: f64,
    /// Gain at equal memory bandwidth: each side's time is the shortest under the run's read ceiling over its share of the roof,
    /// which was measured in turn with the roof.
    pub gain: f64,
    /// Where the gain comes from.
    pub basis: Basis,
    /// What eats the difference.
    pub eaten_by: Vec<String>,
    /// New tokens per second of all sequences at that gain.
    pub tokens_per_second: f64,
    /// Joules per million tokens; null where no energy was measured.
    pub joules_per_million_tokens: Option<f64>,
    /// Dollars per million tokens; null without a price.
    pub dollars_per_million_tokens: Option<f64>,
}

/// Where a gain comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Both sides were measured, of several ranks the work of one and the all-reduces among as many.
    Measured,
    /// A part of it is modelled: all-reduces over the link of a profile.
    Modelled,
    /// Measured costs at an acceptance that was assumed.
    Assumed,
    /// Computed from a profile.
    Predicted,
}

impl Basis {
    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            Basis::Measured => "measured",
            Basis::Modelled => "modelled",
            Basis::Assumed => "assumed",
            Basis::Predicted => "predicted",
        }
    }
}

/// A smaller model that proposes tokens, and what its decode steps took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Its name.
    pub model: String,
    /// Its decode steps, all layers, in the run's first types.
    pub steps: Vec<DraftStep>,
}

/// A decode step of the draft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftStep {
    /// Sequences.
    pub batch: u32,
    /// Positions attended.
    pub context: u32,
    /// Median seconds.
    pub seconds: f64,
    /// Operations of it.
    pub flops: f64,
    /// Compulsory bytes of it.
    pub bytes: f64,
    /// Median share of the roof that was measured beside it.
    pub fraction_of_roof: f64,
    /// Samples.
    pub count: u32,
}

impl Way {
    /// Checks that the figures are positive numbers.
    pub(super) fn validate(&self) -> Result<()> {
        let known = [Some(self.ideal_gain), Some(self.gain), Some(self.tokens_per_second), self.nominal_gain];
        let costs = [self.joules_per_million_tokens, self.dollars_per_million_tokens];
        match known.into_iter().chain(costs).flatten().all(|figure| figure.is_finite() && figure > 0.0) {
            true => Ok(()),
            false => Err(impossible("a gain or cost is not a positive number".into())),
        }
    }
}

impl Draft {
    /// Checks that the times are positive numbers.
    pub(super) fn validate(&self) -> Result<()> {
        let figures =
            self.steps.iter().flat_map(|step| [step.seconds, step.flops, step.bytes, step.fraction_of_roof]);
        match figures.into_iter().all(|figure| figure.is_finite() && figure > 0.0) {
            true => Ok(()),
            false => Err(impossible("a step of the draft has no positive time".into())),
        }
    }
}
