//! The softmax of one block on AVX-512: in decode it must not hold up the stream of the KV cache.

use std::arch::x86_64::*;

use super::activation::Activation;
use super::dot::{MAX_TOKENS, PANEL};
use super::prefetch;

/// exp to about 1e-7 relative; below -87 that of -87.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp(x: __m512) -> __m512 {
    let set = |value: f32| _mm512_set1_ps(value);
    let x = _mm512_max_ps(x, set(-87.0));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, set(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, set(0.693_359_4), x);
    let r = _mm512_fmadd_ps(n, set(2.121_944_4e-4), r);
    let mut y = _mm512_fmadd_ps(set(1.987_569_1e-4), r, set(1.398_199_9e-3));
    y = _mm512_fmadd_ps(y, r, set(8.333_452e-3));
    y = _mm512_fmadd_ps(y, r, set(4.166_579_6e-2));
    y = _mm512_fmadd_ps(y, r, set(1.666_666_5e-1));
    y = _mm512_fmadd_ps(y, r, set(0.5));
    y = _mm512_fmadd_ps(y, _mm512_mul_ps(r, r), _mm512_add_ps(r, set(1.0)));
    _mm512_scalef_ps(y, n)
}

/// See [`super::elementwise::softmax`]. Each column is time for 16 lines of what is `coming` from memory.
///
/// # Safety
/// As there; the CPU has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[allow(clippy::too_many_arguments)]
pub unsafe fn softmax<A: Activation>(
    scores: *const f32,
    columns: usize,
    limits: &[usize],
    scale: f32,
    largest: *mut f32,
    sums: *mut f32,
    shrink: *mut f32,
    coming: Option<*const u8>,
    out: *mut A,
) {
    let hidden = _mm512_set1_ps(-1e30);
    let scale = _mm512_set1_ps(scale);
    let mut now = [0f32; MAX_TOKENS];
    // The first positions of a quarter that a limit leaves.
    let mask = |limit: usize, quarter: usize| -> __mmask16 {
        let left = limit.saturating_sub(16 * quarter).min(16);
        ((1u32 << left) - 1) as __mmask16
    };
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let load = |c: usize, limit: usize, quarter: usize| {
            let at = scores.add((quarter / 2 * columns + c) * PANEL + quarter % 2 * 16);
            _mm512_mask_mul_ps(hidden, mask(limit, quarter), _mm512_loadu_ps(at), scale)
        };
        for c in 0..columns {
            let v: [__m512; 4] = std::array::from_fn(|quarter| load(c, limits[c], quarter));
            let most = _mm512_max_ps(_mm512_max_ps(v[0], v[1]), _mm512_max_ps(v[2], v[3]));
            now[c] = _mm512_reduce_max_ps(most).max(*largest.add(c));
        }
        for c in 0..columns {
            let new = _mm512_set1_ps(now[c]);
            let mut p = [0f32; 64];
            let mut sum = _mm512_setzero_ps();
            for quarter in 0..4 {
                if let Some(coming) = coming {
                    prefetch::lines::<1>(coming.wrapping_add((4 * c + quarter) * 256), 256);
                }
                let v = exp(_mm512_sub_ps(load(c, limits[c], quarter), new));
                // exp never gets to zero: what is masked must not count at all.
                let v = _mm512_maskz_mov_ps(mask(limits[c], quarter), v);
                sum = _mm512_add_ps(sum, v);
                _mm512_storeu_ps(p.as_mut_ptr().add(16 * quarter), v);
            }
            let old = *largest.add(c);
            let factor = if now[c] > old { super::elementwise::exp(old - now[c]) } else { 1.0 };
            *largest.add(c) = now[c];
            *sums.add(c) = *sums.add(c) * factor + _mm512_reduce_add_ps(sum);
            *shrink.add(c) = factor;
            let out = &mut *out.add(c * 64).cast::<[A; 64]>();
            for (to, &v) in out.iter_mut().zip(&p) {
                *to = A::new(v);
            }
        }
    }
}
