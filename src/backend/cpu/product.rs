//! Weights times activations: from one token, where the weights come as one stream from memory, to thousands,
//! where blocks of weights and activations are kept in the caches.

use std::ops::Range;

use super::dot::{DotTable, PANEL, STEP_BYTES};
use super::isa::InstructionSet;
use super::panels::Panels;
use super::prefetch;
use super::quantised::{Inputs, settle};
use super::shape::Groups;

/// Steps multiplied before the next tokens take their turn: 16 KiB of a panel, half an L1. Whole groups of int4.
const BLOCK_STEPS: usize = 128;
/// Groups of tokens that go through a block of panels together: their tile and activations stay in L2.
const CHUNK_GROUPS: usize = 43;
/// Panels of a block: the activations of a block of columns are read once for all of them.
const BLOCK_PANELS: usize = 4;
/// Up to this many groups each panel is read to its end before the next, as one stream from memory.
const STREAMED_GROUPS: usize = 6;
/// Beyond so many groups the activations of a chunk are fetched as well. With a quarter as many, that loses up to 3%.
const FETCHED_GROUPS: usize = 20;

/// f32 values of scratch that [`Product::run`] needs for `groups` of so many outputs a token.
pub fn tile_len(groups: Groups, outputs: usize) -> usize {
    let columns = (groups.count * outputs).min((CHUNK_GROUPS + 1) * super::dot::MAX_TOKENS);
    BLOCK_PANELS.max(2) * columns * PANEL
}

/// Panels of a thread's share of a matrix times all tokens.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// Kernels for the weights.
    pub dots: &'a DotTable,
    /// First panel of the share.
    pub weights: *const u8,
    /// Panels that are finished together (1 or 2).
    pub unit: usize,
    /// How the panels and their input lie.
    pub panels: Panels,
    /// Packed activations of all groups; integers for quantised weights.
    pub x: *const u8,
    /// What belongs to the integers.
    pub inputs: Option<Inputs>,
    /// For what follows the products of integers.
    pub isa: InstructionSet,
    /// The tokens.
    pub groups: Groups,
    /// Scratch of [`tile_len`] values.
    pub tile: *mut f32,
}

impl Product<'_> {
    /// Multiplies the units that `claim(most)` hands out until there are none left, and calls
    /// `finish(unit, group, tile, next)` for each of them and each group: `tile` is the `[tokens][32]` output of the
    /// unit's first panel, that of its second lies `next` values further.
    ///
    /// # Safety
    /// The pointers have the extents that the fields say, and the tile is this thread's alone.
    pub unsafe fn run(
        &self,
        mut claim: impl FnMut(usize) -> Option<Range<usize>>,
        mut finish: impl FnMut(usize, usize, *mut f32, usize),
    ) {
        // Several chunks of tokens go through the same panels: those stay together.
        let most = match self.groups.groups {
            1 => 1,
            groups if groups <= CHUNK_GROUPS => self.units_at_once(),
            _ => usize::MAX,
        };
        while let Some(units) = claim(most) {
            // SAFETY: passed on to the caller.
            unsafe {
                match self.groups.groups {
                    1 => self.stream(units, &mut finish),
                    _ => self.blocks(units, &mut finish),
                }
            }
        }
    }

    /// Units that go through a chunk of tokens together.
    fn units_at_once(&self) -> usize {
        if self.groups.groups <= STREAMED_GROUPS { 1 } else { (BLOCK_PANELS / self.unit).max(1) }
    }

    /// One group of tokens: every panel is read once, from end to end.
    ///
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn stream(&self, units: Range<usize>, finish: &mut impl FnMut(usize, usize, *mut f32, usize)) {
        let (steps, bytes, tokens) = (self.panels.steps(), self.panels.bytes(), self.groups.count);
        let (dot, distance) = (self.dots.stream(tokens), self.dots.distance(tokens));
        let apart = tokens * self.panels.outputs() * PANEL;
        // SAFETY: each panel lies in the share, the outputs in the tile.
        unsafe {
            let mut panel = self.weights.add(units.start * self.unit * bytes);
            for unit in units {
                for p in 0..self.unit {
                    let out = self.tile.add(p * apart);
                    dot(panel, steps, self.x, out, false, panel.wrapping_add(distance), STEP_BYTES);
                    self.settle(panel, 0, out);
                    panel = panel.add(bytes);
                }
                finish(unit, 0, self.tile, apart);
            }
        }
    }

    /// Many tokens: blocks of columns of a few panels, chunk of tokens by chunk.
    ///
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn blocks(&self, units: Range<usize>, finish: &mut impl FnMut(usize, usize, *mut f32, usize)) {
        let (steps, outputs) = (self.panels.steps(), self.panels.outputs());
        let groups = self.groups;
        let units_at_once = self.units_at_once();
        let mut first_group = 0;
        while first_group < groups.groups {
            let last_group = (first_group + CHUNK_GROUPS).min(groups.groups);
            let tokens = groups.start(last_group) - groups.start(first_group);
            let chunk = (first_group, last_group, tokens);
            for first_unit in units.clone().step_by(units_at_once) {
                let count = units_at_once.min(units.end - first_unit);
                let (first_panel, panels) = (first_unit * self.unit, count * self.unit);
                // SAFETY: panels and blocks lie in the share, the outputs in the tile.
                unsafe {
                    if groups.groups <= STREAMED_GROUPS {
                        for p in 0..panels {
                            for k in (0..steps).step_by(BLOCK_STEPS) {
                                self.block(first_panel, p, k, (p, k + BLOCK_STEPS), chunk);
                            }
                        }
                    } else {
                        for k in (0..steps).step_by(BLOCK_STEPS) {
                            for p in 0..panels {
                                let next = if p + 1 < panels { (p + 1, k) } else { (0, k + BLOCK_STEPS) };
                                self.block(first_panel, p, k, next, chunk);
                            }
                        }
                    }
                    for unit in 0..count {
                        for group in first_group..last_group {
                            let at = groups.start(group) - groups.start(first_group);
                            for p in unit * self.unit..(unit + 1) * self.unit {
                                let panel = self.weights.add((first_panel + p) * self.panels.bytes());
                                self.settle(panel, group, self.tile.add((p * tokens + at) * outputs * PANEL));
                            }
                            let tile = self.tile.add((unit * self.unit * tokens + at) * outputs * PANEL);
                            finish(first_unit + unit, group, tile, tokens * outputs * PANEL);
                        }
                    }
                }
            }
            first_group = last_group;
        }
    }

    /// Makes values of what a panel's kernel put out for a group.
    ///
    /// # Safety
    /// As for [`Product::run`].
    #[inline]
    unsafe fn settle(&self, panel: *const u8, group: usize, out: *mut f32) {
        let Some(inputs) = self.inputs else { return };
        let (first, tokens) = (self.groups.start(group), self.groups.size(group));
        // SAFETY: the caller vouches for the extents.
        unsafe { settle(self.isa, self.panels, panel, inputs, first, tokens, out) };
    }

    /// A block of columns (from step `k`) of panel `p` of a block of panels, times a chunk of tokens. Meanwhile the block
    /// `next` (panel, step) comes into L2: with every step a share of it or, where there are many groups, a few lines before
    /// each and with its steps the next group's activations, which together are more than L2 holds.
    ///
    /// # Safety
    /// As for [`Product::run`].
    #[inline]
    unsafe fn block(
        &self,
        first_panel: usize,
        p: usize,
        k: usize,
        next: (usize, usize),
        (first_group, last_group, tokens): (usize, usize, usize),
    ) {
        let steps = self.panels.steps();
        let count = BLOCK_STEPS.min(steps - k);
        let groups = self.groups;
        let panel_bytes = self.panels.bytes();
        let many = last_group - first_group > FETCHED_GROUPS;
        let share = (count * STEP_BYTES).div_ceil(last_group - first_group);
        // SAFETY: the caller vouches for the extents; what is only prefetched may lie beyond the end.
        unsafe {
            let panel = self.weights.add((first_panel + p) * panel_bytes + self.panels.offset(k));
            let next =
                self.weights.wrapping_add((first_panel + next.0) * panel_bytes + self.panels.offset(next.1));
            let input = |group: usize| {
                let (start, size) = (groups.start(group), groups.size(group));
                self.x
                    .wrapping_add(self.panels.input_offset(steps, start) + self.panels.input_offset(k, size))
            };
            for group in first_group..last_group {
                let (start, size) = (groups.start(group), groups.size(group));
                let at = p * tokens + start - groups.start(first_group);
                let out = self.tile.add(at * self.panels.outputs() * PANEL);
                let mut ahead = next.wrapping_add((group - first_group) * share);
                let mut step = share.div_ceil(count);
                if many {
                    prefetch::lines::<2>(ahead, share);
                    ahead = input(if group + 1 < last_group { group + 1 } else { first_group });
                    step = self.panels.input_offset(count, size).div_ceil(count);
                }
                self.dots.ahead(size)(panel, count, input(group), out, k > 0, ahead, step);
            }
        }
    }
}
