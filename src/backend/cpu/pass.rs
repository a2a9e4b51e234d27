//! The activations of one forward pass, and the clocks of its stages.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::attention;
use super::buffer::Buffer;
use super::claims::Claims;
use super::feed::{Feed, Place};
use super::kv_quantised;
use super::panels::Integers;
use super::product;
use super::quantised::Inputs;
use super::shape::{Groups, Matrix, Shape};
use crate::backend::Execution;
use crate::error::Result;
use crate::workload::Stage;

/// Bytes between what different threads write.
const APART: usize = 4096;

/// Shape and buffers of a pass.
#[derive(Debug)]
pub struct Pass {
    /// What is fed to which sequences: of a mixed step first those that decode.
    pub feeds: Vec<Feed>,
    /// All new tokens, sequence by sequence.
    pub groups: Groups,
    /// The tokens that get logits: the last of each sequence, or all; of a mixed step those that decode.
    pub headed: Groups,
    /// Residual stream `[token][hidden]`, f32.
    pub x: Buffer,
    /// Normed activations, packed `[group][hidden/2][token][2]`.
    pub normed: Buffer,
    /// Queries `[unit][tile][width/2][column][2]`, see [`Feed::queries`].
    pub q: Buffer,
    /// Attention's output, packed like `normed` with the query width.
    pub attended: Buffer,
    /// SwiGLU's output, packed like `normed` with the ffn width.
    pub activated: Buffer,
    /// The input of the product that runs, as integers for quantised weights.
    integers: Buffer,
    /// New keys and values before they are quantised, `[token][key, value][KV head][head width]` f32.
    pub fresh: Buffer,
    /// `[token that gets them][vocab]` f32, where they are wanted.
    pub logits: Option<Buffer>,
    threads: usize,
    /// Per thread: a normed token of its own, the product's tile, attention's scratch, two cut units, a token of integers and the
    /// same before, and what attends codes.
    private: Buffer,
    private_len: usize,
    parts: [usize; 5],
    /// Per thread and token the best logit and its row.
    best: Buffer,
    clocks: Buffer,
    clocks_len: usize,
    items: Vec<AtomicUsize>,
    /// `[layer][matrix][thread]`, then the head's `[thread]`.
    claims: Vec<Claims>,
}

/// The kind of pass: what decides the sizes of its buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Sequences.
    pub batch: usize,
    /// New tokens per sequence.
    pub tokens: usize,
    /// Layers.
    pub layers: usize,
    /// Bytes of an activation.
    pub element: usize,
    /// New tokens of one sequence more, whose prompt rides along; 0 but in a mixed step.
    pub riding: usize,
    /// Tokens of each sequence that get logits: the last one, or all; of the one that rides along none.
    pub headed: usize,
    /// Whether logits are kept.
    pub logits: bool,
}

/// Sizes of the buffers in bytes, in the order x, normed, q, attended, activated, logits, integers, fresh; and the five parts
/// of a thread's own scratch in f32.
fn sizes(shape: &Shape, extent: Extent) -> ([f64; 8], [usize; 5]) {
    let Extent { batch, element, headed, logits, .. } = extent;
    let count = extent.rows();
    let rows = count as f64;
    let packed = |width: usize| rows * width as f64 * element as f64;
    let shared = [
        rows * shape.hidden as f64 * 4.0,
        packed(shape.hidden),
        packed(shape.heads * shape.head_width()),
        packed(shape.q_width()),
        packed(shape.ffn),
        if logits { (batch * headed) as f64 * shape.vocab as f64 * 4.0 } else { 0.0 },
        quantised_bytes(shape, count) as f64,
        if shape.precision.kv.is_quantised() {
            rows * (2 * shape.kv_heads * shape.head_width() * 4) as f64
        } else {
            0.0
        },
    ];
    // Few tokens attend all together, many tile by tile.
    let few = [extent.tokens, extent.riding].into_iter().filter(|&tokens| tokens <= attention::MOST_TOGETHER);
    let together = few.max().unwrap_or(0) * shape.group;
    let columns = together.max(super::dot::MAX_TOKENS);
    let total = Groups::new(count.max(1));
    let outputs = if shape.is_quantised() { shape.integers.columns() } else { 1 };
    let parts = [
        shape.hidden.next_multiple_of(16)
            + product::tile_len(total, outputs).max(product::tile_len(Groups::new(batch * headed), outputs)),
        attention::scratch_len(columns, shape.head_width()),
        2 * attention::state_len(together, shape.head_width()),
        quantised_bytes(shape, 1).div_ceil(4).next_multiple_of(16) + widest(shape),
        match shape.precision.kv.is_quantised() {
            true => kv_quantised::Scratch::len(columns, shape.head_width()),
            false => 0,
        },
    ];
    (shared, parts)
}

/// Bytes of so many tokens as integers, for the widest matrix; none where no weights are quantised.
fn quantised_bytes(shape: &Shape, tokens: usize) -> usize {
    if !shape.is_quantised() {
        return 0;
    }
    Inputs::bytes(widest(shape), tokens, shape.integers)
}

/// Columns of the widest matrix; none where no weights are quantised.
fn widest(shape: &Shape) -> usize {
    if shape.is_quantised() { shape.hidden.max(shape.q_width()).max(shape.ffn) } else { 0 }
}

/// Bytes of the buffers of such a pass.
pub fn needed(shape: &Shape, extent: Extent) -> f64 {
    let (shared, parts) = sizes(shape, extent);
    shared.iter().sum::<f64>() + (parts.iter().sum::<usize>() * 4 * shape.threads) as f64
}

impl Extent {
    /// All new tokens.
    pub fn rows(&self) -> usize {
        self.batch * self.tokens + self.riding
    }

    /// Sequences of the cache.
    pub fn sequences(&self) -> usize {
        self.batch + usize::from(self.riding > 0)
    }
}

impl Pass {
    /// Allocates, for new tokens after so many positions of each sequence and of the one that rides along.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(shape: &Shape, extent: Extent, (start, riding_start): (usize, usize)) -> Result<Pass> {
        let mut feeds = vec![Feed::after(None, extent.batch, extent.tokens, start, shape)];
        if extent.riding > 0 {
            feeds.push(Feed::after(feeds.first(), 1, extent.riding, riding_start, shape));
        }
        let (shared, parts) = sizes(shape, extent);
        let [x, normed, q, attended, activated, logits, integers, fresh] = shared;
        let buffer = |bytes: f64| Buffer::new(bytes as usize);
        let private_len = (parts.iter().sum::<usize>() * 4).next_multiple_of(APART) + APART;
        let clocks_len = (5 * extent.layers + 2) * 16 + APART;
        Ok(Pass {
            feeds,
            groups: Groups::of_at_most(extent.rows(), shape.most_tokens()),
            headed: Groups::of_at_most(extent.batch * extent.headed, shape.most_tokens()),
            x: buffer(x)?,
            normed: buffer(normed)?,
            q: buffer(q)?,
            attended: buffer(attended)?,
            activated: buffer(activated)?,
            integers: buffer(integers)?,
            fresh: buffer(fresh)?,
            logits: if extent.logits { Some(buffer(logits)?) } else { None },
            threads: shape.threads,
            private: Buffer::new(private_len * shape.threads)?,
            private_len,
            parts,
            best: Buffer::new(shape.threads * (extent.batch * extent.headed * 8 + APART))?,
            clocks: Buffer::new(clocks_len * shape.threads)?,
            clocks_len,
            items: (0..extent.layers).map(|_| AtomicUsize::new(0)).collect(),
            claims: (0..(4 * extent.layers + 1) * shape.threads).map(|_| Claims::default()).collect(),
        })
    }

    /// What a row belongs to, and where it belongs.
    pub fn place(&self, row: usize) -> (&Feed, Place) {
        let feed = self.feeds.iter().rev().find(|feed| feed.row <= row).unwrap_or(&self.feeds[0]);
        (feed, feed.place(row))
    }

    fn private(&self, thread: usize, before: usize) -> *mut f32 {
        let start = self.private.ptr::<u8>().wrapping_add(thread * self.private_len);
        start.cast::<f32>().wrapping_add(self.parts[..before].iter().sum())
    }

    /// A thread's own normed token, packed.
    pub fn own_token<A>(&self, thread: usize) -> *mut A {
        self.private(thread, 0).cast()
    }

    /// A thread's tile for products; `hidden` as in the shape.
    pub fn tile(&self, thread: usize, hidden: usize) -> *mut f32 {
        self.private(thread, 0).wrapping_add(hidden.next_multiple_of(16))
    }

    /// A thread's scratch for attention.
    pub fn attention_scratch(&self, thread: usize) -> *mut f32 {
        self.private(thread, 1)
    }

    /// State of a cut unit: slot 0 or 1 of a thread, of `len` values.
    pub fn partial(&self, thread: usize, slot: usize, len: usize) -> *mut f32 {
        self.private(thread, 2).wrapping_add(slot * len)
    }

    /// A thread's room for one token of the widest matrix, f32.
    pub fn row(&self, thread: usize, shape: &Shape) -> *mut f32 {
        self.private(thread, 4).wrapping_sub(widest(shape))
    }

    /// A thread's room for what attends a cache of codes.
    pub fn codes(&self, thread: usize) -> *mut f32 {
        self.private(thread, 4)
    }

    /// Where a product's input goes as integers: of one token into memory of the thread's own.
    pub fn integers(&self, thread: usize, tokens: usize, integers: Integers) -> Inputs {
        let start = if tokens == 1 { self.private(thread, 3).cast() } else { self.integers.ptr::<u8>() };
        Inputs::at(start, tokens, integers)
    }

    /// A thread's best logit of a token and its row.
    pub fn best(&self, thread: usize, token: usize) -> *mut (f32, u32) {
        let start = self.best.ptr::<u8>().wrapping_add(thread * (self.headed.count * 8 + APART));
        start.cast::<(f32, u32)>().wrapping_add(token)
    }

    /// Next piece of attention of a layer that nobody has taken yet.
    pub fn next_item(&self, layer: usize) -> usize {
        self.items[layer].fetch_add(1, Ordering::Relaxed)
    }

    /// Units of a thread's share of a matrix that are still to be computed.
    pub fn claims(&self, layer: usize, matrix: Matrix, thread: usize) -> &Claims {
        let matrix = Matrix::LAYER.iter().position(|&m| m == matrix).unwrap_or(0);
        &self.claims[(4 * layer + matrix) * self.threads + thread]
    }

    /// Makes ready for another step.
    pub fn reset(&self, shape: &Shape) {
        let layers = self.items.len();
        for thread in 0..self.threads {
            for layer in 0..layers {
                for matrix in Matrix::LAYER {
                    self.claims(layer, matrix, thread).open(shape.owned(matrix, thread).len());
                }
            }
            self.claims(layers, Matrix::Head, thread).open(shape.owned(Matrix::Head, thread).len());
        }
        for item in &self.items {
            item.store(0, Ordering::Relaxed);
        }
    }

    /// Start and end of a stage on a thread, in nanoseconds. Stages count from 0 (embed) in order of execution.
    pub fn clock(&self, thread: usize, index: usize) -> *mut [u64; 2] {
        let start = self.clocks.ptr::<u8>().wrapping_add(thread * self.clocks_len);
        start.cast::<[u64; 2]>().wrapping_add(index)
    }

    /// Times of the step that just ran: a stage takes from its first thread's start to its last thread's end.
    pub fn execution(&self, seconds: f64) -> Execution {
        let layers = self.items.len();
        let mut stages = [0.0; 7];
        for index in 0..5 * layers + 2 {
            let stage = match index {
                0 => Stage::Embed.index(),
                i if i == 5 * layers + 1 => Stage::LmHead.index(),
                i => 1 + (i - 1) % 5,
            };
            let (mut start, mut end) = (u64::MAX, 0);
            for thread in 0..self.threads {
                // SAFETY: the clocks lie in the buffer, and no thread runs now.
                let [from, to] = unsafe { *self.clock(thread, index) };
                start = start.min(from);
                end = end.max(to);
            }
            stages[stage] += end.saturating_sub(start) as f64 * 1e-9;
        }
        Execution { seconds, stages, repeats: 1, wall_seconds: None }
    }
}
