//! What fewer bits per weight gain in decode, by the bytes and as measured.

use super::{About, CONTEXT, Case, Claim, Claimed, Figure, Quantity};
use crate::model::DType;
use crate::predict::arithmetic::Grouped;

/// Weights that share a bf16 scale.
const GROUP: f64 = 128.0;
const BF16_BITS: f64 = 16.0;

/// int8, the head as well.
pub(super) const INT8_ALL: Grouped = Grouped { weight: 8.0, group: GROUP, adds: BF16_BITS, head: true };
/// int4, the head as well.
pub(super) const INT4_ALL: Grouped = Grouped { weight: 4.0, ..INT8_ALL };
/// int4 with the head left as it is.
const INT4_HEAD_BF16: Grouped = Grouped { head: false, ..INT4_ALL };
/// int4 with a scale for every 32 weights, as in GGUF's Q4_0.
const INT4_FINE: Grouped = Grouped { group: 32.0, ..INT4_HEAD_BF16 };
/// What the claim counts: no scales.
const INT4_BARE: Grouped = Grouped { adds: 0.0, ..INT4_ALL };

/// How many times as fast decode at batch 1 gets with weights of this format, by the bytes that a step reads.
fn gain(case: &Case, what: String, format: Grouped, context: u32, claimed: Option<Claimed>) -> Figure {
    let cache = case.kv(context);
    let ratio = (case.streamed() + cache).0 / (format.streamed(case.model) + cache).0;
    Figure::of(what, Quantity::Times).predicted(ratio, claimed)
}

/// The same with what was measured of weights of this name.
pub(super) fn measured_gain(
    case: &Case,
    what: String,
    weights: &str,
    format: Grouped,
    claimed: Option<Claimed>,
) -> Figure {
    // What the weights save is saved of the whole step, whatever else it reads.
    let saved = case.streamed() - format.streamed(case.model);
    gain(case, what, format, CONTEXT, claimed)
        .measured(case, About::Any, |machine| machine.faster_with(weights, |base| Some(base.bytes - saved.0)))
}

pub(super) fn int4(case: &Case) -> Claim {
    let four = Some(Claimed::is(4.0));
    let bare = BF16_BITS / INT4_BARE.bits();
    let mut figures = vec![
        Figure::of("bits alone: no scales, no cache", Quantity::Times).predicted(bare, None).unmeasured(case),
    ];
    let long = case.model.max_position.min(8192);
    for (head, format, contexts) in [
        ("head in int4 too", INT4_ALL, &[CONTEXT][..]),
        ("head in bf16", INT4_HEAD_BF16, &[CONTEXT, 0, long]),
        ("head in bf16, a scale per 32 weights", INT4_FINE, &[CONTEXT, 0]),
    ] {
        for &context in contexts {
            let what = format!("{} bits, {head}, context {context}", format.bits());
            figures.push(match context {
                CONTEXT => measured_gain(case, what, "int4", format, four),
                _ => gain(case, what, format, context, four).unmeasured(case),
            });
        }
    }
    let whole = case.model.streamed_bytes(DType::Bf16);
    case.claim(
        "int4 weights make decode four times as fast",
        figures,
        format!(
            "{} of bf16 weights over those of 4 bits and a bf16 scale per {GROUP} weights, norms in bf16, with \
             the KV cache. Published, not measured here: 1.88x (gpt-fast), 3.36x (calm).",
            whole.human()
        ),
    )
}
