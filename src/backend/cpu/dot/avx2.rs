//! Panel times group on AVX2 and FMA: weights are widened, activations are f32.

use std::arch::x86_64::*;

/// Pairs of columns that stay in L1 while a panel is gone over in several register tiles: 16 KiB.
const BLOCK: usize = 128;

/// See [`super::Dot`]. More than three tokens do not fit 16 registers: tiles of 16 rows by up to 6 tokens, as all of half a
/// panel are, which is one of a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn dot<const C: usize, const LINES: usize, const ROWS: bool>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    let x = x.cast::<f32>();
    let apart = const { apart::<C, ROWS>() };
    // SAFETY: the tiles lie within the panel, the group and the output that the caller vouches for.
    unsafe {
        if C <= 3 {
            return match C {
                1 => tile::<LINES, LINES, 1, C, ROWS>(panel, pairs, x, out, accumulate),
                2 => tile::<LINES, LINES, 2, C, ROWS>(panel, pairs, x, out, accumulate),
                _ => tile::<LINES, LINES, 3, C, ROWS>(panel, pairs, x, out, accumulate),
            };
        }
        let mut first = 0;
        loop {
            let count = BLOCK.min(pairs - first);
            let add = accumulate || first > 0;
            for line in 0..LINES {
                let mut token = 0;
                let tiles = C.div_ceil(6);
                for t in 0..tiles {
                    let width = (C - token).div_ceil(tiles - t);
                    let w = panel.add((first * LINES + line) * 64);
                    let xs = x.add(first * apart.0 + token * apart.1);
                    let to = out.add(token * super::PANEL + line * 16);
                    match width {
                        1 => tile::<1, LINES, 1, C, ROWS>(w, count, xs, to, add),
                        2 => tile::<1, LINES, 2, C, ROWS>(w, count, xs, to, add),
                        3 => tile::<1, LINES, 3, C, ROWS>(w, count, xs, to, add),
                        4 => tile::<1, LINES, 4, C, ROWS>(w, count, xs, to, add),
                        5 => tile::<1, LINES, 5, C, ROWS>(w, count, xs, to, add),
                        _ => tile::<1, LINES, 6, C, ROWS>(w, count, xs, to, add),
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

/// f32 from pair to pair of a token, and from token to token.
const fn apart<const C: usize, const ROWS: bool>() -> (usize, usize) {
    if ROWS { (2, super::ROW) } else { (2 * C, 2) }
}

/// `L` of a panel's `LINES` lines of 16 rows times `N` of the group's `C` tokens. Each activation is broadcast once for both halves of a
/// line: two loads a cycle are as scarce as two multiply-adds.
///
/// # Safety
/// As for [`dot`], for this part of the panel, the group and the output.
#[target_feature(enable = "avx2,fma")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]
unsafe fn tile<const L: usize, const LINES: usize, const N: usize, const C: usize, const ROWS: bool>(
    panel: *const u8,
    pairs: usize,
    x: *const f32,
    out: *mut f32,
    accumulate: bool,
) {
    let mut sums = [[[_mm256_setzero_ps(); 2]; L]; N];
    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let (pair, next) = const { apart::<C, ROWS>() };
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for i in 0..pairs {
            for line in 0..L {
                let at = panel.add((i * LINES + line) * 64);
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
                    for n in 0..N {
                        let token = _mm256_broadcast_ss(&*x.add(i * pair + n * next + parity));
                        sums[n][line][0] = _mm256_fmadd_ps(weights[0], token, sums[n][line][0]);
                        sums[n][line][1] = _mm256_fmadd_ps(weights[1], token, sums[n][line][1]);
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
