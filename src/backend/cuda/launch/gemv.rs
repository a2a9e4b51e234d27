//! Linear stages of 1 to 8 token rows: `kernels/gemv.cu`.

use super::Launch;
use super::args::LinearArgs;
use super::format::{self, Format};
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

/// `Ring` of the kernel: what a warp has under way, in slices.
struct Ring {
    slices: u32,
    /// Bytes of a slice of weights, tokens, norm and scales.
    bytes: u32,
}

impl Ring {
    fn of(stage: LinearStage, format: Format, one: bool) -> Ring {
        // Pieces that a lane takes of each half of a tile.
        let pieces = if format == Format::Int4 { 1 } else { 2 };
        let line = 4 * pieces * format.columns() * 2;
        // One token lies before as many zeros.
        let tokens = if one { 2 * line } else { 8 * line };
        let norm = if stage == LinearStage::Residual { 0 } else { line };
        let scales = if format == Format::Int4 { 128 } else { 0 };
        let slices = match format {
            Format::Bf16 if one => 4,
            Format::Bf16 => 3,
            Format::Int4 if one => 5,
            Format::Int4 => 3,
            Format::Int8 | Format::Fp8 if one => 3,
            Format::Int8 | Format::Fp8 => 2,
        };
        Ring { slices, bytes: 1024 * pieces + tokens + norm + scales }
    }
}

/// One linear stage of up to [`MOST_ROWS`] token rows. Needs `norm` for every stage but [`LinearStage::Residual`].
pub fn launch(gpu: &Gpu, stage: LinearStage, format: Format, args: LinearArgs) -> Launch {
    debug_assert!((1..=MOST_ROWS).contains(&args.rows) && args.k > 0 && args.k.is_multiple_of(8));
    debug_assert!((stage == LinearStage::Residual) == (args.norm == 0));
    let one = args.rows == 1;
    let (source, kernel) = format::gemv(stage, format, one);
    let ring = Ring::of(stage, format, one);
    let shared = THREADS / 32 * ring.slices * ring.bytes;
    // Blocks that stay take tile after tile, with the next tile's weights on their way before one is done.
    let room = gpu.shared_per_multiprocessor / (shared + RESERVED_SHARED);
    let blocks = stage.tiles(&args).min(gpu.multiprocessors * room.clamp(1, RESIDENT));
    Launch::new(source, kernel, [blocks, 1, 1], THREADS, shared, &args).early()
}

/// What [`launch`] needs besides its inputs and outputs.
pub fn workspace(_gpu: &Gpu, stage: LinearStage, _format: Format, _args: &LinearArgs) -> Workspace {
    Workspace { partial_bytes: 0, arrivals: u64::from(stage == LinearStage::LmHead) }
}
