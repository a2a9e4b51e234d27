//! Linear stages of 9 to 64 token rows: `kernels/skinny.cu`.

use super::Launch;
use super::args::LinearArgs;
use super::format::{self, Format};
use super::gemv::LinearStage;
use super::workspace::Workspace;
use crate::backend::cuda::driver::Gpu;

/// Token rows that one launch takes at most.
pub const MOST_ROWS: u32 = 64;

const THREADS: u32 = 128;
/// Blocks that a multiprocessor's registers have room for: 168 for each of 384 threads.
const RESIDENT: u32 = 3;
/// Tiles of sixteen weight rows that a block takes at once.
const TILES: u32 = 8;
/// A block below this many steps is through before its pipeline has filled.
const FEWEST_STEPS: u32 = 4;
/// Shared memory of a block besides the pipeline's: the kernel's own, and what the driver keeps.
const RESERVED_SHARED: u32 = 128 + 1024;
/// Bytes of partial sums of one tile that its last block adds up alone: 1 us at what one multiprocessor reads.
const MOST_GATHERED: u64 = 96 * 1024;

/// `Shape` of the kernel.
struct Shape {
    format: Format,
    tokens: u32,
    stages: u32,
}

impl Shape {
    fn of(rows: u32, format: Format) -> Shape {
        let (tokens, stages) = match (rows, format) {
            (0..=16, Format::Bf16 | Format::Int4) => (16, 4),
            (0..=16, _) => (16, 5),
            (17..=32, Format::Int4) => (32, 3),
            (17..=32, _) => (32, 4),
            _ => (64, 3),
        };
        Shape { format, tokens, stages }
    }

    /// Columns of the weights that a block takes at once.
    fn step(&self) -> u32 {
        if self.format == Format::Bf16 { 64 } else { 4 * self.format.columns() }
    }

    fn shared(&self) -> u32 {
        self.stages * (self.format.step_bytes(TILES * 16, self.step()) + (self.tokens + 1) * self.step() * 2)
    }

    /// f32 of one block's part of a tile: the products and a sum of squares for each token.
    fn piece(&self) -> u64 {
        u64::from((TILES * 16 + 1) * self.tokens)
    }

    /// As many blocks as are resident at once, which share the steps of all tiles evenly.
    fn blocks(&self, gpu: &Gpu, stage: LinearStage, args: &LinearArgs) -> u32 {
        let tiles = stage.tiles(args).div_ceil(TILES);
        let steps = tiles * args.k.div_ceil(self.step());
        let room = gpu.shared_per_multiprocessor / (self.shared() + RESERVED_SHARED);
        let mut blocks = gpu.multiprocessors * room.clamp(1, RESIDENT);
        // Where tiles are few, fewer blocks share each of them.
        let gathered = |blocks: u32| u64::from(blocks.div_ceil(tiles)) * self.piece() * 4;
        while blocks > gpu.multiprocessors && gathered(blocks) > MOST_GATHERED {
            blocks -= gpu.multiprocessors;
        }
        blocks.min(steps / FEWEST_STEPS).max(1)
    }
}

/// One linear stage of up to [`MOST_ROWS`] token rows. Needs `norm` for every stage but [`LinearStage::Residual`], and
/// [`workspace`] in `partial` and `arrivals`.
pub fn launch(gpu: &Gpu, stage: LinearStage, format: Format, args: LinearArgs) -> Launch {
    debug_assert!((1..=MOST_ROWS).contains(&args.rows) && args.k > 0 && args.k.is_multiple_of(8));
    debug_assert!((stage == LinearStage::Residual) == (args.norm == 0));
    let shape = Shape::of(args.rows, format);
    let (source, kernel) = format::skinny(stage, format, shape.tokens);
    let blocks = shape.blocks(gpu, stage, &args);
    Launch::new(source, kernel, [blocks, 1, 1], THREADS, shape.shared(), &args).early()
}

/// What [`launch`] needs besides its inputs and outputs.
pub fn workspace(gpu: &Gpu, stage: LinearStage, format: Format, args: &LinearArgs) -> Workspace {
    let shape = Shape::of(args.rows, format);
    let tiles = stage.tiles(args).div_ceil(TILES);
    Workspace {
        // The end of a tile that another block began, and the beginning of one that another ends.
        partial_bytes: u64::from(2 * shape.blocks(gpu, stage, args)) * shape.piece() * 4,
        arrivals: u64::from(tiles) + 1,
    }
}
