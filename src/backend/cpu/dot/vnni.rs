//! Panel times columns of integers with the 8-bit dot products of AVX-512 (VNNI).

use std::arch::x86_64::*;

use super::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::backend::cpu::panels::{GROUP_BYTES, GROUP_COLUMN_BYTES};

/// See [`super::Dot`]; `C` columns of integers, `U` steps in flight at once. Puts out i32, the offset of the codes still
/// in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int8.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn int8<const C: usize, const U: usize, const AHEAD: bool>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    let mut sums = [[[_mm512_setzero_si512(); 2]; C]; U];
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let one = |at: usize, sums: &mut [[__m512i; 2]; C]| {
            let w = panel.add(at * STEP_BYTES);
            let lines = [_mm512_loadu_si512(w.cast()), _mm512_loadu_si512(w.add(64).cast())];
            if AHEAD {
                let next = ahead.wrapping_add(at * step);
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step / 2).cast());
            }
            let x = x.add(at * C * 4).cast::<i32>();
            for (c, sums) in sums.iter_mut().enumerate() {
                let four = _mm512_set1_epi32(x.add(c).read_unaligned());
                for (sum, line) in sums.iter_mut().zip(lines) {
                    *sum = _mm512_dpbusd_epi32(*sum, line, four);
                }
            }
        };
        let mut at = 0;
        while at + U <= steps {
            for (u, sums) in sums.iter_mut().enumerate() {
                one(at + u, sums);
            }
            at += U;
        }
        while at < steps {
            one(at, &mut sums[0]);
            at += 1;
        }
        for c in 0..C {
            for line in 0..2 {
                let to = out.add(c * PANEL + line * 16).cast::<__m512i>();
                let mut sum = sums[0][c][line];
                for more in &sums[1..] {
                    sum = _mm512_add_epi32(sum, more[c][line]);
                }
                if accumulate {
                    sum = _mm512_add_epi32(sum, to.read_unaligned());
                }
                to.write_unaligned(sum);
            }
        }
    }
}

/// See [`super::Dot`]; `T` tokens of `LIMBS` columns each, `C` in all. Whole groups; puts out f32 with the weights'
/// scales in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int4.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn int4<const T: usize, const C: usize, const AHEAD: bool>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    let low = _mm512_set1_epi8(15);
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let out = out.cast::<[__m512; 2]>();
        let mut totals = [[_mm512_setzero_ps(); 2]; T];
        if accumulate {
            for (t, total) in totals.iter_mut().enumerate() {
                *total = out.add(t).read_unaligned();
            }
        }
        for group in 0..steps / GROUP_STEPS {
            let w = panel.add(group * GROUP_BYTES);
            let x = x.add(group * C * GROUP_COLUMN_BYTES);
            // The codes are 8 too large.
            let offsets = x.add(C * (GROUP_COLUMN_BYTES - 4)).cast::<i32>();
            let mut sums: [[__m512i; 2]; C] =
                std::array::from_fn(|c| [_mm512_set1_epi32(-8 * offsets.add(c).read_unaligned()); 2]);
            for at in 0..GROUP_STEPS {
                let lines = [0, 64].map(|line| {
                    let codes = _mm512_loadu_si512(w.add(at * STEP_BYTES + line).cast());
                    let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low);
                    [_mm512_and_si512(codes, low), upper]
                });
                if AHEAD {
                    let next = ahead.wrapping_add((group * GROUP_STEPS + at) * step);
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step / 2).cast());
                }
                let x = x.add(at * C * 8).cast::<[i32; 2]>();
                for (c, sums) in sums.iter_mut().enumerate() {
                    let fours = x.add(c).read_unaligned().map(|four| _mm512_set1_epi32(four));
                    for (sum, line) in sums.iter_mut().zip(lines) {
                        for (codes, four) in line.into_iter().zip(fours) {
                            *sum = _mm512_dpbusd_epi32(*sum, codes, four);
                        }
                    }
                }
            }
            let scales: [__m512; 2] = std::array::from_fn(|line| {
                let bits = w.add(GROUP_STEPS * STEP_BYTES + line * 32).cast::<__m256i>().read_unaligned();
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            });
            for (t, total) in totals.iter_mut().enumerate() {
                for line in 0..2 {
                    let sum = if C == T {
                        sums[t][line]
                    } else {
                        _mm512_add_epi32(_mm512_slli_epi32::<8>(sums[2 * t][line]), sums[2 * t + 1][line])
                    };
                    total[line] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales[line], total[line]);
                }
            }
        }
        for (t, total) in totals.into_iter().enumerate() {
            out.add(t).write_unaligned(total);
        }
    }
}
