//! Ridge, arithmetic intensities, and the rate of operations that follows from them.

use super::machine::found;
use super::{About, CONTEXT, COURSE_BANDWIDTH, Case, Claim, Claimed, Figure, PROMPT, Quantity};
use crate::predict::arithmetic::{self, limit, q_projection, weight_flops};
use crate::run::Point;
use crate::units::{Bytes, percent};
use crate::workload::Workload;

/// The A100's bf16 peak that the course reckons with, in operations per second.
const COURSE_PEAK: f64 = 312e12;
/// Operations over the bytes that a counter saw; `None` where there is none, or it saw nothing. Without one the bytes
/// of a point are the ledger's, and its intensity is computed.
fn counted(step: &Point) -> Option<f64> {
    let bytes = step.witnessed_bytes.filter(|bytes| *bytes > 0.0)?;
    Some(step.flops / bytes)
}

/// Cards whose ridges are shown beside.
const CARDS: [&str; 5] = ["a100-sxm4-80gb", "a100-pcie-80gb", "a100-sxm4-40gb", "h100-sxm5", "h200-sxm"];

pub(super) fn ridge(case: &Case) -> Claim {
    let claimed = Some(Claimed::is(COURSE_PEAK / COURSE_BANDWIDTH));
    let (peak, own) = (case.roof.peak.0, case.roof.ridge().0);
    let mut figures = vec![
        Figure::of("its peak over 2.0 TB/s", Quantity::Intensity)
            .predicted(peak / COURSE_BANDWIDTH, claimed)
            .unmeasured(case),
        Figure::of(case.card.name.clone(), Quantity::Intensity).predicted(own, claimed).measured(
            case,
            About::Card,
            |machine| machine.ridge(),
        ),
    ];
    for (card, roof) in CARDS.iter().filter_map(|name| case.other(name)) {
        if card.name != case.card.name {
            // The claim is about the A100, of which there are several.
            let claimed = claimed.filter(|_| card.name.starts_with("a100"));
            figures.push(
                Figure::of(card.name.clone(), Quantity::Intensity)
                    .predicted(roof.ridge().0, claimed)
                    .unmeasured(case),
            );
        }
    }
    case.claim(
        "The roofline of an A100 has its ridge at 156 FLOP per byte",
        figures,
        "Ridge: dense bf16 peak / memory bandwidth. A measured ridge is the one of that machine's measured ceilings, \
         another device's own."
            .into(),
    )
}

pub(super) fn decode(case: &Case) -> Claim {
    let claimed = Some(Claimed::about(1.0));
    let (flops, bytes) = q_projection(case.model, 1);
    let mut figures = vec![
        Figure::of("the q projection at batch 1", Quantity::Intensity)
            .predicted((flops / bytes).0, claimed)
            .unmeasured(case),
    ];
    for batch in [1, 8, 32, 256] {
        let value = Workload::decode(case.model, batch, CONTEXT).total().intensity().0;
        figures.push(
            Figure::of(format!("a step of batch {batch}"), Quantity::Intensity)
                .predicted(value, claimed)
                .measured(case, About::Any, |machine| {
                    let step = machine.decode(batch)?;
                    Some(found(step, counted(step)?, Some("bytes counted by the device".into())))
                }),
        );
    }
    figures.push(
        Figure::of("ever larger batches", Quantity::Intensity)
            .predicted(limit(case.model, CONTEXT).0, None)
            .unmeasured(case),
    );
    case.claim(
        "Decode has an arithmetic intensity of about 1",
        figures,
        format!(
            "FLOP over compulsory bytes of weights, KV cache and activations, at context {CONTEXT}. The batch shares \
             the weights, each sequence has its own cache."
        ),
    )
}

pub(super) fn prefill(case: &Case) -> Claim {
    let claimed = Some(Claimed::about(1000.0));
    let (flops, bytes) = q_projection(case.model, PROMPT);
    let weights = Bytes(2.0 * f64::from(case.model.hidden) * f64::from(case.model.q_width()));
    let whole = Workload::prefill(case.model, 1, PROMPT).total();
    let figures =
        vec![
            Figure::of("the q projection, bytes of its weights alone", Quantity::Intensity)
                .predicted((flops / weights).0, claimed)
                .unmeasured(case),
            Figure::of("the q projection, activations too", Quantity::Intensity)
                .predicted((flops / bytes).0, claimed)
                .unmeasured(case),
            Figure::of("the whole pass", Quantity::Intensity)
                .predicted(whole.intensity().0, claimed)
                .measured(case, About::Any, |machine| {
                    let step = machine.prefill(PROMPT)?;
                    Some(found(step, counted(step)?, Some("bytes counted by the device".into())))
                }),
        ];
    case.claim(
        "Prefill of 1000 tokens has an arithmetic intensity of about 1000",
        figures,
        "An intensity needs its bytes named: the weights' alone give one FLOP per byte and token, but the pass also reads and writes \
         activations and the KV cache."
            .into(),
    )
}

pub(super) fn rate(case: &Case) -> Claim {
    let flops = weight_flops(case.model);
    let rate = arithmetic::ceiling(case.roof.bandwidth.0, case.streamed(), Bytes(0.0)) * flops;
    let work = Workload::decode(case.model, 1, CONTEXT).total();
    let step = |machine: &super::Machine| machine.decode(1).cloned();
    let figures = vec![
        Figure::of("FLOP for one token at context 0", Quantity::Flops)
            .predicted(flops, None)
            .unmeasured(case),
        Figure::of(format!("FLOP for one token at context {CONTEXT}"), Quantity::Flops)
            .predicted(work.flops.0, None)
            .unmeasured(case),
        Figure::of("rate of operations at the wall", Quantity::FlopsPerSec)
            .predicted(rate, Some(Claimed::is(16e9)))
            .measured(case, About::Card, |machine| {
                let step = step(machine)?;
                Some(found(&step, step.flops_per_second, None))
            }),
        Figure::of("its share of the peak", Quantity::Share)
            .predicted(rate / case.roof.peak.0, Some(Claimed::is(0.000_05)))
            .measured(case, About::Card, |machine| {
                let step = step(machine)?;
                let roofs = step.roof_flops_per_second / step.roof_bytes_per_second;
                let also = format!("intensity over its ridge is {}", percent(step.intensity / roofs));
                Some(found(&step, step.flops_per_second / step.roof_flops_per_second, Some(also)))
            }),
    ];
    case.claim(
        "In decode an A100 does 16 GFLOP/s, 0.005% of its 312 TFLOP/s",
        figures,
        "FLOP per token times tokens per second at the bandwidth's ceiling, batch 1, context 0: the share of the peak is \
         intensity / ridge. 16 GFLOP is what one token takes, whatever the time."
            .into(),
    )
}
