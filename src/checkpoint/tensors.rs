//! The names Hugging Face gives a Llama's tensors, and the check that each has the shape it must have.

use super::files::{File, Located};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Tensor};

/// The tensor's name in the file. A tied head is the embedding.
fn name(spec: &ModelSpec, tensor: Tensor, layer: u32) -> String {
    let inside = |what: &str| format!("model.layers.{layer}.{what}.weight");
    match tensor {
        Tensor::Embedding => "model.embed_tokens.weight".into(),
        Tensor::AttentionNorm => inside("input_layernorm"),
        Tensor::Q => inside("self_attn.q_proj"),
        Tensor::K => inside("self_attn.k_proj"),
        Tensor::V => inside("self_attn.v_proj"),
        Tensor::O => inside("self_attn.o_proj"),
        Tensor::FfnNorm => inside("post_attention_layernorm"),
        Tensor::Gate => inside("mlp.gate_proj"),
        Tensor::Up => inside("mlp.up_proj"),
        Tensor::Down => inside("mlp.down_proj"),
        Tensor::FinalNorm => "model.norm.weight".into(),
        Tensor::Head if spec.tied_embeddings => "model.embed_tokens.weight".into(),
        Tensor::Head => "lm_head.weight".into(),
    }
}

/// Where the tensor lies in these files.
///
/// # Errors
/// It is not there, or not of the shape that `config.json` asks for.
pub(super) fn find(files: &[File], spec: &ModelSpec, tensor: Tensor, layer: u32) -> Result<Located> {
    let name = name(spec, tensor, layer);
    let Some((index, info)) =
        files.iter().enumerate().find_map(|(index, file)| Some((index, file.tensors.get(&name)?)))
    else {
        let searched = match files {
            [one] => one.path.display().to_string(),
            many => format!("{} shards", many.len()),
        };
        return Err(Failure::input(format!("{searched}: tensor {name} is missing"))
            .hint("config.json and the weights must be of the same Llama; download the folder again"));
    };
    let (rows, columns) = tensor.shape(spec);
    let shape: &[usize] =
        if tensor.is_norm() { &[columns as usize] } else { &[rows as usize, columns as usize] };
    if info.shape != shape {
        return Err(Failure::input(format!(
            "{}: tensor {name} has shape {:?}, config.json asks for {shape:?}",
            files[index].path.display(),
            info.shape
        ))
        .hint("config.json and the weights must be of the same model"));
    }
    Located::new(&files[index], index, &name, info, columns as usize)
}
