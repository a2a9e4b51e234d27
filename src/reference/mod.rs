//! The stages of a Llama in float64, simple and slow, to check kernels against.
//!
//! Vectors are in the model's own order: `[token][head][element]`, and `[token][element]` for the residual
//! stream. With [`Rounding::Bf16`] values are rounded where a device with bf16 activations rounds them, so
//! that what is left between the two is the order of additions.

mod attention;
mod rope;
mod stages;

pub use attention::{Cache, Qkv};
pub use stages::Stages;

use crate::model::{DType, ModelSpec, Precision, Tensor, precision};
use crate::workload::Stage;

/// Gives the weights row by row, as exact values.
pub trait Rows {
    /// Writes one row of a tensor; `out` is as long as [`Tensor::shape`] says. `layer` is 0 outside the layers.
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]);
}

/// Where values are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Nowhere: float64 throughout.
    None,
    /// To bf16, to nearest even: what goes into a matrix product (normalised residual, attention output,
    /// silu(gate) x up), rotated q and k, v, and the weights of attention before they multiply v.
    Bf16,
}

impl Rounding {
    /// The value as the device holds it.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Rounding::None => x,
            Rounding::Bf16 => {
                // By way of f32, as the device does: it computed the value in f32.
                let x = x as f32;
                if !x.is_finite() {
                    return f64::from(x);
                }
                let bits = x.to_bits();
                let even = (bits >> 16) & 1;
                f64::from(f32::from_bits((bits + 0x7fff + even) & 0xffff_0000))
            }
        }
    }
}

/// How a device in these types computes, as far as the reference follows it. Quantised weights are the business of
/// [`Rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numerics {
    /// Where values are rounded.
    pub rounding: Rounding,
    /// Type that a token's input of a product with the layers' weights is quantised to.
    pub inputs: Option<DType>,
    /// The same of the head.
    pub head_inputs: Option<DType>,
    /// Type that each head's key and value is quantised to.
    pub kv: Option<DType>,
}

impl Numerics {
    /// Float64 throughout, but for what is quantised.
    pub fn exact(precision: Precision) -> Numerics {
        let quantised = |dtype: DType| dtype.is_quantised().then_some(dtype);
        let Precision { weights, head, activations, kv } = precision;
        // A device multiplies integers with quantised weights alone.
        let inputs = |weights| quantised(weights).and(quantised(activations));
        Numerics {
            rounding: Rounding::None,
            inputs: inputs(weights),
            head_inputs: inputs(head),
            kv: quantised(kv),
        }
    }

    /// Rounded where a device in these types rounds.
    pub fn of(precision: Precision) -> Numerics {
        let rounding = if precision.border() == DType::F32 { Rounding::None } else { Rounding::Bf16 };
        Numerics { rounding, ..Numerics::exact(precision) }
    }
}

/// Replaces values that share a scale by those that their codes stand for.
pub fn quantise(dtype: DType, values: &mut [f64]) {
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let mut codes = vec![0; values.len()];
    let scale = precision::quantise(dtype, &narrow, &mut codes);
    for (value, code) in values.iter_mut().zip(codes) {
        *value = f64::from(precision::value(dtype, code)) * f64::from(scale);
    }
}

/// What one stage puts out: `[sequence][token][element]`, of lm_head `[sequence][vocab]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The stage.
    pub stage: Stage,
    /// Its layer (0 for embed and lm_head).
    pub layer: u32,
    /// The values.
    pub values: Vec<f64>,
}

/// A whole model with its key/value caches.
pub struct Reference<'a> {
    stages: Stages<'a>,
    layers: u32,
    /// `[sequence][layer]`
    caches: Vec<Vec<Cache>>,
}

impl<'a> Reference<'a> {
    /// A model of the first `layers` layers, with empty caches for `batch` sequences.
    pub fn new(
        spec: &'a ModelSpec,
        rows: &'a dyn Rows,
        numerics: Numerics,
        layers: u32,
        batch: usize,
    ) -> Self {
        let caches = vec![vec![Cache::default(); layers as usize]; batch];
        Reference { stages: Stages::new(spec, rows, numerics), layers, caches }
    }

    /// Feeds `tokens[sequence]` after what the caches hold. Returns every stage's output in order, the last
    /// of which are the logits of each sequence's last token.
    pub fn forward(&mut self, tokens: &[Vec<u32>]) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut put = |stage, layer, values: &[f64]| {
            outputs.push(Output { stage, layer, values: values.to_vec() });
        };
        let stages = &self.stages;
        let hidden = stages.spec().hidden as usize;
        let all: Vec<u32> = tokens.concat();
        let positions: Vec<u32> = tokens
            .iter()
            .zip(&self.caches)
            .flat_map(|(new, caches)| {
                let held = caches.first().map_or(0, Cache::positions);
                (0..new.len()).map(move |i| (held + i) as u32)
            })
            .collect();
        let mut residual = stages.embed(&all);
        put(Stage::Embed, 0, &residual);
        for layer in 0..self.layers {
            let qkv = stages.qkv(layer, &residual, &positions);
            put(Stage::Qkv, layer, &qkv);
            let mut attended = Vec::new();
            let mut rest = &qkv[..];
            for (new, caches) in tokens.iter().zip(&mut self.caches) {
                let (own, after) = rest.split_at(new.len() * Qkv::of(stages.spec()).width());
                attended.extend(stages.attention(own, &mut caches[layer as usize]));
                rest = after;
            }
            put(Stage::Attention, layer, &attended);
            residual = stages.out_proj(layer, &attended, &residual);
            put(Stage::OutProj, layer, &residual);
            let gated = stages.gate_up(layer, &residual);
            put(Stage::GateUp, layer, &gated);
            residual = stages.down(layer, &gated, &residual);
            put(Stage::Down, layer, &residual);
        }
        let mut last = Vec::new();
        let mut end = 0;
        for new in tokens {
            end += new.len() * hidden;
            last.extend_from_slice(&residual[end - hidden..end]);
        }
        put(Stage::LmHead, 0, &stages.lm_head(&last));
        outputs
    }
}
