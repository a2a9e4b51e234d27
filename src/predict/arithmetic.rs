//! The arithmetic that predictions, their explanation and the course's claims have in common: what a model's
//! ledger and a roofline make of each other.

use crate::model::{DType, ModelSpec};
use crate::roofline::{Bound, Roofline};
use crate::units::{Bytes, BytesPerSec, Flops, Intensity, Seconds};
use crate::workload::{Stage, Workload};

/// Shares of the peak that published prefills of good engines reach (TensorRT-LLM: 73% for 7B on an A100).
pub const PREFILL_REACHED: [f64; 2] = [0.60, 0.75];
/// Largest batch that is tried for having its linear stages compute-bound.
const MOST: u32 = 4096;
/// The stages that multiply by weights, which the batch shares.
pub const LINEAR: [Stage; 5] = [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead];

/// Operations of a decode token that do not depend on the context.
pub fn weight_flops(model: &ModelSpec) -> f64 {
    2.0 * model.streamed_matrix_parameters()
}

/// Highest decode rate of one sequence in tokens per second, by bandwidth alone (bytes per second).
pub fn ceiling(bandwidth: f64, streamed: Bytes, kv: Bytes) -> f64 {
    1.0 / ((streamed + kv) / BytesPerSec(bandwidth)).0
}

/// The q projection of one layer alone, with the activations it reads and writes.
pub fn q_projection(model: &ModelSpec, tokens: u32) -> (Flops, Bytes) {
    let [hidden, q, rows] = [model.hidden, model.q_width(), tokens].map(f64::from);
    (Flops(2.0 * rows * hidden * q), Bytes(2.0 * (hidden * q + rows * (hidden + q))))
}

/// Intensity of a decode step as the batch grows without end: what one more sequence adds.
pub fn limit(model: &ModelSpec, context: u32) -> Intensity {
    let (one, two) =
        (Workload::decode(model, 1, context).total(), Workload::decode(model, 2, context).total());
    (two.flops - one.flops) / (two.bytes() - one.bytes())
}

/// The smallest power of two at which all linear stages of a decode step are right of the ridge.
pub fn large_batch(model: &ModelSpec, ridge: Intensity, context: u32) -> u32 {
    let compute_bound = |batch: u32| {
        let work = Workload::decode(model, batch, context);
        LINEAR.iter().all(|&stage| work.cost(stage).intensity() >= ridge)
    };
    (0..=MOST.ilog2()).map(|power| 1 << power).find(|&batch| compute_bound(batch)).unwrap_or(MOST)
}

/// Shortest time of a whole pass, each stage at its own roof, and the bound that most of it is spent under.
pub fn shortest(work: &Workload, roof: Roofline) -> (Seconds, Bound) {
    roof.shortest_of_parts(Stage::ALL.map(|s| work.cost(s)).map(|c| (c.flops, c.bytes())))
}

/// Share of that time that is spent under the compute roof.
pub fn compute_share(work: &Workload, roof: Roofline) -> f64 {
    let times = Stage::ALL.map(|stage| work.cost(stage)).map(|cost| roof.shortest(cost.flops, cost.bytes()));
    let all: f64 = times.iter().map(|(time, _)| time.0).sum();
    let compute = times.iter().filter(|(_, bound)| *bound == Bound::Compute);
    // Of nothing the sum is 0, not the -0 that `sum` begins with.
    compute.fold(0.0, |sum, (time, _)| sum + time.0) / all
}

/// A format of quantised weights: bits of a weight, weights in a group, and bits that each group adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grouped {
    /// Bits of one weight.
    pub weight: f64,
    /// Weights that share a scale.
    pub group: f64,
    /// Bits of a group's scale (and zero).
    pub adds: f64,
    /// Whether the head is in this format as well; otherwise it stays in bf16.
    pub head: bool,
}

impl Grouped {
    /// Bits of a weight with its part of what the group adds.
    pub fn bits(&self) -> f64 {
        self.weight + self.adds / self.group
    }

    /// Weights that one decode step reads; norms stay in bf16.
    pub fn streamed(&self, model: &ModelSpec) -> Bytes {
        let layers = f64::from(model.layers) * model.layer_matrix_parameters();
        let (quantised, kept) = match self.head {
            true => (layers + model.head_parameters(), model.norm_parameters()),
            false => (layers, model.head_parameters() + model.norm_parameters()),
        };
        Bytes(quantised * self.bits() / 8.0 + kept * DType::Bf16.bytes())
    }
}
