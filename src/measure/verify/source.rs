//! Weights for the check, and weights as the reference wants them.

use std::collections::HashMap;

use crate::backend::weights::{Tensor, WeightSource, from_bf16, to_bf16};
use crate::model::{ModelSpec, Precision};
use crate::reference::{Rows, quantise};

/// A backend's weights as the exact values of their bf16 bits.
pub struct WeightRows<'a>(pub &'a dyn WeightSource);

impl Rows for WeightRows<'_> {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]) {
        let mut bits = vec![0; out.len()];
        self.0.row(tensor, layer, row, &mut bits);
        for (out, bits) in out.iter_mut().zip(bits) {
            *out = f64::from(from_bf16(bits));
        }
    }
}

/// The weights of a small model, made once and kept.
pub(super) struct HeldRows {
    spec: ModelSpec,
    tensors: HashMap<(Tensor, u32), Vec<f64>>,
}

impl HeldRows {
    /// Takes all rows of the spec's layers.
    pub fn new(spec: &ModelSpec, source: &dyn WeightSource) -> Self {
        let mut tensors = HashMap::new();
        for tensor in Tensor::ALL {
            let (rows, columns) = tensor.shape(spec);
            for layer in 0..if tensor.per_layer() { spec.layers } else { 1 } {
                let mut values = vec![0.0; rows as usize * columns as usize];
                for (row, out) in values.chunks_exact_mut(columns as usize).enumerate() {
                    WeightRows(source).row(tensor, layer, row as u32, out);
                }
                tensors.insert((tensor, layer), values);
            }
        }
        HeldRows { spec: spec.clone(), tensors }
    }
}

impl Rows for HeldRows {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]) {
        let columns = tensor.shape(&self.spec).1 as usize;
        out.copy_from_slice(&self.tensors[&(tensor, layer)][row as usize * columns..][..columns]);
    }
}

/// Weights as quantising leaves them: codes times scales.
pub(super) struct QuantisedRows<'a> {
    /// The weights before.
    pub rows: &'a dyn Rows,
    /// The types.
    pub precision: Precision,
}

impl Rows for QuantisedRows<'_> {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]) {
        self.rows.row(tensor, layer, row, out);
        let dtype = match tensor {
            Tensor::Head => self.precision.head,
            _ if Tensor::OF_LAYER.contains(&tensor) => self.precision.weights,
            _ => return,
        };
        if dtype.is_quantised() {
            let group = dtype.group(out.len());
            out.chunks_mut(group).for_each(|group| quantise(dtype, group));
        }
    }
}

/// Random weights that make a mistake show: every product of the scale of the residual, attention far from
/// uniform, norms away from one.
#[derive(Debug, Clone)]
pub struct NormalWeights {
    spec: ModelSpec,
    seed: u64,
}

impl NormalWeights {
    /// The weights of a model for one seed.
    pub fn new(spec: &ModelSpec, seed: u64) -> Self {
        NormalWeights { spec: spec.clone(), seed }
    }
}

impl WeightSource for NormalWeights {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let tied = tensor == Tensor::Head && self.spec.tied_embeddings;
        let tensor = if tied { Tensor::Embedding } else { tensor };
        let fan_in = f64::from(tensor.shape(&self.spec).1).sqrt();
        let (mean, deviation) = match tensor {
            Tensor::Embedding => (0.0, 1.0),
            Tensor::AttentionNorm | Tensor::FfnNorm | Tensor::FinalNorm => (1.0, 0.2),
            Tensor::Q | Tensor::K => (0.0, 1.4 / fan_in),
            _ => (0.0, 1.0 / fan_in),
        };
        let place = (tensor as u64) << 56 | u64::from(layer) << 32 | u64::from(row);
        let mut random = Random::new(self.seed ^ mix(place));
        for out in out {
            *out = to_bf16((mean + deviation * random.normal()) as f32);
        }
    }
}

/// SplitMix64: small, seeded, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Token ids below `vocab`.
    pub fn tokens(&mut self, count: u32, vocab: u32) -> Vec<u32> {
        (0..count).map(|_| (self.next() % u64::from(vocab)) as u32).collect()
    }

    /// Close to a standard normal: the sum of four uniforms, scaled. Its ends lie at 3.5.
    fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
        (sum as f64 / 65_536.0 - 2.0) * 3f64.sqrt()
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
