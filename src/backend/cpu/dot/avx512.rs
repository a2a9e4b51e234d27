//! Panel times group on AVX-512 without bf16 dot products: weights are widened, activations are f32.

use std::arch::x86_64::*;

/// See [`super::Dot`]. `U` pairs are in flight at once, so that few tokens still hide the latency.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
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
    // The second column of a pair is the upper half of its lane: an f32 once the lower half is cleared.
    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let mut i = 0;
        while i < pairs {
            for u in 0..U {
                if U > 1 && i + u >= pairs {
                    break;
                }
                let w = panel.add((i + u) * super::STEP_BYTES);
                let w0 = _mm512_loadu_si512(w.cast());
                let w1 = _mm512_loadu_si512(w.add(64).cast());
                if AHEAD {
                    let next = ahead.wrapping_add((i + u) * step);
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step / 2).cast());
                }
                let even0 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w0));
                let even1 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w1));
                let odd0 = _mm512_castsi512_ps(_mm512_and_si512(w0, high));
                let odd1 = _mm512_castsi512_ps(_mm512_and_si512(w1, high));
                let tokens = x.add((i + u) * if ROWS { 8 } else { C * 8 }).cast::<f32>();
                for c in 0..C {
                    let token = tokens.add(if ROWS { c * super::ROW } else { 2 * c });
                    let even = _mm512_set1_ps(*token);
                    upper[u][c] = _mm512_fmadd_ps(even0, even, upper[u][c]);
                    lower[u][c] = _mm512_fmadd_ps(even1, even, lower[u][c]);
                    let odd = _mm512_set1_ps(*token.add(1));
                    upper[u][c] = _mm512_fmadd_ps(odd0, odd, upper[u][c]);
                    lower[u][c] = _mm512_fmadd_ps(odd1, odd, lower[u][c]);
                }
            }
            i += U;
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
