//! Panel times group with the bf16 dot-product instruction of AVX-512.

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::x86_64::*;

use super::STEP_BYTES;
use super::avx512::put;
use crate::backend::cpu::prefetch;

/// See [`super::Dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency of six cycles; half a panel
/// is one of a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
        while i + U <= pairs {
            for u in 0..U {
                let next = ahead.wrapping_add((i + u) * step);
                for line in 0..LINES {
                    prefetch::line::<LEVEL>(next.wrapping_add(line * step / LINES));
                }
                pair::<C, LINES, false>(panel, x, i + u, i + u, &mut sums[u]);
            }
            i += U;
        }
        while i < pairs {
            pair::<C, LINES, false>(panel, x, i, i, &mut sums[0]);
            i += 1;
        }
        put(&sums, out, accumulate);
    }
}

/// See [`super::Rows`]; as many pairs in flight.
///
/// # Safety
/// The contract of [`super::Rows`]; the rows are bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
unsafe fn pair<const C: usize, const LINES: usize, const ROWS: bool>(
    panel: *const u8,
    x: *const u8,
    i: usize,
    k: usize,
    sums: &mut [[__m512; C]; LINES],
) {
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); LINES];
        for (line, weights) in weights.iter_mut().enumerate() {
            *weights = _mm512_loadu_si512(panel.add((i * LINES + line) * 64).cast());
        }
        let tokens = x.add(k * if ROWS { 4 } else { C * 4 }).cast::<i32>();
        for c in 0..C {
            let token = tokens.add(if ROWS { c * super::ROW / 2 } else { c });
            let b: __m512bh = std::mem::transmute(_mm512_set1_epi32(token.read_unaligned()));
            for line in 0..LINES {
                let w: __m512bh = std::mem::transmute(weights[line]);
                sums[line][c] = _mm512_dpbf16_ps(sums[line][c], w, b);
            }
        }
    }
}
