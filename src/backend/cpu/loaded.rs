//! The weights in memory, packed into one arena per thread in the order in which a step reads them.

use super::activation::panel_index;
use super::buffer::Buffer;
use super::dot::{GROUP_STEPS, PANEL, STEP_BYTES};
use super::isa::InstructionSet;
use super::panels::Panels;
use super::pool::{Pool, Worker};
use super::shape::{Matrix, Shape, split};
use crate::backend::Residency;
use crate::backend::weights::{Tensor, WeightSource, from_bf16, to_bf16};
use crate::error::Result;
use crate::model::precision::quantise;
use crate::model::{DType, ModelSpec};

/// Packed weights.
///
/// The embedding is held in full, row-major, whatever the source: the look-up then meets rows as cold as a real
/// model's, and any token can be looked up.
#[derive(Debug)]
pub struct Loaded {
    /// What was asked for.
    pub residency: Residency,
    /// The model as panels.
    pub shape: Shape,
    /// Panels of each thread: copy by copy, layer by layer, the head last.
    pub arenas: Vec<Buffer>,
    embedding: Buffer,
    /// `[copy][layer][attention, ffn][hidden]`, then the final norm.
    norms: Vec<f32>,
}

/// Bytes that [`Loaded`] takes.
pub fn needed(residency: &Residency, shape: &Shape) -> f64 {
    let (layers, copies) = (residency.layers as usize, residency.copies.max(1) as usize);
    let arenas: f64 = (0..shape.threads).map(|t| copies as f64 * shape.copy_bytes(layers, t) as f64).sum();
    let norms = (2 * copies * layers + 1) * shape.hidden * 4;
    arenas + (shape.vocab as f64 * shape.hidden as f64 * 2.0) + norms as f64
}

impl Loaded {
    /// Takes all weights from the source, each thread packing (and so touching first) its own arena.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(
        pool: &mut Pool,
        isa: InstructionSet,
        residency: &Residency,
        source: &dyn WeightSource,
    ) -> Result<Loaded> {
        let shape = Shape::new(&residency.model, residency.precision, isa, pool.threads());
        let layers = residency.layers as usize;
        let copies = residency.copies.max(1) as usize;
        let arenas = (0..shape.threads)
            .map(|thread| Buffer::new(copies * shape.copy_bytes(layers, thread)))
            .collect::<Result<Vec<_>>>()?;
        let embedding = Buffer::of::<u16>(shape.vocab * shape.hidden)?;
        pool.run(&|worker: Worker<'_>| {
            let thread = worker.index;
            let arena = arenas[thread].ptr::<u8>();
            let mut rows = Vec::new();
            for layer in 0..=layers {
                let matrices = if layer < layers { &Matrix::LAYER[..] } else { &[Matrix::Head][..] };
                for &matrix in matrices {
                    let to = arena.wrapping_add(shape.offset(layers, 0, layer, matrix, thread));
                    let of = if layer < layers { layer } else { 0 };
                    // SAFETY: the thread's share of the matrix starts there in its own arena.
                    unsafe { pack(&shape, matrix, thread, of as u32, source, &mut rows, to) };
                }
            }
            // What makes copies cold is where they are: the weights need not be others.
            let bytes = shape.copy_bytes(layers, thread);
            for copy in 1..copies {
                // SAFETY: the arena has room for all copies, and the thread alone touches it.
                unsafe { arena.copy_to_nonoverlapping(arena.wrapping_add(copy * bytes), bytes) };
            }
            for row in split(shape.vocab, worker.threads, thread) {
                // SAFETY: rows of the table are disjoint, and this one lies inside.
                let out = unsafe {
                    let start = embedding.ptr::<u16>().add(row * shape.hidden);
                    std::slice::from_raw_parts_mut(start, shape.hidden)
                };
                source.row(Tensor::Embedding, 0, row as u32, out);
            }
        });
        let norms = norms(source, shape.hidden, layers as u32, copies);
        Ok(Loaded { residency: residency.clone(), shape, arenas, embedding, norms })
    }

    /// The model.
    pub fn model(&self) -> &ModelSpec {
        &self.residency.model
    }

    /// Layers held.
    pub fn layers(&self) -> usize {
        self.residency.layers as usize
    }

    /// Copies held.
    pub fn copies(&self) -> usize {
        self.residency.copies.max(1) as usize
    }

    /// A thread's panels of a matrix. For the head, `layer` is the number of layers.
    pub fn panels(&self, copy: usize, layer: usize, matrix: Matrix, thread: usize) -> *const u8 {
        let at = self.shape.offset(self.layers(), copy, layer, matrix, thread);
        self.arenas[thread].ptr::<u8>().wrapping_add(at)
    }

    /// The norm before attention (0) or the feed-forward part (1) of a layer; the final one for the number of layers.
    pub fn norm(&self, copy: usize, layer: usize, which: usize) -> &[f32] {
        let hidden = self.shape.hidden;
        let index = if layer == self.layers() {
            2 * self.copies() * self.layers()
        } else {
            (copy * self.layers() + layer) * 2 + which
        };
        &self.norms[index * hidden..(index + 1) * hidden]
    }

    /// A row of the embedding, as bf16 bits.
    pub fn embedding(&self, token: u32) -> &[u16] {
        let hidden = self.shape.hidden;
        assert!((token as usize) < self.shape.vocab, "token {token} is outside the vocabulary");
        // SAFETY: the row lies in the table, which nobody writes once it is loaded.
        unsafe {
            let start = self.embedding.ptr::<u16>().add(token as usize * hidden);
            std::slice::from_raw_parts(start, hidden)
        }
    }
}

/// All norms as f32, those of the layers once for each copy.
fn norms(source: &dyn WeightSource, hidden: usize, layers: u32, copies: usize) -> Vec<f32> {
    let mut row = vec![0; hidden];
    let mut take = |tensor, layer| -> Vec<f32> {
        source.row(tensor, layer, 0, &mut row);
        row.iter().map(|&bits| from_bf16(bits)).collect()
    };
    let of_layers: Vec<f32> = (0..layers)
        .flat_map(|layer| [(Tensor::AttentionNorm, layer), (Tensor::FfnNorm, layer)])
        .flat_map(|(tensor, layer)| take(tensor, layer))
        .collect();
    let mut norms = of_layers.repeat(copies);
    norms.extend(take(Tensor::FinalNorm, 0));
    norms
}

/// Packs a thread's panels of one matrix. `rows` is scratch.
///
/// # Safety
/// `to` has room for them, and they are this thread's alone.
unsafe fn pack(
    shape: &Shape,
    matrix: Matrix,
    thread: usize,
    layer: u32,
    source: &dyn WeightSource,
    rows: &mut Vec<u16>,
    to: *mut u8,
) {
    let panels = shape.panels(matrix, 2);
    let columns = panels.columns;
    let unit = shape.units(matrix).0;
    let owned = shape.owned(matrix, thread);
    let stride = columns + PANEL;
    rows.resize(PANEL * stride, 0);
    for (i, panel) in (owned.start * unit..owned.end * unit).enumerate() {
        for (r, row) in rows.chunks_exact_mut(stride).enumerate() {
            let row = &mut row[..columns];
            match shape.source(matrix, panel, r) {
                Some((tensor, index)) => source.row(tensor, layer, index as u32, row),
                None => row.fill(0),
            }
        }
        // SAFETY: the caller vouches for the room.
        unsafe {
            let to = to.add(i * panels.bytes());
            if panels.is_quantised() {
                pack_quantised(panels, rows, stride, to);
                continue;
            }
            let to = to.cast::<u16>();
            // A cache line of each row at a time; rows of a power of two would all meet in one set of the cache.
            for first in (0..columns).step_by(PANEL) {
                for (r, row) in rows.chunks_exact(stride).enumerate() {
                    let line = &row[first..columns.min(first + PANEL)];
                    for (i, pair) in line.chunks_exact(2).enumerate() {
                        let at = to.add(panel_index(PANEL, r, first + 2 * i));
                        at.cast::<[u16; 2]>().write([pair[0], pair[1]]);
                    }
                }
            }
        }
    }
}

/// Quantises 32 rows, `stride` apart, and packs them into a panel.
///
/// # Safety
/// `to` has room for the panel, and it is this thread's alone.
unsafe fn pack_quantised(panels: Panels, rows: &[u16], stride: usize, to: *mut u8) {
    let (dtype, columns) = (panels.dtype, panels.columns);
    let group = dtype.group(columns);
    let (mut values, mut codes) = (vec![0f32; group], vec![0u8; group]);
    for (r, row) in rows.chunks_exact(stride).enumerate() {
        for (g, row) in row[..columns].chunks_exact(group).enumerate() {
            for (value, &bits) in values.iter_mut().zip(row) {
                *value = from_bf16(bits);
            }
            let scale = quantise(dtype, &values, &mut codes);
            // SAFETY: row and columns lie in the panel.
            unsafe {
                if dtype == DType::Int8 {
                    for (four, codes) in codes.chunks_exact(4).enumerate() {
                        let at = to.add(panels.offset(four) + r * 4).cast::<[u8; 4]>();
                        at.write(std::array::from_fn(|i| codes[i].wrapping_add(128)));
                    }
                    to.add(panels.offset(panels.steps()) + r * 4).cast::<f32>().write(scale);
                } else {
                    let start = to.add(panels.offset(g * GROUP_STEPS));
                    for (eight, codes) in codes.chunks_exact(8).enumerate() {
                        let byte = |i: usize| codes[i].wrapping_add(8) | codes[4 + i].wrapping_add(8) << 4;
                        let at = start.add(eight * STEP_BYTES + r * 4).cast::<[u8; 4]>();
                        at.write(std::array::from_fn(byte));
                    }
                    let scales = start.add(GROUP_STEPS * STEP_BYTES).cast::<u16>();
                    scales.add(r).write(to_bf16(scale));
                }
            }
        }
    }
}
