//! Panel times columns of integers with the 8-bit dot products of AVX-512 (VNNI).

#![allow(clippy::needless_range_loop, reason = "indices are what unrolls into registers")]

use std::arch::x86_64::*;

use super::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::backend::cpu::panels::{GROUP_BYTES, GROUP_COLUMN_BYTES};

/// Fetches the two lines of a later step into the cache of this level.
///
/// The loads of these kernels are far apart: a CPU may not have enough of them under way by itself, a Zen 5 reaches 0.6 of the
/// memory's rate without this. A Zen 4 reaches all of it, and loses a fifth by being helped.
#[inline(always)]
fn fetch<const LEVEL: usize>(next: *const u8, step: usize) {
    fetch_line::<LEVEL>(next);
    fetch_line::<LEVEL>(next.wrapping_add(step / 2));
}

/// One line of that. What goes into L1 is read once, and passes the other caches by.
#[inline(always)]
fn fetch_line<const LEVEL: usize>(next: *const u8) {
    // SAFETY: a prefetch may go anywhere, and every x86-64 has it.
    unsafe {
        match LEVEL {
            0 => {}
            1 => _mm_prefetch::<_MM_HINT_NTA>(next.cast()),
            _ => _mm_prefetch::<_MM_HINT_T1>(next.cast()),
        }
    }
}

/// See [`super::Dot`]; `C` columns of integers, `U` steps in flight at once. Puts out i32, the offset of the codes still
/// in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int8.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn int8<const C: usize, const U: usize, const LEVEL: usize>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    ahead: *const u8,
    step: usize,
) {
    // No closures around instructions: what the library calls is not compiled for this set, and is not always inlined.
    let mut sums = [[[_mm512_setzero_si512(); 2]; C]; U];
    // SAFETY: the caller vouches for the extents of panel, x and out; prefetches may go anywhere.
    unsafe {
        let mut first = 0;
        while first < steps {
            for u in 0..U {
                let at = first + u;
                if U > 1 && at >= steps {
                    break;
                }
                let w = panel.add(at * STEP_BYTES);
                let upper = _mm512_loadu_si512(w.cast());
                let lower = _mm512_loadu_si512(w.add(64).cast());
                fetch::<LEVEL>(ahead.wrapping_add(at * step), step);
                let x = x.add(at * C * 4).cast::<i32>();
                for c in 0..C {
                    let four = _mm512_set1_epi32(x.add(c).read_unaligned());
                    sums[u][c][0] = _mm512_dpbusd_epi32(sums[u][c][0], upper, four);
                    sums[u][c][1] = _mm512_dpbusd_epi32(sums[u][c][1], lower, four);
                }
            }
            first += U;
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

/// See [`super::Dot`]; `T` tokens of one column or two, `C` in all; `U` steps in flight at once, and as many `HALVES` of
/// the bytes (1 adds both into one chain). Whole groups; puts out f32 with the weights' scales in it.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int4.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn int4<
    const T: usize,
    const C: usize,
    const U: usize,
    const HALVES: usize,
    const LEVEL: usize,
>(
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
            // A group's scales take half a step.
            let ahead = ahead.wrapping_add(group * (GROUP_STEPS * step + step / 2));
            fetch_line::<LEVEL>(ahead.wrapping_add(GROUP_STEPS * step));
            let mut sums = [[[[_mm512_setzero_si512(); 2]; HALVES]; C]; U];
            // The codes are 8 too large.
            let offsets = x.add(C * (GROUP_COLUMN_BYTES - 4)).cast::<i32>();
            for (c, sums) in sums[0].iter_mut().enumerate() {
                sums[0] = [_mm512_set1_epi32(-8 * offsets.add(c).read_unaligned()); 2];
            }
            for at in (0..GROUP_STEPS).step_by(U) {
                for u in 0..U {
                    let at = at + u;
                    let first = _mm512_loadu_si512(w.add(at * STEP_BYTES).cast());
                    let second = _mm512_loadu_si512(w.add(at * STEP_BYTES + 64).cast());
                    // [half][line]
                    let codes = [
                        [_mm512_and_si512(first, low), _mm512_and_si512(second, low)],
                        [
                            _mm512_and_si512(_mm512_srli_epi16::<4>(first), low),
                            _mm512_and_si512(_mm512_srli_epi16::<4>(second), low),
                        ],
                    ];
                    fetch::<LEVEL>(ahead.wrapping_add(at * step), step);
                    let x = x.add(at * C * 8).cast::<i32>();
                    for c in 0..C {
                        for half in 0..2 {
                            let four = _mm512_set1_epi32(x.add(2 * c + half).read_unaligned());
                            for line in 0..2 {
                                let sum = &mut sums[u][c][half % HALVES][line];
                                *sum = _mm512_dpbusd_epi32(*sum, codes[half][line], four);
                            }
                        }
                    }
                }
            }
            let mut scales = [_mm512_setzero_ps(); 2];
            for line in 0..2 {
                let bits = w.add(GROUP_STEPS * STEP_BYTES + line * 32).cast::<__m256i>().read_unaligned();
                scales[line] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)));
            }
            for c in 0..C {
                for line in 0..2 {
                    for u in 0..U {
                        for half in 0..HALVES {
                            if u + half > 0 {
                                let more = sums[u][c][half][line];
                                sums[0][c][0][line] = _mm512_add_epi32(sums[0][c][0][line], more);
                            }
                        }
                    }
                }
            }
            for t in 0..T {
                for line in 0..2 {
                    let sum = match C / T {
                        1 => sums[0][t][0][line],
                        _ => _mm512_add_epi32(
                            _mm512_slli_epi32::<8>(sums[0][2 * t][0][line]),
                            sums[0][2 * t + 1][0][line],
                        ),
                    };
                    totals[t][line] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales[line], totals[t][line]);
                }
            }
        }
        for t in 0..T {
            out.add(t).write_unaligned(totals[t]);
        }
    }
}
