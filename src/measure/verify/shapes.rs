//! The small models of the check: odd sizes, every head width and grouping, contexts across block borders.

use crate::model::{DType, ModelSpec, Precision, RopeScaling};

/// A model and what is fed to it.
pub(super) struct Shape {
    hidden: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    vocab: u32,
    tied: bool,
    stretched: bool,
    /// Sequences.
    pub batch: u32,
    /// New tokens per sequence of each pass, one pass after the other.
    pub passes: &'static [u32],
    /// New tokens of the last sequence in the mixed steps that follow; of the others one each.
    pub mixed: &'static [u32],
}

/// Layers of each model: two, so that a mix-up of layers shows.
pub(super) const LAYERS: u32 = 2;

/// The first two are the short check. They cover both common head widths, groups of three and four, a single
/// sequence and several, a prompt and steps, a context that crosses position 64, and passes of up to 8, of up to 64 and
/// of more token rows, which a GPU has different kernels for.
#[rustfmt::skip]
const SHAPES: [Shape; 14] = [
    shape(136,  264,  6, 2,  64, 333, false, true,   1, &[62, 1, 1, 1], &[]),
    shape(256,  392,  4, 1, 128, 331, true,  false,  5, &[14, 1, 1], &[20, 3]),
    shape(264,  712,  4, 4,  64, 333, false, false,  1, &[1, 1, 1], &[]),
    shape(272,  520,  3, 1,  80, 257, false, true,   2, &[5, 1], &[]),
    shape(248,  328,  4, 4,  96, 509, true,  true,   3, &[31, 1, 1], &[1, 70]),
    shape(264,  520, 12, 3,  64, 333, false, false,  8, &[12, 1, 1], &[]),
    shape(392,  776,  8, 2,  64, 641, false, true,   1, &[64, 1, 1], &[]),
    shape(136,  264,  3, 3, 128,  97, false, false,  2, &[65, 1], &[30, 5]),
    shape(200,  344,  4, 1,  80, 333, true,  false, 13, &[2, 1, 1], &[128]),
    shape(264,  520,  6, 2,  96, 333, false, true,   1, &[127, 1, 1, 1], &[]),
    shape(520, 1032,  4, 1, 128, 333, false, true,   1, &[100, 1], &[]),
    // A prompt in pieces: more than one new token after what the cache holds.
    shape(264,  520,  6, 2,  64, 333, false, true,   2, &[40, 30, 1, 7], &[66, 9]),
    // Smallest of everything.
    shape(8,      8,  1, 1,   8,   1, true,  false,  1, &[1, 2], &[]),
    shape(264,  520,  6, 2,  64, 333, false, true,  16, &[1, 1], &[]),
];

#[allow(clippy::too_many_arguments)]
const fn shape(
    hidden: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    vocab: u32,
    tied: bool,
    stretched: bool,
    batch: u32,
    passes: &'static [u32],
    mixed: &'static [u32],
) -> Shape {
    Shape { hidden, ffn, heads, kv_heads, head_dim, vocab, tied, stretched, batch, passes, mixed }
}

/// The same for int4, whose widths are whole groups.
#[rustfmt::skip]
const GROUPED: [Shape; 6] = [
    shape(128,  256,  2, 1,  64, 333, false, true,   1, &[62, 1, 1, 1], &[]),
    shape(256,  384,  2, 1, 128, 331, true,  false,  5, &[14, 1, 1], &[20, 3]),
    shape(384,  512,  6, 2,  64, 641, false, true,  13, &[2, 1, 1], &[128]),
    shape(256,  640,  4, 4,  64,  97, false, false,  2, &[65, 1], &[30, 5]),
    shape(512, 1152,  4, 1, 128, 333, false, true,   1, &[100, 1], &[]),
    shape(256,  384,  4, 2,  64, 333, false, true,   2, &[40, 30, 1, 7], &[66, 9]),
];

/// The shapes of the short or the full check in these types.
pub(super) fn shapes(full: bool, precision: Precision) -> &'static [Shape] {
    let all = match [precision.weights, precision.head].contains(&DType::Int4) {
        true => &GROUPED[..],
        false => &SHAPES[..],
    };
    if full { all } else { &all[..2] }
}

impl Shape {
    /// Token rows of the largest pass.
    pub fn rows(&self) -> u32 {
        let most = |of: &[u32]| of.iter().copied().max();
        let mixed = most(self.mixed).map(|riding| self.batch - 1 + riding);
        most(self.passes).map(|tokens| self.batch * tokens).max(mixed).unwrap_or_default()
    }

    /// Positions of the longest sequence after all passes.
    pub fn positions(&self) -> u32 {
        self.passes.iter().chain(self.mixed).sum()
    }

    /// New tokens of each sequence, pass by pass; at the end those of mixed steps, if wanted.
    pub fn feeds(&self, mixed_too: bool) -> Vec<Vec<u32>> {
        let batch = self.batch as usize;
        let even = self.passes.iter().map(move |&tokens| vec![tokens; batch]);
        let mixed = self.mixed.iter().map(move |&riding| [vec![1; batch - 1], vec![riding]].concat());
        even.chain(mixed.filter(|_| mixed_too)).collect()
    }

    /// The model. Its epsilon is large, a tenth of the mean square of the residual: with a usual one a kernel
    /// that ignores it would not be found out.
    pub fn spec(&self) -> ModelSpec {
        ModelSpec {
            name: format!(
                "{}x{}, {}/{} heads of {}",
                self.hidden, self.ffn, self.heads, self.kv_heads, self.head_dim
            ),
            hidden: self.hidden,
            ffn: self.ffn,
            layers: LAYERS,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab: self.vocab,
            tied_embeddings: self.tied,
            rope_theta: if self.stretched { 500_000.0 } else { 10_000.0 },
            rope_scaling: self.stretched.then_some(RopeScaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position: 64,
            }),
            norm_eps: 0.1,
            max_position: 1024,
            source: "random".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_shapes_fit_every_type() {
        for dtype in [DType::Bf16, DType::Int8, DType::Int4, DType::Fp8] {
            let precision = Precision { weights: dtype, head: dtype, ..Precision::BF16 };
            for full in [false, true] {
                assert!(shapes(full, precision).iter().all(|shape| precision.check(&shape.spec()).is_ok()));
            }
        }
    }

    #[test]
    fn every_shape_is_a_model() {
        for shape in SHAPES.iter().chain(&GROUPED) {
            shape.spec().validate().unwrap();
        }
    }
}
