//! Matrices of bf16 made narrower on the device: `kernels/quantise.cu`.

use bytemuck::{Pod, Zeroable};

use super::Launch;
use super::format::Format;
use crate::backend::cuda::driver::Address;

/// `struct Quantise` of `kernels/quantise.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct QuantiseArgs {
    from: Address,
    codes: Address,
    scales: Address,
    rows: u32,
    k: u32,
}

/// Rows that a part of a matrix is a multiple of, but for the last: eight share a piece of scales.
pub const ROWS: u32 = 8;

/// A matrix in a format that is not bf16, and where its codes and scales begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its format.
    pub format: Format,
    /// Codes of row 0.
    pub codes: Address,
    /// Scales of row 0.
    pub scales: Address,
}

/// Quantises `rows` rows of `k` columns at `from`, which are those of the matrix from row `first`, a multiple of
/// [`ROWS`], on.
pub fn rows(from: Address, target: Target, first: u32, rows: u32, k: u32) -> Launch {
    const THREADS: u32 = 128;
    debug_assert!(first.is_multiple_of(ROWS) && k.is_multiple_of(8));
    let Target { format, codes, scales } = target;
    let kernel = match format {
        Format::Int4 => "quantise_int4",
        Format::Fp8 => "quantise_fp8",
        _ => "quantise_int8",
    };
    let args = QuantiseArgs {
        from,
        codes: codes + format.code_bytes(first, k),
        scales: scales + format.scale_bytes(first, k),
        rows,
        k,
    };
    Launch::new("quantise", kernel, [rows, 1, 1], THREADS, 0, &args)
}
