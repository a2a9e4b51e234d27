//! Causal attention over cached keys and values, query heads sharing KV heads in groups.

use super::{Numerics, Rounding};
use crate::model::ModelSpec;

/// How one token's row of the qkv stage is laid out: rotated q, rotated k, v.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qkv {
    /// Elements of all query heads.
    pub q: usize,
    /// Elements of all key heads, and of all value heads.
    pub kv: usize,
}

impl Qkv {
    /// The layout of a model.
    pub fn of(spec: &ModelSpec) -> Self {
        Qkv { q: spec.q_width() as usize, kv: spec.kv_width() as usize }
    }

    /// Elements of one row.
    pub fn width(self) -> usize {
        self.q + 2 * self.kv
    }
}

/// Keys and values of one sequence in one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cache {
    /// `[position][kv_heads x head_dim]`
    keys: Vec<Vec<f64>>,
    /// `[position][kv_heads x head_dim]`
    values: Vec<Vec<f64>>,
}

impl Cache {
    /// Positions held.
    pub fn positions(&self) -> usize {
        self.keys.len()
    }
}

/// Appends the keys and values of each token of one sequence and attends to all positions up to its own.
/// `[token][q + 2 kv]` to `[token][heads x head_dim]`.
pub(super) fn attend(spec: &ModelSpec, numerics: Numerics, qkv: &[f64], cache: &mut Cache) -> Vec<f64> {
    let rounding = numerics.rounding;
    // Codes are multiplied as they are, and their scale comes after.
    let of_cache = if numerics.kv.is_some() { Rounding::None } else { rounding };
    let (layout, width) = (Qkv::of(spec), spec.head_dim as usize);
    let scale = 1.0 / f64::from(spec.head_dim).sqrt();
    let rounded =
        |rounding: Rounding, row: &[f64]| row.iter().map(|&x| rounding.apply(x)).collect::<Vec<_>>();
    let mut out = Vec::new();
    for row in qkv.chunks_exact(layout.width()) {
        let (q, kv) = row.split_at(layout.q);
        let (k, v) = kv.split_at(layout.kv);
        cache.keys.push(rounded(of_cache, k));
        cache.values.push(rounded(of_cache, v));
        for (head, q) in rounded(rounding, q).chunks_exact(width).enumerate() {
            let shared = (head / spec.group() as usize) * width;
            let scores: Vec<f64> = cache
                .keys
                .iter()
                .map(|k| scale * q.iter().zip(&k[shared..]).map(|(a, b)| a * b).sum::<f64>())
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            let mut mixed = vec![0.0; width];
            for (score, v) in scores.iter().zip(&cache.values) {
                let weight = (score - most).exp();
                sum += weight;
                let weight = rounding.apply(weight);
                for (mixed, v) in mixed.iter_mut().zip(&v[shared..]) {
                    *mixed += weight * v;
                }
            }
            out.extend(mixed.iter().map(|x| rounding.apply(x / sum)));
        }
    }
    out
}
