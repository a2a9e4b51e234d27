//! What fewer bits per weight gain in decode, by the bytes and as measured.

use super::{About, CONTEXT, Case, Claim, Claimed, Figure, Quantity};
use crate::model::DType;
use crate::predict::arithmetic::Grouped;
use crate::units::Bytes;

/// Weights that share a bf16 scale.
const GROUP: f64 = 128.0;
const BF16_BITS: f64 = 16.0;

/// int8 with the head left as it is.
pub(super) const INT8_HEAD_BF16: Grouped =
    Grouped { weight: 8.0, group: GROUP, adds: BF16_BITS, head: false };
/// int4 with the head left as it is.
pub(super) const INT4_HEAD_BF16: Grouped = Grouped { weight: 4.0, ..INT8_HEAD_BF16 };
/// int4 with the head in int4 as well.
const INT4_ALL: Grouped = Grouped { head: true, ..INT4_HEAD_BF16 };
/// int4 with a scale for every 32 weights, as in GGUF's Q4_0.
const INT4_FINE: Grouped = Grouped { group: 32.0, ..INT4_HEAD_BF16 };
/// What the claim counts: no scales.
const INT4_BARE: Grouped = Grouped { adds: 0.0, ..INT4_ALL };

/// How many times as fast decode at batch 1 gets with weights of this type and format, by the bytes that a step reads.
pub(super) fn gain(
    case: &Case,
    what: String,
    weights: &str,
    format: Grouped,
    context: u32,
    claimed: Option<Claimed>,
) -> Figure {
    let (before, after) = (case.streamed(), format.streamed(case.model));
    let cache: Bytes = case.kv(context);
    Figure::of(what, Quantity::Times).predicted((before + cache).0 / (after + cache).0, claimed).measured(
        case,
        About::Any,
        |machine| {
            // What the weights save is saved of the whole step, whatever else it reads.
            machine.faster_with(weights, |base| base.bytes - (before - after).0)
        },
    )
}

pub(super) fn int4(case: &Case) -> Claim {
    let four = Some(Claimed::is(4.0));
    let name = "int4";
    let bare = BF16_BITS / INT4_BARE.bits();
    let mut figures = vec![
        Figure::of("bits alone: no scales, no cache", Quantity::Times).predicted(bare, None).unmeasured(case),
    ];
    for (what, format) in [
        ("head in int4 too", INT4_ALL),
        ("head in bf16", INT4_HEAD_BF16),
        ("head in bf16, a scale per 32 weights", INT4_FINE),
    ] {
        let what = format!("{} bits, {what}", format.bits());
        figures.push(gain(case, what, name, format, 0, four));
    }
    let long = case.model.max_position.min(8192);
    for context in [CONTEXT, long] {
        let what = format!("{} bits, head in bf16, context {context}", INT4_HEAD_BF16.bits());
        let figure = gain(case, what, name, INT4_HEAD_BF16, context, four);
        // Measured is at the context of the run, which the figures above have.
        figures.push(figure.unmeasured(case));
    }
    let whole = case.model.streamed_bytes(DType::Bf16);
    case.claim(
        "int4 weights make decode four times as fast",
        figures,
        format!(
            "{} of bf16 weights over those of 4 bits and a bf16 scale per {GROUP} weights, norms in bf16, at context 0 \
             unless it says otherwise. Published, not measured here: 1.88x (gpt-fast), 3.36x (calm).",
            whole.human()
        ),
    )
}
