//! Panel times columns of integers on AVX2, which has no 8-bit dot products that keep what 8-bit codes need.

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::x86_64::*;

use super::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::backend::cpu::panels::{GROUP_BYTES, GROUP_COLUMN_BYTES};

/// Steps of int8 that stay in L1 while they meet all columns.
const BLOCK: usize = 32;
/// Steps of int4 whose products, 7,680 at most in each, are added up in 16 bits.
const SHORT: usize = 4;

/// See [`super::Dot`]; codes and columns are widened to 16 bits. Puts out i32, the offset of the codes still in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int8.
#[target_feature(enable = "avx2")]
pub unsafe fn int8<const C: usize>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        for first in (0..steps).step_by(BLOCK) {
            let last = (first + BLOCK).min(steps);
            for at in first..last {
                fetch(ahead.wrapping_add(at * step), step);
            }
            let add = accumulate || first > 0;
            for line in 0..2 {
                let mut c = 0;
                while c < C {
                    let from = panel.add(line * 64);
                    let to = out.add(c * PANEL + line * 16).cast::<__m256i>();
                    if c + 1 < C {
                        columns::<2, C>(from, first, last, x.add(c * 4), to, add);
                        c += 2;
                    } else {
                        columns::<1, C>(from, first, last, x.add(c * 4), to, add);
                        c += 1;
                    }
                }
            }
        }
    }
}

/// One line of 16 rows times `N` columns, for the steps from `first` to `last`.
///
/// # Safety
/// As for [`int8`], for this part of the panel, the columns and the output.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn columns<const N: usize, const C: usize>(
    line: *const u8,
    first: usize,
    last: usize,
    x: *const u8,
    out: *mut __m256i,
    accumulate: bool,
) {
    // Four rows in each, two partial sums a row.
    let mut sums = [[_mm256_setzero_si256(); 4]; N];
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for at in first..last {
            let w = line.add(at * STEP_BYTES);
            let mut four = [_mm256_setzero_si256(); N];
            for n in 0..N {
                let bytes = x.add(at * C * 4 + n * 4).cast::<i32>().read_unaligned();
                four[n] = _mm256_cvtepi8_epi16(_mm_set1_epi32(bytes));
            }
            for rows in 0..4 {
                let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(w.add(rows * 16).cast()));
                for n in 0..N {
                    sums[n][rows] = _mm256_add_epi32(sums[n][rows], _mm256_madd_epi16(codes, four[n]));
                }
            }
        }
        for n in 0..N {
            for half in 0..2 {
                let pairs = _mm256_hadd_epi32(sums[n][2 * half], sums[n][2 * half + 1]);
                let mut rows = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                let to = out.add(n * PANEL / 8 + half);
                if accumulate {
                    rows = _mm256_add_epi32(rows, to.read_unaligned());
                }
                to.write_unaligned(rows);
            }
        }
    }
}

/// See [`super::Dot`]; `T` tokens of one column or two, `C` in all. Whole groups; puts out f32 with the weights' scales
/// in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int4.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn int4<const T: usize, const C: usize>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        for group in 0..steps / GROUP_STEPS {
            let w = panel.add(group * GROUP_BYTES);
            let x = x.add(group * C * GROUP_COLUMN_BYTES);
            // A group's scales take half a step.
            let ahead = ahead.wrapping_add(group * (GROUP_STEPS * step + step / 2));
            for at in 0..GROUP_STEPS {
                fetch(ahead.wrapping_add(at * step), step);
            }
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(GROUP_STEPS * step).cast());
            let add = accumulate || group > 0;
            for line in 0..2 {
                let scales = w.add(GROUP_STEPS * STEP_BYTES + line * 32);
                for t in 0..T {
                    let to = out.add(t * PANEL + line * 16);
                    if C == T {
                        token::<1, C>(w.add(line * 64), x, t, scales, to, add);
                    } else {
                        token::<2, C>(w.add(line * 64), x, 2 * t, scales, to, add);
                    }
                }
            }
        }
    }
}

/// One line of 16 rows of a group times a token of `LIMBS` columns, the first of them number `c`.
///
/// # Safety
/// As for [`int4`], for this group.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn token<const LIMBS: usize, const C: usize>(
    line: *const u8,
    x: *const u8,
    c: usize,
    scales: *const u8,
    out: *mut f32,
    accumulate: bool,
) {
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // Eight rows in each.
    let mut sums = [[_mm256_setzero_si256(); 2]; LIMBS];
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for first in (0..GROUP_STEPS).step_by(SHORT) {
            let mut short = [[_mm256_setzero_si256(); 2]; LIMBS];
            for at in first..first + SHORT {
                for rows in 0..2 {
                    let codes = _mm256_loadu_si256(line.add(at * STEP_BYTES + rows * 32).cast());
                    let halves =
                        [_mm256_and_si256(codes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low)];
                    for limb in 0..LIMBS {
                        let x = x.add((at * C + c + limb) * 8).cast::<i32>();
                        for half in 0..2 {
                            let four = _mm256_set1_epi32(x.add(half).read_unaligned());
                            let products = _mm256_maddubs_epi16(halves[half], four);
                            short[limb][rows] = _mm256_add_epi16(short[limb][rows], products);
                        }
                    }
                }
            }
            for limb in 0..LIMBS {
                for rows in 0..2 {
                    let wide = _mm256_madd_epi16(short[limb][rows], ones);
                    sums[limb][rows] = _mm256_add_epi32(sums[limb][rows], wide);
                }
            }
        }
        // The codes are 8 too large.
        let offsets = x.add(C * (GROUP_COLUMN_BYTES - 4)).cast::<i32>().add(c);
        for rows in 0..2 {
            let mut sum = _mm256_setzero_si256();
            for limb in 0..LIMBS {
                let offset = _mm256_set1_epi32(-8 * offsets.add(limb).read_unaligned());
                let own = _mm256_add_epi32(sums[limb][rows], offset);
                sum = _mm256_add_epi32(_mm256_slli_epi32::<8>(sum), own);
            }
            let bits = scales.add(rows * 16).cast::<__m128i>().read_unaligned();
            let scale = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)));
            let to = out.add(rows * 8);
            let held = if accumulate { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
            _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, held));
        }
    }
}

/// Fetches the two lines of a later step.
#[target_feature(enable = "avx2")]
#[inline]
fn fetch(next: *const u8, step: usize) {
    _mm_prefetch::<_MM_HINT_T0>(next.cast());
    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(step / 2).cast());
}
