//! The four ways past the wall of one sequence's decode, each as the factor that it gains.

use super::quantised::{measured_gain, streamed};
use super::{About, CONTEXT, Case, Claim, Claimed, Figure, Found, Machine, Quantity};
use crate::model::DType;
use crate::predict::arithmetic::shortest;
use crate::roofline::Roofline;
use crate::units::Seconds;
use crate::workload::{Stage, Workload};

/// Tokens that one pass checks in speculative decoding, as an example.
const CHECKED: u32 = 8;
/// Cards of more bandwidth.
const CARDS: [&str; 3] = ["h100-sxm5", "h200-sxm", "b200"];

pub(super) fn passed(case: &Case) -> Claim {
    let more = Some(Claimed::more_than(1.0));
    let time = |batch: u32, roof: Roofline| shortest(&Workload::decode(case.model, batch, CONTEXT), roof).0;
    let one = time(1, case.roof);
    let mut figures = Vec::new();
    for batch in [8, 32] {
        figures.push(
            Figure::of(format!("batching: batch {batch}"), Quantity::Times)
                .predicted(f64::from(batch) * one.0 / time(batch, case.roof).0, more)
                .measured(case, About::Any, |machine| {
                    let time = machine.over_batch_1(batch)?;
                    Some(Found { value: f64::from(batch) / time.value, ..time })
                }),
        );
    }
    for dtype in [DType::Int8, DType::Int4] {
        let what = format!("quantization: {dtype}, the head too");
        figures.push(measured_gain(case, what, dtype, streamed(case, dtype, dtype), more));
    }
    let bandwidth = case.roof.bandwidth.0;
    for (card, roof) in CARDS.iter().filter_map(|name| case.other(name)) {
        if roof.bandwidth.0 > bandwidth {
            figures.push(
                Figure::of(format!("more bandwidth: {}", card.name), Quantity::Times)
                    .predicted(one.0 / time(1, roof).0, more)
                    .unmeasured(case),
            );
        }
    }
    let pass = checking(case).0 / one.0;
    // A run has no such pass; a step of as many sequences multiplies by the same weights.
    let stand_in = |machine: &Machine| {
        let time = machine.over_batch_1(CHECKED)?;
        let what = format!("by a step of batch {CHECKED}, which reads {CHECKED} caches");
        let remarks: Vec<String> = std::iter::once(what).chain(time.remark).collect();
        Some(Found { remark: Some(remarks.join(", ")), ..time })
    };
    figures.push(
        Figure::of(format!("speculation: {CHECKED} tokens in a pass, all accepted"), Quantity::Times)
            .predicted(f64::from(CHECKED) / pass, more)
            .measured(case, About::Any, |machine| {
                let time = stand_in(machine)?;
                Some(Found { value: f64::from(CHECKED) / time.value, ..time })
            }),
    );
    figures.push(
        Figure::of(format!("time of that pass over that of one token, T({CHECKED})/T(1)"), Quantity::Times)
            .predicted(pass, None)
            .measured(case, About::Nothing, stand_in),
    );
    case.claim(
        "Batching, quantization, more bandwidth and speculation each get past the wall of decode",
        figures,
        format!(
            "Tokens per second over those of one sequence with bf16 weights on {}, context {CONTEXT}. Speculation is at \
             its best: fewer accepted tokens gain less, by T(k)/T(1) at the break-even, and the draft takes its time.",
            case.card.title
        ),
    )
}

/// Shortest time of a pass of one sequence that checks several tokens: unlike a prefill it needs logits of all.
fn checking(case: &Case) -> Seconds {
    let pass = Workload {
        tokens: CHECKED,
        context: CONTEXT + CHECKED - 1,
        ..Workload::decode(case.model, 1, CONTEXT)
    };
    let rows = Workload::decode(case.model, CHECKED, CONTEXT);
    let costs =
        Stage::ALL.map(|stage| if stage == Stage::LmHead { rows.cost(stage) } else { pass.cost(stage) });
    case.roof.shortest_of_parts(costs.map(|cost| (cost.flops, cost.bytes()))).0
}
