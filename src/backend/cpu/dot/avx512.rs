//! Panel times group on AVX-512 without bf16 dot products: weights are widened, activations are f32.

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::x86_64::*;

use super::STEP_BYTES;
use crate::backend::cpu::prefetch;

/// See [`super::Dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency; half a panel is one of
/// a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn dot<const C: usize, const U: usize, const LINES: usize, const LEVEL: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    let mut sums = [[[_mm512_setzero_ps(); C]; LINES]; U];
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let mut i = 0;
        while i < pairs {
            for u in 0..U {
                if U > 1 && i + u >= pairs {
                    break;
                }
                let next = ahead.wrapping_add((i + u) * step);
                for line in 0..LINES {
                    prefetch::line::<LEVEL>(next.wrapping_add(line * step / LINES));
                }
                pair::<C, LINES, false>(panel, x, i + u, i + u, &mut sums[u]);
            }
            i += U;
        }
        put(&sums, out, accumulate);
    }
}

/// See [`super::Rows`]; as many pairs in flight.
///
/// # Safety
/// The contract of [`super::Rows`]; the rows are f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn rows<const C: usize, const U: usize, const LEVEL: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: &[*const u8],
) {
    let mut sums = [[[_mm512_setzero_ps(); C]; 2]; U];
    // SAFETY: the caller vouches for the extents of the pieces, x and out.
    unsafe {
        for (n, (&piece, ahead)) in pieces.iter().zip(ahead).enumerate() {
            let mut i = 0;
            while i < pairs {
                for u in 0..U {
                    let next = ahead.wrapping_add((i + u) * STEP_BYTES);
                    prefetch::line::<LEVEL>(next);
                    prefetch::line::<LEVEL>(next.wrapping_add(STEP_BYTES / 2));
                    pair::<C, 2, true>(piece, x, i + u, n * pairs + i + u, &mut sums[u]);
                }
                i += U;
            }
        }
        put(&sums, out, accumulate);
    }
}

/// Pair `i` of the panel times pair `k` of all tokens.
///
/// # Safety
/// As for [`dot`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
#[inline]
unsafe fn pair<const C: usize, const LINES: usize, const ROWS: bool>(
    panel: *const u8,
    x: *const u8,
    i: usize,
    k: usize,
    sums: &mut [[__m512; C]; LINES],
) {
    // The second column of a pair is the upper half of its lane: an f32 once the lower half is cleared.
    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let mut even = [_mm512_setzero_ps(); LINES];
        let mut odd = even;
        for line in 0..LINES {
            let w = _mm512_loadu_si512(panel.add((i * LINES + line) * 64).cast());
            even[line] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w));
            odd[line] = _mm512_castsi512_ps(_mm512_and_si512(w, high));
        }
        let tokens = x.add(k * if ROWS { 8 } else { C * 8 }).cast::<f32>();
        for c in 0..C {
            let token = tokens.add(if ROWS { c * super::ROW } else { 2 * c });
            for (parity, weights) in [even, odd].iter().enumerate() {
                let token = _mm512_set1_ps(*token.add(parity));
                for line in 0..LINES {
                    sums[line][c] = _mm512_fmadd_ps(weights[line], token, sums[line][c]);
                }
            }
        }
    }
}

/// Adds up what was in flight and puts it out.
///
/// # Safety
/// `out` holds `C x 32` values.
#[target_feature(enable = "avx512f")]
#[inline]
pub unsafe fn put<const C: usize, const LINES: usize, const U: usize>(
    sums: &[[[__m512; C]; LINES]; U],
    out: *mut f32,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the extent.
    unsafe {
        for line in 0..LINES {
            for c in 0..C {
                let mut sum = sums[0][line][c];
                for u in 1..U {
                    sum = _mm512_add_ps(sum, sums[u][line][c]);
                }
                let to = out.add(c * super::PANEL + line * 16);
                if accumulate {
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
                }
                _mm512_storeu_ps(to, sum);
            }
        }
    }
}
