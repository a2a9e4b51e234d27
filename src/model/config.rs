//! Hugging Face `config.json`, in both spellings of the rotary fields.

use serde::Deserialize;

use super::{ModelSpec, RopeScaling};
use crate::error::{Failure, Result};

/// The fields that matter; everything else in the file is ignored.
#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    vocab_size: u32,
    #[serde(default)]
    tie_word_embeddings: bool,
    rms_norm_eps: Option<f64>,
    max_position_embeddings: Option<u32>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    /// Until transformers 4: the base at the top level, the scaling beside it.
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    /// Since transformers 5: both in one object.
    rope_parameters: Option<RopeFields>,
}

#[derive(Deserialize)]
struct RopeFields {
    rope_theta: Option<f64>,
    /// Older files say `type`.
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u32>,
}

impl RopeFields {
    fn scaling(&self) -> Result<Option<RopeScaling>> {
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(None),
            Some("llama3") => {
                let need = |field: &str| {
                    Failure::input(format!("llama3 rope scaling lacks {field}"))
                        .hint("copy the rope fields from the model's published config.json")
                };
                Ok(Some(RopeScaling {
                    factor: self.factor.ok_or_else(|| need("factor"))?,
                    low_freq_factor: self.low_freq_factor.ok_or_else(|| need("low_freq_factor"))?,
                    high_freq_factor: self.high_freq_factor.ok_or_else(|| need("high_freq_factor"))?,
                    original_max_position: self
                        .original_max_position_embeddings
                        .ok_or_else(|| need("original_max_position_embeddings"))?,
                }))
            }
            Some(other) => Err(Failure::input(format!("rope_type \"{other}\" is not supported"))
                .hint("supported are \"default\" and \"llama3\"")),
        }
    }
}

impl ModelSpec {
    /// Reads a Hugging Face `config.json` of a Llama.
    ///
    /// # Errors
    /// Text that is no such file, another architecture, or dimensions that cannot be; the line or field is named.
    pub fn from_config_json(text: &str, name: &str) -> Result<Self> {
        let config: Config = serde_json::from_str(text).map_err(|e| {
            Failure::input(format!("not a Llama config.json: {e}"))
                .hint("give the config.json of a Hugging Face Llama checkpoint")
        })?;
        let unsupported = |what: String| {
            Err(Failure::input(what)
                .hint("llmroof runs the Llama architecture: RMSNorm, RoPE, SwiGLU, no biases"))
        };
        match config.model_type.as_deref() {
            None | Some("llama") => {}
            Some(other) => return unsupported(format!("model_type \"{other}\" is not llama")),
        }
        if config.attention_bias || config.mlp_bias {
            return unsupported("the model has biases".into());
        }
        if let Some(act) = config.hidden_act.as_deref().filter(|act| *act != "silu") {
            return unsupported(format!("hidden_act \"{act}\" is not silu"));
        }
        let heads = config.num_attention_heads;
        let head_dim = match config.head_dim {
            Some(width) => width,
            None if heads > 0 && config.hidden_size.is_multiple_of(heads) => config.hidden_size / heads,
            None => {
                return Err(Failure::input(format!(
                    "{} heads do not divide hidden_size {}",
                    heads, config.hidden_size
                ))
                .hint("give head_dim in config.json"));
            }
        };
        let rope = config.rope_parameters.as_ref().or(config.rope_scaling.as_ref());
        let theta = config.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).or(config.rope_theta);
        let spec = ModelSpec {
            name: name.to_string(),
            hidden: config.hidden_size,
            ffn: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads,
            kv_heads: config.num_key_value_heads.unwrap_or(heads),
            head_dim,
            vocab: config.vocab_size,
            tied_embeddings: config.tie_word_embeddings,
            // transformers' defaults for fields that early files leave out.
            rope_theta: theta.unwrap_or(10_000.0),
            rope_scaling: rope.map(RopeFields::scaling).transpose()?.flatten(),
            norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
            max_position: config.max_position_embeddings.unwrap_or(2048),
            source: "config.json".into(),
        };
        spec.validate()?;
        Ok(spec)
    }
}
