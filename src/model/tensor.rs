//! The weight tensors of a Llama and their shapes.

use super::ModelSpec;

/// A weight tensor of a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tensor {
    /// `[vocab][hidden]`
    Embedding,
    /// `[hidden]`
    AttentionNorm,
    /// `[heads x head_dim][hidden]`
    Q,
    /// `[kv_heads x head_dim][hidden]`
    K,
    /// `[kv_heads x head_dim][hidden]`
    V,
    /// `[hidden][heads x head_dim]`
    O,
    /// `[hidden]`
    FfnNorm,
    /// `[ffn][hidden]`
    Gate,
    /// `[ffn][hidden]`
    Up,
    /// `[hidden][ffn]`
    Down,
    /// `[hidden]`
    FinalNorm,
    /// `[vocab][hidden]`
    Head,
}

impl Tensor {
    /// All tensors; those of a layer are [`Tensor::per_layer`].
    pub const ALL: [Tensor; 12] = [
        Tensor::Embedding,
        Tensor::AttentionNorm,
        Tensor::Q,
        Tensor::K,
        Tensor::V,
        Tensor::O,
        Tensor::FfnNorm,
        Tensor::Gate,
        Tensor::Up,
        Tensor::Down,
        Tensor::FinalNorm,
        Tensor::Head,
    ];

    /// The matrices of a layer.
    pub const OF_LAYER: [Tensor; 7] =
        [Tensor::Q, Tensor::K, Tensor::V, Tensor::O, Tensor::Gate, Tensor::Up, Tensor::Down];

    /// Whether every layer has one.
    pub fn per_layer(self) -> bool {
        !matches!(self, Tensor::Embedding | Tensor::FinalNorm | Tensor::Head)
    }

    /// Whether it is the weight of a norm: one row.
    pub fn is_norm(self) -> bool {
        matches!(self, Tensor::AttentionNorm | Tensor::FfnNorm | Tensor::FinalNorm)
    }

    /// Rows and columns; a norm is one row.
    pub fn shape(self, spec: &ModelSpec) -> (u32, u32) {
        match self {
            Tensor::Embedding | Tensor::Head => (spec.vocab, spec.hidden),
            Tensor::AttentionNorm | Tensor::FfnNorm | Tensor::FinalNorm => (1, spec.hidden),
            Tensor::Q => (spec.q_width(), spec.hidden),
            Tensor::K | Tensor::V => (spec.kv_width(), spec.hidden),
            Tensor::O => (spec.hidden, spec.q_width()),
            Tensor::Gate | Tensor::Up => (spec.ffn, spec.hidden),
            Tensor::Down => (spec.hidden, spec.ffn),
        }
    }
}
