//! Linear stages of 1 to 8 token rows: `kernels/gemv.cu`.

use super::args::LinearArgs;
use super::driver::Gpu;
use super::launch::Launch;
use super::workspace::Workspace;

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
/// Blocks that a multiprocessor's registers have room for: 128 for each of 512 threads.
const RESIDENT: u32 = 2;

/// One linear stage of up to [`MOST_ROWS`] token rows. Needs `norm` for every stage but [`LinearStage::Residual`].
pub fn launch(gpu: &Gpu, stage: LinearStage, args: LinearArgs) -> Launch {
    debug_assert!((1..=MOST_ROWS).contains(&args.rows) && args.k > 0 && args.k.is_multiple_of(8));
    debug_assert!((stage == LinearStage::Residual) == (args.norm == 0));
    let kernel = match stage {
        LinearStage::Qkv => "gemv_qkv",
        LinearStage::Residual => "gemv_residual",
        LinearStage::GateUp => "gemv_gate_up",
        LinearStage::LmHead => "gemv_lm_head",
    };
    // Blocks that stay take tile after tile, with the next tile's weights on their way before one is done.
    let blocks = stage.tiles(&args).min(RESIDENT * gpu.multiprocessors);
    Launch::new("gemv", kernel, [blocks, 1, 1], THREADS, 0, &args).early()
}

/// What [`launch`] needs besides its inputs and outputs.
pub fn workspace(_gpu: &Gpu, stage: LinearStage, _args: &LinearArgs) -> Workspace {
    Workspace { partial_bytes: 0, arrivals: u64::from(stage == LinearStage::LmHead) }
}
