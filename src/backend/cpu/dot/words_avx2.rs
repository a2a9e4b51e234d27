//! Panel times columns of 16-bit integers on AVX2: it has no 8-bit dot products that keep what 8-bit codes need, and one
//! multiplication of 16 bits does for a whole activation what two of 8 bits do.

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::backend::cpu::panels::{GROUP_BYTES, words_offset};
use crate::backend::cpu::prefetch;
use crate::model::precision::GROUP;

/// Tokens of a tile of 16 rows: twice as many fit the registers, but just so, and gain nothing.
const TILE: usize = 3;
/// Steps of int8 in a group of columns that have their sums behind them.
const INT8_STEPS: usize = GROUP as usize / 4;

/// See [`super::Dot`]. Puts out f32, the columns' sums taken off, the scales of the rows still to come.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int8.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn int8<const C: usize, const LEVEL: usize>(
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
        for first in (0..steps).step_by(INT8_STEPS) {
            let group = Group {
                codes: panel.add(first * STEP_BYTES),
                steps: INT8_STEPS.min(steps - first),
                x: x.add(words_offset(first * 4, C)),
                ahead: ahead.wrapping_add(first * step),
                step,
            };
            group.times::<C, LEVEL, false>(out, accumulate || first > 0);
        }
    }
}

/// See [`super::Dot`]. Whole groups; puts out f32 with the weights' scales in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int4.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn int4<const C: usize, const LEVEL: usize>(
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
        for index in 0..steps / GROUP_STEPS {
            let group = Group {
                codes: panel.add(index * GROUP_BYTES),
                steps: GROUP_STEPS,
                x: x.add(words_offset(index * GROUP_STEPS * 8, C)),
                // A group's scales take half a step.
                ahead: ahead.wrapping_add(index * (GROUP_STEPS * step + step / 2)),
                step,
            };
            prefetch::line::<LEVEL>(group.ahead.wrapping_add(GROUP_STEPS * step));
            group.times::<C, LEVEL, true>(out, accumulate || index > 0);
        }
    }
}

/// Steps of 128 columns or of the last, whose sums stay within 32 bits, and what they are multiplied with.
#[derive(Clone, Copy)]
struct Group {
    /// Of a panel; of int4 the scales follow.
    codes: *const u8,
    /// As many as there are.
    steps: usize,
    /// `[step][C][4 or 8]`, then the C sums of all these steps.
    x: *const u8,
    /// What is fetched meanwhile, and how many bytes of it for each step.
    ahead: *const u8,
    step: usize,
}

impl Group {
    /// All 32 rows times `C` tokens. Up to two tokens take the lines of a panel together, as they come from memory; more go
    /// over them line by line, a few tokens at once.
    ///
    /// # Safety
    /// The extents are as the fields say; `out` holds `C x 32`.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn times<const C: usize, const LEVEL: usize, const INT4: bool>(self, out: *mut f32, add: bool) {
        // SAFETY: passed on to the caller.
        unsafe {
            let coming = (self.ahead, self.step);
            match C {
                1 => return self.tile::<2, 1, C, LEVEL, INT4>(0, 0, coming, out, add),
                2 => return self.tile::<2, 2, C, LEVEL, INT4>(0, 0, coming, out, add),
                _ => {}
            }
            let tiles = const { if C == 4 { 1 } else { C.div_ceil(TILE) } };
            for line in 0..2 {
                let mut token = 0;
                for t in 0..tiles {
                    // Every tile fetches its part, so that memory is asked all the time.
                    let each = self.step / (2 * tiles);
                    let coming = (self.ahead.wrapping_add((line * tiles + t) * self.steps * each), each);
                    let width = (C - token).div_ceil(tiles - t);
                    match width {
                        2 => self.tile::<1, 2, C, LEVEL, INT4>(line, token, coming, out, add),
                        3 => self.tile::<1, 3, C, LEVEL, INT4>(line, token, coming, out, add),
                        _ => self.tile::<1, 4, C, LEVEL, INT4>(line, token, coming, out, add),
                    }
                    token += width;
                }
            }
        }
    }

    /// The scales of eight rows; 1 where the weights' are not theirs to apply.
    ///
    /// # Safety
    /// As for [`Group::times`].
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn scale<const INT4: bool>(self, rows: usize) -> __m256 {
        if !INT4 {
            return _mm256_set1_ps(1.0);
        }
        // SAFETY: passed on to the caller.
        let bits =
            unsafe { self.codes.add(GROUP_STEPS * STEP_BYTES + rows * 2).cast::<__m128i>().read_unaligned() };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }

    /// `L` lines of 16 rows, from `first` on, times `N` of the `C` tokens, from `token` on. With each step `L` lines are
    /// fetched that lie in so many bytes, from where `coming` says.
    ///
    /// # Safety
    /// As for [`Group::times`].
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn tile<const L: usize, const N: usize, const C: usize, const LEVEL: usize, const INT4: bool>(
        self,
        first: usize,
        token: usize,
        (coming, each): (*const u8, usize),
        out: *mut f32,
        add: bool,
    ) {
        // Pairs of columns in a step, and the bytes of a token.
        let parts = const { if INT4 { 4 } else { 2 } };
        let width = parts * 4;
        let sums_at = self.steps * C * width;
        let offset = if INT4 { -8 } else { -128 };
        // Eight rows in each. The upper codes of int4 of a single token are not shifted down: their sums are, at the end.
        let upper_apart = const { INT4 && N == 1 };
        let mut sums = [[[_mm256_setzero_si256(); 2]; L]; N];
        let mut uppers = [[_mm256_setzero_si256(); 2]; L];
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for n in 0..N {
                // The codes are that much too large.
                let sum = self.x.add(sums_at).cast::<i32>().add(token + n).read_unaligned();
                sums[n] = [[_mm256_set1_epi32(sum.wrapping_mul(offset)); 2]; L];
            }
            let mut x = self.x.add(token * width);
            for at in 0..self.steps {
                let step = self.codes.add(at * STEP_BYTES + first * 64);
                let mut codes = [[_mm256_setzero_si256(); 2]; L];
                for line in 0..L {
                    prefetch::line::<LEVEL>(coming.wrapping_add(at * each + line * each / L));
                    for half in 0..2 {
                        codes[line][half] = _mm256_loadu_si256(step.add(line * 64 + half * 32).cast());
                    }
                }
                for line in 0..L {
                    for half in 0..2 {
                        let codes = codes[line][half];
                        for part in 0..parts {
                            let words = unpack::<INT4>(codes, part, upper_apart);
                            for n in 0..N {
                                let pair = x.add(n * width + part * 4).cast::<i32>().read_unaligned();
                                let product = _mm256_madd_epi16(words, _mm256_set1_epi32(pair));
                                let sum = if upper_apart && part >= 2 {
                                    &mut uppers[line][half]
                                } else {
                                    &mut sums[n][line][half]
                                };
                                *sum = _mm256_add_epi32(*sum, product);
                            }
                        }
                        in_order(&mut sums[0][line][half]);
                    }
                }
                x = x.add(C * width);
            }
            for line in 0..L {
                for half in 0..2 {
                    let rows = (first + line) * 16 + half * 8;
                    let scale = self.scale::<INT4>(rows);
                    for n in 0..N {
                        let mut sum = sums[n][line][half];
                        if upper_apart {
                            sum = _mm256_add_epi32(sum, _mm256_srai_epi32::<4>(uppers[line][half]));
                        }
                        put(out.add((token + n) * PANEL + rows), sum, scale, add);
                    }
                }
            }
        }
    }
}

/// Puts out eight rows' values, or adds them.
///
/// # Safety
/// There are as many at `to`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn put(to: *mut f32, sum: __m256i, scale: __m256, add: bool) {
    // SAFETY: the caller vouches for the extent.
    unsafe {
        let held = if add { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
        _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, held));
    }
}

/// Keeps the order in which sums are added to: left to itself the compiler does much at once and runs out of registers, which
/// costs a fifth.
#[target_feature(enable = "avx2")]
#[inline]
fn in_order(sum: &mut __m256i) {
    // SAFETY: an empty instruction sequence.
    unsafe { asm!("/* {0} */", inout(ymm_reg) * sum, options(nomem, nostack, preserves_flags)) };
}

/// Pair `part` of the columns of a step, each code in 16 bits: bytes 0 and 2, bytes 1 and 3; of int4 the lower halves of
/// these, then the upper ones, which stay 16 times as large where they are summed up apart.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack<const INT4: bool>(codes: __m256i, part: usize, upper_apart: bool) -> __m256i {
    let (low, high) = (_mm256_set1_epi16(0x000f), _mm256_set1_epi16(0x00f0));
    match (INT4, part) {
        (false, 0) => _mm256_and_si256(codes, _mm256_set1_epi16(0x00ff)),
        (false, _) => _mm256_srli_epi16::<8>(codes),
        (true, 0) => _mm256_and_si256(codes, low),
        (true, 1) => _mm256_and_si256(_mm256_srli_epi16::<8>(codes), low),
        (true, 2) if upper_apart => _mm256_and_si256(codes, high),
        (true, _) if upper_apart => _mm256_and_si256(_mm256_srli_epi16::<8>(codes), high),
        (true, 2) => _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low),
        (true, _) => _mm256_srli_epi16::<12>(codes),
    }
}
