//! One forward pass: the stages in order, each fused with what surrounds it.

use std::sync::Mutex;
use std::time::Instant;

use super::activation::Activation;
use super::dot::{Dots, PANEL};
use super::elementwise as el;
use super::feed::{Feed, Place};
use super::isa::InstructionSet;
use super::kv::{KvCache, Rope};
use super::loaded::Loaded;
use super::panels::Panels;
use super::pass::Pass;
use super::pool::Worker;
use super::product::Product;
use super::quantised::{self, Inputs};
use super::shape::{Groups, Matrix, Shape, split};
use crate::backend::StageOutput;
use crate::backend::weights::from_bf16;
use crate::model::DType;
use crate::workload::Stage;

/// Everything a step needs; the same for all threads.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Instruction set of what is not a product.
    pub isa: InstructionSet,
    /// Kernels of the products.
    pub dots: &'a Dots,
    /// Weights.
    pub loaded: &'a Loaded,
    /// The model as panels.
    pub shape: &'a Shape,
    /// Activations.
    pub pass: &'a Pass,
    /// Token ids `[sequence][token]`.
    pub ids: &'a [u32],
    /// Keys and values.
    pub kv: &'a KvCache,
    /// Rotary tables.
    pub rope: &'a Rope,
    /// Copy of the weights.
    pub copy: usize,
    /// Copy of the cache.
    pub kv_copy: usize,
    /// 1 / sqrt(head width).
    pub score_scale: f32,
    /// When the clocks are zero.
    pub origin: Instant,
    /// Where outputs of stages go, if wanted.
    pub trace: Option<&'a Mutex<Vec<StageOutput>>>,
}

impl Step<'_> {
    /// Runs the pass on one thread; all threads of the pool call it.
    ///
    /// # Safety
    /// The buffers were made for this pass, format and number of threads; all threads run the same step.
    pub unsafe fn run<A: Activation>(&self, worker: Worker<'_>) {
        let layers = self.loaded.layers();
        // SAFETY: passed on to the caller; each stage ends with a barrier.
        unsafe {
            self.stage::<A>(worker, Stage::Embed, 0, || self.embed(worker));
            for layer in 0..layers {
                self.stage::<A>(worker, Stage::Qkv, layer, || self.qkv::<A>(worker, layer));
                self.stage::<A>(worker, Stage::Attention, layer, || self.attention::<A>(worker, layer));
                self.stage::<A>(worker, Stage::OutProj, layer, || {
                    self.residual::<A>(worker, layer, Matrix::O, self.pass.attended.ptr());
                });
                self.stage::<A>(worker, Stage::GateUp, layer, || self.gate_up::<A>(worker, layer));
                self.stage::<A>(worker, Stage::Down, layer, || {
                    self.residual::<A>(worker, layer, Matrix::Down, self.pass.activated.ptr());
                });
            }
            self.stage::<A>(worker, Stage::LmHead, layers, || self.lm_head::<A>(worker));
        }
    }

    /// Runs and times a stage, and waits for the other threads.
    unsafe fn stage<A: Activation>(
        &self,
        worker: Worker<'_>,
        stage: Stage,
        layer: usize,
        work: impl FnOnce(),
    ) {
        let index = match stage {
            Stage::Embed => 0,
            Stage::LmHead => 5 * layer + 1,
            _ => 5 * layer + stage.index(),
        };
        let start = self.origin.elapsed().as_nanos() as u64;
        work();
        let end = self.origin.elapsed().as_nanos() as u64;
        // SAFETY: the clock is this thread's own.
        unsafe { *self.pass.clock(worker.index, index) = [start, end] };
        worker.barrier.wait();
        if let Some(trace) = self.trace {
            if worker.index == 0 {
                let layer = if stage == Stage::LmHead { 0 } else { layer };
                // SAFETY: the other threads wait at the next barrier.
                let values = unsafe { self.output::<A>(stage, layer) };
                if let Ok(mut outputs) = trace.lock() {
                    outputs.push(StageOutput { stage, layer: layer as u32, values });
                }
            }
            worker.barrier.wait();
        }
    }

    /// Scratch of a thread for attention.
    pub(super) fn attention_scratch(&self, thread: usize) -> *mut f32 {
        self.pass.attention_scratch(thread)
    }

    unsafe fn embed(&self, worker: Worker<'_>) {
        let hidden = self.shape.hidden;
        for token in split(self.ids.len(), worker.threads, worker.index) {
            let row = self.loaded.embedding(self.ids[token]);
            // SAFETY: the token's row of the residual stream is written by this thread alone.
            let x = unsafe {
                std::slice::from_raw_parts_mut(self.pass.x.ptr::<f32>().add(token * hidden), hidden)
            };
            for (x, &bits) in x.iter_mut().zip(row) {
                *x = from_bf16(bits);
            }
        }
    }

    /// Norms rows of the residual stream (the first at `first`, then every `every`-th) and packs them; returns where.
    /// Several tokens are shared out over the threads, a single one is normed by every thread for itself.
    unsafe fn norm<A: Activation>(
        &self,
        worker: Worker<'_>,
        weight: &[f32],
        groups: Groups,
        first: usize,
        every: usize,
    ) -> *const A {
        let hidden = self.shape.hidden;
        let epsilon = self.loaded.model().norm_eps as f32;
        let pairs = hidden / 2;
        // SAFETY: rows are in bounds, and pieces of the output belong to one thread each.
        unsafe {
            let x = self.pass.x.ptr::<f32>().add(first * hidden).cast_const();
            if groups.count == 1 {
                let own = self.pass.own_token::<A>(worker.index);
                el::norm::<A>(self.isa, x, 1, hidden, weight, epsilon, 0, pairs, own);
                return own;
            }
            let out = self.pass.normed.ptr::<A>();
            let pieces = worker.threads.div_ceil(groups.groups);
            for item in split(groups.groups * pieces, worker.threads, worker.index) {
                let (group, piece) = (item / pieces, split(pairs, pieces, item % pieces));
                let start = groups.start(group);
                el::norm::<A>(
                    self.isa,
                    x.add(start * every * hidden),
                    groups.size(group),
                    every * hidden,
                    weight,
                    epsilon,
                    piece.start,
                    piece.end,
                    out.add(start * hidden),
                );
            }
            worker.barrier.wait();
            out
        }
    }

    /// This thread's part of a product: its own share, then what is left of the others'. `finish` is that of
    /// [`Product::run`], with units counted over the whole matrix.
    unsafe fn product<A: Activation>(
        &self,
        worker: Worker<'_>,
        (layer, matrix): (usize, Matrix),
        x: *const A,
        groups: Groups,
        mut finish: impl FnMut(usize, usize, *mut f32, usize),
    ) {
        let panels = self.shape.panels(matrix, size_of::<A>());
        // SAFETY: the input is whole, and the integers that another product had are not used any more.
        let inputs = unsafe { self.integers(worker, panels, x, groups) };
        let dots = match panels.dtype {
            DType::Int8 => &self.dots.int8,
            DType::Int4 => &self.dots.int4,
            _ => &self.dots.weights,
        };
        for turn in 0..worker.threads {
            let owner = (worker.index + turn) % worker.threads;
            let first = self.shape.owned(matrix, owner).start;
            let claims = self.pass.claims(layer, matrix, owner);
            let product = Product {
                dots,
                weights: self.loaded.panels(self.copy, layer, matrix, owner),
                unit: self.shape.units(matrix).0,
                panels,
                x: inputs.map_or(x.cast(), |inputs| inputs.codes.cast_const()),
                inputs,
                isa: self.isa,
                groups,
                tile: self.pass.tile(worker.index, self.shape.hidden),
            };
            // SAFETY: the share lies in its owner's arena, the tile is this thread's.
            unsafe {
                product.run(
                    |most| if turn == 0 { claims.front(most) } else { claims.back(most) },
                    |unit, group, tile, next| finish(first + unit, group, tile, next),
                );
            }
        }
    }

    /// A product's input as integers, if its weights are quantised. Several tokens are shared out over the threads, a single
    /// one is every thread's own.
    ///
    /// # Safety
    /// Called by all threads with the same input, which is whole; no thread still uses the integers of another product.
    unsafe fn integers<A: Activation>(
        &self,
        worker: Worker<'_>,
        panels: Panels,
        x: *const A,
        groups: Groups,
    ) -> Option<Inputs> {
        if !panels.is_quantised() {
            return None;
        }
        let inputs = self.pass.integers(worker.index, groups.count, panels.integers);
        let row = self.pass.row(worker.index, self.shape);
        let alone = groups.count == 1;
        let share = if alone { 0..1 } else { split(groups.count, worker.threads, worker.index) };
        // SAFETY: passed on to the caller; the shares are disjoint.
        unsafe { quantised::inputs(self.isa, panels, groups, x, share, row, inputs) };
        if !alone {
            worker.barrier.wait();
        }
        Some(inputs)
    }

    unsafe fn qkv<A: Activation>(&self, worker: Worker<'_>, layer: usize) {
        let groups = self.pass.groups;
        // SAFETY: every panel's outputs are written by the one thread that computes it.
        unsafe {
            let x = self.norm::<A>(worker, self.loaded.norm(self.copy, layer, 0), groups, 0, 1);
            self.product(worker, (layer, Matrix::Qkv), x, groups, |unit, group, tile, _| {
                for c in 0..groups.size(group) {
                    let row = tile.add(c * PANEL);
                    self.put_qkv::<A>(layer, unit, groups.start(group) + c, row);
                }
            });
            if self.kv.is_quantised() {
                // A scale is that of a whole head, whose parts several threads may have computed.
                worker.barrier.wait();
                self.append_quantised(worker, layer);
            }
        }
    }

    /// Rotates and stores one token's 32 values of a panel of q, k or v.
    unsafe fn put_qkv<A: Activation>(&self, layer: usize, panel: usize, token: usize, row: *mut f32) {
        let (shape, pass) = (self.shape, self.pass);
        let (slot, j) = (panel / shape.head_panels, panel % shape.head_panels);
        let (feed, Place { sequence, position, new }) = pass.place(token);
        // SAFETY: head, sequence and position are in bounds; each value is stored by one thread.
        unsafe {
            if slot < shape.heads + shape.kv_heads {
                let (cos, sin) = self.rope.at(position, j);
                el::rotate(self.isa, row, cos.as_ptr(), sin.as_ptr());
            }
            if slot < shape.heads {
                let (unit, head) = (sequence * shape.kv_heads + slot / shape.group, slot % shape.group);
                let column = new * shape.group + head;
                let (tile, _) = feed.columns.locate(column);
                let width = shape.head_width();
                let at = feed.queries(unit, shape) + feed.columns.index(column, j * PANEL, width);
                let to = pass.q.ptr::<A>().add(at);
                el::pack::<A>(self.isa, row, PANEL, feed.columns.size(tile), to);
                return;
            }
            let head = (slot - shape.heads) % shape.kv_heads;
            if self.kv.is_quantised() {
                let which = usize::from(slot >= shape.heads + shape.kv_heads);
                let to = self.fresh(token, which, head).add(j * PANEL);
                to.copy_from_nonoverlapping(row, PANEL);
                return;
            }
            let piece = self.kv.of(self.kv_copy, layer, sequence * shape.kv_heads + head, position);
            // A key's pairs of elements lie a step apart, a value's elements side by side.
            if slot < shape.heads + shape.kv_heads {
                let to = self.kv.key::<A>(piece, position, j * PANEL);
                let rows = self.kv.rows();
                (0..PANEL).for_each(|i| *to.add(A::kv_index(rows, 0, i)) = A::kv(*row.add(i)));
            } else {
                let to = self.kv.value::<A>(piece, position, j * PANEL);
                (0..PANEL).for_each(|i| *to.add(A::kv_index(PANEL, i, 0)) = A::kv(*row.add(i)));
            }
        }
    }

    /// A product that is added to the residual stream.
    unsafe fn residual<A: Activation>(&self, worker: Worker<'_>, layer: usize, matrix: Matrix, x: *mut A) {
        let groups = self.pass.groups;
        let hidden = self.shape.hidden;
        // SAFETY: every panel's columns of the residual stream are written by the one thread that computes it.
        unsafe {
            self.product(worker, (layer, matrix), x.cast_const(), groups, |unit, group, tile, _| {
                let column = unit * PANEL;
                let rows = PANEL.min(hidden - column);
                for c in 0..groups.size(group) {
                    let to = self.pass.x.ptr::<f32>().add((groups.start(group) + c) * hidden + column);
                    el::add(self.isa, tile.add(c * PANEL), rows, to);
                }
            });
        }
    }

    unsafe fn gate_up<A: Activation>(&self, worker: Worker<'_>, layer: usize) {
        let groups = self.pass.groups;
        let ffn = self.shape.ffn;
        let out = self.pass.activated.ptr::<A>();
        // SAFETY: every panel's outputs are written by the one thread that computes it.
        unsafe {
            let x = self.norm::<A>(worker, self.loaded.norm(self.copy, layer, 1), groups, 0, 1);
            self.product(worker, (layer, Matrix::GateUp), x, groups, |unit, group, gate, next| {
                let column = unit * PANEL;
                let rows = PANEL.min(ffn - column);
                let tokens = groups.size(group);
                let to = out.add(groups.start(group) * ffn + column * tokens);
                el::swiglu::<A>(self.isa, gate, gate.add(next), tokens, rows, to);
            });
        }
    }

    unsafe fn lm_head<A: Activation>(&self, worker: Worker<'_>) {
        let pass = self.pass;
        let layers = self.loaded.layers();
        let vocab = self.shape.vocab;
        // SAFETY: every panel's logits are written by the one thread that computes it; the best ones are the thread's own.
        unsafe {
            let weight = self.loaded.norm(self.copy, layers, 0);
            let Feed { sequences, tokens, .. } = pass.feeds[0];
            let (first, every) = match pass.headed.count == sequences {
                true => (tokens - 1, tokens),
                false => (0, 1),
            };
            let x = self.norm::<A>(worker, weight, pass.headed, first, every);
            for token in 0..pass.headed.count {
                *pass.best(worker.index, token) = (f32::MIN, 0);
            }
            self.product(worker, (layers, Matrix::Head), x, pass.headed, |unit, group, tile, _| {
                let row = unit * PANEL;
                let rows = PANEL.min(vocab - row);
                for c in 0..pass.headed.size(group) {
                    let token = pass.headed.start(group) + c;
                    let values = std::slice::from_raw_parts(tile.add(c * PANEL), rows);
                    let best = pass.best(worker.index, token);
                    for (i, &value) in values.iter().enumerate() {
                        if value > (*best).0 {
                            *best = (value, (row + i) as u32);
                        }
                    }
                    if let Some(logits) = &pass.logits {
                        let to = logits.ptr::<f32>().add(token * vocab + row);
                        to.copy_from_nonoverlapping(values.as_ptr(), rows);
                    }
                }
            });
        }
    }
}
