//! The shape of a Llama: what presets and Hugging Face `config.json` files say, and what follows from it.

mod config;
pub mod precision;
mod shard;
mod tensor;

pub use precision::Precision;
pub use tensor::Tensor;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::units::Bytes;

/// Element type of weights, activations or the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// 8-bit floating point (e4m3).
    Fp8,
    /// 8-bit integer.
    Int8,
    /// 4-bit integer, two to a byte.
    Int4,
}

impl DType {
    /// Size of one element in bytes.
    pub fn bytes(self) -> f64 {
        match self {
            DType::F32 => 4.0,
            DType::F16 | DType::Bf16 => 2.0,
            DType::Fp8 | DType::Int8 => 1.0,
            DType::Int4 => 0.5,
        }
    }

    /// The lower-case name used in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::Fp8 => "fp8",
            DType::Int8 => "int8",
            DType::Int4 => "int4",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Llama-3's stretching of the rotary frequencies for contexts beyond the original training length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// Wavelengths longer than the original context are stretched by this.
    pub factor: f64,
    /// Wavelengths above `original_max_position / low_freq_factor` are stretched fully.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// Context length of the original training.
    pub original_max_position: u32,
}

/// The dimensions of a Llama-architecture model (RMSNorm, RoPE, GQA, SwiGLU, no biases).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name as given on the command line, or the folder's name for a config.json.
    pub name: String,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward layer.
    pub ffn: u32,
    /// Number of identical layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Number of rows of the embedding and of the head.
    pub vocab: u32,
    /// Whether the head shares the embedding's matrix.
    pub tied_embeddings: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama-3 frequency scaling, where the model has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Longest context the model was made for.
    pub max_position: u32,
    /// Where these figures come from.
    #[serde(default)]
    pub source: String,
}

impl ModelSpec {
    /// Reads a model preset (TOML).
    ///
    /// # Errors
    /// Names the line or the field that is wrong.
    pub fn from_toml(text: &str) -> Result<Self> {
        let spec: ModelSpec = toml::from_str(text).map_err(|e| {
            Failure::toml(text, &e)
                .hint("compare with `llmroof models llama-8b -o json` for the fields of a model")
        })?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks that the dimensions are those of a Llama that can be computed.
    ///
    /// # Errors
    /// Names the first field that cannot be right and what it may be.
    pub fn validate(&self) -> Result<()> {
        let limits = [
            ("hidden size", self.hidden, 1 << 20),
            ("ffn size", self.ffn, 1 << 22),
            ("number of layers", self.layers, 1 << 12),
            ("number of heads", self.heads, 1 << 12),
            ("number of kv heads", self.kv_heads, 1 << 12),
            ("head dimension", self.head_dim, 1 << 10),
            ("vocabulary size", self.vocab, 1 << 24),
            ("max_position_embeddings", self.max_position, 1 << 28),
        ];
        for (field, value, most) in limits {
            if value == 0 || value > most {
                return Err(
                    Failure::input(format!("{field} is {value}")).hint(format!("it must be 1 to {most}"))
                );
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Failure::input(format!(
                "{} query heads do not divide into {} kv heads",
                self.heads, self.kv_heads
            ))
            .hint("num_attention_heads must be a multiple of num_key_value_heads"));
        }
        for (field, value) in
            [("hidden size", self.hidden), ("ffn size", self.ffn), ("head dimension", self.head_dim)]
        {
            if value % 8 != 0 {
                return Err(Failure::input(format!("{field} {value} is not a multiple of 8"))
                    .hint("the kernels load 16 bytes at a time: widths must be multiples of 8"));
            }
        }
        let positive = |field: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(Failure::input(format!("{field} is {value}")).hint("it must be a positive number"))
            }
        };
        positive("rope_theta", self.rope_theta)?;
        positive("rms_norm_eps", self.norm_eps)?;
        if let Some(scaling) = &self.rope_scaling {
            positive("rope scaling factor", scaling.factor)?;
            positive("rope low_freq_factor", scaling.low_freq_factor)?;
            positive("rope high_freq_factor", scaling.high_freq_factor)?;
            if scaling.high_freq_factor <= scaling.low_freq_factor || scaling.original_max_position == 0 {
                return Err(Failure::input(
                    "rope scaling has high_freq_factor <= low_freq_factor, or no original context",
                )
                .hint("copy the rope fields from the model's published config.json"));
            }
        }
        Ok(())
    }

    /// Query heads that share one KV head.
    pub fn group(&self) -> u32 {
        self.heads / self.kv_heads
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Width of all key heads together (and of all value heads).
    pub fn kv_width(&self) -> u32 {
        self.kv_heads * self.head_dim
    }

    /// Matrix weights of one layer: q, k, v, o, gate, up, down.
    pub fn layer_matrix_parameters(&self) -> f64 {
        let [h, f, q, kv] = [self.hidden, self.ffn, self.q_width(), self.kv_width()].map(f64::from);
        h * (q + 2.0 * kv) + q * h + 3.0 * h * f
    }

    /// Matrix weights read in a decode step: all layers and the head. The embedding is a row look-up.
    pub fn streamed_matrix_parameters(&self) -> f64 {
        f64::from(self.layers) * self.layer_matrix_parameters() + self.head_parameters()
    }

    /// Weights of the head (or of the embedding: both are vocab x hidden).
    pub fn head_parameters(&self) -> f64 {
        f64::from(self.vocab) * f64::from(self.hidden)
    }

    /// Weights of the RMS norms: two a layer and the final one.
    pub fn norm_parameters(&self) -> f64 {
        (2.0 * f64::from(self.layers) + 1.0) * f64::from(self.hidden)
    }

    /// All parameters; a tied embedding counts once.
    pub fn parameters(&self) -> f64 {
        let tables = if self.tied_embeddings { 0.0 } else { self.head_parameters() };
        self.streamed_matrix_parameters() + tables + self.norm_parameters()
    }

    /// What the model occupies in memory.
    pub fn resident_bytes(&self, precision: Precision) -> Bytes {
        // A head of the embedding's type shares its memory where the model ties them.
        let shared = self.tied_embeddings && precision.head == precision.head.beside();
        let tables = if shared { 0.0 } else { self.head_parameters() * precision.head.beside().bytes() };
        self.streamed_bytes(precision) + Bytes(tables)
    }

    /// Weights read from memory in one decode step, with their scales.
    pub fn streamed_bytes(&self, precision: Precision) -> Bytes {
        let bytes = |tensor: &Tensor, dtype: DType| {
            let (rows, columns) = tensor.shape(self);
            dtype.matrix_bytes(rows, columns)
        };
        let layer: f64 = Tensor::OF_LAYER.iter().map(|tensor| bytes(tensor, precision.weights)).sum();
        let norms = self.norm_parameters() * precision.weights.beside().bytes();
        Bytes(f64::from(self.layers) * layer + bytes(&Tensor::Head, precision.head) + norms)
    }

    /// Key/value cache of one position, all layers, with its scales.
    pub fn kv_bytes_per_token(&self, kv: DType) -> Bytes {
        Bytes(f64::from(self.layers) * self.kv_bytes_per_layer(kv))
    }

    /// Key/value cache of one position in one layer, with its scales.
    pub fn kv_bytes_per_layer(&self, kv: DType) -> f64 {
        let scales =
            if kv.is_quantised() { f64::from(self.kv_heads) * precision::ROW_SCALE_BYTES } else { 0.0 };
        2.0 * (f64::from(self.kv_width()) * kv.bytes() + scales)
    }
}
