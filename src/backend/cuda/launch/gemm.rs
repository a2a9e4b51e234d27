//! Linear stages of more than 64 token rows, and of any number where activations are int8: `kernels/gemm.cuh`.

use super::Launch;
use super::args::LinearArgs;
use super::format::{self, Format};
use super::gemv::LinearStage;
use super::workspace::Workspace;
use crate::backend::cuda::driver::Gpu;

/// Token rows of every tile.
const TOKENS: u32 = 128;
/// Registers of a multiprocessor, and those that a thread of these kernels takes.
const REGISTERS: (u32, u32) = (65_536, 256);
/// Shared memory that a block takes besides what it asks for: the driver's and the kernel's own.
const SHARED_OVERHEAD: u32 = 1024 + 128;

/// What a product multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operands {
    /// Activations in bf16 with weights in a format.
    Weights(Format),
    /// Activations in int8 with weights in int8, both as they are. Rows of either are held alike.
    Codes,
}

impl From<Format> for Operands {
    fn from(format: Format) -> Operands {
        Operands::Weights(format)
    }
}

impl Operands {
    /// What the weights are held in.
    pub fn format(self) -> Format {
        match self {
            Operands::Weights(format) => format,
            Operands::Codes => Format::Int8,
        }
    }

    /// Bytes of an activation.
    fn activation_bytes(self) -> u32 {
        if self == Operands::Codes { 1 } else { 2 }
    }
}

/// A tile of `kernels/gemm.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Weight rows, which is also the threads of a block.
    pub weights: u32,
    /// What it multiplies.
    pub operands: Operands,
    /// Columns of k in a step. (Those of `gemm_w8a8_qkv_256` are half as long, in twice as many stages.)
    k_step: u32,
    /// Steps that the ring in shared memory holds.
    stages: u32,
}

impl Tile {
    /// All that multiply these.
    pub fn all(operands: impl Into<Operands>) -> Vec<Tile> {
        let operands = operands.into();
        let sizes: &[(u32, u32, u32)] = match operands {
            Operands::Weights(Format::Bf16) => &[(256, 64, 3), (128, 32, 5), (64, 32, 3)],
            Operands::Weights(Format::Int8 | Format::Fp8) => &[(256, 64, 4), (128, 64, 3)],
            Operands::Weights(Format::Int4) => &[(256, 128, 3), (128, 128, 2)],
            Operands::Codes => &[(256, 128, 3), (128, 64, 5), (64, 64, 3)],
        };
        sizes.iter().map(|&(weights, k_step, stages)| Tile { weights, operands, k_step, stages }).collect()
    }

    fn shared(self) -> u32 {
        let activations = TOKENS * self.k_step * self.operands.activation_bytes();
        self.stages * (activations + self.operands.format().step_bytes(self.weights, self.k_step))
    }

    /// Tiles that the product has.
    fn count(self, stage: LinearStage, args: &LinearArgs) -> u32 {
        let weights = if stage == LinearStage::GateUp { 2 * args.n } else { args.n };
        args.rows.div_ceil(TOKENS) * weights.div_ceil(self.weights)
    }

    /// Blocks that fit a multiprocessor.
    fn resident(self, gpu: &Gpu) -> u32 {
        let by_shared = gpu.shared_per_multiprocessor / (self.shared() + SHARED_OVERHEAD);
        by_shared.min(REGISTERS.0 / (REGISTERS.1 * self.weights))
    }
}

/// How a product is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What a block computes.
    pub tile: Tile,
    /// Blocks that share one tile, each with a part of k. 1 for the vocabulary.
    pub splits: u32,
}

impl Plan {
    /// The plan that is predicted to be fastest.
    pub fn best(gpu: &Gpu, stage: LinearStage, operands: impl Into<Operands>, args: &LinearArgs) -> Plan {
        let tiles = Tile::all(operands);
        let mut best = (f64::INFINITY, Plan { tile: tiles[0], splits: 1 });
        for tile in tiles {
            if tile.shared() + SHARED_OVERHEAD > gpu.shared_per_block || tile.resident(gpu) == 0 {
                continue;
            }
            let most = if stage == LinearStage::LmHead { 1 } else { (args.k / 256).clamp(1, 16) };
            for splits in 1..=most {
                let plan = Plan { tile, splits };
                // Partial sums are worth it while they stay in the L2 cache.
                if plan.workspace(stage, args).partial_bytes > gpu.l2 / 2 {
                    break;
                }
                let cycles = plan.cycles(gpu, stage, args);
                if cycles < best.0 {
                    best = (cycles, plan);
                }
            }
        }
        best.1
    }

    /// Cycles of the multiprocessor that gets the most blocks, from what an A100's does in one: 2048 FLOP (twice as many
    /// of codes), of which every warp can get 3/16 (four keep no tensor core idle, but hide no latencies), and 40 bytes
    /// from the L2 cache. A plan only has to be ranked: what all have in common is left out.
    fn cycles(self, gpu: &Gpu, stage: LinearStage, args: &LinearArgs) -> f64 {
        const L2_BYTES: f64 = 40.0;
        const OF_A_WARP: f64 = 3.0 / 16.0;
        const START: f64 = 1500.0;

        let blocks = (self.tile.count(stage, args) * self.splits).div_ceil(gpu.multiprocessors);
        let resident = self.tile.resident(gpu).min(blocks);
        let warps = f64::from(resident * self.tile.weights / 32);
        let [tokens, weights, k] = [TOKENS, self.tile.weights, args.k].map(f64::from);
        let operands = self.tile.operands;
        let flops = if operands == Operands::Codes { 4096.0 } else { 2048.0 };
        let token_bytes = f64::from(operands.activation_bytes());
        let weight_bytes = 16.0 / f64::from(operands.format().columns());
        let column = f64::max(
            2.0 * tokens * weights / (flops * f64::min(1.0, warps * OF_A_WARP)),
            (token_bytes * tokens + weight_bytes * weights) / L2_BYTES,
        );
        // Stored, and where k is split written as f32 and read again.
        let bytes = tokens * weights * if self.splits > 1 { 2.0 + 4.0 + 4.0 } else { 2.0 };
        f64::from(blocks) * (column * k / f64::from(self.splits) + bytes / L2_BYTES)
            + f64::from(blocks.div_ceil(resident)) * START
    }

    /// What the launch of this plan needs.
    pub fn workspace(self, stage: LinearStage, args: &LinearArgs) -> Workspace {
        if self.splits == 1 {
            return Workspace { partial_bytes: 0, arrivals: u64::from(stage == LinearStage::LmHead) };
        }
        let tiles = u64::from(self.tile.count(stage, args));
        let tile_bytes = u64::from(TOKENS * self.tile.weights * 4);
        Workspace { partial_bytes: u64::from(self.splits) * tiles * tile_bytes, arrivals: tiles }
    }

    /// The launch of this plan.
    pub fn launch(self, stage: LinearStage, args: LinearArgs) -> Launch {
        let weights = self.tile.weights;
        let (source, kernel) = match self.tile.operands {
            Operands::Weights(format) => format::gemm(stage, format, weights),
            Operands::Codes => format::gemm_of_codes(stage, weights),
        };
        let grid = [self.tile.count(stage, &args), self.splits, 1];
        let args = LinearArgs { splits: self.splits, ..args };
        Launch::new(source, kernel, grid, weights, self.tile.shared(), &args).early()
    }
}

/// The product; `x` is normed already, and of codes quantised; `args.splits` is chosen here.
pub fn launch(gpu: &Gpu, stage: LinearStage, operands: impl Into<Operands>, args: LinearArgs) -> Launch {
    Plan::best(gpu, stage, operands, &args).launch(stage, args)
}

/// What [`launch`] needs for these arguments.
pub fn workspace(
    gpu: &Gpu,
    stage: LinearStage,
    operands: impl Into<Operands>,
    args: &LinearArgs,
) -> Workspace {
    Plan::best(gpu, stage, operands, args).workspace(stage, args)
}
