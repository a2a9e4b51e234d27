//! Panels of the 8-bit cache times columns of 16-bit integers on AVX2.

use std::arch::x86_64::*;

use crate::backend::cpu::prefetch;

/// See [`super::codes::dot`]. A line of 16 rows by up to 6 tokens fits 16 registers.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2")]
pub unsafe fn dot<const C: usize, const LINES: usize, const LEVEL: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    // SAFETY: the caller keeps the same contract.
    unsafe {
        product::<C, LINES, false, LEVEL>(&[panel], pairs, x.cast(), (&[ahead], step), out.cast(), accumulate)
    }
}

/// See [`super::codes::rows`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2")]
pub unsafe fn rows<const C: usize, const LEVEL: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: &[*const u8],
) {
    let next = (ahead, super::CODES_STEP_BYTES);
    // SAFETY: the caller keeps the same contract.
    unsafe { product::<C, 2, true, LEVEL>(pieces, pairs, x.cast(), next, out.cast(), accumulate) }
}

/// The panel in pieces, times tokens as pairs or as rows.
///
/// # Safety
/// That of [`dot`] or [`rows`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn product<const C: usize, const LINES: usize, const ROWS: bool, const LEVEL: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const i16,
    coming: (&[*const u8], usize),
    out: *mut i32,
    accumulate: bool,
) {
    let next = const { distances::<C, ROWS>() }.1;
    // SAFETY: the tiles lie within the pieces, the tokens and the output that the caller vouches for.
    unsafe {
        for line in 0..LINES {
            let mut token = 0;
            let tiles = C.div_ceil(6);
            for t in 0..tiles {
                let width = (C - token).div_ceil(tiles - t);
                let xs = x.add(token * next);
                let to = out.add(token * super::PANEL + line * 16);
                // Fetched once, with the first tile of the first line: a line of cache has both lines of rows.
                macro_rules! tile {
                    ($width:literal) => {
                        match line + t {
                            0 => tile::<LINES, $width, C, ROWS, LEVEL>(
                                pieces, line, pairs, xs, coming, to, accumulate,
                            ),
                            _ => tile::<LINES, $width, C, ROWS, 0>(
                                pieces, line, pairs, xs, coming, to, accumulate,
                            ),
                        }
                    };
                }
                match width {
                    1 => tile!(1),
                    2 => tile!(2),
                    3 => tile!(3),
                    4 => tile!(4),
                    5 => tile!(5),
                    _ => tile!(6),
                }
                token += width;
            }
        }
    }
}

/// i16 from pair to pair of a token, and from token to token.
const fn distances<const C: usize, const ROWS: bool>() -> (usize, usize) {
    if ROWS { (2, super::ROW) } else { (2 * C, 2) }
}

/// One of a panel's `LINES` lines of 16 rows times `N` of the group's `C` tokens.
///
/// # Safety
/// As for [`dot`], for this part of the panel, the group and the output.
#[target_feature(enable = "avx2")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]
unsafe fn tile<const LINES: usize, const N: usize, const C: usize, const ROWS: bool, const LEVEL: usize>(
    pieces: &[*const u8],
    line: usize,
    pairs: usize,
    x: *const i16,
    (ahead, step): (&[*const u8], usize),
    out: *mut i32,
    accumulate: bool,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    let (pair, next) = const { distances::<C, ROWS>() };
    let mut x = x;
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for (p, piece) in pieces.iter().enumerate() {
            let ahead = if LEVEL > 0 { ahead[p] } else { *piece };
            for i in 0..pairs {
                prefetch::line::<LEVEL>(ahead.wrapping_add(i * step));
                let at = piece.add((i * LINES + line) * 32);
                let upper = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()));
                let lower = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16).cast()));
                for n in 0..N {
                    let both = x.add(n * next).cast::<i32>().read_unaligned();
                    let token = _mm256_set1_epi32(both);
                    sums[n][0] = _mm256_add_epi32(sums[n][0], _mm256_madd_epi16(upper, token));
                    sums[n][1] = _mm256_add_epi32(sums[n][1], _mm256_madd_epi16(lower, token));
                }
                x = x.add(pair);
            }
        }
        for (n, halves) in sums.iter().enumerate() {
            for (half, &sum) in halves.iter().enumerate() {
                let to = out.add(n * super::PANEL + half * 8).cast::<__m256i>();
                let sum = if accumulate { _mm256_add_epi32(sum, _mm256_loadu_si256(to)) } else { sum };
                _mm256_storeu_si256(to, sum);
            }
        }
    }
}
