//! Panel times group on AVX2 and FMA: weights are widened, activations are f32.

use std::arch::x86_64::*;

use crate::backend::cpu::prefetch;

/// Pairs of columns that stay in L1 while a panel is gone over in several register tiles: 16 KiB.
const BLOCK: usize = 128;

/// See [`super::Dot`]. More than three tokens do not fit 16 registers: tiles of 16 rows by up to 6 tokens, as all of half a
/// panel are, which is one of a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn dot<const C: usize, const LINES: usize, const LEVEL: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    let x = x.cast::<f32>();
    // SAFETY: the tiles lie within the panel, the group and the output that the caller vouches for.
    unsafe {
        if C <= 3 {
            let next = (&[ahead][..], step);
            return match C {
                1 => tile::<LINES, LINES, 1, C, false, LEVEL>(&[panel], 0, pairs, x, next, out, accumulate),
                2 => tile::<LINES, LINES, 2, C, false, LEVEL>(&[panel], 0, pairs, x, next, out, accumulate),
                _ => tile::<LINES, LINES, 3, C, false, LEVEL>(&[panel], 0, pairs, x, next, out, accumulate),
            };
        }
        let mut first = 0;
        loop {
            let count = BLOCK.min(pairs - first);
            let add = accumulate || first > 0;
            let next = (&[ahead.wrapping_add(first * step)][..], step);
            for line in 0..LINES {
                let w = [panel.add(first * LINES * 64)];
                tiles::<LINES, C, false, LEVEL>(&w, line, count, x.add(first * 2 * C), next, out, add);
            }
            first += count;
            if first >= pairs {
                break;
            }
        }
    }
}

/// See [`super::Rows`].
///
/// # Safety
/// The contract of [`super::Rows`]; the rows are f32.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn rows<const C: usize, const LEVEL: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: &[*const u8],
) {
    let (x, next) = (x.cast::<f32>(), (ahead, super::STEP_BYTES));
    // SAFETY: the tiles lie within the pieces, the rows and the output that the caller vouches for.
    unsafe {
        match C {
            1 => tile::<2, 2, 1, C, true, LEVEL>(pieces, 0, pairs, x, next, out, accumulate),
            2 => tile::<2, 2, 2, C, true, LEVEL>(pieces, 0, pairs, x, next, out, accumulate),
            3 => tile::<2, 2, 3, C, true, LEVEL>(pieces, 0, pairs, x, next, out, accumulate),
            _ => {
                for line in 0..2 {
                    tiles::<2, C, true, LEVEL>(pieces, line, pairs, x, next, out, accumulate);
                }
            }
        }
    }
}

/// One of a panel's `LINES` lines times all tokens, up to 6 at once.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn tiles<const LINES: usize, const C: usize, const ROWS: bool, const LEVEL: usize>(
    pieces: &[*const u8],
    line: usize,
    pairs: usize,
    x: *const f32,
    next: (&[*const u8], usize),
    out: *mut f32,
    accumulate: bool,
) {
    let apart = const { distances::<C, ROWS>() }.1;
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let mut token = 0;
        let tiles = C.div_ceil(6);
        for t in 0..tiles {
            let width = (C - token).div_ceil(tiles - t);
            let xs = x.add(token * apart);
            let to = out.add(token * super::PANEL + line * 16);
            // Fetched once, with the first tile.
            macro_rules! tile {
                ($width:literal) => {
                    match t {
                        0 => tile::<1, LINES, $width, C, ROWS, LEVEL>(
                            pieces, line, pairs, xs, next, to, accumulate,
                        ),
                        _ => tile::<1, LINES, $width, C, ROWS, 0>(
                            pieces, line, pairs, xs, next, to, accumulate,
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

/// f32 from pair to pair of a token, and from token to token.
const fn distances<const C: usize, const ROWS: bool>() -> (usize, usize) {
    if ROWS { (2, super::ROW) } else { (2 * C, 2) }
}

/// `L` of a panel's `LINES` lines of 16 rows, from `first` on, times `N` of the group's `C` tokens. Each activation is broadcast once for both halves of a
/// line: two loads a cycle are as scarce as two multiply-adds.
///
/// # Safety
/// As for [`dot`], for this part of the panel, the group and the output.
#[target_feature(enable = "avx2,fma")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]
unsafe fn tile<
    const L: usize,
    const LINES: usize,
    const N: usize,
    const C: usize,
    const ROWS: bool,
    const LEVEL: usize,
>(
    pieces: &[*const u8],
    first: usize,
    pairs: usize,
    x: *const f32,
    (ahead, step): (&[*const u8], usize),
    out: *mut f32,
    accumulate: bool,
) {
    // Even and odd columns of few rows and tokens are summed up apart: one sum after the other would wait for itself.
    let apart = const { LINES == 1 && N <= 3 };
    let mut sums = [[[[_mm256_setzero_ps(); 2]; L]; N]; 2];
    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let (pair, next) = const { distances::<C, ROWS>() };
    let mut x = x;
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for (p, piece) in pieces.iter().enumerate() {
            let ahead = if LEVEL > 0 { ahead[p] } else { *piece };
            for i in 0..pairs {
                for line in 0..L {
                    let at = piece.add((i * LINES + first + line) * 64);
                    let coming = i * step + (first + line) * (step / LINES);
                    prefetch::line::<LEVEL>(ahead.wrapping_add(coming));
                    let halves: [__m256i; 2] =
                        std::array::from_fn(|half| _mm256_loadu_si256(at.add(half * 32).cast()));
                    for parity in 0..2 {
                        let weights = halves.map(|half| {
                            let wide = if parity == 0 {
                                _mm256_slli_epi32::<16>(half)
                            } else {
                                _mm256_and_si256(half, high)
                            };
                            _mm256_castsi256_ps(wide)
                        });
                        let sums = &mut sums[if apart { parity } else { 0 }];
                        for n in 0..N {
                            let token = _mm256_broadcast_ss(&*x.add(n * next + parity));
                            sums[n][line][0] = _mm256_fmadd_ps(weights[0], token, sums[n][line][0]);
                            sums[n][line][1] = _mm256_fmadd_ps(weights[1], token, sums[n][line][1]);
                        }
                    }
                }
                x = x.add(pair);
            }
        }
        for n in 0..N {
            for line in 0..L {
                for half in 0..2 {
                    let mut value = sums[0][n][line][half];
                    if apart {
                        value = _mm256_add_ps(value, sums[1][n][line][half]);
                    }
                    let to = out.add(n * super::PANEL + line * 16 + half * 8);
                    let value = if accumulate { _mm256_add_ps(value, _mm256_loadu_ps(to)) } else { value };
                    _mm256_storeu_ps(to, value);
                }
            }
        }
    }
}
