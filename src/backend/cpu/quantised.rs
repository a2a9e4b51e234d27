//! Activations as integers for quantised weights, and the way back from what the kernels put out.

use super::activation::Activation;
use super::dot::{GROUP_STEPS, PANEL};
use super::isa::{InstructionSet, per_isa};
use super::panels::{GROUP_COLUMN_BYTES, Panels};
use super::shape::Groups;
use crate::model::DType;

/// Largest magnitude of 16 bits whose two halves, each signed, are 8 bits.
const MOST: f32 = (127 * 256 + 127) as f32;

/// Tokens as integers: `codes x scale` is the activation. All pointers count from the first token of all.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// As [`Panels::input_offset`] has it, group of tokens by group.
    pub codes: *mut u8,
    /// `[token]`
    pub scales: *mut f32,
    /// `[token][limb]`, over all columns.
    pub sums: *mut i32,
}

impl Inputs {
    /// Lays them over memory of [`Inputs::bytes`] bytes.
    pub fn at(start: *mut u8, tokens: usize, limbs: usize) -> Inputs {
        let sums = start.wrapping_add(tokens * 4);
        let codes = start.wrapping_add(Self::before(tokens, limbs));
        Inputs { codes, scales: start.cast(), sums: sums.cast() }
    }

    /// Bytes before the codes.
    fn before(tokens: usize, limbs: usize) -> usize {
        (tokens * 4 * (1 + limbs)).next_multiple_of(64)
    }

    /// Bytes for so many tokens of so many columns, whatever the weights' type.
    pub fn bytes(columns: usize, tokens: usize, limbs: usize) -> usize {
        let each = columns + columns.div_ceil(GROUP_COLUMN_BYTES - 4) * 4;
        Self::before(tokens, limbs) + tokens * limbs * each
    }
}

per_isa! {
    /// Makes integers of token `c` of the `tokens` of a group, packed at `x`; `codes` is where the group's begin, `sums`
    /// where the token's do. Returns the scale.
    ///
    /// # Safety
    /// The group holds the panels' columns of its tokens, and nobody else writes this token's codes and sums.
    unsafe fn quantise<A: Activation>(
        panels: Panels, x: *const A, tokens: usize, c: usize, codes: *mut u8, sums: *mut i32,
    ) -> f32 {
        let (columns, limbs) = (panels.columns, panels.limbs);
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let value = |k: usize| (*x.add((k / 2 * tokens + c) * 2 + k % 2)).value();
            let mut most = [0f32; 16];
            if tokens == 1 {
                let row = std::slice::from_raw_parts(x, columns);
                for chunk in row.chunks(16) {
                    for (most, v) in most.iter_mut().zip(chunk) {
                        *most = most.max(v.value().abs());
                    }
                }
            } else {
                for k in 0..columns {
                    most[k % 2] = most[k % 2].max(value(k).abs());
                }
            }
            let most = most.into_iter().fold(0f32, f32::max);
            let scale = most / if limbs == 1 { 127.0 } else { MOST };
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut totals = [0i32; 2];
            let places = tokens * limbs;
            // int4 takes 8 columns at a time and sums them up for each group, int8 takes 4 and has one group of all.
            let (width, group) = match panels.dtype {
                DType::Int4 => (8, GROUP_STEPS),
                _ => (4, panels.steps()),
            };
            for first in (0..panels.steps()).step_by(group) {
                let to = codes.add(panels.input_offset(first, tokens));
                let mut partial = [0i32; 2];
                for step in 0..group {
                    let k = (first + step) * width;
                    let mut both = [[0i8; 8]; 2];
                    for i in 0..width {
                        let rounded = (value(k + i) * inverse).round_ties_even();
                        // In range: nothing is larger than the largest, but for the inverse's rounding.
                        let q: i32 = rounded.to_int_unchecked();
                        if limbs == 1 {
                            both[0][i] = q.clamp(-127, 127) as i8;
                        } else {
                            let q = q.clamp(-(MOST as i32), MOST as i32);
                            let upper = (q + 128) >> 8;
                            both[0][i] = upper as i8;
                            both[1][i] = (q - upper * 256) as i8;
                        }
                    }
                    for limb in 0..limbs {
                        let at = to.add((step * places + c * limbs + limb) * width);
                        at.copy_from_nonoverlapping(both[limb].as_ptr().cast(), width);
                        partial[limb] += both[limb].iter().map(|&q| i32::from(q)).sum::<i32>();
                    }
                }
                for limb in 0..limbs {
                    totals[limb] += partial[limb];
                    if panels.dtype == DType::Int4 {
                        let at = to.add(GROUP_STEPS * places * 8).cast::<i32>();
                        at.add(c * limbs + limb).write_unaligned(partial[limb]);
                    }
                }
            }
            for limb in 0..limbs {
                *sums.add(limb) = totals[limb];
            }
            scale
        }
    }
}

/// Makes integers of tokens `range` of all, packed at `x`.
///
/// # Safety
/// `x` holds the panels' columns of all tokens, `inputs` was laid over enough memory, and nobody else writes these
/// tokens' part of it.
pub unsafe fn inputs<A: Activation>(
    isa: InstructionSet,
    panels: Panels,
    groups: Groups,
    x: *const A,
    range: std::ops::Range<usize>,
    inputs: Inputs,
) {
    for token in range {
        let (group, c) = groups.locate(token);
        let (start, size) = (groups.start(group), groups.size(group));
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let codes = inputs.codes.add(panels.input_offset(panels.steps(), start));
            let sums = inputs.sums.add(token * panels.limbs);
            let x = x.add(start * panels.columns);
            *inputs.scales.add(token) = quantise::<A>(isa, panels, x, size, c, codes, sums);
        }
    }
}

per_isa! {
    /// Makes `[tokens][32]` f32 of what the kernels put out for a panel and the tokens from `first` on, in place.
    ///
    /// # Safety
    /// `panel` is one of these panels, `out` what its kernel put out for these tokens, which `inputs` holds.
    pub unsafe fn settle(
        panels: Panels, panel: *const u8, inputs: Inputs, first: usize, tokens: usize, out: *mut f32,
    ) {
        let limbs = panels.limbs;
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for t in 0..tokens {
                let scale = *inputs.scales.add(first + t);
                let to = &mut *out.add(t * PANEL).cast::<[f32; PANEL]>();
                if panels.dtype == DType::Int4 {
                    to.iter_mut().for_each(|value| *value *= scale);
                    continue;
                }
                let rows = &*panel.add(panels.offset(panels.steps())).cast::<[f32; PANEL]>();
                // What the codes' offset of 128 added, taken off before anything is rounded.
                let mut total = [0f32; PANEL];
                for limb in 0..limbs {
                    let offset = (*inputs.sums.add((first + t) * limbs + limb)).wrapping_mul(128);
                    let sums = *out.add((t * limbs + limb) * PANEL).cast::<[i32; PANEL]>();
                    for (total, sum) in total.iter_mut().zip(sums) {
                        *total = *total * 256.0 + sum.wrapping_sub(offset) as f32;
                    }
                }
                for ((to, total), row) in to.iter_mut().zip(total).zip(rows) {
                    *to = total * (scale * row);
                }
            }
        }
    }
}
