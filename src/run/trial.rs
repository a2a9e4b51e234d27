//! Trials: the units of repetition. Each has fresh contexts and allocations and runs every pass once.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{impossible, ranks};
use crate::error::Result;
use crate::model::{DType, Precision};
use crate::stats;
use crate::workload::Phase;

/// One process that measured into this run: the one that began it, and one for each `--append` or `--resume`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its command line.
    pub argv: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub created: String,
    /// Its budget in seconds.
    pub budget_seconds: f64,
    /// Wall-clock seconds from its start to its end.
    pub wall_seconds: f64,
    /// CPU cores' worth of work that other processes did meanwhile; null where the system does not say.
    pub foreign_load: Option<f64>,
}

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// When it began, RFC 3339 in UTC with milliseconds.
    pub started: String,
    /// The process that ran it, its place in the run's `processes`.
    pub process: u32,
}

/// What one trial found of one step or stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointTrial {
    /// The trial, its place in the run's `trials`.
    pub trial: u32,
    /// Seconds of one execution: the median of the trial's samples that were kept.
    pub seconds: f64,
    /// Median over the trial's samples of the shortest time under the roofs beside the sample over its time; null in
    /// files before version 3.
    pub fraction_of_roof: Option<f64>,
    /// Median bandwidth of the memory roof probed beside the samples; null in files before version 3.
    pub roof_bytes_per_second: Option<f64>,
    /// Median of the compute roof probed beside the samples; null in files before version 3.
    pub roof_flops_per_second: Option<f64>,
    /// Median of step time minus the sum of its stages; null for a stage.
    pub bubble_seconds: Option<f64>,
    /// Median clock of the GPU's multiprocessors during the samples.
    pub sm_clock_hz: Option<f64>,
    /// Samples taken while the GPU held its clocks down; null where that is not known.
    pub throttled_samples: Option<u32>,
}

/// What was asked for, so that `--resume` and `--append` can go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Phases to cover.
    pub phases: Vec<Phase>,
    /// Batch sizes of the decode steps.
    pub batches: Vec<u32>,
    /// Prompt lengths in tokens. Files of version 3 have one, as `prompt`.
    #[serde(alias = "prompt", deserialize_with = "one_or_several")]
    pub prompts: Vec<u32>,
    /// Positions attended in decode; none is the middle of the generation. Files of version 3 have one or null, as
    /// `context`.
    #[serde(alias = "context", deserialize_with = "one_or_several")]
    pub contexts: Vec<u32>,
    /// Generated tokens.
    pub generate: u32,
    /// Layers that run.
    pub layers: u32,
    /// Types of the layers' weights, each of which runs all of it; bf16 in files before version 5.
    #[serde(default = "bf16_alone")]
    pub weights: Vec<DType>,
    /// Type of the head's weights; null is that of the layers.
    #[serde(default)]
    pub head: Option<DType>,
    /// Tokens of each sequence that passes verify at once, for speculation; empty without it and in files before version 5.
    #[serde(default)]
    pub speculate: Vec<u32>,
    /// Tokens of the chunks of a prompt that ride along with decode steps; empty without them and in files before version 6.
    #[serde(default)]
    pub mix: Vec<u32>,
    /// Positions of the pages of the cache that every pass also runs with; empty without them and in files before version 6.
    #[serde(default)]
    pub kv_pages: Vec<u32>,
    /// Precision of what goes into matrix products.
    pub activations: DType,
    /// Type of the key/value cache; null is that of the activations.
    #[serde(default)]
    pub kv: Option<DType>,
    /// Numbers of ranks that the model is divided among, each of which runs all of it; 1 in files that do not say.
    #[serde(default = "one_rank")]
    pub ranks: Vec<u32>,
    /// Device profile over whose link the all-reduces of several ranks are modelled, where they are not measured; null without
    /// one.
    #[serde(default)]
    pub link: Option<String>,
    /// Trials in all.
    pub repeat: u32,
    /// What was asked to run a GPU's products of many rows: `auto`, `own`, `cublaslt`; null on a CPU.
    pub gemm: Option<String>,
}

/// The weights of files that do not say.
fn bf16_alone() -> Vec<DType> {
    vec![DType::Bf16]
}

/// The ranks of files that do not say.
fn one_rank() -> Vec<u32> {
    vec![ranks::one()]
}

/// A list, or what stood in its place in files of version 3: a number, or null for none.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Several(Vec<u32>),
        One(u32),
        None,
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Several(values) => values,
        Written::One(value) => vec![value],
        Written::None => Vec::new(),
    })
}

impl Plan {
    /// Types of weights, activations and cache, in the order asked for.
    pub fn precisions(&self) -> Vec<Precision> {
        let of = |&weights: &DType| {
            // Integers are multiplied with quantised weights alone.
            let activations = match self.activations.is_quantised() && !weights.is_quantised() {
                true => DType::Bf16,
                false => self.activations,
            };
            Precision {
                weights,
                head: self.head.unwrap_or(weights),
                activations,
                kv: self.kv.unwrap_or(Precision { activations, ..Precision::BF16 }.border()),
            }
        };
        self.weights.iter().map(of).collect()
    }

    /// Checks that there is something to go on with.
    pub(super) fn validate(&self) -> Result<()> {
        let sweeps = [&self.batches, &self.prompts, &self.contexts, &self.ranks];
        let counts = [self.generate, self.layers, self.repeat];
        if self.prompts.is_empty()
            || self.weights.is_empty()
            || self.ranks.is_empty()
            || !sweeps.into_iter().flatten().chain(&counts).all(|count| *count > 0)
        {
            return Err(impossible("plan has no prompt, no weights, no ranks or a count of 0".into()));
        }
        Ok(())
    }
}

impl PointTrial {
    /// Of a file that has the trials' samples alone: the median of those that were kept.
    pub(super) fn of_samples(trial: u32, samples: &[f64]) -> Option<PointTrial> {
        let (kept, _) = stats::without_interruptions(samples, super::point::INTERRUPTION);
        Some(PointTrial {
            trial,
            seconds: stats::median(&kept)?,
            fraction_of_roof: None,
            roof_bytes_per_second: None,
            roof_flops_per_second: None,
            bubble_seconds: None,
            sm_clock_hz: None,
            throttled_samples: None,
        })
    }

    /// Checks that the figures are finite and positive where they must be.
    pub(super) fn validate(&self) -> Result<()> {
        let positive = [
            ("seconds", Some(self.seconds)),
            ("fraction_of_roof", self.fraction_of_roof),
            ("roof_bytes_per_second", self.roof_bytes_per_second),
            ("roof_flops_per_second", self.roof_flops_per_second),
            ("sm_clock_hz", self.sm_clock_hz),
        ];
        for (field, value) in positive {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(impossible(format!("{field} is {value}, not a positive number")));
            }
        }
        if self.bubble_seconds.is_some_and(|seconds| !seconds.is_finite()) {
            return Err(impossible("bubble_seconds is not a number".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_gives_back_the_types_that_it_was_made_of() {
        let text = r#"{"phases": ["decode"], "batches": [1], "prompts": [8], "contexts": [], "generate": 1, "layers": 1,
            "weights": ["bf16", "int8"], "activations": "int8", "repeat": 1, "gemm": null}"#;
        let plan: Plan = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}"));
        let int8 =
            Precision { weights: DType::Int8, head: DType::Int8, activations: DType::Int8, kv: DType::Bf16 };
        assert_eq!(plan.precisions(), [Precision::BF16, int8]);
    }
}
