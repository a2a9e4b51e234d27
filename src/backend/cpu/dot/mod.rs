//! The one microkernel: a panel of 32 rows times a group of up to 12 tokens.
//!
//! A panel holds 32 rows as `[k/2][2 lines][16 rows][2]` bf16, 128 bytes per pair of columns. A group holds C
//! tokens as `[k/2][C][2]`. Every product of the suite is made of these: projections, q x k and p x v.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod portable;

use super::isa::InstructionSet;

/// Rows of a panel.
pub const PANEL: usize = 32;
/// Bytes of a bf16 panel per pair of columns.
pub const PAIR_BYTES: usize = 128;
/// Most tokens in a group: 24 accumulators of 16 rows.
pub const MAX_TOKENS: usize = 12;
/// Elements of a token where tokens come as rows: the positions of a block of the KV cache.
pub const ROW: usize = 64;

/// `out[token][32] (+)= panel x group`, over `pairs` pairs of columns.
///
/// While pair `i` is multiplied, `ahead + i * step` and half a step further are prefetched into L2, in the
/// variants made for it; the others ignore both.
///
/// # Safety
/// `panel` holds `pairs` pairs, `x` as many of its C tokens, `out` `C x 32` values; the CPU has the
/// instruction set the function was made for. `ahead` may point anywhere.
pub type Dot = unsafe fn(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
);

/// The kernels of one panel format for groups of 1 to 12 tokens.
#[derive(Clone, Copy)]
pub struct DotTable {
    plain: [Dot; MAX_TOKENS],
    ahead: [Dot; MAX_TOKENS],
    rows: [Dot; MAX_TOKENS],
}

impl DotTable {
    /// Kernel for `tokens` (1 to 12) tokens; the panel comes as one stream.
    pub fn plain(&self, tokens: usize) -> Dot {
        self.plain[tokens - 1]
    }

    /// Kernel for `tokens` (1 to 12) tokens that lie as rows of [`ROW`] elements instead of packed pairs.
    pub fn rows(&self, tokens: usize) -> Dot {
        self.rows[tokens - 1]
    }

    /// Kernel for `tokens` (1 to 12) tokens that prefetches.
    pub fn ahead(&self, tokens: usize) -> Dot {
        self.ahead[tokens - 1]
    }
}

/// How activations are held, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// bf16 pairs.
    Bf16,
    /// f32 that were rounded to bf16.
    Rounded,
    /// f32, with an f32 KV cache.
    Full,
}

/// The kernels of one instruction set and activation format.
#[derive(Clone, Copy)]
pub struct Dots {
    /// bf16 weights times activations.
    pub weights: DotTable,
    /// KV cache times activations.
    pub kv: DotTable,
}

/// The kernels of one file, for every number of tokens with the pairs that are then in flight.
macro_rules! kernels {
    ($dot:ident::dot, $ahead:literal, $rows:literal) => {
        [
            $dot::dot::<1, 4, $ahead, $rows>,
            $dot::dot::<2, 2, $ahead, $rows>,
            $dot::dot::<3, 2, $ahead, $rows>,
            $dot::dot::<4, 2, $ahead, $rows>,
            $dot::dot::<5, 2, $ahead, $rows>,
            $dot::dot::<6, 1, $ahead, $rows>,
            $dot::dot::<7, 1, $ahead, $rows>,
            $dot::dot::<8, 1, $ahead, $rows>,
            $dot::dot::<9, 1, $ahead, $rows>,
            $dot::dot::<10, 1, $ahead, $rows>,
            $dot::dot::<11, 1, $ahead, $rows>,
            $dot::dot::<12, 1, $ahead, $rows>,
        ]
    };
    ($file:ident::$dot:ident, $rows:literal) => {
        [
            $file::$dot::<1, $rows>,
            $file::$dot::<2, $rows>,
            $file::$dot::<3, $rows>,
            $file::$dot::<4, $rows>,
            $file::$dot::<5, $rows>,
            $file::$dot::<6, $rows>,
            $file::$dot::<7, $rows>,
            $file::$dot::<8, $rows>,
            $file::$dot::<9, $rows>,
            $file::$dot::<10, $rows>,
            $file::$dot::<11, $rows>,
            $file::$dot::<12, $rows>,
        ]
    };
}

macro_rules! table {
    ($dot:ident) => {
        DotTable {
            plain: kernels!($dot::dot, false, false),
            ahead: kernels!($dot::dot, true, false),
            rows: kernels!($dot::dot, false, true),
        }
    };
}

/// A table of kernels that do not prefetch.
macro_rules! plain_table {
    ($file:ident::$dot:ident) => {{
        let plain: [Dot; MAX_TOKENS] = kernels!($file::$dot, false);
        let rows: [Dot; MAX_TOKENS] = kernels!($file::$dot, true);
        DotTable { plain, ahead: plain, rows }
    }};
}

impl Dots {
    /// The kernels for this set and format. `Format::Bf16` needs [`InstructionSet::Avx512Bf16`].
    pub fn new(isa: InstructionSet, format: Format) -> Dots {
        let weights = match (isa, format) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, Format::Bf16) => table!(avx512_bf16),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => table!(avx512),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => plain_table!(avx2::dot),
            _ => plain_table!(portable::dot),
        };
        let kv = match (isa, format) {
            (_, Format::Bf16 | Format::Rounded) => weights,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => {
                plain_table!(portable::dot_f32_avx512)
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => plain_table!(portable::dot_f32_avx2),
            _ => plain_table!(portable::dot_f32),
        };
        Dots { weights, kv }
    }
}

#[cfg(test)]
mod tests;
