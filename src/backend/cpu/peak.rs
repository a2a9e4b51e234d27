//! Arithmetic from registers alone: the instructions that the products use, with nothing to wait for.

use std::time::Instant;

use super::isa::{InstructionSet, per_isa};
use crate::model::DType;

/// Times round a loop between two looks at the clock.
const ROUNDS: usize = 20_000;

/// Does a fixed amount of multiply-adds and returns how many operations that was (two each).
///
/// Sets without instructions for bf16 multiply widened values, so their bf16 peak is that of f32.
pub fn operations(isa: InstructionSet, dtype: DType) -> f64 {
    // SAFETY: the sets are only chosen where the CPU has them.
    let macs = unsafe {
        match (isa, dtype) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, DType::Bf16) => x86::bf16(),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, DType::Int8) => {
                if is_x86_feature_detected!("avx512vnni") { x86::int8_vnni() } else { x86::int8_avx512() }
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, DType::Int8) => x86::int8_avx2(),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16 | InstructionSet::Avx512, _) => x86::f32_avx512(),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => x86::f32_avx2(),
            (_, DType::Int8) => int8_portable(isa),
            _ => f32_portable(isa),
        }
    };
    2.0 * macs as f64
}

/// How much faster f32 multiply-adds must be than bf16 dot products for widened weights to pay: widening takes instructions too.
const WIDENING: f64 = 1.3;
/// Loops of each kind that are timed, in turn, a tenth of a millisecond each: enough for both to get undisturbed ones on a
/// machine that others keep busy. The answer is one of the conditions of a run, so it must be the same every time.
const TURNS: usize = 50;

/// The set whose bf16 products are the fastest on this CPU.
///
/// The richest, but for one case that the names do not tell: AMD's cores do twice as many operations in bf16 dot products as
/// in f32 ones, Intel's server cores (Sapphire and Emerald Rapids) half as many, so that there weights are better widened.
/// The best of many short register-only loops of both decide.
pub fn fastest() -> InstructionSet {
    let available = InstructionSet::available();
    let richest = available.first().copied().unwrap_or(InstructionSet::Portable);
    if richest != InstructionSet::Avx512Bf16 {
        return richest;
    }
    let sets = [InstructionSet::Avx512, richest];
    let mut best = [0f64; 2];
    for _ in 0..TURNS {
        for (best, set) in best.iter_mut().zip(sets) {
            let start = Instant::now();
            *best = best.max(operations(set, DType::Bf16) / start.elapsed().as_secs_f64());
        }
    }
    let [widened, richest] = best;
    if widened > WIDENING * richest { sets[0] } else { sets[1] }
}

per_isa! {
    /// f32 multiply-adds as the portable kernels do them.
    unsafe fn f32_portable() -> usize {
        let factors = std::hint::black_box([0.999f32; 8]);
        let mut sums = [[1f32; 8]; 4];
        for _ in 0..ROUNDS {
            for sums in &mut sums {
                for (sum, factor) in sums.iter_mut().zip(&factors) {
                    *sum = if cfg!(target_arch = "aarch64") {
                        factor.mul_add(*factor, *sum)
                    } else {
                        factor * *sum + factor
                    };
                }
            }
        }
        std::hint::black_box(sums);
        ROUNDS * 32
    }
}

per_isa! {
    /// Integer multiply-adds as the compiler makes them.
    unsafe fn int8_portable() -> usize {
        let mut factors = [3i16; 32];
        let mut sums = [0i32; 16];
        for _ in 0..ROUNDS {
            factors = std::hint::black_box(factors);
            for (i, sum) in sums.iter_mut().enumerate() {
                let (a, b) = (i32::from(factors[2 * i]), i32::from(factors[2 * i + 1]));
                *sum = sum.wrapping_add(a * a + b * b);
            }
        }
        std::hint::black_box(sums);
        ROUNDS * 32
    }
}

/// Loops over vector registers. An empty `asm!` renews an operand where the compiler could otherwise take the
/// product out of the loop.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::ROUNDS;

    /// Independent sums: more than latency times throughput of any x86 so far.
    const SUMS: usize = 16;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16() -> usize {
        // SAFETY: 512 bits each; any bits are bf16 numbers.
        let a: __m512bh = unsafe { std::mem::transmute(black_box(_mm512_set1_epi32(0x3f80_3f00))) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 32
    }

    #[target_feature(enable = "avx512f")]
    pub fn f32_avx512() -> usize {
        let a = black_box(_mm512_set1_ps(0.999));
        let mut sums = [_mm512_set1_ps(1.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, a);
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 16
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn f32_avx2() -> usize {
        const SUMS: usize = 12;
        let a = black_box(_mm256_set1_ps(0.999));
        let mut sums = [_mm256_set1_ps(1.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, a);
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 8
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn int8_vnni() -> usize {
        let a = black_box(_mm512_set1_epi8(3));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, a);
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 64
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn int8_avx512() -> usize {
        const SUMS: usize = 8;
        let ones = black_box(_mm512_set1_epi16(1));
        let mut a = [black_box(_mm512_set1_epi8(3)); SUMS];
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ROUNDS {
            for (sum, a) in sums.iter_mut().zip(&mut a) {
                // SAFETY: an empty instruction sequence.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * a, options(nomem, nostack, preserves_flags)) };
                let pairs = _mm512_maddubs_epi16(*a, *a);
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 64
    }

    #[target_feature(enable = "avx2")]
    pub fn int8_avx2() -> usize {
        const SUMS: usize = 6;
        let ones = black_box(_mm256_set1_epi16(1));
        let mut a = [black_box(_mm256_set1_epi8(3)); SUMS];
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ROUNDS {
            for (sum, a) in sums.iter_mut().zip(&mut a) {
                // SAFETY: an empty instruction sequence.
                unsafe { asm!("/* {0} */", inout(ymm_reg) * a, options(nomem, nostack, preserves_flags)) };
                let pairs = _mm256_maddubs_epi16(*a, *a);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        ROUNDS * SUMS * 32
    }
}
