//! `llmroof models`.

use super::output::Destination;
use crate::cli::CatalogArgs;
use crate::error::{Failure, Result};
use crate::export::{self, Cell, Column, Listing};
use crate::model::{DType, ModelSpec, Precision};
use crate::profiles::Catalog;
use crate::units::{Bytes, Flops, figures};
use crate::workload::Workload;

/// Runs `llmroof models`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(args: &CatalogArgs) -> Result<()> {
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let destination = Destination::of(&args.output)?;
    let listing = match &args.name {
        Some(name) => one(&catalog.model(name)?)?,
        None => all(&catalog.models()),
    };
    destination.write(|format| export::render_listing(&listing, format))
}

fn count(value: u32) -> Cell {
    Cell::count(value.into(), value.to_string())
}

fn bytes(value: Bytes) -> Cell {
    Cell::number(value.0, value.human())
}

fn parameters(model: &ModelSpec) -> Cell {
    // Counted in f64, but whole and far below 2^53.
    let count = model.parameters();
    Cell::count(count as u64, format!("{}e9", figures(count * 1e-9)))
}

fn all(models: &[&ModelSpec]) -> Listing {
    let columns = [
        ("name", "model"),
        ("parameters", "params"),
        ("layers", "layers"),
        ("hidden", "hidden"),
        ("ffn", "ffn"),
        ("heads", "heads"),
        ("kv_heads", "kv"),
        ("vocab", "vocab"),
        ("resident_bytes", "resident"),
        ("streamed_bytes", "streamed"),
        ("kv_bytes_per_token", "KV/token"),
        ("max_position", "context"),
    ];
    Listing {
        title: "Models: bytes in bf16; streamed is read from memory in every decode step".into(),
        columns: columns.map(|(name, title)| Column { name, title }).to_vec(),
        rows: models
            .iter()
            .map(|m| {
                vec![
                    Cell::text(m.name.clone()),
                    parameters(m),
                    count(m.layers),
                    count(m.hidden),
                    count(m.ffn),
                    count(m.heads),
                    count(m.kv_heads),
                    count(m.vocab),
                    bytes(m.resident_bytes(Precision::BF16)),
                    bytes(m.streamed_bytes(Precision::BF16)),
                    bytes(m.kv_bytes_per_token(DType::Bf16)),
                    count(m.max_position),
                ]
            })
            .collect(),
        notes: vec!["any other Llama: give the path of its config.json as --model".into()],
        document: None,
    }
}

/// One model: its dimensions and what follows from them; in JSON the preset itself.
fn one(model: &ModelSpec) -> Result<Listing> {
    let token = Workload::decode(model, 1, 1);
    let mut facts: Vec<(&str, Cell)> = vec![
        ("hidden", count(model.hidden)),
        ("ffn", count(model.ffn)),
        ("layers", count(model.layers)),
        ("heads", count(model.heads)),
        ("kv_heads", count(model.kv_heads)),
        ("head_dim", count(model.head_dim)),
        ("vocab", count(model.vocab)),
        (
            "tied_embeddings",
            Cell { value: model.tied_embeddings.into(), shown: model.tied_embeddings.to_string() },
        ),
        ("max_position", count(model.max_position)),
        ("rope_theta", Cell::number(model.rope_theta, model.rope_theta.to_string())),
        ("norm_eps", Cell::number(model.norm_eps, model.norm_eps.to_string())),
    ];
    if let Some(rope) = &model.rope_scaling {
        facts.push(("rope_scaling_factor", Cell::number(rope.factor, rope.factor.to_string())));
    }
    facts.extend([
        ("parameters", Cell::count(model.parameters() as u64, model.parameters().to_string())),
        ("resident_bytes", bytes(model.resident_bytes(Precision::BF16))),
        ("streamed_bytes", bytes(model.streamed_bytes(Precision::BF16))),
        ("kv_bytes_per_token", bytes(model.kv_bytes_per_token(DType::Bf16))),
        ("flops_per_token", flops(token.total().flops)),
    ]);
    let document = serde_json::to_value(model)
        .map_err(|e| Failure::invalid(format!("{} cannot be written: {e}", model.name)))?;
    Ok(Listing {
        title: format!("{} ({})", model.name, model.source),
        columns: vec![Column { name: "figure", title: "figure" }, Column { name: "value", title: "value" }],
        rows: facts.into_iter().map(|(name, cell)| vec![Cell::text(name), cell]).collect(),
        notes: vec!["bytes in bf16; FLOPs of a decode step at batch 1 and context 1".into()],
        document: Some(document),
    })
}

fn flops(value: Flops) -> Cell {
    Cell::number(value.0, value.human())
}
