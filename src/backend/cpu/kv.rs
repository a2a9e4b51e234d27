//! The KV cache, in the panel layout of the weights, and the rotary tables.

use super::activation::Activation;
use super::buffer::Buffer;
use super::dot::PANEL;
use crate::backend::rope::frequency;
use crate::backend::weights::RandomWeights;
use crate::error::{Failure, Result};
use crate::model::ModelSpec;

/// Positions that are attended at once.
pub const BLOCK: usize = 64;
/// Fewest positions of a page: what a line of a panel of keys holds.
const SMALLEST_PAGE: usize = 16;
/// Most pieces of a block.
const MOST_PIECES: usize = BLOCK / SMALLEST_PAGE;
/// The pieces of a block.
pub type Pieces = [*const u8; MOST_PIECES];
/// Seed of the order of pages.
const SEED: u64 = 0x9a6e;

/// What a cache is to hold, and how it is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Layers.
    pub layers: usize,
    /// Sequences.
    pub sequences: usize,
    /// KV heads.
    pub heads: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// Padded head width.
    pub width: usize,
    /// Bytes of an element, and whether elements are codes that have scales.
    pub element: (usize, bool),
    /// Positions of a page: all of a sequence, in whole blocks, where it is none.
    pub page: Option<usize>,
}

impl Layout {
    /// Whether there are kernels for such pages.
    ///
    /// # Errors
    /// The positions of a page are no power of two from 16 up.
    pub fn check(&self) -> Result<()> {
        match self.page {
            Some(page) if page < SMALLEST_PAGE || !page.is_power_of_two() => {
                Err(Failure::input(format!("a page of {page} positions does not fit the kernels"))
                    .hint(format!("give a power of two from {SMALLEST_PAGE} up")))
            }
            _ => Ok(()),
        }
    }

    fn page(&self) -> usize {
        self.page.map_or(self.positions.next_multiple_of(BLOCK), |page| page.max(1))
    }

    /// Pages of a sequence.
    fn pages(&self) -> usize {
        self.positions.div_ceil(self.page())
    }

    /// Positions of a piece: a block, or a page that is smaller.
    fn piece(&self) -> usize {
        self.page().min(BLOCK)
    }

    /// Bytes of a piece.
    fn piece_bytes(&self) -> usize {
        let (element, quantised) = self.element;
        2 * self.piece() * (self.width * element + if quantised { 4 } else { 0 })
    }

    /// Bytes of one copy of the cache.
    pub fn bytes(&self) -> f64 {
        let pages = self.layers as f64 * self.sequences as f64 * self.pages() as f64;
        pages * (self.heads * (self.page() / self.piece()) * self.piece_bytes()) as f64
    }
}

/// Keys and values in pages, a pool of them per layer; a page holds all KV heads of its positions.
///
/// A KV head of a page is a run of pieces of up to 64 positions: the keys as panels of 32 positions (k = the padded head width,
/// in rotary order), half a panel where the piece has 16, then the values as panels of 32 dimensions (k = the piece's
/// positions). In 8 bits the scales follow, of the keys and of the values. A block of 64 positions is thus a piece, or 2 or 4
/// of them anywhere.
///
/// The table says which page of the pool has which positions of a sequence, the same in all layers. Pages lie in random
/// order, as they do after hours of serving; without pages a sequence is a single one, and they lie in turn.
#[derive(Debug)]
pub struct KvCache {
    buffer: Buffer,
    layout: Layout,
    /// `[sequence][page of its own]`: a page of the pool.
    table: Vec<u32>,
    /// Pages of a sequence, positions of a piece, pieces of a KV head of a page, bytes of a piece.
    pages: usize,
    piece: usize,
    run: usize,
    piece_bytes: usize,
}

impl KvCache {
    /// Room for `copies` copies of a layout.
    ///
    /// # Errors
    /// Out of memory, or as [`Layout::check`].
    pub fn new(copies: usize, layout: Layout) -> Result<KvCache> {
        layout.check()?;
        // What does not fit an integer fits no memory either.
        let buffer = Buffer::new((copies as f64 * layout.bytes()) as usize)?;
        let pages = layout.pages();
        let in_turn = layout.page.is_none();
        let table = table((layout.sequences * pages) as u32, in_turn);
        let (piece, piece_bytes) = (layout.piece(), layout.piece_bytes());
        Ok(KvCache { buffer, layout, table, pages, piece, run: layout.page() / piece, piece_bytes })
    }

    /// Whether it holds codes and scales.
    pub fn is_quantised(&self) -> bool {
        self.layout.element.1
    }

    /// Whether what follows on a page may lie anywhere.
    pub fn is_paged(&self) -> bool {
        self.layout.page.is_some()
    }

    /// Units of a layer: the KV heads of all sequences.
    pub fn units(&self) -> usize {
        self.layout.sequences * self.layout.heads
    }

    /// Blocks of a unit.
    pub fn blocks(&self) -> usize {
        self.layout.positions.div_ceil(BLOCK)
    }

    /// Positions of a piece: 16, 32 or 64.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// Pieces of a block that there are: the last block may be cut short.
    pub fn pieces(&self, block: usize) -> std::ops::Range<usize> {
        let each = BLOCK / self.piece;
        block * each..((block + 1) * each).min(self.pages * self.run)
    }

    /// Bytes of one panel of keys, of which half a panel is one, and of one panel of values.
    pub fn panel_bytes(&self) -> (usize, usize) {
        let element = self.layout.element.0;
        (self.rows() * self.layout.width * element, PANEL * self.piece * element)
    }

    /// Where the values of a piece begin.
    pub fn values(&self) -> usize {
        self.piece * self.layout.width * self.layout.element.0
    }

    /// Positions of a panel of keys: 32, or 16 of half a panel.
    pub fn rows(&self) -> usize {
        PANEL.min(self.piece)
    }

    /// A piece of a unit, the one with its positions from `piece x positions of a piece` on.
    pub fn at(&self, copy: usize, layer: usize, unit: usize, piece: usize) -> *mut u8 {
        let Layout { layers, sequences, heads, .. } = self.layout;
        let (sequence, head) = (unit / heads, unit % heads);
        let page = self.table[sequence * self.pages + piece / self.run] as usize;
        let page = (copy * layers + layer) * sequences * self.pages + page;
        let index = (page * heads + head) * self.run + piece % self.run;
        debug_assert!((index + 1) * self.piece_bytes <= self.buffer.bytes());
        self.buffer.ptr::<u8>().wrapping_add(index * self.piece_bytes)
    }

    /// The pieces of a block of a unit, null where there are none.
    pub fn block(&self, copy: usize, layer: usize, unit: usize, block: usize) -> Pieces {
        let range = self.pieces(block);
        let mut pieces = [std::ptr::null(); MOST_PIECES];
        if range.is_empty() {
            return pieces;
        }
        let first = self.at(copy, layer, unit, range.start).cast_const();
        pieces[0] = first;
        if range.len() > 1 {
            // A page has one of them each: the others are found by how far their pages are from the first.
            let table = &self.table[unit / self.layout.heads * self.pages..][range];
            let page_bytes = self.layout.heads * self.piece_bytes;
            for (piece, &page) in pieces.iter_mut().zip(table) {
                let (page, before) = (page as usize * page_bytes, table[0] as usize * page_bytes);
                *piece = first.wrapping_add(page).wrapping_sub(before);
            }
        }
        pieces
    }

    /// The piece of a unit that has a position.
    pub fn of(&self, copy: usize, layer: usize, unit: usize, position: usize) -> *mut u8 {
        self.at(copy, layer, unit, position / self.piece)
    }

    /// Fills a piece with normals, the same for the same `stream`; `full` where elements are f32. Codes get a scale with which
    /// any are of the size of normals.
    ///
    /// # Safety
    /// The piece is one of this cache and nobody else's meanwhile.
    pub unsafe fn fill(&self, piece: *mut u8, random: &RandomWeights, stream: u64, full: bool) {
        // SAFETY: the extents are those of a piece.
        unsafe {
            let halves = std::slice::from_raw_parts_mut(piece.cast::<u16>(), self.piece_bytes / 2);
            random.normals(stream, halves);
            if full {
                // The upper half of an f32 is what counts; the lower one is cleared for all to be finite.
                for half in halves.iter_mut().step_by(2) {
                    *half = 0;
                }
            }
            if self.is_quantised() {
                let scales = self.scale(piece, 0, 0);
                std::slice::from_raw_parts_mut(scales, 2 * self.piece).fill(1.0 / 64.0);
            }
        }
    }

    /// Where element `d` (in rotary order) of the key at `position` lies in its piece.
    #[inline(always)]
    pub fn key<A: Activation>(&self, piece: *mut u8, position: usize, d: usize) -> *mut A::Kv {
        let (row, rows) = (position % self.piece, self.rows());
        let panel = piece.wrapping_add(row / rows * self.panel_bytes().0);
        panel.cast::<A::Kv>().wrapping_add(A::kv_index(rows, row % rows, d))
    }

    /// Where element `d` of the value at `position` lies in its piece.
    #[inline(always)]
    pub fn value<A: Activation>(&self, piece: *mut u8, position: usize, d: usize) -> *mut A::Kv {
        let panel = piece.wrapping_add(self.values() + d / PANEL * self.panel_bytes().1);
        panel.cast::<A::Kv>().wrapping_add(A::kv_index(PANEL, d % PANEL, position % self.piece))
    }
}

/// The pages of the pool, in turn or shuffled.
fn table(pages: u32, in_turn: bool) -> Vec<u32> {
    let mut table: Vec<u32> = (0..pages).collect();
    let mut state = SEED;
    for last in (1..if in_turn { 0 } else { pages as usize }).rev() {
        // Knuth's 64-bit congruential generator; its upper bits pick one of those that are left.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        table.swap(last, ((u128::from(state) * (last as u128 + 1)) >> 64) as usize);
    }
    table
}

/// Cosines and sines of the rotary embedding per position, padded to whole panels.
#[derive(Debug)]
pub struct Rope {
    cos: Vec<f32>,
    sin: Vec<f32>,
    width: usize,
}

impl Rope {
    /// Tables for `positions` positions and heads padded to `head_width`.
    pub fn new(model: &ModelSpec, positions: usize, head_width: usize) -> Rope {
        let (half, width) = (model.head_dim as usize / 2, head_width / 2);
        let frequencies: Vec<f64> = (0..half).map(|i| frequency(model, i as u32)).collect();
        let mut rope = Rope { cos: vec![1.0; positions * width], sin: vec![0.0; positions * width], width };
        for position in 0..positions {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                rope.cos[position * width + i] = cos as f32;
                rope.sin[position * width + i] = sin as f32;
            }
        }
        rope
    }

    /// Cosines and sines of a position for dimensions `16 * line ..`.
    pub fn at(&self, position: usize, line: usize) -> (&[f32], &[f32]) {
        let start = position * self.width + 16 * line;
        (&self.cos[start..start + 16], &self.sin[start..start + 16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::activation::{Bf16, Full};
    use std::collections::HashSet;

    fn layout(page: Option<usize>, positions: usize, element: (usize, bool)) -> Layout {
        Layout { layers: 2, sequences: 3, heads: 2, positions, width: 32, element, page }
    }

    /// Every element of every key and value, and every scale, has a place of its own inside the buffer.
    #[test]
    fn nothing_lies_in_the_same_place() {
        for page in [None, Some(16), Some(32), Some(64), Some(128), Some(256)] {
            for (positions, element) in
                [(1, (2, false)), (70, (4, false)), (300, (2, false)), (130, (1, true))]
            {
                let layout = layout(page, positions, element);
                let cache = KvCache::new(2, layout).unwrap();
                let all = cache.buffer.addresses();
                let (mut seen, mut bytes) = (HashSet::new(), 0);
                for (copy, layer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    for (unit, position) in
                        (0..cache.units()).flat_map(|unit| (0..positions).map(move |p| (unit, p)))
                    {
                        let piece = cache.of(copy, layer, unit, position);
                        let block = cache.block(copy, layer, unit, position / BLOCK);
                        assert_eq!(block[position % BLOCK / cache.piece()], piece.cast_const());
                        let mut put = |at: usize| {
                            assert!(all.contains(&at) && seen.insert(at), "{layout:?} {position}");
                        };
                        for d in 0..layout.width {
                            match element {
                                (4, _) => {
                                    put(cache.key::<Full>(piece, position, d) as usize);
                                    put(cache.value::<Full>(piece, position, d) as usize);
                                }
                                (2, _) => {
                                    put(cache.key::<Bf16>(piece, position, d) as usize);
                                    put(cache.value::<Bf16>(piece, position, d) as usize);
                                }
                                _ => {
                                    put(cache.code(piece, position, 0, d) as usize);
                                    put(cache.code(piece, position, 1, d) as usize);
                                }
                            }
                        }
                        bytes += 2 * layout.width * element.0;
                        if element.1 {
                            put(cache.scale(piece, position, 0) as usize);
                            put(cache.scale(piece, position, 1) as usize);
                            bytes += 8;
                        }
                    }
                }
                // Nothing is wasted but the rest of the last page.
                let whole = positions.next_multiple_of(page.unwrap_or(BLOCK));
                assert_eq!(2.0 * layout.bytes(), (bytes / positions * whole) as f64);
            }
        }
    }

    #[test]
    fn pages_lie_in_random_order_and_each_is_used_once() {
        let table = table(1000, false);
        let mut sorted = table.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, super::table(1000, true));
        // Of a random order about one page in a thousand follows on the one before.
        let followers = table.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(followers < 10, "{followers}");
    }

    #[test]
    fn pages_that_do_not_fit_are_refused() {
        for page in [0, 1, 8, 17, 24, 48, 100] {
            let failure = KvCache::new(1, layout(Some(page), 100, (2, false))).unwrap_err();
            assert!(failure.hint.unwrap().contains("power of two from 16"));
        }
    }
}
