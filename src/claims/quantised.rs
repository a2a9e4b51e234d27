//! What fewer bits per weight gain in decode, by the bytes and as measured.

use super::{About, CONTEXT, Case, Claim, Claimed, Figure, Quantity};
use crate::model::precision::GROUP;
use crate::model::{DType, Precision};
use crate::predict::arithmetic::Grouped;
use crate::units::Bytes;

/// int4 with a scale for every 32 weights, as in GGUF's Q4_0.
const FINE: Grouped = Grouped { weight: 4.0, group: 32.0, adds: 16.0, head: false };

/// Weights that a step reads with the layers, and the head, in these types.
pub(super) fn streamed(case: &Case, weights: DType, head: DType) -> Bytes {
    case.model.streamed_bytes(Precision { weights, head, ..Precision::BF16 })
}

/// How many times as fast decode at batch 1 gets when a step reads these weights, by the bytes that it reads.
fn gain(case: &Case, what: String, weights: Bytes, context: u32, claimed: Option<Claimed>) -> Figure {
    let cache = case.kv(context);
    let ratio = (case.streamed() + cache).0 / (weights + cache).0;
    Figure::of(what, Quantity::Times).predicted(ratio, claimed)
}

/// The same with what was measured of weights of this name.
pub(super) fn measured_gain(
    case: &Case,
    what: String,
    dtype: DType,
    weights: Bytes,
    claimed: Option<Claimed>,
) -> Figure {
    // What the weights save is saved of the whole step, whatever else it reads.
    let saved = case.streamed() - weights;
    gain(case, what, weights, CONTEXT, claimed)
        .measured(case, About::Any, |machine| machine.faster_with(dtype, |base| Some(base.bytes - saved.0)))
}

pub(super) fn int4(case: &Case) -> Claim {
    let four = Some(Claimed::is(4.0));
    let bare = DType::Bf16.bytes() / DType::Int4.bytes();
    let mut figures = vec![
        Figure::of("bits alone: no scales, no cache", Quantity::Times).predicted(bare, None).unmeasured(case),
    ];
    let long = case.model.max_position.min(8192);
    let (all, head_kept) =
        (streamed(case, DType::Int4, DType::Int4), streamed(case, DType::Int4, DType::Bf16));
    for (what, weights, contexts) in [
        ("the head in int4 too", all, &[CONTEXT][..]),
        ("the head in bf16", head_kept, &[CONTEXT, 0, long]),
        ("the head in bf16, a scale per 32 weights", FINE.streamed(case.model), &[CONTEXT, 0]),
    ] {
        for &context in contexts {
            let what = format!("{what}, context {context}");
            figures.push(match context {
                CONTEXT => measured_gain(case, what, DType::Int4, weights, four),
                _ => gain(case, what, weights, context, four).unmeasured(case),
            });
        }
    }
    let whole = case.model.streamed_bytes(Precision::BF16);
    case.claim(
        "int4 weights make decode four times as fast",
        figures,
        format!(
            "{} of bf16 weights over those of 4 bits and a bf16 scale per {GROUP} of them, norms in bf16, each with the \
             KV cache. Published, not measured here: 1.88x (gpt-fast), 3.36x (calm).",
            whole.human()
        ),
    )
}
