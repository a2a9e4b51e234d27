//! Panels of the 8-bit cache times columns of 16-bit integers on AVX-512, with and without VNNI.

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::x86_64::*;

use super::CODES_STEP_BYTES;
use crate::backend::cpu::prefetch;

macro_rules! kernels {
    ($dot:ident, $rows:ident, $pair:ident, $features:literal, |$sum:ident, $codes:ident, $token:ident| $add:expr) => {
        /// See [`super::codes::dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency.
        ///
        /// # Safety
        /// As there.
        #[target_feature(enable = $features)]
        pub unsafe fn $dot<const C: usize, const U: usize, const LINES: usize, const LEVEL: usize>(
            panel: *const u8,
            pairs: usize,
            x: *const u8,
            out: *mut f32,
            accumulate: bool,
            ahead: *const u8,
            step: usize,
        ) {
            let mut sums = [[[_mm512_setzero_si512(); C]; LINES]; U];
            // SAFETY: the caller vouches for the extents of panel, x and out.
            unsafe {
                let mut i = 0;
                while i < pairs {
                    for u in 0..U {
                        if U > 1 && i + u >= pairs {
                            break;
                        }
                        prefetch::line::<LEVEL>(ahead.wrapping_add((i + u) * step));
                        $pair::<C, LINES, false>(panel, x, i + u, i + u, &mut sums[u]);
                    }
                    i += U;
                }
                put(&sums, out, accumulate);
            }
        }

        /// See [`super::codes::rows`]; as many pairs in flight.
        ///
        /// # Safety
        /// As there.
        #[target_feature(enable = $features)]
        pub unsafe fn $rows<const C: usize, const U: usize, const LEVEL: usize>(
            pieces: &[*const u8],
            pairs: usize,
            x: *const u8,
            out: *mut f32,
            accumulate: bool,
            ahead: &[*const u8],
        ) {
            let mut sums = [[[_mm512_setzero_si512(); C]; 2]; U];
            // SAFETY: the caller vouches for the extents of the pieces, x and out.
            unsafe {
                for (n, (&piece, ahead)) in pieces.iter().zip(ahead).enumerate() {
                    let mut i = 0;
                    while i < pairs {
                        for u in 0..U {
                            prefetch::line::<LEVEL>(ahead.wrapping_add((i + u) * CODES_STEP_BYTES));
                            $pair::<C, 2, true>(piece, x, i + u, n * pairs + i + u, &mut sums[u]);
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
        /// As for the products.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $pair<const C: usize, const LINES: usize, const ROWS: bool>(
            panel: *const u8,
            x: *const u8,
            i: usize,
            k: usize,
            sums: &mut [[__m512i; C]; LINES],
        ) {
            // SAFETY: the caller vouches for the extents.
            unsafe {
                let mut lines = [_mm512_setzero_si512(); LINES];
                for (line, codes) in lines.iter_mut().enumerate() {
                    let at = panel.add((i * LINES + line) * 32);
                    *codes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast()));
                }
                let tokens = x.add(k * if ROWS { 4 } else { C * 4 }).cast::<i32>();
                for c in 0..C {
                    let token = tokens.add(if ROWS { c * super::ROW / 2 } else { c });
                    let $token = _mm512_set1_epi32(token.read_unaligned());
                    for line in 0..LINES {
                        let ($sum, $codes) = (sums[line][c], lines[line]);
                        sums[line][c] = $add;
                    }
                }
            }
        }
    };
}
kernels!(dot_vnni, rows_vnni, pair_vnni, "avx512f,avx512bw,avx512vl,avx512vnni", |sum, codes, token| {
    _mm512_dpwssd_epi32(sum, codes, token)
});
kernels!(dot, rows, pair, "avx512f,avx512bw,avx512vl", |sum, codes, token| {
    _mm512_add_epi32(sum, _mm512_madd_epi16(codes, token))
});

/// Adds up what was in flight and puts it out.
///
/// # Safety
/// `out` holds `C x 32` values.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn put<const C: usize, const LINES: usize, const U: usize>(
    sums: &[[[__m512i; C]; LINES]; U],
    out: *mut f32,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the extent.
    unsafe {
        for line in 0..LINES {
            for c in 0..C {
                let mut sum = sums[0][line][c];
                for u in 1..U {
                    sum = _mm512_add_epi32(sum, sums[u][line][c]);
                }
                let to = out.add(c * super::PANEL + line * 16).cast::<__m512i>();
                if accumulate {
                    sum = _mm512_add_epi32(sum, _mm512_loadu_si512(to));
                }
                _mm512_storeu_si512(to, sum);
            }
        }
    }
}
