//! Options that say which element types a model runs with.

use clap::{Args, ValueEnum};

use crate::sweep::Sweep;

/// Precision of what goes into matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActivationsArg {
    /// bfloat16
    Bf16,
    /// float32, with bf16 weights and an f32 cache
    F32,
    /// Eight-bit integers, quantised per token as they come, in products with quantised weights
    Int8,
}

/// Type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// bfloat16
    Bf16,
    /// Eight-bit integers, one scale for each output channel
    Int8,
    /// Four-bit integers, one scale for each 128 weights
    Int4,
    /// Eight-bit floats (e4m3), one scale for each output channel: GPUs that have them
    Fp8,
}

/// Type of the head's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadArg {
    /// As the layers
    Same,
    /// bfloat16
    Bf16,
}

/// Type of the key/value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// bfloat16
    Bf16,
    /// Eight-bit integers, one scale for each head of each position
    Int8,
    /// Eight-bit floats (e4m3), one scale for each head of each position: GPUs that have them
    Fp8,
}

/// Types of weights, activations and cache, and the cache's layout.
#[derive(Debug, Clone, Args)]
pub struct PrecisionArgs {
    /// Types of the weights, as bf16,int8,int4: each runs all of the work
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "bf16",
        value_name = "TYPES",
        env = "LLMROOF_WEIGHTS"
    )]
    pub weights: Vec<WeightsArg>,
    /// Type of the head's weights
    #[arg(long, value_enum, default_value_t = HeadArg::Same, value_name = "TYPE", env = "LLMROOF_HEAD")]
    pub head: HeadArg,
    /// What goes into products with weights [default: bf16; verify: f32 and bf16]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub activations: Option<ActivationsArg>,
    /// Type of the key/value cache [default: that of the activations, bf16 with int8]
    #[arg(long, value_enum, value_name = "TYPE", env = "LLMROOF_KV")]
    pub kv: Option<KvArg>,
    /// Also run with the key/value cache in pages of so many positions, as 16 or 16,64, beside the contiguous one
    #[arg(long, value_name = "SWEEP", env = "LLMROOF_KV_PAGE")]
    pub kv_page: Option<Sweep>,
}
