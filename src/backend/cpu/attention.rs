//! Attention over the panels of the KV cache, with an online softmax over blocks of 64 positions.

use std::ops::Range;

use super::activation::{Activation, Full};
use super::dot::{CODES_STEP_BYTES, MAX_TOKENS, PANEL, STEP_BYTES};
use super::elementwise as el;
use super::feed::Feed;
use super::isa::InstructionSet;
use super::kv::BLOCK;
use super::kv_quantised::{self as codes, Scratch};
use super::prefetch;
use super::shape::{Groups, split};
#[cfg(target_arch = "x86_64")]
use super::softmax_avx512::softmax;
use super::step::Step;
use crate::backend::cpu::pool::Worker;

/// Most new tokens of a sequence that attend together, block by block: their running softmax stays in L2.
pub const MOST_TOGETHER: usize = 8;

/// Bytes of what is read next, somewhere else, that are asked for: by itself the CPU fetches ahead only once it has seen some
/// lines in turn.
const FETCHED: usize = 512;

/// f32 values of scratch per thread: the scores and exponentials of a tile and the state of `columns` columns.
pub fn scratch_len(columns: usize, width: usize) -> usize {
    2 * 2 * MAX_TOKENS * PANEL + MAX_TOKENS * 16 + state_len(columns, width)
}

/// f32 values of a state: sums of the values, largest scores, sums of exponentials.
pub fn state_len(columns: usize, width: usize) -> usize {
    columns * (width + 2)
}

/// The running softmax of all columns of a unit.
#[derive(Clone, Copy)]
struct State {
    /// `[tile][head panels][columns of the tile][32]`
    sums: *mut f32,
    /// `[columns]`
    largest: *mut f32,
    /// `[columns]`
    weights: *mut f32,
}

impl State {
    /// Lays a state over `len` values.
    fn at(start: *mut f32, columns: usize, width: usize) -> State {
        let largest = start.wrapping_add(columns * width);
        State { sums: start, largest, weights: largest.wrapping_add(columns) }
    }

    /// Empties columns `first..first + count`.
    unsafe fn clear(self, first: usize, count: usize, width: usize) {
        // SAFETY: the columns lie in the state.
        unsafe {
            self.sums.add(first * width).write_bytes(0, count * width);
            self.weights.add(first).write_bytes(0, count);
            for c in first..first + count {
                *self.largest.add(c) = -1e30;
            }
        }
    }
}

/// The queries of a unit, from its first column on: as the pass has them, or integers with a scale for each column.
#[derive(Clone, Copy)]
struct Queries<'a> {
    feed: &'a Feed,
    values: *const u8,
    /// Bytes of an element.
    element: usize,
    scales: *const f32,
}

/// One decode share: blocks `first..last` of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    unit: usize,
    first: usize,
    last: usize,
}

/// What a thread attends in decode: all blocks of all units, cut evenly; at most its first and last unit are shared.
fn shares(units: usize, blocks: usize, threads: usize, thread: usize) -> impl Iterator<Item = Share> {
    let range = split(units * blocks, threads, thread);
    let units = range.start / blocks..range.end.div_ceil(blocks).max(range.start / blocks);
    units.filter_map(move |unit| {
        let first = range.start.max(unit * blocks) - unit * blocks;
        let last = range.end.min((unit + 1) * blocks).saturating_sub(unit * blocks);
        (first < last).then_some(Share { unit, first, last })
    })
}

impl Step<'_> {
    /// The attention stage of one layer.
    ///
    /// # Safety
    /// Called by all threads of the pool with the same step, between barriers.
    pub(super) unsafe fn attention<A: Activation>(&self, worker: Worker<'_>, layer: usize) {
        for (i, feed) in self.pass.feeds.iter().enumerate() {
            // SAFETY: passed on to the caller. Where parts of units are kept, others must be through with theirs.
            unsafe {
                if feed.tokens > MOST_TOGETHER {
                    self.prefill_attention::<A>(worker, layer, feed);
                    continue;
                }
                if i > 0 {
                    worker.barrier.wait();
                }
                self.decode_attention::<A>(worker, layer, feed);
            }
        }
    }

    /// Few new tokens per sequence: every thread streams its even share of the cache, each block once for all of them.
    ///
    /// # Safety
    /// As for [`Step::attention`].
    unsafe fn decode_attention<A: Activation>(&self, worker: Worker<'_>, layer: usize, feed: &Feed) {
        let pass = self.pass;
        let blocks = (feed.start + feed.tokens).div_ceil(BLOCK);
        let Range { start: first, end } = feed.units(self.shape);
        let (units, width, columns) = (end - first, self.shape.head_width(), feed.columns.count);
        let whole = |share: Share| share.first == 0 && share.last == blocks;
        let len = state_len(columns, width);
        let mine = || shares(units, blocks, worker.threads, worker.index);
        // SAFETY: scratch and the two slots are this thread's own; outputs of a unit are written by one thread.
        unsafe {
            for (i, share) in mine().enumerate() {
                let start = if whole(share) {
                    self.attention_scratch(worker.index).add(scratch_len(0, width))
                } else {
                    pass.partial(worker.index, i.min(1), len)
                };
                let state = State::at(start, columns, width);
                state.clear(0, columns, width);
                let unit = first + share.unit;
                let queries = self.queries::<A>(worker.index, (feed, unit), 0..feed.columns.groups);
                for block in share.first..share.last {
                    for tile in 0..feed.columns.groups {
                        self.attend::<A>(worker.index, (layer, unit, block), tile, queries, state);
                    }
                }
                if whole(share) {
                    self.put::<A>((feed, first + share.unit), 0..feed.columns.groups, state);
                }
            }
            if units.is_multiple_of(worker.threads) {
                return;
            }
            worker.barrier.wait();
            // Whoever has the first block of a unit that was cut adds up the others' parts.
            for (i, share) in mine().enumerate() {
                if share.first != 0 || whole(share) {
                    continue;
                }
                let total = State::at(pass.partial(worker.index, i.min(1), len), columns, width);
                for other in worker.index + 1..worker.threads {
                    let part = shares(units, blocks, worker.threads, other).next();
                    if part.is_some_and(|part| part.unit == share.unit) {
                        self.merge(feed, total, State::at(pass.partial(other, 0, len), columns, width));
                    }
                }
                self.put::<A>((feed, first + share.unit), 0..feed.columns.groups, total);
            }
        }
    }

    /// Many new tokens: tiles of queries, handed out as threads become free, the longest first.
    ///
    /// # Safety
    /// As for [`Step::attention`].
    unsafe fn prefill_attention<A: Activation>(&self, worker: Worker<'_>, layer: usize, feed: &Feed) {
        const TILES: usize = 4;
        let pass = self.pass;
        let Range { start: first_unit, end } = feed.units(self.shape);
        let (units, width) = (end - first_unit, self.shape.head_width());
        let tiles = feed.columns.groups;
        let parts = tiles.div_ceil(TILES);
        loop {
            let item = pass.next_item(layer);
            if item >= units * parts {
                return;
            }
            let (part, unit) = (parts - 1 - item / units, first_unit + item % units);
            // SAFETY: an item belongs to one thread; its state lies in the thread's scratch.
            unsafe {
                let start = self.attention_scratch(worker.index).add(scratch_len(0, width));
                for tile in part * TILES..((part + 1) * TILES).min(tiles) {
                    let first = feed.columns.start(tile);
                    let count = feed.columns.size(tile);
                    // A state that holds this tile alone, addressed as if it held all.
                    let state = State::at(start, count, width);
                    let state = State {
                        sums: state.sums.wrapping_sub(first * width),
                        largest: state.largest.wrapping_sub(first),
                        weights: state.weights.wrapping_sub(first),
                    };
                    state.clear(first, count, width);
                    let queries = self.queries::<A>(worker.index, (feed, unit), tile..tile + 1);
                    let last_token = (first + count - 1) / self.shape.group;
                    for block in 0..=(feed.start + last_token) / BLOCK {
                        self.attend::<A>(worker.index, (layer, unit, block), tile, queries, state);
                    }
                    self.put::<A>((feed, unit), tile..tile + 1, state);
                }
            }
        }
    }

    /// The queries of a unit for [`Step::attend`] with these tiles: of codes they are made integers first.
    ///
    /// # Safety
    /// The queries are whole and the thread's scratch is its own; only the queries of its last call are in there.
    unsafe fn queries<'a, A: Activation>(
        &self,
        thread: usize,
        (feed, unit): (&'a Feed, usize),
        tiles: Range<usize>,
    ) -> Queries<'a> {
        let width = self.shape.head_width();
        let from = self.pass.q.ptr::<A>().wrapping_add(feed.queries(unit, self.shape)).cast_const();
        if !self.kv.is_quantised() {
            return Queries { feed, values: from.cast(), element: size_of::<A>(), scales: std::ptr::null() };
        }
        let scratch = self.codes_scratch(thread, feed);
        let before = feed.columns.start(tiles.start);
        for tile in tiles {
            let (first, columns) = (feed.columns.start(tile), feed.columns.size(tile));
            // SAFETY: the tile lies in the queries, and the scratch has room for the tiles that are attended together.
            unsafe {
                let to = scratch.queries.add((first - before) * width);
                let scales = scratch.query_scales.add(first - before);
                codes::queries(self.isa, from.add(first * width), columns, width, to, scales);
            }
        }
        Queries {
            feed,
            values: scratch.queries.wrapping_sub(before * width).cast_const().cast(),
            element: size_of::<i16>(),
            scales: scratch.query_scales.wrapping_sub(before).cast_const(),
        }
    }

    fn codes_scratch(&self, thread: usize, feed: &Feed) -> Scratch {
        let columns = if feed.tokens <= MOST_TOGETHER { feed.columns.count } else { 0 };
        Scratch::at(self.pass.codes(thread), columns.max(MAX_TOKENS), self.shape.head_width())
    }

    /// One block of positions for one tile of columns.
    ///
    /// # Safety
    /// The state and the thread's scratch are this thread's own; the cache is not written meanwhile.
    unsafe fn attend<A: Activation>(
        &self,
        thread: usize,
        (layer, unit, block): (usize, usize, usize),
        tile: usize,
        queries: Queries<'_>,
        state: State,
    ) {
        let (feed, kv, isa) = (queries.feed, self.kv, self.isa);
        let width = self.shape.head_width();
        let (first, columns) = (feed.columns.start(tile), feed.columns.size(tile));
        let mut limits = [0; MAX_TOKENS];
        for (c, limit) in limits[..columns].iter_mut().enumerate() {
            let position = feed.start + (first + c) / self.shape.group;
            *limit = (position + 1).saturating_sub(block * BLOCK).min(BLOCK);
        }
        let limits = &limits[..columns];
        // What nobody sees would add nothing; the last block may even lack some of its pieces.
        let seen = limits.iter().fold(0, |most, &limit| most.max(limit)).div_ceil(kv.piece());
        let pieces = kv.block(self.kv_copy, layer, unit, block);
        let next = kv.block(self.kv_copy, layer, unit, block + 1);
        // Few tokens stream the cache.
        let bits = if kv.is_quantised() { 8 } else { 16 };
        let level = prefetch::level_of_cache(isa, bits, kv.is_paged());
        let streams = tile == 0 && feed.tokens <= MOST_TOGETHER && level > 0;
        // What comes while a piece is attended: what lies somewhat further on, or, on pages or into L2, which has the room, the
        // next block.
        let coming = match (level, kv.is_paged()) {
            (1, false) => {
                let ahead = prefetch::distance_of_cache(bits);
                pieces.map(|piece| piece.wrapping_add(ahead))
            }
            _ => std::array::from_fn(|i| if next[i].is_null() { pieces[i] } else { next[i] }),
        };
        if kv.is_quantised() {
            // Behind their piece, out of the way of every stream.
            for piece in next.into_iter().filter(|piece| !piece.is_null()) {
                prefetch::lines::<1>(
                    kv.scale(piece.cast_mut(), 0, 0).cast(),
                    2 * kv.piece() * size_of::<f32>(),
                );
            }
        }
        let ((key_bytes, value_bytes), rows) = (kv.panel_bytes(), kv.rows());
        let scratch = self.codes_scratch(thread, feed);
        // SAFETY: the offsets stay in the pieces, the queries of the unit, the scratch and the state.
        unsafe {
            let scores = self.attention_scratch(thread);
            let p = scores.add(2 * MAX_TOKENS * PANEL);
            let shrink = p.add(2 * MAX_TOKENS * PANEL);
            let table = if kv.is_quantised() { &self.dots.codes } else { &self.dots.kv };
            let dots = table.level(if streams { level } else { 0 });
            let step = if kv.is_quantised() { CODES_STEP_BYTES } else { STEP_BYTES } * rows / PANEL;
            let dot = dots.keys(columns, rows);
            let q = queries.values.add(first * width * queries.element);
            for (i, &piece) in pieces[..seen].iter().enumerate() {
                if i + 1 < seen && !streams {
                    prefetch::lines::<1>(pieces[i + 1], FETCHED);
                }
                for panel in 0..kv.piece() / rows {
                    let row = i * kv.piece() + panel * rows;
                    let out = scores.add(row / PANEL * columns * PANEL + row % PANEL);
                    let keys = piece.add(panel * key_bytes);
                    let ahead = coming[i].wrapping_add(panel * key_bytes);
                    dot(keys, width / 2, q, out, false, ahead, step);
                    if kv.is_quantised() {
                        let scales = kv.scale(piece.cast_mut(), row, 0);
                        codes::scores(isa, out, columns, rows, queries.scales.add(first), scales);
                    }
                }
            }
            // The softmax is time for the values to come, the values for the next block's keys.
            if kv.piece() < BLOCK && !streams {
                pieces[..seen].iter().for_each(|piece| prefetch::lines::<1>(piece.add(kv.values()), FETCHED));
            }
            // What nobody fetches comes to a halt during the softmax, unless that asks for it.
            let left_alone = tile == 0 && feed.tokens <= MOST_TOGETHER && kv.piece() == BLOCK && !streams;
            let values = left_alone.then(|| pieces[0].wrapping_add(kv.values()));
            let (largest, weights) = (state.largest.add(first), state.weights.add(first));
            let scale = self.score_scale;
            let sums = state.sums.add(first * width);
            if kv.is_quantised() {
                softmax_on::<Full>(isa, scores, limits, scale, (largest, weights, shrink), values, p.cast());
                let mut scales = [0f32; BLOCK];
                for (to, piece) in scales.chunks_exact_mut(kv.piece()).zip(&pieces[..seen]) {
                    let from = kv.scale(piece.cast_mut(), 0, 1);
                    to.copy_from_slice(std::slice::from_raw_parts(from, kv.piece()));
                }
                codes::weights(isa, p, columns, &scales, scratch.weights, scratch.weight_scales);
            } else {
                softmax_on::<A>(isa, scores, limits, scale, (largest, weights, shrink), values, p.cast());
                for (panel, c) in
                    (0..self.shape.head_panels).flat_map(|panel| (0..columns).map(move |c| (panel, c)))
                {
                    let factor = *shrink.add(c);
                    if factor != 1.0 {
                        el::scale(isa, sums.add((panel * columns + c) * PANEL), factor);
                    }
                }
            }
            if kv.is_paged() && !streams {
                prefetch::lines::<1>(next[0], FETCHED);
            }
            let dot = dots.values(columns);
            for panel in 0..self.shape.head_panels {
                let of = |piece: *const u8| piece.wrapping_add(kv.values() + panel * value_bytes);
                let (values, coming) = (pieces.map(of), coming.map(of));
                let at = panel * columns * PANEL;
                let (p, sums) = match kv.is_quantised() {
                    true => (scratch.weights.cast(), scratch.sums.add(at).cast()),
                    false => (p.cast(), sums.add(at)),
                };
                dot(&values[..seen], kv.piece() / 2, p, sums, !kv.is_quantised(), &coming[..seen]);
            }
            if kv.is_quantised() && seen > 0 {
                codes::add(
                    isa,
                    scratch.sums,
                    self.shape.head_panels,
                    columns,
                    scratch.weight_scales,
                    shrink,
                    sums,
                );
            }
        }
    }

    /// Adds the state of other blocks of the same unit.
    ///
    /// # Safety
    /// Both states hold all columns; nobody else uses them.
    unsafe fn merge(&self, feed: &Feed, total: State, part: State) {
        let Groups { groups, .. } = feed.columns;
        let width = self.shape.head_width();
        // SAFETY: the indices stay in the states.
        unsafe {
            for tile in 0..groups {
                let (first, columns) = (feed.columns.start(tile), feed.columns.size(tile));
                for c in 0..columns {
                    let (a, b) = (*total.largest.add(first + c), *part.largest.add(first + c));
                    let new = a.max(b);
                    let (fa, fb) = (el::exp(a - new), el::exp(b - new));
                    *total.largest.add(first + c) = new;
                    let weight = total.weights.add(first + c);
                    *weight = *weight * fa + *part.weights.add(first + c) * fb;
                    for panel in 0..self.shape.head_panels {
                        let at = first * width + (panel * columns + c) * PANEL;
                        for i in at..at + PANEL {
                            *total.sums.add(i) = *total.sums.add(i) * fa + *part.sums.add(i) * fb;
                        }
                    }
                }
            }
        }
    }

    /// Divides by the sums and packs the outputs for the output projection.
    ///
    /// # Safety
    /// The state holds the tiles; nobody else writes these outputs.
    unsafe fn put<A: Activation>(&self, (feed, unit): (&Feed, usize), tiles: Range<usize>, state: State) {
        let (shape, pass) = (self.shape, self.pass);
        let (sequence, kv_head) = (unit / shape.kv_heads, unit % shape.kv_heads);
        let width = shape.head_width();
        // SAFETY: the indices stay in the state and the output.
        unsafe {
            let out = pass.attended.ptr::<A>();
            for tile in tiles {
                let (first, columns) = (feed.columns.start(tile), feed.columns.size(tile));
                for c in 0..columns {
                    let (token, head) = ((first + c) / shape.group, (first + c) % shape.group);
                    let token = feed.row + (sequence - feed.sequence) * feed.tokens + token;
                    let (group, _) = pass.groups.locate(token);
                    let scale = 1.0 / *state.weights.add(first + c);
                    for panel in 0..shape.head_panels {
                        let sums = state.sums.add(first * width + (panel * columns + c) * PANEL);
                        el::scale(self.isa, sums, scale);
                        let rows = PANEL.min(shape.head_dim - panel * PANEL);
                        let k = (kv_head * shape.group + head) * shape.head_dim + panel * PANEL;
                        let to = out.add(pass.groups.index(token, k, shape.q_width()));
                        el::pack::<A>(self.isa, sums, rows, pass.groups.size(group), to);
                    }
                }
            }
        }
    }
}

/// [`el::softmax`] as this set has it; what it brings up to date are the largest scores, the sums and how these shrink. With
/// AVX-512 it asks for what is `coming` from memory meanwhile.
///
/// # Safety
/// As there.
unsafe fn softmax_on<A: Activation>(
    isa: InstructionSet,
    scores: *const f32,
    limits: &[usize],
    scale: f32,
    (largest, sums, shrink): (*mut f32, *mut f32, *mut f32),
    coming: Option<*const u8>,
    out: *mut A,
) {
    let columns = limits.len();
    // SAFETY: passed on to the caller.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => {
                softmax::<A>(scores, columns, limits, scale, largest, sums, shrink, coming, out);
            }
            isa => el::softmax::<A>(isa, scores, columns, limits, scale, largest, sums, shrink, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_block_once_and_cut_at_most_two_units() {
        for (units, blocks, threads) in [(8, 2, 2), (8, 3, 3), (1, 5, 4), (3, 1, 7), (8, 16, 5), (2, 2, 2)] {
            let mut covered = vec![0; units * blocks];
            for thread in 0..threads {
                let mine: Vec<_> = shares(units, blocks, threads, thread).collect();
                for (i, share) in mine.iter().enumerate() {
                    let cut = share.first != 0 || share.last != blocks;
                    assert!(!cut || i == 0 || i + 1 == mine.len());
                    for block in share.first..share.last {
                        covered[share.unit * blocks + block] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|&n| n == 1), "{units} {blocks} {threads}");
        }
    }
}
