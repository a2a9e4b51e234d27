//! The KV cache, in the panel layout of the weights, and the rotary tables.

use super::activation::Activation;
use super::buffer::Buffer;
use super::dot::PANEL;
use crate::backend::rope::frequency;
use crate::error::Result;
use crate::model::ModelSpec;

/// Positions of a block.
pub const BLOCK: usize = 64;

/// Keys and values per (layer, unit): a unit is one KV head of one sequence, a contiguous run of blocks.
///
/// A block holds 64 positions: the keys as 2 panels of 32 positions (k = the padded head width, in rotary order),
/// then the values as panels of 32 dimensions (k = 64 positions). In 8 bits the scales follow, of the 64 keys and of the 64
/// values.
#[derive(Debug)]
pub struct KvCache {
    buffer: Buffer,
    layers: usize,
    units: usize,
    blocks: usize,
    width: usize,
    element: usize,
    quantised: bool,
}

impl KvCache {
    /// Room for `positions` positions of `units` KV heads in each of `layers` layers of each of `copies` copies.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(
        copies: usize,
        layers: usize,
        units: usize,
        positions: usize,
        width: usize,
        (element, quantised): (usize, bool),
    ) -> Result<KvCache> {
        let blocks = positions.div_ceil(BLOCK);
        let bytes = Self::bytes(copies * layers * units, positions, width, (element, quantised));
        // What does not fit an integer fits no memory either.
        let buffer = Buffer::new(bytes as usize)?;
        Ok(KvCache { buffer, layers, units, blocks, width, element, quantised })
    }

    /// Size in bytes of the blocks of `runs` units of `positions` positions; of what an element takes and whether it has
    /// scales.
    pub fn bytes(runs: usize, positions: usize, width: usize, element: (usize, bool)) -> f64 {
        runs as f64 * positions.div_ceil(BLOCK) as f64 * Self::bytes_of_block(width, element) as f64
    }

    fn bytes_of_block(width: usize, (element, quantised): (usize, bool)) -> usize {
        2 * BLOCK * (width * element + if quantised { 4 } else { 0 })
    }

    /// Whether it holds codes and scales.
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// Units of a layer.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Blocks of a unit.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        Self::bytes_of_block(self.width, (self.element, self.quantised))
    }

    /// Bytes of one panel of keys and of one panel of values.
    pub fn panel_bytes(&self) -> (usize, usize) {
        (PANEL * self.width * self.element, PANEL * BLOCK * self.element)
    }

    /// A block of a unit of a layer.
    pub fn block(&self, copy: usize, layer: usize, unit: usize, block: usize) -> *mut u8 {
        let index = ((copy * self.layers + layer) * self.units + unit) * self.blocks + block;
        debug_assert!((index + 1) * self.block_bytes() <= self.buffer.bytes());
        self.buffer.ptr::<u8>().wrapping_add(index * self.block_bytes())
    }

    /// Where element `d` (in rotary order) of the key at `position` lies.
    #[inline(always)]
    pub fn key<A: Activation>(&self, run: *mut u8, position: usize, d: usize) -> *mut A::Kv {
        let (block, row) = (position / BLOCK, position % BLOCK);
        let panel = run.wrapping_add(block * self.block_bytes() + row / PANEL * self.panel_bytes().0);
        panel.cast::<A::Kv>().wrapping_add(A::kv_index(row % PANEL, d))
    }

    /// Where element `d` of the value at `position` lies.
    #[inline(always)]
    pub fn value<A: Activation>(&self, run: *mut u8, position: usize, d: usize) -> *mut A::Kv {
        let (block, k) = (position / BLOCK, position % BLOCK);
        let values = 2 * self.panel_bytes().0 + d / PANEL * self.panel_bytes().1;
        let panel = run.wrapping_add(block * self.block_bytes() + values);
        panel.cast::<A::Kv>().wrapping_add(A::kv_index(d % PANEL, k))
    }
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
