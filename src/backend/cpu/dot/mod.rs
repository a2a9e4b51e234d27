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
}

impl DotTable {
    /// Kernel for `tokens` (1 to 12) tokens; the panel comes as one stream.
    pub fn plain(&self, tokens: usize) -> Dot {
        self.plain[tokens - 1]
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

macro_rules! table {
    ($dot:path) => {
        DotTable { plain: table!($dot, false), ahead: table!($dot, true) }
    };
    ($dot:path, $ahead:literal) => {{
        use $dot as dot;
        [
            dot::<1, 4, $ahead>,
            dot::<2, 2, $ahead>,
            dot::<3, 2, $ahead>,
            dot::<4, 1, $ahead>,
            dot::<5, 1, $ahead>,
            dot::<6, 1, $ahead>,
            dot::<7, 1, $ahead>,
            dot::<8, 1, $ahead>,
            dot::<9, 1, $ahead>,
            dot::<10, 1, $ahead>,
            dot::<11, 1, $ahead>,
            dot::<12, 1, $ahead>,
        ]
    }};
}

macro_rules! table_by_tokens {
    ($dot:path) => {{
        use $dot as dot;
        let plain: [Dot; MAX_TOKENS] = [
            dot::<1>, dot::<2>, dot::<3>, dot::<4>, dot::<5>, dot::<6>, dot::<7>, dot::<8>, dot::<9>,
            dot::<10>, dot::<11>, dot::<12>,
        ];
        DotTable { plain, ahead: plain }
    }};
}

impl Dots {
    /// The kernels for this set and format. `Format::Bf16` needs [`InstructionSet::Avx512Bf16`].
    pub fn new(isa: InstructionSet, format: Format) -> Dots {
        let weights = match (isa, format) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, Format::Bf16) => table!(avx512_bf16::dot),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => table!(avx512::dot),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => table_by_tokens!(avx2::dot),
            _ => table_by_tokens!(portable::dot),
        };
        let kv = match (isa, format) {
            (_, Format::Bf16 | Format::Rounded) => weights,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => {
                table_by_tokens!(portable::dot_f32_avx512)
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => table_by_tokens!(portable::dot_f32_avx2),
            _ => table_by_tokens!(portable::dot_f32),
        };
        Dots { weights, kv }
    }
}
