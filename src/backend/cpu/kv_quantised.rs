//! The cache in 8 bits: heads on their way in, and pieces of up to 64 positions back to bf16 before they are attended.
//!
//! Codes lie in the order of the bf16 panels, the scales of a piece's keys and values behind them. Attention multiplies
//! bf16 on every instruction set, so a piece is widened into the thread's L1 first: half the bytes come from memory, and
//! what the widening costs is seen in the measured share of the roof.

use super::activation::{panel_index, round_finite};
use super::dot::PANEL;
use super::isa::per_isa;
use super::kv::KvCache;
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
            let (sequence, new) = (token / pass.tokens, token % pass.tokens);
            let unit = sequence * shape.kv_heads + head;
            // SAFETY: the head is whole, and each is quantised by one thread.
            unsafe {
                let values = std::slice::from_raw_parts(self.fresh(token, which, head), width);
                let scale = quantise(DType::Int8, values, &mut codes);
                let position = pass.start + new;
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

/// Values of codes, each times its own scale. Whole arrays, so that it becomes a few vector instructions.
#[inline(always)]
fn widen_line<const N: usize>(from: &[i8; N], scales: &[f32; N], to: &mut [u16; N]) {
    for i in 0..N {
        to[i] = round_finite(f32::from(from[i]) * scales[i]);
    }
}

/// Widens a panel of keys, `N / 2` of them, whose scales are given.
///
/// # Safety
/// `codes` and `out` hold the panel.
#[inline(always)]
unsafe fn widen_keys<const N: usize>(codes: *const i8, scales: *const f32, width: usize, out: *mut u16) {
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let mut twice = [0f32; N];
        for (i, scale) in twice.iter_mut().enumerate() {
            *scale = *scales.add(i / 2);
        }
        for pair in 0..width / 2 {
            let (from, to) = (codes.add(pair * N).cast::<[i8; N]>(), out.add(pair * N).cast::<[u16; N]>());
            widen_line(&*from, &twice, &mut *to);
        }
    }
}

per_isa! {
    /// Widens a piece of `positions` positions into bf16 panels of the same order.
    ///
    /// # Safety
    /// `piece` is one of heads of this width, `out` has room for its elements.
    pub unsafe fn widen(piece: *const i8, positions: usize, width: usize, out: *mut u16) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let start = positions * width;
            let keys = piece.add(2 * start).cast::<f32>();
            let values = keys.add(positions);
            if positions < PANEL {
                widen_keys::<PANEL>(piece, keys, width, out);
            } else {
                for panel in 0..positions / PANEL {
                    let at = panel * PANEL * width;
                    widen_keys::<{ 2 * PANEL }>(piece.add(at), keys.add(panel * PANEL), width, out.add(at));
                }
            }
            for pair in 0..positions / 2 {
                // The scales of two positions in turn.
                let mut turns = [*values.add(2 * pair); 2 * PANEL];
                for scale in turns.iter_mut().skip(1).step_by(2) {
                    *scale = *values.add(2 * pair + 1);
                }
                for panel in 0..width / PANEL {
                    let at = start + (panel * positions / 2 + pair) * 2 * PANEL;
                    let (from, to) = (&*piece.add(at).cast::<[i8; 2 * PANEL]>(), out.add(at));
                    widen_line(from, &turns, &mut *to.cast::<[u16; 2 * PANEL]>());
                }
            }
        }
    }
}
