//! One forward pass, and what each of its stages must move and compute.
//!
//! This is the ledger: every rate in a run is these bytes and FLOPs divided by a measured time.
//!
//! What is counted
//! - FLOPs: matrix products and attention, two per multiply-add. Norms, rotary embedding, softmax and
//!   activation functions are not counted (below 0.1% of a layer).
//! - weight bytes: each streamed weight once, with its scales; norms with the stage they are fused into.
//! - KV bytes: each attended position read once (attention), each new one appended once (qkv), with its scales; of a cache
//!   in pages the entries of the block table that both look up.
//! - activation bytes: what crosses a stage's border, read by one stage and written by another; the
//!   residual stream is read and written by out_proj and down. Logits stay on chip (argmax is fused).
//! - all-reduces of several ranks: none of these. What they add is [`Workload::all_reduces`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{ModelSpec, Precision, Tensor};
use crate::units::{Bytes, Flops, Intensity, Seconds};

/// The two halves of answering a request, and both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// All prompt tokens in one pass.
    Prefill,
    /// One token per sequence and pass.
    Decode,
    /// Decode with a chunk of another sequence's prompt riding along, the step of continuous batching.
    Mixed,
}

/// The seven parts of a forward pass, the same in both phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Embedding row look-up.
    Embed,
    /// RMS norm, q/k/v projections, rotary embedding, cache append.
    Qkv,
    /// Softmax attention over the KV cache.
    Attention,
    /// Output projection and residual add.
    OutProj,
    /// RMS norm, gate and up projections, SwiGLU.
    GateUp,
    /// Down projection and residual add.
    Down,
    /// Final norm, vocabulary projection, argmax.
    LmHead,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 3] = [Phase::Prefill, Phase::Decode, Phase::Mixed];

    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
            Phase::Mixed => "mixed",
        }
    }
}

impl Stage {
    /// All stages in the order of execution.
    pub const ALL: [Stage; 7] = [
        Stage::Embed,
        Stage::Qkv,
        Stage::Attention,
        Stage::OutProj,
        Stage::GateUp,
        Stage::Down,
        Stage::LmHead,
    ];

    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Embed => "embed",
            Stage::Qkv => "qkv",
            Stage::Attention => "attention",
            Stage::OutProj => "out_proj",
            Stage::GateUp => "gate_up",
            Stage::Down => "down",
            Stage::LmHead => "lm_head",
        }
    }

    /// Whether every layer has this stage (embed and lm_head run once per pass).
    pub fn per_layer(self) -> bool {
        !matches!(self, Stage::Embed | Stage::LmHead)
    }

    /// The matrices that it multiplies by.
    pub fn matrices(self) -> &'static [Tensor] {
        match self {
            Stage::Embed | Stage::Attention => &[],
            Stage::Qkv => &[Tensor::Q, Tensor::K, Tensor::V],
            Stage::OutProj => &[Tensor::O],
            Stage::GateUp => &[Tensor::Gate, Tensor::Up],
            Stage::Down => &[Tensor::Down],
            Stage::LmHead => &[Tensor::Head],
        }
    }

    /// Position in [`Stage::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What one stage moves and computes in one pass, over all layers of the model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Operations.
    pub flops: Flops,
    /// Streamed weights.
    pub weight_bytes: Bytes,
    /// Key/value cache read and appended.
    pub kv_bytes: Bytes,
    /// Activations crossing the stage's borders.
    pub activation_bytes: Bytes,
}

impl Cost {
    /// Compulsory bytes: weights, KV and activations.
    pub fn bytes(&self) -> Bytes {
        self.weight_bytes + self.kv_bytes + self.activation_bytes
    }

    /// Arithmetic intensity: FLOPs over compulsory bytes.
    pub fn intensity(&self) -> Intensity {
        self.flops / self.bytes()
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(items: I) -> Cost {
        items.fold(Cost::default(), |a, b| Cost {
            flops: a.flops + b.flops,
            weight_bytes: a.weight_bytes + b.weight_bytes,
            kv_bytes: a.kv_bytes + b.kv_bytes,
            activation_bytes: a.activation_bytes + b.activation_bytes,
        })
    }
}

/// What an all-reduce makes of the ranks' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The sum of activations, on a GPU in bf16.
    Sum,
    /// The largest of keys of 8 bytes: a logit, of equal ones the row that decides.
    Largest,
}

/// All-reduces of one size in a pass of several ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AllReduces {
    /// How many.
    pub count: f64,
    /// What they make of the ranks' values.
    pub reduction: Reduction,
    /// What each of them reduces, on every rank.
    pub bytes: Bytes,
}

/// What the head's argmax reduces for each row: the largest logit of a rank's slice and its row.
const ARGMAX_BYTES: f64 = 8.0;

/// The part of one sequence's prompt that rides along with a decode step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// New tokens of it.
    pub tokens: u32,
    /// Positions that the last of them attends, its own included; at least `tokens`.
    pub context: u32,
}

/// What a look-up of a page takes: its number.
const TABLE_ENTRY_BYTES: f64 = 4.0;

/// One forward pass: `tokens` new tokens for each of `batch` sequences, the last of which attends `context`
/// positions (its own included). A prompt of P is `tokens = context = P`; a decode step is `tokens = 1`, or as many as
/// a draft proposed, which are verified at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The model; of several ranks the shard that one of them holds.
    pub model: ModelSpec,
    /// Ranks that the whole model is divided among. Costs are those of one.
    pub ranks: u32,
    /// Prefill, decode or mixed.
    pub phase: Phase,
    /// Sequences in the pass.
    pub batch: u32,
    /// New tokens per sequence.
    pub tokens: u32,
    /// Positions the last new token attends, its own included; at least `tokens`.
    pub context: u32,
    /// Types of the weights, activations and the cache.
    pub precision: Precision,
    /// Of a mixed step what rides along, in a sequence of its own; `None` in other phases.
    pub chunk: Option<Chunk>,
    /// Positions of a page of the cache; `None` where each sequence's cache is contiguous.
    pub kv_page: Option<u32>,
}

impl Workload {
    /// A prompt of `prompt` tokens per sequence in one pass, all in bf16.
    pub fn prefill(model: &ModelSpec, batch: u32, prompt: u32) -> Self {
        Self::bf16(model, Phase::Prefill, batch, prompt, prompt)
    }

    /// One new token per sequence at `context` attended positions, all in bf16.
    pub fn decode(model: &ModelSpec, batch: u32, context: u32) -> Self {
        Self::bf16(model, Phase::Decode, batch, 1, context)
    }

    fn bf16(model: &ModelSpec, phase: Phase, batch: u32, tokens: u32, context: u32) -> Self {
        let precision = Precision::BF16;
        Workload {
            model: model.clone(),
            ranks: 1,
            phase,
            batch,
            tokens,
            context,
            precision,
            chunk: None,
            kv_page: None,
        }
    }

    /// This decode step with a chunk of another sequence's prompt riding along.
    #[must_use]
    pub fn with(self, chunk: Chunk) -> Self {
        Workload { phase: Phase::Mixed, chunk: Some(chunk), ..self }
    }

    /// What its sequences are: how many of how many new tokens, and how many positions the last of these attends.
    fn sequences(&self) -> impl Iterator<Item = [u32; 3]> {
        let riding = self.chunk.map(|chunk| [1, chunk.tokens, chunk.context]);
        std::iter::once([self.batch, self.tokens, self.context]).chain(riding)
    }

    /// Sums over all sequences what `of` gives for new tokens and attended positions of one.
    fn over_sequences(&self, of: impl Fn(f64, f64) -> f64) -> f64 {
        self.sequences().map(|all| all.map(f64::from)).map(|[count, t, c]| count * of(t, c)).sum()
    }

    /// Tokens that the pass produces or takes in: the new tokens of a prefill, one per sequence in decode.
    pub fn new_tokens(&self) -> f64 {
        self.over_sequences(|tokens, _| tokens)
    }

    /// Positions that all sequences attend, each once: what caches of them hold.
    pub fn positions(&self) -> f64 {
        self.over_sequences(|_, context| context)
    }

    /// Query-key pairs of one head, all sequences: causal, so token i attends `context - tokens + i`.
    fn attended_pairs(&self) -> f64 {
        self.over_sequences(|t, c| t * (c - t) + t * (t + 1.0) / 2.0)
    }

    /// Bytes of the block table that the attention of one layer reads: every page of every sequence.
    fn attended_table(&self) -> f64 {
        let Some(page) = self.kv_page.map(f64::from) else { return 0.0 };
        TABLE_ENTRY_BYTES * self.over_sequences(|_, context| (context / page).ceil())
    }

    /// Bytes of the block table that one layer's new positions are appended by: the pages that they lie in.
    fn appended_table(&self) -> f64 {
        let Some(page) = self.kv_page.map(f64::from) else { return 0.0 };
        TABLE_ENTRY_BYTES * self.over_sequences(|t, c| (c / page).ceil() - ((c - t) / page).floor())
    }

    /// Rows that the head multiplies. What a prompt goes on with is known but for its last token, and of a chunk in the
    /// middle of one altogether; every token of decode needs logits.
    fn headed(&self) -> f64 {
        let tokens = if self.phase == Phase::Prefill { 1 } else { self.tokens };
        f64::from(self.batch) * f64::from(tokens)
    }

    /// Cost of one stage over all layers.
    pub fn cost(&self, stage: Stage) -> Cost {
        let m = &self.model;
        let rows = self.new_tokens();
        let headed = self.headed();
        let [hidden, ffn, q] = [m.hidden, m.ffn, m.q_width()].map(f64::from);
        let times = if stage.per_layer() { f64::from(m.layers) } else { 1.0 };
        let position = m.kv_bytes_per_layer(self.precision.kv);

        // (norm weights, rows multiplied, KV bytes, activation elements) of one execution
        let (norm, products, kv_bytes, elements) = match stage {
            Stage::Embed => (0.0, 0.0, 0.0, rows * hidden),
            Stage::Qkv => (hidden, rows, rows * position + self.appended_table(), rows * (hidden + q)),
            Stage::Attention => {
                (0.0, 0.0, self.positions() * position + self.attended_table(), 2.0 * rows * q)
            }
            Stage::OutProj => (0.0, rows, 0.0, rows * (q + 2.0 * hidden)),
            Stage::GateUp => (hidden, rows, 0.0, rows * (hidden + ffn)),
            Stage::Down => (0.0, rows, 0.0, rows * (ffn + 2.0 * hidden)),
            Stage::LmHead => (hidden, headed, 0.0, headed * hidden),
        };
        let Precision { weights, head, .. } = self.precision;
        let dtype = if stage == Stage::LmHead { head } else { weights };
        let shapes = stage.matrices().iter().map(|tensor| tensor.shape(m));
        let matrix: f64 = shapes.clone().map(|(rows, columns)| f64::from(rows) * f64::from(columns)).sum();
        let matrix_bytes: f64 = shapes.map(|(rows, columns)| dtype.matrix_bytes(rows, columns)).sum();
        let attention = match stage {
            Stage::Attention => 4.0 * q * self.attended_pairs(),
            _ => 0.0,
        };
        let beside = weights.beside().bytes();
        let looked_up = if stage == Stage::Embed { rows * hidden * beside } else { 0.0 };
        Cost {
            flops: Flops(times * (2.0 * matrix * products + attention)),
            weight_bytes: Bytes(times * (matrix_bytes + norm * beside) + looked_up),
            kv_bytes: Bytes(times * kv_bytes),
            activation_bytes: Bytes(times * elements * self.precision.border().bytes()),
        }
    }

    /// What ranks must reduce among them in one pass: after out_proj and after down of each layer what these put out
    /// of every row, and once the head's argmax. Nothing for one rank.
    ///
    /// The embedding's rows are looked up as if every rank had all of them (its stage reads them whole), so that there is
    /// none after embed.
    pub fn all_reduces(&self) -> Vec<AllReduces> {
        if self.ranks <= 1 {
            return Vec::new();
        }
        let row = f64::from(self.model.hidden) * self.precision.border().bytes();
        vec![
            AllReduces {
                count: 2.0 * f64::from(self.model.layers),
                reduction: Reduction::Sum,
                bytes: Bytes(self.new_tokens() * row),
            },
            AllReduces {
                count: 1.0,
                reduction: Reduction::Largest,
                bytes: Bytes(self.headed() * ARGMAX_BYTES),
            },
        ]
    }

    /// Seconds of all of them, one after the other, where `one` says what one of so many bytes takes among these ranks.
    /// `None` for one rank, and where `one` does not know.
    pub fn all_reduce_seconds(&self, one: impl Fn(u32, Bytes) -> Option<Seconds>) -> Option<Seconds> {
        let all = self.all_reduces();
        if all.is_empty() {
            return None;
        }
        all.iter().map(|reduce| Some(Seconds(reduce.count * one(self.ranks, reduce.bytes)?.0))).sum()
    }

    /// Cost of the whole step: the sum of its stages.
    pub fn total(&self) -> Cost {
        Stage::ALL.into_iter().map(|stage| self.cost(stage)).sum()
    }
}
