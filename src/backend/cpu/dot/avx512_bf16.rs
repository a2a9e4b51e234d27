//! Panel times group with the bf16 dot-product instruction of AVX-512.

use std::arch::x86_64::*;

use super::avx512::put;

/// See [`super::Dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency of six cycles; half a panel
/// is one of a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn dot<const C: usize, const U: usize, const LINES: usize, const AHEAD: bool>(
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
                if AHEAD {
                    let next = ahead.wrapping_add((i + u) * step);
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step / 2).cast());
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
pub unsafe fn rows<const C: usize, const U: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
) {
    let mut sums = [[[_mm512_setzero_ps(); C]; 2]; U];
    // SAFETY: the caller vouches for the extents of the pieces, x and out.
    unsafe {
        for (n, &piece) in pieces.iter().enumerate() {
            let mut i = 0;
            while i < pairs {
                for u in 0..U {
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
