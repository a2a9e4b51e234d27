//! A forward pass as launches: which kernels run each stage, and on which buffers.

use std::f64::consts::LOG2_E;

use super::buffers::Buffers;
use super::cache::Cache;
use super::cublaslt;
use super::driver::{Address, Gpu};
use super::launch::Launch;
use super::launch::args::{AttentionArgs, LinearArgs};
use super::launch::format::Format;
use super::launch::gemm::Operands;
use super::launch::gemv::LinearStage;
use super::launch::workspace::Workspace;
use super::launch::{attention, elementwise, gemm, gemv, quantise, skinny};
use super::memory::{LayerWeights, Matrix, Weights};
use super::pass::Pass;
use crate::backend::Residency;
use crate::model::{DType, ModelSpec};
use crate::workload::{Chunk, Stage};

/// Which kernels run a linear stage.
enum Family {
    Gemv,
    Skinny,
    Gemm,
}

impl Family {
    /// By the number of token rows. Products of codes have one family.
    fn of(rows: u32, operands: Operands) -> Family {
        if operands == Operands::Codes {
            Family::Gemm
        } else if rows <= gemv::MOST_ROWS {
            Family::Gemv
        } else if rows <= skinny::MOST_ROWS {
            Family::Skinny
        } else {
            Family::Gemm
        }
    }
}

/// What multiplies where there are more than 64 token rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// `kernels/gemm.cu`.
    #[default]
    Own,
    /// cuBLASLt, but for the head.
    CublasLt,
}

/// The launches of one stage of one layer, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct StageLaunches {
    /// The stage.
    pub stage: Stage,
    /// Its layer (0 for embed and lm_head).
    pub layer: u32,
    /// What runs it.
    pub launches: Vec<Launch>,
}

/// One model on one GPU.
pub struct Step<'a> {
    /// The GPU.
    pub gpu: &'a Gpu,
    /// The model.
    pub model: &'a ModelSpec,
    /// Its weights.
    pub weights: &'a Weights,
    /// Its caches, one of keys and one of values for each layer of the weights.
    pub cache: &'a Cache,
    /// The pass's buffers.
    pub buffers: &'a Buffers,
    /// What runs the products of many rows.
    pub products: Products,
    /// What goes into products with weights in int8: bf16, or int8 as well.
    pub activations: DType,
}

impl Step<'_> {
    /// All launches of a pass, in order.
    pub fn launches(&self, pass: Pass) -> Vec<StageLaunches> {
        let mut all = vec![StageLaunches { stage: Stage::Embed, layer: 0, launches: vec![self.embed(pass)] }];
        for layer in 0..self.weights.layers.len() {
            for stage in Stage::ALL.into_iter().filter(|stage| stage.per_layer()) {
                let launches = match stage {
                    Stage::Attention => self.attention(pass, layer),
                    _ => self.linear(pass, stage, layer),
                };
                all.push(StageLaunches { stage, layer: layer as u32, launches });
            }
        }
        let launches = self.linear(pass, Stage::LmHead, 0);
        all.push(StageLaunches { stage: Stage::LmHead, layer: 0, launches });
        wait_for_products(&mut all);
        all
    }

    /// Scratch memory that the launches of a pass share.
    pub fn workspace(gpu: &Gpu, residency: &Residency, pass: Pass) -> Workspace {
        let Residency { model, precision, .. } = residency;
        let (weights, cache) = (
            Weights {
                layers: vec![LayerWeights::default()],
                format: Format::of(precision.weights),
                head_format: Format::of(precision.head),
                ..Weights::default()
            },
            Cache {
                keys: vec![Matrix::default()],
                values: vec![Matrix::default()],
                format: Format::of(precision.kv),
                capacity: pass.capacity(),
                pages: None,
            },
        );
        let step = Step {
            gpu,
            model,
            weights: &weights,
            cache: &cache,
            buffers: &Buffers::default(),
            products: Products::Own,
            activations: precision.activations,
        };
        let args = step.attention_args(pass, 0);
        let attended = attention::workspace(gpu, &args, model.head_dim, step.cache.format, pass.context);
        Stage::ALL
            .into_iter()
            .filter_map(|stage| {
                let (kind, args) = step.linear_args(pass, stage, 0)?;
                let operands = step.operands(kind);
                let format = operands.format();
                Some(match Family::of(args.rows, operands) {
                    Family::Gemv => gemv::workspace(gpu, kind, format, &args),
                    Family::Skinny => skinny::workspace(gpu, kind, format, &args),
                    Family::Gemm => gemm::workspace(gpu, kind, operands, &args),
                })
            })
            .fold(attended, Workspace::larger)
    }

    fn embed(&self, pass: Pass) -> Launch {
        let buffers = self.buffers;
        elementwise::embed(
            pass.rows(),
            elementwise::EmbedArgs {
                table: self.weights.embedding,
                tokens: buffers.tokens,
                residual: buffers.residual,
                k: self.model.hidden,
                reserved: 0,
            },
        )
    }

    /// A chunk attends behind all others, and not beside them as a branch of a graph: each of the two launches is cut to
    /// fill the card, two blocks of decode leave a multiprocessor too few registers for one of prefill (but for groups of
    /// more than 8 heads of 64), and on Hopper neither a branch nor what follows both could start early.
    fn attention(&self, pass: Pass, layer: usize) -> Vec<Launch> {
        let args = self.attention_args(pass, layer);
        let (head_dim, format) = (self.model.head_dim, self.cache.format);
        let mut launches = vec![match pass.tokens {
            1 => attention::decode(self.gpu, args, head_dim, format, pass.context),
            _ => attention::prefill(self.gpu, args, head_dim, format, pass.context),
        }];
        if let Some(chunk) = pass.chunk {
            let args = self.chunk_args(pass, chunk, args);
            launches.push(attention::prefill(self.gpu, args, head_dim, format, chunk.context));
        }
        launches
    }

    /// From what the sequences before it are given: everything of the chunk's lies behind theirs, in pages the part of the
    /// table.
    fn chunk_args(&self, pass: Pass, chunk: Chunk, args: AttentionArgs) -> AttentionArgs {
        let rows = 2 * u64::from(pass.batch * pass.tokens) * u64::from(self.model.q_width());
        let args = AttentionArgs {
            q: args.q + rows,
            out: args.out + rows,
            start: args.start + 4 * u64::from(pass.batch),
            sequences: 1,
            tokens: chunk.tokens,
            ..args
        };
        let positions = u64::from(pass.batch) * u64::from(args.capacity);
        if args.pages != 0 {
            return AttentionArgs { pages: args.pages + 4 * (positions >> args.page_shift), ..args };
        }
        let rows = positions * u64::from(self.model.kv_heads);
        let codes = rows * self.cache.format.row_bytes(self.model.head_dim);
        // bf16 has none.
        let scales = if args.key_scales == 0 { 0 } else { 4 * rows };
        AttentionArgs {
            keys: args.keys + codes,
            values: args.values + codes,
            key_scales: args.key_scales + scales,
            value_scales: args.value_scales + scales,
            ..args
        }
    }

    fn attention_args(&self, pass: Pass, layer: usize) -> AttentionArgs {
        let (pages, page_shift) = self.pages();
        AttentionArgs {
            q: self.buffers.q,
            keys: self.cache.keys[layer].codes,
            values: self.cache.values[layer].codes,
            out: self.buffers.attended,
            start: self.buffers.start,
            partial: self.buffers.partial,
            arrivals: self.buffers.arrivals,
            sequences: pass.batch,
            tokens: pass.tokens,
            heads: self.model.heads,
            kv_heads: self.model.kv_heads,
            capacity: self.cache.capacity,
            splits: 1,
            scale: (LOG2_E / f64::from(self.model.head_dim).sqrt()) as f32,
            page_shift,
            pages,
            key_scales: self.cache.keys[layer].scales,
            value_scales: self.cache.values[layer].scales,
        }
    }

    /// Address of the table of pages, 0 without, and the logarithm of their size.
    fn pages(&self) -> (Address, u32) {
        self.cache.pages.as_ref().map_or((0, 0), |pages| (pages.table, pages.shift))
    }

    /// A linear stage by the kernel for this many rows. Products of many rows get their input normed by a launch
    /// of its own: recomputing the norm in every tile would cost more than it saves. So do those of codes, whose scale is
    /// the whole row's.
    fn linear(&self, pass: Pass, stage: Stage, layer: usize) -> Vec<Launch> {
        let Some((kind, mut args)) = self.linear_args(pass, stage, layer) else { return Vec::new() };
        let append = (kind == LinearStage::Qkv && self.cache.format.is_quantised())
            .then(|| elementwise::append(self.cache.format, args));
        let operands = self.operands(kind);
        let format = operands.format();
        let mut launches = match Family::of(args.rows, operands) {
            Family::Gemv => vec![gemv::launch(self.gpu, kind, format, args)],
            Family::Skinny => vec![skinny::launch(self.gpu, kind, format, args)],
            Family::Gemm if args.norm == 0 => self.product(kind, operands, args),
            Family::Gemm => {
                let norm = elementwise::rms_norm(
                    args.rows,
                    elementwise::RmsNormArgs {
                        x: args.x,
                        norm: args.norm,
                        normed: self.buffers.normed,
                        k: args.k,
                        x_stride: args.x_stride,
                        eps: args.eps,
                        reserved: 0,
                    },
                );
                (args.x, args.x_stride, args.norm) = (self.buffers.normed, args.k, 0);
                [vec![norm], self.product(kind, operands, args)].concat()
            }
        };
        launches.extend(append);
        launches
    }

    /// A product of many rows whose `x` is normed, or of codes, which are made of it here. cuBLASLt multiplies bf16 alone.
    fn product(&self, kind: LinearStage, operands: Operands, args: LinearArgs) -> Vec<Launch> {
        if operands == Operands::Codes {
            let codes = quantise::Target {
                format: Format::Int8,
                codes: self.buffers.codes,
                scales: self.buffers.code_scales,
            };
            let quantised = quantise::rows(args.x, codes, 0, args.rows, args.k);
            let args = LinearArgs { x: codes.codes, x_scales: codes.scales, ..args };
            return vec![quantised, gemm::launch(self.gpu, kind, operands, args)];
        }
        let elsewhere = match self.products {
            Products::CublasLt if operands == Format::Bf16.into() => {
                cublaslt::launches(kind, args, self.buffers.products)
            }
            _ => None,
        };
        elsewhere.unwrap_or_else(|| vec![gemm::launch(self.gpu, kind, operands, args)])
    }

    /// What a stage multiplies.
    fn operands(&self, kind: LinearStage) -> Operands {
        let held = if kind == LinearStage::LmHead { self.weights.head_format } else { self.weights.format };
        match (held, self.activations) {
            (Format::Int8, DType::Int8) => Operands::Codes,
            _ => Operands::Weights(held),
        }
    }

    /// Which product a stage is; `None` for embed and attention.
    fn linear_args(&self, pass: Pass, stage: Stage, layer: usize) -> Option<(LinearStage, LinearArgs)> {
        let (model, buffers) = (self.model, self.buffers);
        let (q_width, kv_width) = (model.q_width(), model.kv_width());
        let common = LinearArgs {
            partial: buffers.partial,
            arrivals: buffers.arrivals,
            rows: pass.rows(),
            tokens: pass.tokens,
            sequences: pass.sequences(),
            head_dim: model.head_dim,
            q_width,
            kv_width,
            splits: 1,
            eps: model.norm_eps as f32,
            ..LinearArgs::default()
        };
        let add = |x: Address, k: u32, w: Matrix| LinearArgs {
            x,
            w0: w.codes,
            s0: w.scales,
            y: buffers.residual,
            k,
            n: model.hidden,
            x_stride: k,
            ..common
        };
        let normed = |norm: Address, n: u32| LinearArgs {
            x: buffers.residual,
            norm,
            k: model.hidden,
            n,
            x_stride: model.hidden,
            ..common
        };
        let weights = self.weights.layers.get(layer).copied().unwrap_or_default();
        Some(match stage {
            Stage::Embed | Stage::Attention => return None,
            Stage::Qkv => (
                LinearStage::Qkv,
                LinearArgs {
                    w0: weights.q.codes,
                    w1: weights.k.codes,
                    w2: weights.v.codes,
                    s0: weights.q.scales,
                    s1: weights.k.scales,
                    s2: weights.v.scales,
                    y: buffers.q,
                    keys: self.cache.keys[layer].codes,
                    values: self.cache.values[layer].codes,
                    key_scales: self.cache.keys[layer].scales,
                    value_scales: self.cache.values[layer].scales,
                    capacity: self.cache.capacity,
                    fresh: buffers.fresh,
                    pages: self.pages().0,
                    page_shift: self.pages().1,
                    turns: buffers.turns,
                    start: buffers.start,
                    ..normed(weights.attention_norm, q_width + 2 * kv_width)
                },
            ),
            Stage::OutProj => (LinearStage::Residual, add(buffers.attended, q_width, weights.o)),
            Stage::GateUp => (
                LinearStage::GateUp,
                LinearArgs {
                    w0: weights.gate.codes,
                    w1: weights.up.codes,
                    s0: weights.gate.scales,
                    s1: weights.up.scales,
                    y: buffers.gated,
                    ..normed(weights.ffn_norm, model.ffn)
                },
            ),
            Stage::Down => (LinearStage::Residual, add(buffers.gated, model.ffn, weights.down)),
            // The last token of each sequence alone, or all; of a chunk, whose rows are behind these, none.
            Stage::LmHead => (
                LinearStage::LmHead,
                LinearArgs {
                    x: buffers.residual + 2 * u64::from(pass.tokens - pass.headed) * u64::from(model.hidden),
                    x_stride: if pass.headed == 1 { pass.tokens * model.hidden } else { model.hidden },
                    rows: pass.batch * pass.headed,
                    tokens: 1,
                    w0: self.weights.head.codes,
                    s0: self.weights.head.scales,
                    logits: buffers.logits,
                    chosen: buffers.chosen,
                    best: buffers.best,
                    ..normed(self.weights.final_norm, model.vocab)
                },
            ),
        })
    }
}

/// Our kernels may start early behind each other. What cuBLASLt launches is not ours to know (it may be more than one
/// kernel), so what follows it starts when it has ended.
fn wait_for_products(stages: &mut [StageLaunches]) {
    let mut after_product = false;
    for launch in stages.iter_mut().flat_map(|stage| &mut stage.launches) {
        launch.early &= !after_product;
        after_product = launch.source == cublaslt::SOURCE;
    }
}
