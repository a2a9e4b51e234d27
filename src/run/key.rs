//! What a point is of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::point::bf16;
use super::ranks;
use crate::model::DType;
use crate::workload::{Chunk, Phase, Stage};

/// What a point is of: points of the same key in two runs are the same work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Model name.
    pub model: String,
    /// Phase.
    pub phase: Phase,
    /// Stage; null for the whole step.
    pub stage: Option<Stage>,
    /// Sequences in the pass.
    pub batch: u32,
    /// New tokens per sequence.
    pub tokens: u32,
    /// Positions attended by the last new token.
    pub context: u32,
    /// Type of the layers' weights.
    pub weights: DType,
    /// Type of the head's weights; bf16 in files before version 5, which do not say.
    #[serde(default = "bf16")]
    pub head: DType,
    /// Type of the activations.
    pub activations: DType,
    /// Type of the key/value cache.
    pub kv: DType,
    /// Positions of a page of the key/value cache; null where each sequence's cache is contiguous, as in all files before
    /// version 6.
    #[serde(default)]
    pub kv_page: Option<u32>,
    /// The part of a prompt that rides along in a mixed step, in a sequence of its own; null in other phases.
    #[serde(default)]
    pub chunk: Option<Chunk>,
    /// Ranks that the model is divided among; 1 in files that do not say.
    #[serde(default = "ranks::one")]
    pub ranks: u32,
}

/// `, pages of 16`; nothing for a contiguous cache.
pub fn of_pages(kv_page: Option<u32>) -> String {
    kv_page.map_or(String::new(), |page| format!(", pages of {page}"))
}

impl Key {
    /// Whether both are of one pass: its step or stages of it.
    pub fn same_pass(&self, other: &Key) -> bool {
        Key { stage: None, ..self.clone() } == Key { stage: None, ..other.clone() }
    }
}
