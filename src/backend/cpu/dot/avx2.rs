//! Panel times group on AVX2 and FMA: weights are widened, activations are f32.

use std::arch::x86_64::*;

/// Pairs of columns that stay in L1 while a panel is gone over in several register tiles: 8 KiB.
const BLOCK: usize = 64;

/// See [`super::Dot`]. More than three tokens do not fit 16 registers: tiles of 16 rows by up to 6 tokens.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn dot<const C: usize, const ROWS: bool>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    let x = x.cast::<f32>();
    // Distance between pairs of a token, and between tokens.
    let apart = if ROWS { (2, super::ROW) } else { (2 * C, 2) };
    // SAFETY: the tiles lie within the panel, the group and the output that the caller vouches for.
    unsafe {
        if C <= 3 {
            return match C {
                1 => tile::<2, 1>(panel, pairs, x, apart, out, accumulate),
                2 => tile::<2, 2>(panel, pairs, x, apart, out, accumulate),
                _ => tile::<2, 3>(panel, pairs, x, apart, out, accumulate),
            };
        }
        let mut first = 0;
        loop {
            let count = BLOCK.min(pairs - first);
            let add = accumulate || first > 0;
            for line in 0..2 {
                let mut token = 0;
                let tiles = C.div_ceil(6);
                for t in 0..tiles {
                    let width = (C - token).div_ceil(tiles - t);
                    let w = panel.add(first * super::PAIR_BYTES + line * 64);
                    let xs = x.add(first * apart.0 + token * apart.1);
                    let to = out.add(token * super::PANEL + line * 16);
                    match width {
                        1 => tile::<1, 1>(w, count, xs, apart, to, add),
                        2 => tile::<1, 2>(w, count, xs, apart, to, add),
                        3 => tile::<1, 3>(w, count, xs, apart, to, add),
                        4 => tile::<1, 4>(w, count, xs, apart, to, add),
                        5 => tile::<1, 5>(w, count, xs, apart, to, add),
                        _ => tile::<1, 6>(w, count, xs, apart, to, add),
                    }
                    token += width;
                }
            }
            first += count;
            if first >= pairs {
                break;
            }
        }
    }
}

/// `L` lines of 16 rows times `N` tokens that are `apart` (f32 from pair to pair, and from token to token).
///
/// # Safety
/// As for [`dot`], for this part of the panel, the group and the output.
#[target_feature(enable = "avx2,fma")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]
unsafe fn tile<const L: usize, const N: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const f32,
    apart: (usize, usize),
    out: *mut f32,
    accumulate: bool,
) {
    let mut sums = [[[_mm256_setzero_ps(); 2]; L]; N];
    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for i in 0..pairs {
            for line in 0..L {
                for half in 0..2 {
                    let at = panel.add(i * super::PAIR_BYTES + line * 64 + half * 32);
                    let w = _mm256_loadu_si256(at.cast());
                    let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(w));
                    let odd = _mm256_castsi256_ps(_mm256_and_si256(w, high));
                    for n in 0..N {
                        let token = x.add(i * apart.0 + n * apart.1);
                        let sum = &mut sums[n][line][half];
                        *sum = _mm256_fmadd_ps(even, _mm256_broadcast_ss(&*token), *sum);
                        *sum = _mm256_fmadd_ps(odd, _mm256_broadcast_ss(&*token.add(1)), *sum);
                    }
                }
            }
        }
        for (n, token) in sums.iter().enumerate() {
            for (line, halves) in token.iter().enumerate() {
                for (half, &value) in halves.iter().enumerate() {
                    let to = out.add(n * super::PANEL + line * 16 + half * 8);
                    let value = if accumulate { _mm256_add_ps(value, _mm256_loadu_ps(to)) } else { value };
                    _mm256_storeu_ps(to, value);
                }
            }
        }
    }
}
