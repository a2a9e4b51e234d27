//! The one microkernel: a panel of 32 rows times a group of up to 12 tokens, or columns of integers.
//!
//! A panel holds 32 rows as `[k/2][2 lines][16 rows][2]` bf16, 128 bytes per pair of columns; half a panel, as the keys of a
//! page of 16 positions are one, has one line. A group holds C
//! tokens as `[k/2][C][2]`. Every product of the suite is made of these: projections, q x k and p x v. Quantised weights
//! have kernels of the same shape, a step of 128 bytes at a time, see [`super::panels`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_avx2;
#[cfg(target_arch = "x86_64")]
mod codes_avx512;
mod integer;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod words_avx2;

use super::isa::InstructionSet;
use super::panels::Integers;
use super::prefetch;
use crate::model::DType;

/// Rows of a panel.
pub const PANEL: usize = 32;
/// Bytes of a panel per step: 2 columns of bf16, 4 of int8, 8 of int4.
pub const STEP_BYTES: usize = 128;
/// The same of a panel of the 8-bit cache: 2 columns.
pub const CODES_STEP_BYTES: usize = 64;
/// Steps of a group of int4 that shares its scales.
pub const GROUP_STEPS: usize = 16;
/// Most tokens in a group: 24 accumulators of 16 rows.
pub const MAX_TOKENS: usize = 12;
/// Elements of a token where tokens come as rows: the positions of a block of the KV cache.
pub const ROW: usize = 64;

/// `out[token][32] (+)= panel x group`, over so many steps (pairs of columns of bf16).
///
/// While pair `i` is multiplied, the line at `ahead + i * step`, and of a whole panel of bf16 the one half a step further, is
/// prefetched in the variants made for it; the others ignore both. A group of int4 takes half a step more, for its scales.
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

/// `out[token][32] (+)= panel x tokens` of a panel whose columns lie in pieces of so many pairs, a multiple of 4; tokens lie as
/// rows of [`ROW`] elements. The values of a block are such panels: one piece, or a few on pages of their own.
///
/// While a piece is multiplied, as much is prefetched from what `ahead` has in its place, in the variants made for it.
///
/// # Safety
/// Each of `pieces` holds `pairs` pairs, `x` all of C tokens, `out` `C x 32` values; the CPU has the instruction set the
/// function was made for. `ahead` has as many pointers, which may point anywhere.
pub type Rows = unsafe fn(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: &[*const u8],
);

/// The kernels of one format of weights for groups of 1 to 12 tokens.
#[derive(Clone, Copy)]
pub struct DotTable {
    ahead: [Dot; MAX_TOKENS],
    stream: [Dot; MAX_TOKENS],
    distance: [usize; MAX_TOKENS],
}

impl DotTable {
    /// Bytes from what the kernel of [`DotTable::stream`] multiplies to what it should fetch meanwhile.
    pub fn distance(&self, tokens: usize) -> usize {
        self.distance[tokens - 1]
    }

    /// Kernel for `tokens` (1 to 12) tokens and a panel that is read once, from memory.
    pub fn stream(&self, tokens: usize) -> Dot {
        self.stream[tokens - 1]
    }

    /// Kernel for `tokens` (1 to 12) tokens that fetches into L2, where there is one.
    pub fn ahead(&self, tokens: usize) -> Dot {
        self.ahead[tokens - 1]
    }
}

/// The kernels of one format of the cache for groups of 1 to 12 tokens: keys, half panels of keys, values.
#[derive(Clone, Copy)]
pub struct CacheDots {
    keys: [Dot; MAX_TOKENS],
    halves: [Dot; MAX_TOKENS],
    values: [Rows; MAX_TOKENS],
}

impl CacheDots {
    /// Kernel for `tokens` (1 to 12) tokens and a panel of keys, or half a panel: 16 rows, the first 16 of each 32 values put
    /// out.
    pub fn keys(&self, tokens: usize, rows: usize) -> Dot {
        if rows < PANEL { self.halves[tokens - 1] } else { self.keys[tokens - 1] }
    }

    /// Kernel for `tokens` (1 to 12) tokens and values.
    pub fn values(&self, tokens: usize) -> Rows {
        self.values[tokens - 1]
    }
}

/// The kernels of a cache that fetch it from memory as they go, into a cache of each level; of level 0 where it is near already.
#[derive(Clone, Copy)]
pub struct Cached([CacheDots; 3]);

impl Cached {
    /// Kernels that fetch into the caches of this level.
    pub fn level(&self, level: usize) -> &CacheDots {
        &self.0[level]
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
    pub kv: Cached,
    /// KV cache of codes times integers of 16 bits.
    pub codes: Cached,
    /// int8 weights times integers.
    pub int8: DotTable,
    /// int4 weights times integers.
    pub int4: DotTable,
}

/// The kernels of one file for every number of tokens, with the pairs that are then in flight where it says so.
macro_rules! kernels {
    ($file:ident::$dot:ident as $type:ty, in flight $(, $what:literal)*) => {
        kernels!(@all $file::$dot as $type,
            [(1 4) (2 2) (3 2) (4 2) (5 2) (6 1) (7 1) (8 1) (9 1) (10 1) (11 1) (12 1)] [$($what)*])
    };
    ($file:ident::$dot:ident as $type:ty $(, $what:literal)*) => {
        kernels!(@all $file::$dot as $type,
            [(1) (2) (3) (4) (5) (6) (7) (8) (9) (10) (11) (12)] [$($what)*])
    };
    (@all $file:ident::$dot:ident as $type:ty, [$($c:tt)*] $what:tt) => {
        [$(kernels!(@one $file::$dot as $type, $c $what)),*]
    };
    (@one $file:ident::$dot:ident as $type:ty, ($($c:literal)*) [$($what:literal)*]) => {
        $file::$dot::<$($c,)* $($what),*> as $type
    };
}

/// A table of kernels that can fetch into either cache, of weights of a type.
macro_rules! table {
    ($isa:expr, $dtype:ident: $file:ident::$dot:ident $(, $in:tt $flight:tt)? $(; $lines:literal)?) => {{
        let levels = [
            kernels!($file::$dot as Dot $(, $in $flight)? $(, $lines)?, 0),
            kernels!($file::$dot as Dot $(, $in $flight)? $(, $lines)?, 1),
            kernels!($file::$dot as Dot $(, $in $flight)? $(, $lines)?, 2),
        ];
        DotTable {
            ahead: levels[2],
            stream: std::array::from_fn(|i| levels[prefetch::level_of_weights($isa, i + 1)][i]),
            distance: std::array::from_fn(|i| prefetch::distance_of_weights($isa, DType::$dtype, i + 1)),
        }
    }};
}

/// A table of kernels that do not prefetch.
macro_rules! plain_table {
    ($file:ident::$dot:ident) => {{
        let plain = kernels!($file::$dot as Dot, 2);
        DotTable { ahead: plain, stream: plain, distance: [0; MAX_TOKENS] }
    }};
}

/// The kernels of a cache that can fetch into either cache.
macro_rules! cached {
    ($file:ident::$dot:ident, $rows:ident $(, $in:tt $flight:tt)?) => {
        Cached([
            cached!(@level $file::$dot, $rows, 0 $(, $in $flight)?),
            cached!(@level $file::$dot, $rows, 1 $(, $in $flight)?),
            cached!(@level $file::$dot, $rows, 2 $(, $in $flight)?),
        ])
    };
    (@level $file:ident::$dot:ident, $rows:ident, $level:literal $(, $in:tt $flight:tt)?) => {
        CacheDots {
            keys: kernels!($file::$dot as Dot $(, $in $flight)?, 2, $level),
            halves: kernels!($file::$dot as Dot $(, $in $flight)?, 1, $level),
            values: kernels!($file::$rows as Rows $(, $in $flight)?, $level),
        }
    };
}

/// Those that do not prefetch.
macro_rules! plain_cached {
    ($file:ident::$dot:ident, $rows:ident) => {{
        let plain = CacheDots {
            keys: kernels!($file::$dot as Dot, 2),
            halves: kernels!($file::$dot as Dot, 1),
            values: kernels!($file::$rows as Rows),
        };
        Cached([plain; 3])
    }};
}

/// Kernels of 1 to 12 tokens of one column each, or of 1 to 6 of two; of more the last stands in and is never called.
macro_rules! integer_kernels {
    ($file:ident::$int8:ident, $int4:ident, $limbs:expr $(, $level:literal)?) => {
        match $limbs {
            1 => (
                integer_kernels!(@int8 $file::$int8 [1 2 3 4 5 6 7 8 9 10 11 12] $($level)?),
                integer_kernels!(@int4 $file::$int4
                    [(1 1) (2 2) (3 3) (4 4) (5 5) (6 6) (7 7) (8 8) (9 9) (10 10) (11 11) (12 12)] $($level)?),
            ),
            _ => (
                integer_kernels!(@int8 $file::$int8 [2 4 6 8 10 12 12 12 12 12 12 12] $($level)?),
                integer_kernels!(@int4 $file::$int4
                    [(1 2) (2 4) (3 6) (4 8) (5 10) (6 12) (6 12) (6 12) (6 12) (6 12) (6 12) (6 12)] $($level)?),
            ),
        }
    };
    (@int8 $file:ident::$int8:ident [$($c:literal)*]) => {
        [$($file::$int8::<$c> as Dot),*]
    };
    // As many steps in flight as it takes for eight chains of additions.
    (@int8 $file:ident::$int8:ident [$($c:literal)*] $level:literal) => {
        [$($file::$int8::<$c, { steps_in_flight($c) }, $level> as Dot),*]
    };
    (@int4 $file:ident::$int4:ident [$(($t:literal $c:literal))*]) => {
        [$($file::$int4::<$t, $c> as Dot),*]
    };
    (@int4 $file:ident::$int4:ident [$(($t:literal $c:literal))*] $level:literal) => {
        [$($file::$int4::<$t, $c, { in_flight($c).0 }, { in_flight($c).1 }, $level> as Dot),*]
    };
}

/// Steps that keep the units busy with so many columns: each of a chain of dot products waits for the one before.
const fn steps_in_flight(columns: usize) -> usize {
    match columns {
        1 | 2 => 4,
        3..=5 => 2,
        _ => 1,
    }
}

/// The same of int4: steps, and halves of the bytes that have chains of their own.
const fn in_flight(columns: usize) -> (usize, usize) {
    match columns {
        1 => (4, 2),
        2 => (2, 2),
        3..=5 => (1, 2),
        _ => (1, 1),
    }
}

/// The kernels for int8 and int4 weights.
fn integer_tables(isa: InstructionSet, integers: Integers) -> (DotTable, DotTable) {
    match (isa, integers) {
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, Integers::Bytes { columns }) => {
            let levels = [
                integer_kernels!(vnni::int8, int4, columns, 0),
                integer_kernels!(vnni::int8, int4, columns, 1),
                integer_kernels!(vnni::int8, int4, columns, 2),
            ];
            let level = |i| levels[prefetch::level_of_integers((i + 1) * columns)];
            let distance = [prefetch::FAR; MAX_TOKENS];
            let int8 =
                DotTable { ahead: levels[2].0, stream: std::array::from_fn(|i| level(i).0[i]), distance };
            let int4 =
                DotTable { ahead: levels[2].1, stream: std::array::from_fn(|i| level(i).1[i]), distance };
            (int8, int4)
        }
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Bf16 | InstructionSet::Avx512 | InstructionSet::Avx2, _) => {
            let isa = InstructionSet::Avx2;
            (table!(isa, Int8: words_avx2::int8), table!(isa, Int4: words_avx2::int4))
        }
        _ => {
            let (int8, int4) = integer_kernels!(integer::int8, int4, integers.columns());
            let plain = |plain| DotTable { ahead: plain, stream: plain, distance: [0; MAX_TOKENS] };
            (plain(int8), plain(int4))
        }
    }
}

impl Dots {
    /// The kernels for this set and format, with integers as the set takes them ([`Integers::of`]). `Format::Bf16` needs
    /// [`InstructionSet::Avx512Bf16`].
    pub fn new(isa: InstructionSet, format: Format, integers: Integers) -> Dots {
        let weights = match (isa, format) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, Format::Bf16) => table!(isa, Bf16: avx512_bf16::dot, in flight; 2),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => {
                table!(isa, Bf16: avx512::dot, in flight; 2)
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => table!(isa, Bf16: avx2::dot; 2),
            _ => plain_table!(portable::dot),
        };
        let kv = match (isa, format) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, Format::Bf16) => cached!(avx512_bf16::dot, rows, in flight),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, Format::Full) => {
                plain_cached!(portable::dot_f32_avx512, rows_f32_avx512)
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => {
                cached!(avx512::dot, rows, in flight)
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Format::Full) => plain_cached!(portable::dot_f32_avx2, rows_f32_avx2),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => cached!(avx2::dot, rows),
            (_, Format::Full) => plain_cached!(portable::dot_f32, rows_f32),
            _ => plain_cached!(portable::dot, rows),
        };
        let codes = match isa {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 if is_x86_feature_detected!("avx512vnni") => {
                cached!(codes_avx512::dot_vnni, rows_vnni, in flight)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => {
                cached!(codes_avx512::dot, rows, in flight)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => cached!(codes_avx2::dot, rows),
            _ => plain_cached!(codes::dot, rows),
        };
        let (int8, int4) = integer_tables(isa, integers);
        Dots { weights, kv, codes, int8, int4 }
    }
}

#[cfg(test)]
mod tests;
