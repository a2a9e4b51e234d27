//! Panel times columns of integers in plain Rust, for what is no x86 or has no AVX2.

use super::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::backend::cpu::panels::{GROUP_BYTES, GROUP_COLUMN_BYTES};
use crate::backend::weights::from_bf16;

/// As `vnni::int8`.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int8.
pub unsafe fn int8<const C: usize>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    let out = out.cast::<i32>();
    // SAFETY: the caller vouches for the extents of panel, x and out.
    unsafe {
        for c in 0..C {
            for line in 0..2 {
                let mut sums = [0i32; 16];
                for at in 0..steps {
                    let codes = &*panel.add(at * STEP_BYTES + line * 64).cast::<[[u8; 4]; 16]>();
                    let four = &*x.add((at * C + c) * 4).cast::<[i8; 4]>();
                    for (sum, codes) in sums.iter_mut().zip(codes) {
                        for (code, x) in codes.iter().zip(four) {
                            *sum = sum.wrapping_add(i32::from(*code) * i32::from(*x));
                        }
                    }
                }
                for (row, sum) in sums.into_iter().enumerate() {
                    let to = out.add(c * PANEL + line * 16 + row);
                    *to = if accumulate { (*to).wrapping_add(sum) } else { sum };
                }
            }
        }
    }
}

/// As `vnni::int4`.
///
/// # Safety
/// The contract of [`super::Dot`]; the panel is int4.
pub unsafe fn int4<const T: usize, const C: usize>(
    panel: *const u8,
    steps: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    let limbs = C / T;
    // SAFETY: the caller vouches for the extents of panel, x and out.
    unsafe {
        for t in 0..T {
            for line in 0..2 {
                let mut totals = [0f32; 16];
                for group in 0..steps / GROUP_STEPS {
                    let w = panel.add(group * GROUP_BYTES);
                    let x = x.add(group * C * GROUP_COLUMN_BYTES);
                    let offsets = x.add(C * (GROUP_COLUMN_BYTES - 4)).cast::<i32>();
                    let mut sums = [0i32; 16];
                    for limb in 0..limbs {
                        let c = t * limbs + limb;
                        sums = sums.map(|sum| sum * 256 - 8 * offsets.add(c).read_unaligned());
                        for at in 0..GROUP_STEPS {
                            let codes = &*w.add(at * STEP_BYTES + line * 64).cast::<[[u8; 4]; 16]>();
                            let x = &*x.add((at * C + c) * 8).cast::<[[i8; 4]; 2]>();
                            for (sum, codes) in sums.iter_mut().zip(codes) {
                                for (i, code) in codes.iter().enumerate() {
                                    *sum += i32::from(code & 15) * i32::from(x[0][i]);
                                    *sum += i32::from(code >> 4) * i32::from(x[1][i]);
                                }
                            }
                        }
                    }
                    let scales = &*w.add(GROUP_STEPS * STEP_BYTES + line * 32).cast::<[u16; 16]>();
                    for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(scales) {
                        *total += sum as f32 * from_bf16(*scale);
                    }
                }
                for (row, total) in totals.into_iter().enumerate() {
                    let to = out.add(t * PANEL + line * 16 + row);
                    *to = if accumulate { *to + total } else { total };
                }
            }
        }
    }
}
