//! Embedding look-up and the norm before a prefill product: `kernels/elementwise.cu`.

use bytemuck::{Pod, Zeroable};

use super::driver::Address;
use super::launch::Launch;

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
