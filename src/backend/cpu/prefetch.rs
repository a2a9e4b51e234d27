//! What is fetched by hand before it is read, and into which cache: that differs by core.
//!
//! A level is 1 or 2 for the caches of these names, or 0 where the CPU does better by itself.

use std::sync::OnceLock;

use super::dot::PANEL;
use super::isa::InstructionSet;
use super::panels::GROUP_BYTES;
use crate::model::DType;
use crate::model::precision::GROUP;

/// How far ahead a stream is fetched with AVX-512: two pages. Half as far gains nothing, a quarter loses a third.
pub const FAR: usize = 8 << 10;

/// Cores that are known to want different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    /// Intel's server cores: L1 alone has 16 lines under way, L2 has 48, and what passes L2 by reaches less than half of the
    /// memory's rate.
    Intel,
    /// AMD's from Zen 5 on: by itself it does not look far enough ahead once there is more arithmetic than a token's.
    Zen5,
    /// AMD's before, and all others: with AVX-512 it does well by itself up to five tokens of bf16 or columns of 8 bits, and
    /// fetching for them only costs; with AVX2 it does not.
    Other,
}

fn core() -> Core {
    static CORE: OnceLock<Core> = OnceLock::new();
    *CORE.get_or_init(identify)
}

#[cfg(target_arch = "x86_64")]
fn identify() -> Core {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    match [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() {
        b"GenuineIntel" => Core::Intel,
        b"AuthenticAMD" if family(__cpuid(1).eax) >= 0x1a => Core::Zen5,
        _ => Core::Other,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn identify() -> Core {
    Core::Other
}

/// Family of an x86-64, from leaf 1 of CPUID: the base family, and from 15 on the extended one added.
#[cfg(any(target_arch = "x86_64", test))]
fn family(signature: u32) -> u32 {
    match signature >> 8 & 0xf {
        0xf => 0xf + (signature >> 20 & 0xff),
        base => base,
    }
}

/// Level that weights are fetched into when they are multiplied with so many columns of 8 bits with AVX-512. On a Zen 4 four
/// columns of int8 and two of int4 reach 0.8 to 1.0 of the memory's rate without fetching, 0.7 to 0.8 with it, and eight 0.65
/// without, 0.83 with it.
pub fn level_of_integers(columns: usize) -> usize {
    match core() {
        Core::Intel => 2,
        Core::Zen5 => 1,
        Core::Other if columns > 5 => 2,
        Core::Other => 0,
    }
}

/// Level that weights are fetched into when they are multiplied with so many tokens: in bf16, and in integers with AVX2.
pub fn level_of_weights(isa: InstructionSet, tokens: usize) -> usize {
    match core() {
        Core::Intel => 2,
        _ if isa == InstructionSet::Avx2 => 1,
        Core::Zen5 => usize::from(tokens > 1),
        Core::Other if tokens > 5 => 2,
        Core::Other => 0,
    }
}

/// How many bytes ahead that is.
///
/// With AVX2 as measured on a Zen 3, which has some 24 lines under way to L1 and gains nothing by being asked for more: 22 lines
/// ahead int8 reaches 0.9 of the memory's rate, two pages ahead 0.8, left alone 0.75. int4 keeps the core longer with each line,
/// and so do more tokens, which go over 128 columns again and again: meanwhile the next 128 come.
pub fn distance_of_weights(isa: InstructionSet, dtype: DType, tokens: usize) -> usize {
    match (core(), dtype, tokens) {
        (Core::Intel | Core::Zen5, _, _) => FAR,
        _ if isa != InstructionSet::Avx2 => FAR,
        (Core::Other, DType::Int4, 1..=2) => 48 * 64,
        (Core::Other, DType::Int4, _) => GROUP_BYTES,
        (Core::Other, DType::Int8, 1..=2) => 22 * 64,
        (Core::Other, DType::Int8, _) => GROUP as usize * PANEL,
        (Core::Other, _, _) => 18 * 64,
    }
}

/// Level that the KV cache of `bits` bits is fetched into where it is read once. Of codes a line takes twice the arithmetic: a
/// Zen 4 has too few of them under way by itself, and reaches 1.5 times the rate once the next block comes into L2 meanwhile. Of
/// bf16 it has enough and loses a fifth by that, but in pages, which nothing tells it where to look for.
pub fn level_of_cache(isa: InstructionSet, bits: usize, is_paged: bool) -> usize {
    match core() {
        Core::Intel => 2,
        Core::Zen5 => 1,
        Core::Other if isa == InstructionSet::Avx2 => 1,
        Core::Other if bits == 8 || is_paged => 2,
        Core::Other => 0,
    }
}

/// How many bytes ahead a contiguous cache is fetched into L1, of `bits` bits each: of codes a byte takes twice the arithmetic.
pub fn distance_of_cache(bits: usize) -> usize {
    match (core(), bits) {
        (Core::Other, 16) => 18 * 64,
        (Core::Other, _) => 36 * 64,
        (_, 16) => FAR,
        _ => 2 * FAR,
    }
}

/// Asks for the line of what is read next (level 1) or somewhat later (2); at level 0 for nothing.
#[inline(always)]
pub fn line<const LEVEL: usize>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch may go anywhere, and every x86-64 has it.
        unsafe {
            match LEVEL {
                0 => {}
                1 => _mm_prefetch::<_MM_HINT_T0>(at.cast()),
                _ => _mm_prefetch::<_MM_HINT_T1>(at.cast()),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for the lines of so many bytes.
#[inline(always)]
pub fn lines<const LEVEL: usize>(start: *const u8, bytes: usize) {
    (0..bytes).step_by(64).for_each(|at| line::<LEVEL>(start.wrapping_add(at)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_read_as_its_maker_says() {
        assert_eq!(family(0x00b0_0f21), 0x1a, "Turin, Zen 5");
        assert_eq!(family(0x00a1_0f11), 0x19, "Genoa, Zen 4");
        assert_eq!(family(0x0080_0f12), 0x17, "Naples, Zen");
        assert_eq!(family(0x000c_06f2), 6, "Emerald Rapids");
    }

    #[test]
    fn every_level_is_one_that_there_is() {
        for isa in InstructionSet::ALL {
            assert!(
                (1..=12)
                    .flat_map(|n| [level_of_weights(isa, n), level_of_integers(n)])
                    .chain(
                        [(8, false), (8, true), (16, false), (16, true)]
                            .map(|(bits, is_paged)| level_of_cache(isa, bits, is_paged))
                    )
                    .all(|level| level <= 2)
            );
        }
    }
}
