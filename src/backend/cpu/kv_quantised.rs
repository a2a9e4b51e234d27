//! The cache in 8 bits: heads on their way in, and queries and exponentials as integers for the products with codes.
//!
//! Codes lie in the order of the bf16 panels, the scales of a piece's keys and values behind them. They are multiplied as they
//! are: a query becomes 16-bit integers of one scale, and so do the exponentials of a block, which the scales of the values go
//! into. Sums are exact then; a score gets the scales of its query and its key.

use super::activation::{Activation, panel_index};
use super::dot::{MAX_TOKENS, PANEL};
use super::feed::Place;
use super::isa::{opaque, per_isa};
use super::kv::{BLOCK, KvCache};
use super::pool::Worker;
use super::shape::split;
use super::step::Step;
use crate::model::DType;
use crate::model::precision::quantise;

impl Step<'_> {
    /// Where the head of a new token's key (`which` 0) or value (1) waits to be quantised, `[head width]` in rotary order.
    pub(super) fn fresh(&self, token: usize, which: usize, head: usize) -> *mut f32 {
        let heads = self.shape.kv_heads;
        let at = (token * 2 + which) * heads + head;
        self.pass.fresh.ptr::<f32>().wrapping_add(at * self.shape.head_width())
    }

    /// Quantises all new keys and values into the cache, shared out over the threads.
    ///
    /// # Safety
    /// Called by all threads once all of them have put their part of the new heads in place.
    pub(super) unsafe fn append_quantised(&self, worker: Worker<'_>, layer: usize) {
        let (shape, pass) = (self.shape, self.pass);
        let width = shape.head_width();
        let heads = 2 * shape.kv_heads;
        let mut codes = vec![0u8; width];
        for item in split(pass.groups.count * heads, worker.threads, worker.index) {
            let (token, which, head) = (item / heads, item % heads / shape.kv_heads, item % shape.kv_heads);
            let (_, Place { sequence, position, .. }) = pass.place(token);
            let unit = sequence * shape.kv_heads + head;
            // SAFETY: the head is whole, and each is quantised by one thread.
            unsafe {
                let values = std::slice::from_raw_parts(self.fresh(token, which, head), width);
                let scale = quantise(DType::Int8, values, &mut codes);
                let piece = self.kv.of(self.kv_copy, layer, unit, position);
                for (d, &code) in codes.iter().enumerate() {
                    *self.kv.code(piece, position, which, d) = code as i8;
                }
                *self.kv.scale(piece, position, which) = scale;
            }
        }
    }
}

impl KvCache {
    /// Where the code of element `d` of a key (`which` 0, `d` in rotary order) or value (1) lies in its piece.
    pub(super) fn code(&self, piece: *mut u8, position: usize, which: usize, d: usize) -> *mut i8 {
        let (key_bytes, value_bytes) = self.panel_bytes();
        let (at, rows) = (position % self.piece(), PANEL.min(self.piece()));
        let place = match which {
            0 => at / rows * key_bytes + panel_index(rows, at % rows, d),
            _ => self.values() + d / PANEL * value_bytes + panel_index(PANEL, d % PANEL, at),
        };
        piece.wrapping_add(place).cast()
    }

    /// Where the scale of a position's key (`which` 0) or value (1) lies, behind the codes of its piece.
    pub(super) fn scale(&self, piece: *mut u8, position: usize, which: usize) -> *mut f32 {
        let scales = piece.wrapping_add(2 * self.values()).cast::<f32>();
        scales.wrapping_add(which * self.piece() + position % self.piece())
    }
}

/// What a thread needs to attend codes.
#[derive(Debug, Clone, Copy)]
pub struct Scratch {
    /// Queries of `columns` columns: `[tile][width/2][column][2]`.
    pub queries: *mut i16,
    /// `[column]`
    pub query_scales: *mut f32,
    /// Exponentials of a tile: `[column][64]`.
    pub weights: *mut i16,
    /// `[column of the tile]`
    pub weight_scales: *mut f32,
    /// Sums of a block's values: `[head panels][column of the tile][32]`.
    pub sums: *mut i32,
}

impl Scratch {
    /// Lays it over [`Scratch::len`] values.
    pub fn at(start: *mut f32, columns: usize, width: usize) -> Scratch {
        let query_scales = start.wrapping_add(columns * width / 2);
        let weights = query_scales.wrapping_add(columns);
        let weight_scales = weights.wrapping_add(MAX_TOKENS * BLOCK / 2);
        let sums = weight_scales.wrapping_add(MAX_TOKENS);
        Scratch {
            queries: start.cast(),
            query_scales,
            weights: weights.cast(),
            weight_scales,
            sums: sums.cast(),
        }
    }

    /// f32 values of scratch for queries of so many columns.
    pub fn len(columns: usize, width: usize) -> usize {
        columns * width / 2 + columns + MAX_TOKENS * (BLOCK / 2 + 1 + width)
    }
}

/// Largest integer of a sum over `terms` codes that does not leave 32 bits.
fn most(terms: usize) -> f32 {
    (i32::MAX as usize / (127 * terms)).min(i16::MAX as usize) as f32
}

per_isa! {
    /// Integers of the queries of a tile, `[width/2][columns][2]`, and the scale of each column.
    ///
    /// # Safety
    /// `from` and `codes` hold the tile, `scales` its columns, at most 12.
    pub unsafe fn queries<A: Activation>(
        from: *const A, columns: usize, width: usize, codes: *mut i16, scales: *mut f32,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let scales = std::slice::from_raw_parts_mut(scales, columns);
            scales.fill(0.0);
            for pair in 0..width / 2 {
                for (c, scale) in scales.iter_mut().enumerate() {
                    let [a, b] = *from.add((pair * columns + c) * 2).cast::<[A; 2]>();
                    *scale = scale.max(a.value().abs()).max(b.value().abs());
                }
            }
            let mut inverses = [0f32; MAX_TOKENS];
            for (inverse, scale) in inverses.iter_mut().zip(scales) {
                *scale /= most(width);
                *inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
            }
            for pair in 0..width / 2 {
                for (c, inverse) in inverses[..columns].iter().enumerate() {
                    let at = (pair * columns + c) * 2;
                    let values = *from.add(at).cast::<[A; 2]>();
                    *codes.add(at).cast::<[i16; 2]>() = values.map(|v| integer(v.value() * inverse));
                }
            }
        }
    }
}

/// The nearest integer; what is out of range by the rounding of its scale is not.
#[inline(always)]
fn integer(value: f32) -> i16 {
    // Adding 1.5 x 2^23 rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    (value.clamp(-32767.0, 32767.0) + ROUND).to_bits() as i16
}

per_isa! {
    /// Makes scores of the sums of a panel of keys or half of one, in place: `[columns][32]`, of which `rows` have scales.
    ///
    /// # Safety
    /// The extents are as given; `rows` is 16 or 32.
    pub unsafe fn scores(
        scores: *mut f32, columns: usize, rows: usize, query_scales: *const f32, key_scales: *const f32,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for line in 0..rows / 16 {
                let keys = &*key_scales.add(line * 16).cast::<[f32; 16]>();
                for c in 0..columns {
                    let scale = *query_scales.add(c);
                    let at = opaque(scores.add(c * PANEL + line * 16));
                    let mut values = [0f32; 16];
                    for ((value, &sum), key) in values.iter_mut().zip(&*at.cast::<[i32; 16]>()).zip(keys) {
                        *value = sum as f32 * (scale * key);
                    }
                    *at.cast::<[f32; 16]>() = values;
                }
            }
        }
    }
}

per_isa! {
    /// Integers of a block's exponentials times the scales of its values, `[columns][64]`, and the scale of each column.
    ///
    /// # Safety
    /// The extents are as given.
    pub unsafe fn weights(
        from: *const f32, columns: usize, value_scales: &[f32; BLOCK], codes: *mut i16, scales: *mut f32,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for c in 0..columns {
                let mut values = *from.add(c * BLOCK).cast::<[f32; BLOCK]>();
                // None is negative: they are in the order of their bits, and integers may be compared in any order.
                let mut largest = 0;
                for (value, scale) in values.iter_mut().zip(value_scales) {
                    *value *= scale;
                    largest = largest.max(value.to_bits());
                }
                let largest = f32::from_bits(largest);
                let scale = largest / most(BLOCK);
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                *scales.add(c) = scale;
                let codes = &mut *codes.add(c * BLOCK).cast::<[i16; BLOCK]>();
                for (code, value) in codes.iter_mut().zip(values) {
                    *code = integer(value * inverse);
                }
            }
        }
    }
}

per_isa! {
    /// Adds the sums of a block's values, each of its column's scale, to what was summed up before and shrinks first:
    /// `[panels][columns][32]`.
    ///
    /// # Safety
    /// The extents are as given.
    pub unsafe fn add(
        sums: *const i32, panels: usize, columns: usize, scales: *const f32, shrink: *const f32, to: *mut f32,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for panel in 0..panels {
                for c in 0..columns {
                    let at = (panel * columns + c) * PANEL;
                    let (scale, shrink) = (*scales.add(c), *shrink.add(c));
                    let sums = &*sums.add(at).cast::<[i32; PANEL]>();
                    let to = opaque(to.add(at)).cast::<[f32; PANEL]>();
                    let mut values = *to;
                    for (value, &sum) in values.iter_mut().zip(sums) {
                        *value = *value * shrink + sum as f32 * scale;
                    }
                    *to = values;
                }
            }
        }
    }
}
