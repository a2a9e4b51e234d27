//! Each stage as a function of the vectors that go in.

use super::attention::{self, Cache, Qkv};
use super::{Numerics, Rows, quantise, rope};
use crate::model::{ModelSpec, Tensor};

/// The stages of one model.
pub struct Stages<'a> {
    spec: &'a ModelSpec,
    rows: &'a dyn Rows,
    numerics: Numerics,
    /// Radians per position of each pair of a head.
    frequencies: Vec<f64>,
}

impl<'a> Stages<'a> {
    /// The stages of a model with these weights.
    pub fn new(spec: &'a ModelSpec, rows: &'a dyn Rows, numerics: Numerics) -> Self {
        Stages { spec, rows, numerics, frequencies: rope::frequencies(spec) }
    }

    /// The model's shape.
    pub fn spec(&self) -> &ModelSpec {
        self.spec
    }

    /// The rows of the embedding table: `[token]` to `[token][hidden]`.
    pub fn embed(&self, tokens: &[u32]) -> Vec<f64> {
        let hidden = self.spec.hidden as usize;
        let mut out = vec![0.0; tokens.len() * hidden];
        for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(hidden)) {
            self.rows.row(Tensor::Embedding, 0, token, out);
        }
        out
    }

    /// Norm, projections and rotation: `[token][hidden]` to `[token][q + 2 kv]`, each token at its position.
    pub fn qkv(&self, layer: u32, residual: &[f64], positions: &[u32]) -> Vec<f64> {
        let x = self.norm(Tensor::AttentionNorm, layer, residual);
        let layout = Qkv::of(self.spec);
        let parts = [Tensor::Q, Tensor::K, Tensor::V].map(|tensor| self.product(tensor, layer, &x));
        let mut out = Vec::with_capacity(positions.len() * layout.width());
        for (token, &position) in positions.iter().enumerate() {
            for (part, width) in parts.iter().zip([layout.q, layout.kv, layout.kv]) {
                out.extend_from_slice(&part[token * width..][..width]);
            }
            let from = out.len() - layout.width();
            let turned = from..from + layout.q + layout.kv;
            for head in out[turned].chunks_exact_mut(self.spec.head_dim as usize) {
                rope::rotate(head, &self.frequencies, position);
            }
        }
        let Some(dtype) = self.numerics.kv else {
            self.round(&mut out);
            return out;
        };
        for row in out.chunks_exact_mut(layout.width()) {
            let (q, cached) = row.split_at_mut(layout.q);
            self.round(q);
            cached.chunks_exact_mut(self.spec.head_dim as usize).for_each(|head| quantise(dtype, head));
        }
        out
    }

    /// Attention of one sequence: `[token][q + 2 kv]` to `[token][heads x head_dim]`; the cache grows.
    pub fn attention(&self, qkv: &[f64], cache: &mut Cache) -> Vec<f64> {
        attention::attend(self.spec, self.numerics, qkv, cache)
    }

    /// Output projection added to the residual: `[token][hidden]`.
    pub fn out_proj(&self, layer: u32, attended: &[f64], residual: &[f64]) -> Vec<f64> {
        self.add(Tensor::O, layer, attended, residual)
    }

    /// Norm, then silu(gate) x up: `[token][hidden]` to `[token][ffn]`.
    pub fn gate_up(&self, layer: u32, residual: &[f64]) -> Vec<f64> {
        let x = self.norm(Tensor::FfnNorm, layer, residual);
        let mut out = self.product(Tensor::Gate, layer, &x);
        for (gate, up) in out.iter_mut().zip(self.product(Tensor::Up, layer, &x)) {
            *gate = self.numerics.rounding.apply(*gate / (1.0 + (-*gate).exp()) * up);
        }
        out
    }

    /// Down projection added to the residual: `[token][hidden]`.
    pub fn down(&self, layer: u32, gated: &[f64], residual: &[f64]) -> Vec<f64> {
        self.add(Tensor::Down, layer, gated, residual)
    }

    /// Final norm and logits: `[token][hidden]` to `[token][vocab]`.
    pub fn lm_head(&self, residual: &[f64]) -> Vec<f64> {
        let x = self.norm(Tensor::FinalNorm, 0, residual);
        self.product(Tensor::Head, 0, &x)
    }

    fn round(&self, values: &mut [f64]) {
        for x in values {
            *x = self.numerics.rounding.apply(*x);
        }
    }

    /// RMS norm of each row, times the norm's weight.
    fn norm(&self, tensor: Tensor, layer: u32, residual: &[f64]) -> Vec<f64> {
        let mut weight = vec![0.0; self.spec.hidden as usize];
        self.rows.row(tensor, layer, 0, &mut weight);
        let mut out = Vec::with_capacity(residual.len());
        for row in residual.chunks_exact(weight.len()) {
            let mean_square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (mean_square + self.spec.norm_eps).sqrt();
            out.extend(row.iter().zip(&weight).map(|(x, w)| self.numerics.rounding.apply(x * scale * w)));
        }
        out
    }

    /// Every row of `x` times every row of the weight: `[token][columns]` to `[token][rows]`.
    fn product(&self, tensor: Tensor, layer: u32, x: &[f64]) -> Vec<f64> {
        let (rows, columns) = tensor.shape(self.spec);
        let (rows, columns) = (rows as usize, columns as usize);
        let mut x = x.to_vec();
        let Numerics { inputs, head_inputs, .. } = self.numerics;
        if let Some(dtype) = if tensor == Tensor::Head { head_inputs } else { inputs } {
            x.chunks_exact_mut(columns).for_each(|token| quantise(dtype, token));
        }
        let mut weights = vec![0.0; columns];
        let mut out = vec![0.0; x.len() / columns * rows];
        for row in 0..rows {
            self.rows.row(tensor, layer, row as u32, &mut weights);
            for (token, x) in x.chunks_exact(columns).enumerate() {
                out[token * rows + row] = dot(&weights, x);
            }
        }
        out
    }

    fn add(&self, tensor: Tensor, layer: u32, x: &[f64], residual: &[f64]) -> Vec<f64> {
        // What goes in was rounded by the stage before; a device that keeps it in f32 rounds it here.
        let mut x = x.to_vec();
        self.round(&mut x);
        let mut out = self.product(tensor, layer, &x);
        for (out, residual) in out.iter_mut().zip(residual) {
            *out += residual;
        }
        out
    }
}

/// Eight sums side by side: one chain of additions would be several times slower.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
