//! Where weights come from: seeded random normals, or a checkpoint.

pub use crate::model::Tensor;

/// Gives weights row by row, to many threads at once.
pub trait WeightSource: Sync {
    /// Writes one row as bf16 bits. Norms are one row; `layer` is 0 for tensors outside the layers.
    /// A layer beyond the source's last gives distinct values of the same kind (copies of the model).
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]);

    /// The distribution of a tensor's elements, where any values of it will do: a device may then make them itself
    /// instead of asking for rows. `None` where the values matter.
    fn distribution(&self, tensor: Tensor, layer: u32, columns: u32) -> Option<Distribution> {
        let _ = (tensor, layer, columns);
        None
    }
}

/// Independent normals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// Seed of the weights.
    pub seed: u64,
    /// Number of the tensor's own stream of random numbers.
    pub stream: u64,
    /// Mean.
    pub mean: f32,
    /// Standard deviation.
    pub deviation: f32,
}

/// bf16 bits of `value`, rounded to nearest even. NaN stays NaN.
#[inline]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of these bf16 bits; exact.
#[inline]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Weights drawn from normal distributions: the same seed gives the same weights, whoever asks in which order.
///
/// Matrices have standard deviation 1/sqrt(columns), so that activations keep their size; the embedding 1; norms lie
/// around 1 by 0.1. Values are bf16 quantiles of the distribution, picked by 16 random bits each; none is zero.
#[derive(Debug, Clone)]
pub struct RandomWeights {
    seed: u64,
    /// Standard normal quantiles at (i + 0.5) / 65536.
    quantiles: Vec<f32>,
    /// The quantiles as bf16, scaled for rows of this many columns (1 for the embedding).
    tables: Vec<(usize, Vec<u16>)>,
}

impl RandomWeights {
    /// Weights of this seed for `model`.
    pub fn new(seed: u64, model: &crate::model::ModelSpec) -> Self {
        let quantiles: Vec<f32> =
            (0..1 << 16).map(|i| normal_quantile((f64::from(i) + 0.5) / 65536.0) as f32).collect();
        RandomWeights { seed, quantiles, tables: Vec::new() }.and_of(model)
    }

    /// The same weights, for this model as well: rows of its widths are as quick to make.
    #[must_use]
    pub fn and_of(mut self, model: &crate::model::ModelSpec) -> Self {
        for columns in [1, model.hidden, model.q_width(), model.ffn] {
            let columns = columns as usize;
            if self.tables.iter().all(|(of, _)| *of != columns) {
                self.tables.push((columns, scaled(&self.quantiles, columns)));
            }
        }
        self
    }

    /// Fills `out` with standard normals, bf16, from the stream of this number.
    pub fn normals(&self, stream: u64, out: &mut [u16]) {
        fill(mix(self.seed ^ mix(stream)), &self.tables[0].1, out);
    }
}

impl WeightSource for RandomWeights {
    fn distribution(&self, tensor: Tensor, layer: u32, columns: u32) -> Option<Distribution> {
        let (mean, deviation) = match tensor {
            Tensor::AttentionNorm | Tensor::FfnNorm | Tensor::FinalNorm => (1.0, 0.1),
            Tensor::Embedding => (0.0, 1.0),
            _ => (0.0, 1.0 / (columns as f32).sqrt()),
        };
        let stream = (tensor as u64) << 56 ^ u64::from(layer) << 32;
        Some(Distribution { seed: self.seed, stream, mean, deviation })
    }

    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let state = mix(self.seed ^ mix((tensor as u64) << 56 ^ u64::from(layer) << 32 ^ u64::from(row)));
        match tensor {
            Tensor::AttentionNorm | Tensor::FfnNorm | Tensor::FinalNorm => {
                let mut random = state;
                for value in out {
                    random = mix(random);
                    *value = to_bf16(1.0 + 0.1 * self.quantiles[random as usize >> 16 & 0xffff]);
                }
            }
            _ => {
                let columns = if tensor == Tensor::Embedding { 1 } else { out.len() };
                match self.tables.iter().find(|(of, _)| *of == columns) {
                    Some((_, table)) => fill(state, table, out),
                    None => fill(state, &scaled(&self.quantiles, columns), out),
                }
            }
        }
    }
}

/// What the first of several ranks holds of a model's weights. A rank's heads, its part of the feed-forward layer and of
/// the vocabulary are the first rows of their matrices; out_proj and down are cut along their columns.
pub struct FirstShard<'a> {
    /// The weights of the whole model.
    pub of: &'a dyn WeightSource,
    /// The whole model.
    pub model: &'a crate::model::ModelSpec,
}

impl WeightSource for FirstShard<'_> {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let columns = tensor.shape(self.model).1 as usize;
        if out.len() == columns {
            return self.of.row(tensor, layer, row, out);
        }
        let mut whole = vec![0; columns];
        self.of.row(tensor, layer, row, &mut whole);
        for (out, &value) in out.iter_mut().zip(&whole) {
            *out = value;
        }
    }
}

/// The quantiles with standard deviation 1/sqrt(columns), as bf16.
fn scaled(quantiles: &[f32], columns: usize) -> Vec<u16> {
    let scale = 1.0 / (columns as f32).sqrt();
    quantiles.iter().map(|q| to_bf16(q * scale)).collect()
}

/// The finaliser of splitmix64: a bijection whose outputs look random.
#[inline(always)]
pub(super) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Picks from a table of 65,536 by 16 bits of a random stream for each value.
fn fill(state: u64, table: &[u16], out: &mut [u16]) {
    let pick = |random: u64, i: usize| table[(random >> (16 * i)) as usize & 0xffff];
    let mut counter = state;
    let mut next = || {
        counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(counter)
    };
    let mut fours = out.chunks_exact_mut(4);
    for four in &mut fours {
        let random = next();
        for (i, value) in four.iter_mut().enumerate() {
            *value = pick(random, i);
        }
    }
    let random = next();
    for (i, value) in fours.into_remainder().iter_mut().enumerate() {
        *value = pick(random, i);
    }
}

/// Inverse of the standard normal distribution function, to about 1e-9 (Acklam's rational approximation).
fn normal_quantile(p: f64) -> f64 {
    let poly = |x: f64, c: &[f64]| c.iter().fold(0.0, |sum, c| sum * x + c);
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    const TAIL: f64 = 0.02425;
    if p < TAIL {
        let q = (-2.0 * p.ln()).sqrt();
        poly(q, &C) / poly(q, &D)
    } else if p > 1.0 - TAIL {
        -normal_quantile(1.0 - p)
    } else {
        let q = p - 0.5;
        poly(q * q, &A) * q / poly(q * q, &B)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.01, -2.326_347_874), (0.8413447461, 1.0)] {
            assert!((normal_quantile(p) - z).abs() < 1e-8, "{p}");
        }
    }

    #[test]
    fn rows_have_their_own_values_of_the_right_size() {
        let model = crate::model::ModelSpec {
            name: "x".into(),
            hidden: 4096,
            ffn: 64,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 64,
            vocab: 64,
            tied_embeddings: true,
            rope_theta: 1e4,
            rope_scaling: None,
            norm_eps: 1e-5,
            max_position: 64,
            source: String::new(),
        };
        let random = RandomWeights::new(3, &model);
        let row = |tensor, layer, row| {
            let mut out = vec![0; 4096];
            random.row(tensor, layer, row, &mut out);
            out.into_iter().map(from_bf16).collect::<Vec<f32>>()
        };
        let q = row(Tensor::Q, 0, 0);
        assert_eq!(q, row(Tensor::Q, 0, 0));
        for other in [row(Tensor::K, 0, 0), row(Tensor::Q, 1, 0), row(Tensor::Q, 0, 1)] {
            assert!(q.iter().zip(&other).filter(|(a, b)| a == b).count() < 40);
        }
        assert!(q.iter().all(|v| *v != 0.0));
        let deviation = (q.iter().map(|v| v * v).sum::<f32>() / 4096.0).sqrt() * 64.0;
        assert!((deviation - 1.0).abs() < 0.05, "{deviation}");
        let norm = row(Tensor::FinalNorm, 0, 0);
        assert!((norm.iter().sum::<f32>() / 4096.0 - 1.0).abs() < 0.01);
    }
}
