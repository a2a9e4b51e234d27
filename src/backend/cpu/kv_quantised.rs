//! The cache in 8 bits: heads on their way in, and blocks of 64 positions back to bf16 before they are attended.
//!
//! Codes lie in the order of the bf16 panels, the scales of a block's keys and values behind them. Attention multiplies
//! bf16 on every instruction set, so a block is widened into the thread's L1 first: half the bytes come from memory, and
//! what the widening costs is seen in the measured share of the roof.

use super::activation::{panel_index, round_finite};
use super::dot::PANEL;
use super::feed::Place;
use super::isa::per_isa;
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
                let run = self.kv.block(self.kv_copy, layer, unit, 0);
                for (d, &code) in codes.iter().enumerate() {
                    *self.kv.code(run, position, which, d) = code as i8;
                }
                *self.kv.scale(run, position, which) = scale;
            }
        }
    }
}

impl KvCache {
    /// Where the code of element `d` of a key (`which` 0, `d` in rotary order) or value (1) lies.
    pub(super) fn code(&self, run: *mut u8, position: usize, which: usize, d: usize) -> *mut i8 {
        let (block, at) = (position / BLOCK, position % BLOCK);
        let (key_bytes, value_bytes) = self.panel_bytes();
        let place = match which {
            0 => at / PANEL * key_bytes + panel_index(at % PANEL, d),
            _ => 2 * key_bytes + d / PANEL * value_bytes + panel_index(d % PANEL, at),
        };
        run.wrapping_add(block * self.block_bytes() + place).cast()
    }

    /// Where the scale of a position's key (`which` 0) or value (1) lies.
    pub(super) fn scale(&self, run: *mut u8, position: usize, which: usize) -> *mut f32 {
        let (block, at) = (position / BLOCK, position % BLOCK);
        let end = run.wrapping_add((block + 1) * self.block_bytes()).cast::<f32>();
        end.wrapping_sub((2 - which) * BLOCK).wrapping_add(at)
    }
}

/// Values of 64 codes, each times its own scale. Whole arrays, so that it becomes a few vector instructions.
#[inline(always)]
fn widen_line(from: &[i8; 2 * PANEL], scales: &[f32; 2 * PANEL], to: &mut [u16; 2 * PANEL]) {
    for i in 0..2 * PANEL {
        to[i] = round_finite(f32::from(from[i]) * scales[i]);
    }
}

per_isa! {
    /// Widens a block of codes into bf16 panels of the same order.
    ///
    /// # Safety
    /// `block` is one of heads of this width, `out` has room for its elements.
    pub unsafe fn widen(block: *const i8, width: usize, out: *mut u16) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let scales = block.add(2 * BLOCK * width).cast::<[f32; BLOCK]>();
            let (keys, values) = (&*scales, &*scales.add(1));
            for panel in 0..2 {
                let mut twice = [0f32; 2 * PANEL];
                for (i, scale) in twice.iter_mut().enumerate() {
                    *scale = keys[panel * PANEL + i / 2];
                }
                for pair in 0..width / 2 {
                    let at = (panel * width / 2 + pair) * 2 * PANEL;
                    let (from, to) = (&*block.add(at).cast::<[i8; 2 * PANEL]>(), out.add(at));
                    widen_line(from, &twice, &mut *to.cast::<[u16; 2 * PANEL]>());
                }
            }
            let start = BLOCK * width;
            for pair in 0..BLOCK / 2 {
                // The scales of two positions in turn.
                let mut turns = [values[2 * pair]; 2 * PANEL];
                for scale in turns.iter_mut().skip(1).step_by(2) {
                    *scale = values[2 * pair + 1];
                }
                for panel in 0..width / PANEL {
                    let at = start + (panel * BLOCK / 2 + pair) * 2 * PANEL;
                    let (from, to) = (&*block.add(at).cast::<[i8; 2 * PANEL]>(), out.add(at));
                    widen_line(from, &turns, &mut *to.cast::<[u16; 2 * PANEL]>());
                }
            }
        }
    }
}
