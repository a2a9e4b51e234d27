//! Attention in both phases: `kernels/attention_decode.cuh` and `kernels/attention_prefill.cuh`, for caches of each
//! format and, where `args` have a table of them, in pages.
//!
//! `head_dim` is one that [`supports`] allows, `format` bf16, int8 or fp8; `context` is the most positions that a new token attends. It decides
//! how the work is shared out; where each sequence stands, the kernels read from `start` themselves.

use super::Launch;
use super::args::AttentionArgs;
use super::format::Format;
use super::workspace::Workspace;
use crate::backend::cuda::driver::Gpu;

/// Blocks of every decode kernel that a multiprocessor holds at once.
const RESIDENT: u32 = 2;

/// Whether there are kernels for heads of this size.
pub fn supports(head_dim: u32) -> bool {
    matches!(head_dim, 64 | 128)
}

/// Source and kernel of a family for a format, with pages or without, and a size: `attention_decode_paged_int8_128_8`.
macro_rules! kernel {
    ($family:literal, $format:expr, $paged:expr, $size:literal) => {
        match ($format, $paged) {
            (Format::Int8, false) => kernel!(@of $family, "_int8", $size),
            (Format::Fp8, false) => kernel!(@of $family, "_fp8", $size),
            (_, false) => kernel!(@of $family, "", $size),
            (Format::Int8, true) => kernel!(@of $family, "_paged_int8", $size),
            (Format::Fp8, true) => kernel!(@of $family, "_paged_fp8", $size),
            (_, true) => kernel!(@of $family, "_paged", $size),
        }
    };
    (@of $family:literal, $kind:literal, $size:literal) => {
        (concat!($family, $kind), concat!($family, $kind, $size))
    };
}

/// Attention of one new token per sequence.
pub fn decode(gpu: &Gpu, args: AttentionArgs, head_dim: u32, format: Format, context: u32) -> Launch {
    let shape = DecodeShape::of(&args, head_dim, format);
    let splits = shape.splits(gpu, &args, context);
    let paged = args.pages != 0;
    let (source, kernel) = match (head_dim, shape.queries) {
        (64, 8) => kernel!("attention_decode", format, paged, "_64_8"),
        (64, _) => kernel!("attention_decode", format, paged, "_64_16"),
        (_, 8) => kernel!("attention_decode", format, paged, "_128_8"),
        _ => kernel!("attention_decode", format, paged, "_128_16"),
    };
    let grid = [splits, args.kv_heads * shape.blocks_of_group, args.sequences];
    let args = AttentionArgs { splits, ..args };
    Launch::new(source, kernel, grid, 32 * shape.warps, 0, &args).early()
}

/// Attention of many new tokens per sequence, causal among them.
pub fn prefill(gpu: &Gpu, args: AttentionArgs, head_dim: u32, format: Format, _context: u32) -> Launch {
    // Tiles of 128 rows are the faster ones, where there are enough of them to occupy the card.
    let blocks =
        |rows: u32| u64::from(args.heads) * u64::from(args.sequences) * u64::from(args.tokens.div_ceil(rows));
    let rows = if blocks(128) < 2 * u64::from(gpu.multiprocessors) { 64 } else { 128 };
    let paged = args.pages != 0;
    let (source, kernel) = match (head_dim, rows) {
        (64, 64) => kernel!("attention_prefill", format, paged, "_64_rows_64"),
        (64, _) => kernel!("attention_prefill", format, paged, "_64_rows_128"),
        (_, 64) => kernel!("attention_prefill", format, paged, "_128_rows_64"),
        _ => kernel!("attention_prefill", format, paged, "_128_rows_128"),
    };
    let grid = [args.heads, args.sequences, args.tokens.div_ceil(rows)];
    // The tile of queries and three of 64 positions, or two with codes of two more and the scales twice.
    let slots = if format.is_quantised() { 64 * head_dim * 6 + 2 * 512 } else { 64 * head_dim * 6 };
    let shared = rows * head_dim * 2 + slots;
    Launch::new(source, kernel, grid, 128, shared, &args).early()
}

/// What the launch for these tokens needs.
pub fn workspace(gpu: &Gpu, args: &AttentionArgs, head_dim: u32, format: Format, context: u32) -> Workspace {
    let shape = DecodeShape::of(args, head_dim, format);
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
    fn of(args: &AttentionArgs, head_dim: u32, format: Format) -> Self {
        let group = args.heads / args.kv_heads;
        let (queries, warps) = if group <= 8 { (8, 6) } else { (16, 4) };
        let line = if format.is_quantised() { head_dim } else { 2 * head_dim };
        DecodeShape { queries, blocks_of_group: group.div_ceil(queries), warps, chunk: 4096 / line }
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
