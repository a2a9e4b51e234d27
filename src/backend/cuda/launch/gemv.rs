//! Linear stages of 1 to 8 token rows: `kernels/gemv.cu`.

use super::Launch;
use super::args::LinearArgs;
use super::workspace::Workspace;
use crate::backend::cuda::driver::Gpu;

/// The linear stages by what happens to their products, `enum Stage` of `kernels/stages.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinearStage {
    /// Norm, q/k/v projections, rotation, cache append.
    Qkv,
    /// A projection added to the residual stream: out_proj and down.
    Residual,
    /// Norm, gate and up projections, silu(gate) x up.
    GateUp,
    /// Norm, logits, argmax.
    LmHead,
}

impl LinearStage {
    /// Every stage.
    pub const ALL: [LinearStage; 4] =
        [LinearStage::Qkv, LinearStage::Residual, LinearStage::GateUp, LinearStage::LmHead];

    /// Tiles of sixteen weight rows: `tiles_of` of `kernels/stages.cuh`.
    pub fn tiles(self, args: &LinearArgs) -> u32 {
        match self {
            LinearStage::GateUp => args.n / 8,
            _ => args.n.div_ceil(16),
        }
    }
}

/// Token rows that one launch takes at most.
pub const MOST_ROWS: u32 = 8;

const THREADS: u32 = 256;
/// Blocks on a multiprocessor: more would only make a tile's slices fewer than the ring holds.
const RESIDENT: u32 = 2;
/// Shared memory of a block besides the rings: the kernel's own, and what the driver keeps.
const RESERVED_SHARED: u32 = 4736 + 1024;

/// One linear stage of up to [`MOST_ROWS`] token rows. Needs `norm` for every stage but [`LinearStage::Residual`].
pub fn launch(gpu: &Gpu, stage: LinearStage, args: LinearArgs) -> Launch {
    debug_assert!((1..=MOST_ROWS).contains(&args.rows) && args.k > 0 && args.k.is_multiple_of(8));
    debug_assert!((stage == LinearStage::Residual) == (args.norm == 0));
    let one = args.rows == 1;
    let kernel = match (stage, one) {
        (LinearStage::Qkv, true) => "gemv_qkv_1",
        (LinearStage::Qkv, false) => "gemv_qkv_8",
        (LinearStage::Residual, true) => "gemv_residual_1",
        (LinearStage::Residual, false) => "gemv_residual_8",
        (LinearStage::GateUp, true) => "gemv_gate_up_1",
        (LinearStage::GateUp, false) => "gemv_gate_up_8",
        (LinearStage::LmHead, true) => "gemv_lm_head_1",
        (LinearStage::LmHead, false) => "gemv_lm_head_8",
    };
    // `Ring` of the kernel: slices of weights, tokens and norm.
    let (depth, tokens) = if one { (4, 256) } else { (3, 1024) };
    let norm = if stage == LinearStage::Residual { 0 } else { 128 };
    let shared = THREADS / 32 * depth * (2048 + tokens + norm);
    // Blocks that stay take tile after tile, with the next tile's weights on their way before one is done.
    let room = gpu.shared_per_multiprocessor / (shared + RESERVED_SHARED);
    let blocks = stage.tiles(&args).min(gpu.multiprocessors * room.clamp(1, RESIDENT));
    Launch::new("gemv", kernel, [blocks, 1, 1], THREADS, shared, &args).early()
}

/// What [`launch`] needs besides its inputs and outputs.
pub fn workspace(_gpu: &Gpu, stage: LinearStage, _args: &LinearArgs) -> Workspace {
    Workspace { partial_bytes: 0, arrivals: u64::from(stage == LinearStage::LmHead) }
}
