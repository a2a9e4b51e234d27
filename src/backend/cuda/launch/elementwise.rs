//! Embedding look-up, the norm before a prefill product, and what follows one of cuBLASLt's:
//! `kernels/elementwise.cu`.

use bytemuck::{Pod, Zeroable};

use super::Launch;
use super::args::LinearArgs;
use super::format::Format;
use crate::backend::cuda::driver::Address;

/// `struct Embed` of `kernels/elementwise.cu`, which says what each field is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct EmbedArgs {
    pub table: Address,
    pub tokens: Address,
    pub residual: Address,
    pub k: u32,
    pub reserved: u32,
}

/// `struct RmsNorm` of `kernels/elementwise.cu`, which says what each field is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RmsNormArgs {
    pub x: Address,
    pub norm: Address,
    pub normed: Address,
    pub k: u32,
    pub x_stride: u32,
    pub eps: f32,
    pub reserved: u32,
}

/// Copies the table's row of each token.
pub fn embed(rows: u32, args: EmbedArgs) -> Launch {
    Launch::new("elementwise", "embed", [rows, args.k.div_ceil(4096), 1], 256, 0, &args).early()
}

/// Norms rows. To pick the last row of each sequence, `x` is the first of them and `x_stride` is as long as a
/// sequence.
pub fn rms_norm(rows: u32, args: RmsNormArgs) -> Launch {
    // A thread holds four pieces of eight elements.
    let threads = args.k.div_ceil(32).next_multiple_of(32).min(1024);
    Launch::new("elementwise", "rms_norm", [rows, 1, 1], threads, 0, &args).early()
}

/// Rotates q and k of stored products and puts q, k and v where they belong. `args` is what the product of the stage
/// is given, but for `x`: `[rows][x_stride]` q, k and v.
pub fn rotate_append(args: LinearArgs) -> Launch {
    finish_stored("rotate_append", args, args.n / 16)
}

/// Puts the new keys and values at `args.fresh` into a cache of codes, int8 or fp8. Heads have 64 or 128 elements.
pub fn append(format: Format, args: LinearArgs) -> Launch {
    const THREADS: u32 = 128;
    debug_assert!(format.is_quantised() && matches!(args.head_dim, 64 | 128));
    let kernel = if format == Format::Fp8 { "append_fp8" } else { "append_int8" };
    // A thread takes eight elements.
    let grid = [args.rows, (2 * args.kv_width).div_ceil(8 * THREADS), 1];
    Launch::new("elementwise", kernel, grid, THREADS, 0, &args).early()
}

/// `y = silu(gate) up` of stored products. `args` is what the product of the stage is given, but for `x`:
/// `[rows][x_stride]` gate and up.
pub fn silu_multiply(args: LinearArgs) -> Launch {
    finish_stored("silu_multiply", args, args.n / 8)
}

/// A thread takes two times eight elements.
fn finish_stored(kernel: &'static str, args: LinearArgs, pieces: u32) -> Launch {
    const THREADS: u32 = 128;
    let grid = [args.rows, pieces.div_ceil(THREADS), 1];
    Launch::new("elementwise", kernel, grid, THREADS, 0, &args).early()
}
