//! Panel times group with the bf16 dot-product instruction of AVX-512.

use std::arch::x86_64::*;

/// See [`super::Dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency of six cycles.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn dot<const C: usize, const U: usize, const AHEAD: bool, const ROWS: bool>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    let mut upper = [[_mm512_setzero_ps(); C]; U];
    let mut lower = [[_mm512_setzero_ps(); C]; U];
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let mut i = 0;
        while i + U <= pairs {
            for u in 0..U {
                let w = panel.add((i + u) * super::STEP_BYTES);
                let w0: __m512bh = std::mem::transmute(_mm512_loadu_si512(w.cast()));
                let w1: __m512bh = std::mem::transmute(_mm512_loadu_si512(w.add(64).cast()));
                if AHEAD {
                    let next = ahead.wrapping_add((i + u) * step);
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step / 2).cast());
                }
                let tokens = x.add((i + u) * if ROWS { 4 } else { C * 4 }).cast::<i32>();
                for c in 0..C {
                    let token = tokens.add(if ROWS { c * super::ROW / 2 } else { c });
                    let b: __m512bh = std::mem::transmute(_mm512_set1_epi32(token.read_unaligned()));
                    upper[u][c] = _mm512_dpbf16_ps(upper[u][c], w0, b);
                    lower[u][c] = _mm512_dpbf16_ps(lower[u][c], w1, b);
                }
            }
            i += U;
        }
        while i < pairs {
            let w = panel.add(i * super::STEP_BYTES);
            let w0: __m512bh = std::mem::transmute(_mm512_loadu_si512(w.cast()));
            let w1: __m512bh = std::mem::transmute(_mm512_loadu_si512(w.add(64).cast()));
            let tokens = x.add(i * if ROWS { 4 } else { C * 4 }).cast::<i32>();
            for c in 0..C {
                let token = tokens.add(if ROWS { c * super::ROW / 2 } else { c });
                let b: __m512bh = std::mem::transmute(_mm512_set1_epi32(token.read_unaligned()));
                upper[0][c] = _mm512_dpbf16_ps(upper[0][c], w0, b);
                lower[0][c] = _mm512_dpbf16_ps(lower[0][c], w1, b);
            }
            i += 1;
        }
        for c in 0..C {
            let (mut a, mut b) = (upper[0][c], lower[0][c]);
            for u in 1..U {
                a = _mm512_add_ps(a, upper[u][c]);
                b = _mm512_add_ps(b, lower[u][c]);
            }
            let to = out.add(c * super::PANEL);
            if accumulate {
                a = _mm512_add_ps(a, _mm512_loadu_ps(to));
                b = _mm512_add_ps(b, _mm512_loadu_ps(to.add(16)));
            }
            _mm512_storeu_ps(to, a);
            _mm512_storeu_ps(to.add(16), b);
        }
    }
}
