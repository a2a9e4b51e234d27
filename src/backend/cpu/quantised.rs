//! Activations as integers for quantised weights, and the way back from what the kernels put out.

use super::activation::Activation;
use super::dot::PANEL;
use super::isa::{InstructionSet, opaque, per_isa};
use super::panels::{GROUP_COLUMN_BYTES, Integers, Panels};
use super::shape::Groups;
use crate::model::DType;
use crate::model::precision::GROUP;

/// Tokens as integers: `codes x scale` is the activation. All pointers count from the first token of all.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// As [`Panels::input_offset`] has it, group of tokens by group.
    pub codes: *mut u8,
    /// `[token]`
    pub scales: *mut f32,
    /// `[token][column of 8 bits]`, over all columns of the matrix.
    pub sums: *mut i32,
}

impl Inputs {
    /// Lays them over memory of [`Inputs::bytes`] bytes.
    pub fn at(start: *mut u8, tokens: usize, integers: Integers) -> Inputs {
        let sums = start.wrapping_add(tokens * 4);
        let codes = start.wrapping_add(Self::before(tokens, integers));
        Inputs { codes, scales: start.cast(), sums: sums.cast() }
    }

    /// Bytes before the codes.
    fn before(tokens: usize, integers: Integers) -> usize {
        (tokens * 4 * (1 + integers.columns())).next_multiple_of(64)
    }

    /// Bytes for so many tokens of so many columns, whatever the weights' type.
    pub fn bytes(columns: usize, tokens: usize, integers: Integers) -> usize {
        let sums = columns.div_ceil(GROUP_COLUMN_BYTES - 4) * integers.columns() * 4;
        Self::before(tokens, integers) + tokens * (columns * integers.bytes() + sums)
    }
}

per_isa! {
    /// Token `c` of the `tokens` of a group, packed at `x`, as `row`. Returns its largest magnitude.
    ///
    /// # Safety
    /// The group holds `columns` (a multiple of 8) of its tokens, `row` as many.
    unsafe fn unpack<A: Activation>(x: *const A, columns: usize, tokens: usize, c: usize, row: *mut f32) -> f32 {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let row = std::slice::from_raw_parts_mut(row, columns);
            if tokens == 1 {
                for (to, from) in row.iter_mut().zip(std::slice::from_raw_parts(x, columns)) {
                    *to = from.value();
                }
            } else {
                let pairs = x.add(c * 2).cast::<[A; 2]>();
                for (k, to) in row.chunks_exact_mut(2).enumerate() {
                    let pair = *pairs.add(k * tokens);
                    to.copy_from_slice(&[pair[0].value(), pair[1].value()]);
                }
            }
            let mut most = [0f32; 64];
            let (chunks, rest) = row.as_chunks::<64>();
            for chunk in chunks {
                for (most, v) in most.iter_mut().zip(chunk) {
                    *most = if v.abs() > *most { v.abs() } else { *most };
                }
            }
            most.into_iter().chain(rest.iter().map(|v| v.abs())).fold(0f32, f32::max)
        }
    }
}

/// The nearest integer; what is out of range by the rounding of its scale is not.
///
/// # Safety
/// The value is a number well within 32 bits.
#[inline(always)]
unsafe fn integer(value: f32, most: i32) -> i32 {
    // SAFETY: the caller vouches for it.
    let nearest: i32 = unsafe { value.round_ties_even().to_int_unchecked() };
    nearest.clamp(-most, most)
}

per_isa! {
    /// Makes integers of `row`, a token whose first column of integers is number `place` of the group's `places`, at
    /// `codes`, where the group's begin. Returns their sums.
    ///
    /// # Safety
    /// `row` holds the panels' columns, `codes` those of the group; nobody else writes this token's.
    unsafe fn quantise(
        panels: Panels, row: *const f32, inverse: f32, codes: *mut u8, place: usize, places: usize,
    ) -> [i32; 2] {
        let most = i32::from(panels.integers.most());
        // SAFETY: passed on to the caller.
        unsafe {
            let row = std::slice::from_raw_parts(row, panels.columns);
            match (panels.dtype, panels.integers.columns()) {
                (DType::Int4, 1) => quantise_bytes::<8, 1>(row, inverse, most, codes, place, places),
                (DType::Int4, _) => quantise_bytes::<8, 2>(row, inverse, most, codes, place, places),
                (_, 1) => quantise_bytes::<4, 1>(row, inverse, most, codes, place, places),
                _ => quantise_bytes::<4, 2>(row, inverse, most, codes, place, places),
            }
        }
    }
}

/// [`quantise`] in steps of `WIDTH` columns, 8 of int4, which has the sums of each group behind it, or 4; `LIMBS` columns of
/// integers.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn quantise_bytes<const WIDTH: usize, const LIMBS: usize>(
    row: &[f32],
    inverse: f32,
    most: i32,
    codes: *mut u8,
    place: usize,
    places: usize,
) -> [i32; 2] {
    const CHUNK: usize = 32;
    let has_sums = WIDTH == 8;
    let group = if has_sums { GROUP as usize } else { row.len() };
    let mut totals = [0i32; 2];
    let mut to = codes;
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for group in row.chunks_exact(group) {
            // Added up side by side.
            let (mut uppers, mut lowers) = ([0i32; CHUNK], [0i32; CHUNK]);
            for chunk in group.chunks(CHUNK) {
                let mut values = [0f32; CHUNK];
                match chunk.first_chunk() {
                    Some(whole) => values = *whole,
                    None => values[..chunk.len()].copy_from_slice(chunk),
                }
                let mut limbs = [[0i8; CHUNK]; LIMBS];
                for i in 0..CHUNK {
                    let q = integer(values[i] * inverse, most);
                    // The last limb has the lower 8 bits, signed, and the one before it what is left.
                    let upper = if LIMBS == 2 { (q + 128) >> 8 } else { 0 };
                    let lower = q - upper * 256;
                    uppers[i] += upper;
                    lowers[i] += lower;
                    limbs[0][i] = upper as i8;
                    limbs[LIMBS - 1][i] = lower as i8;
                }
                for step in 0..chunk.len() / WIDTH {
                    for (limb, codes) in limbs.iter().enumerate() {
                        let from = codes.as_ptr().add(step * WIDTH).cast::<[u8; WIDTH]>();
                        to.add((place + limb) * WIDTH).cast::<[u8; WIDTH]>().write(from.read());
                    }
                    to = to.add(places * WIDTH);
                }
            }
            let (upper, lower) = (uppers.iter().sum(), lowers.iter().sum());
            let sums: [i32; 2] = if LIMBS == 2 { [upper, lower] } else { [lower, 0] };
            if has_sums {
                for (limb, &sum) in sums[..LIMBS].iter().enumerate() {
                    to.cast::<i32>().add(place + limb).write_unaligned(sum);
                }
                to = to.add(places * 4);
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
    }
    totals
}

per_isa! {
    /// As [`quantise`], in a column of 16 bits.
    ///
    /// # Safety
    /// As there.
    unsafe fn quantise_words(
        panels: Panels, row: *const f32, inverse: f32, codes: *mut u8, place: usize, places: usize,
    ) {
        let most = i32::from(panels.integers.most());
        let mut to = codes.cast::<i16>();
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let row = std::slice::from_raw_parts(row, panels.columns);
            for group in row.chunks(GROUP as usize) {
                let mut sum = 0i32;
                for chunk in group.chunks(8) {
                    let mut words = [0i16; 8];
                    for (i, value) in chunk.iter().enumerate() {
                        words[i] = integer(value * inverse, most) as i16;
                    }
                    sum += words.iter().map(|&q| i32::from(q)).sum::<i32>();
                    let [a, b, c, d, e, f, g, h] = words;
                    let (first, second) = ([a, c, b, d], [e, g, f, h]);
                    let at = to.add(place * panels.step_columns());
                    at.cast::<[i16; 4]>().write_unaligned(first);
                    if panels.dtype == DType::Int4 {
                        at.add(4).cast::<[i16; 4]>().write_unaligned(second);
                    } else if chunk.len() == 8 {
                        at.add(places * 4).cast::<[i16; 4]>().write_unaligned(second);
                    }
                    to = to.add(places * chunk.len());
                }
                to.cast::<i32>().add(place).write_unaligned(sum);
                to = to.add(places * 2);
            }
        }
    }
}

/// Makes integers of tokens `range` of all, packed at `x`.
///
/// # Safety
/// `x` holds the panels' columns of all tokens, `inputs` was laid over enough memory, and nobody else writes these
/// tokens' part of it; `row` holds as many values as there are columns.
pub unsafe fn inputs<A: Activation>(
    isa: InstructionSet,
    panels: Panels,
    groups: Groups,
    x: *const A,
    range: std::ops::Range<usize>,
    row: *mut f32,
    inputs: Inputs,
) {
    for token in range {
        let (group, c) = groups.locate(token);
        let (start, size) = (groups.start(group), groups.size(group));
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let codes = inputs.codes.add(panels.input_offset(panels.steps(), start));
            let most = unpack::<A>(isa, x.add(start * panels.columns), panels.columns, size, c, row);
            let scale = most / f32::from(panels.integers.most());
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            *inputs.scales.add(token) = scale;
            let columns = panels.integers.columns();
            let (place, places) = (c * columns, size * columns);
            if matches!(panels.integers, Integers::Words { .. }) {
                quantise_words(isa, panels, row, inverse, codes, place, places);
                continue;
            }
            let sums = quantise(isa, panels, row, inverse, codes, place, places);
            for (limb, sum) in sums[..columns].iter().enumerate() {
                *inputs.sums.add(token * columns + limb) = *sum;
            }
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
        let limbs = panels.integers.columns();
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for t in 0..tokens {
                let scale = *inputs.scales.add(first + t);
                let to = opaque(out.add(t * PANEL)).cast::<[f32; PANEL]>();
                // Written whole in the end: the first token's values lie where its integers were, and of the others' the compiler
                // cannot tell that they do not.
                let mut values = *to;
                if panels.dtype == DType::Int4 {
                    values.iter_mut().for_each(|value| *value *= scale);
                    *to = values;
                    continue;
                }
                let rows = &*panel.add(panels.offset(panels.steps())).cast::<[f32; PANEL]>();
                if matches!(panels.integers, Integers::Bytes { .. }) {
                    // What the codes' offset of 128 added, taken off before anything is rounded.
                    values = [0.0; PANEL];
                    for limb in 0..limbs {
                        let offset = (*inputs.sums.add((first + t) * limbs + limb)).wrapping_mul(128);
                        let sums = &*out.add((t * limbs + limb) * PANEL).cast::<[i32; PANEL]>();
                        for (value, sum) in values.iter_mut().zip(sums) {
                            *value = *value * 256.0 + sum.wrapping_sub(offset) as f32;
                        }
                    }
                }
                values.iter_mut().zip(rows).for_each(|(value, row)| *value *= scale * row);
                *to = values;
            }
        }
    }
}
