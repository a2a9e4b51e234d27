//! Attention in both phases: `kernels/attention_decode.cu` and `kernels/attention_prefill.cu`.
//!
//! `head_dim` is one that [`supports`] allows; `context` is the most positions that a new token attends. It decides
//! how the work is shared out; where each sequence stands, the kernels read from `start` themselves.

use super::Launch;
use super::args::AttentionArgs;
use super::workspace::Workspace;
use crate::backend::cuda::driver::Gpu;

/// Blocks of every decode kernel that a multiprocessor holds at once.
const RESIDENT: u32 = 2;

/// Whether there are kernels for heads of this size.
pub fn supports(head_dim: u32) -> bool {
    matches!(head_dim, 64 | 128)
}

/// Attention of one new token per sequence.
pub fn decode(gpu: &Gpu, args: AttentionArgs, head_dim: u32, context: u32) -> Launch {
    let shape = DecodeShape::of(&args, head_dim);
    let splits = shape.splits(gpu, &args, context);
    let kernel = match (head_dim, shape.queries) {
        (64, 8) => "attention_decode_64_8",
        (64, _) => "attention_decode_64_16",
        (_, 8) => "attention_decode_128_8",
        _ => "attention_decode_128_16",
    };
    let grid = [splits, args.kv_heads * shape.blocks_of_group, args.sequences];
    let args = AttentionArgs { splits, ..args };
    Launch::new("attention_decode", kernel, grid, 32 * shape.warps, 0, &args).early()
}

/// Attention of many new tokens per sequence, causal among them.
pub fn prefill(gpu: &Gpu, args: AttentionArgs, head_dim: u32, _context: u32) -> Launch {
    // Tiles of 128 rows are the faster ones, where there are enough of them to occupy the card.
    let blocks =
        |rows: u32| u64::from(args.heads) * u64::from(args.sequences) * u64::from(args.tokens.div_ceil(rows));
    let rows = if blocks(128) < 2 * u64::from(gpu.multiprocessors) { 64 } else { 128 };
    let kernel = match (head_dim, rows) {
        (64, 64) => "attention_prefill_64_rows_64",
        (64, _) => "attention_prefill_64_rows_128",
        (_, 64) => "attention_prefill_128_rows_64",
        _ => "attention_prefill_128_rows_128",
    };
    let grid = [args.heads, args.sequences, args.tokens.div_ceil(rows)];
    // The tile of queries and three of 64 positions.
    let shared = (rows + 3 * 64) * head_dim * 2;
    Launch::new("attention_prefill", kernel, grid, 128, shared, &args).early()
}

/// What the launch for these tokens needs.
pub fn workspace(gpu: &Gpu, args: &AttentionArgs, head_dim: u32, context: u32) -> Workspace {
    let shape = DecodeShape::of(args, head_dim);
    let splits = shape.splits(gpu, args, context);
    if args.tokens > 1 || splits == 1 {
        return Workspace::default();
    }
    // Of every query head its outputs and two numbers more.
    let rows = u64::from(splits) * u64::from(args.sequences) * u64::from(args.heads);
    Workspace { partial_bytes: rows * u64::from(head_dim + 2) * 4, arrivals: shape.shared_by_splits(args) }
}

/// How the decode kernel for a group of query heads is cut.
struct DecodeShape {
    /// Query heads that a block takes at once.
    queries: u32,
    /// Blocks that the query heads of one KV head take.
    blocks_of_group: u32,
    warps: u32,
    /// Positions that a warp takes at a time: 8 KiB of keys and values.
    chunk: u32,
}

impl DecodeShape {
    fn of(args: &AttentionArgs, head_dim: u32) -> Self {
        let group = args.heads / args.kv_heads;
        let (queries, warps) = if group <= 8 { (8, 6) } else { (16, 4) };
        DecodeShape { queries, blocks_of_group: group.div_ceil(queries), warps, chunk: 2048 / head_dim }
    }

    /// Groups of blocks of which each splits one range of positions.
    fn shared_by_splits(&self, args: &AttentionArgs) -> u64 {
        u64::from(args.sequences) * u64::from(args.kv_heads) * u64::from(self.blocks_of_group)
    }

    /// The number of splits that takes the least time in a model whose unit is a chunk's time on a full card: waves
    /// of resident blocks, of which a part takes more than its share, and what a block and its partial results cost
    /// besides. Every warp of a split has a chunk.
    fn splits(&self, gpu: &Gpu, args: &AttentionArgs, context: u32) -> u32 {
        let slots = f64::from(RESIDENT * gpu.multiprocessors);
        let ranges = self.shared_by_splits(args) as f64;
        let chunks = context.max(1).div_ceil(self.chunk);
        let most = chunks.div_ceil(self.warps).min((8.0 * slots / ranges) as u32).max(1);
        let time = |splits: u32| {
            let waves = ranges * f64::from(splits) / slots;
            let rest = waves.fract();
            let waves = waves.floor() + if rest > 0.0 { 0.7 + 0.3 * rest } else { 0.0 };
            let merging = if splits > 1 { 1.0 + f64::from(self.queries) / 8.0 } else { 0.0 };
            waves * (f64::from(chunks.div_ceil(splits).next_multiple_of(self.warps)) + 2.0 + merging)
                + 0.06 * f64::from(splits)
        };
        (1..=most).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(1)
    }
}
