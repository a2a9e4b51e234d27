//! Seconds of the request: its prefill, its decode, and how they share it.

use super::machine::found;
use super::{
    About, CONTEXT, COURSE_BANDWIDTH, Case, Claim, Claimed, Figure, Found, GENERATE, PROMPT, Quantity,
};
use crate::predict::arithmetic::{PREFILL_REACHED, shortest};
use crate::roofline::Roofline;
use crate::units::{BytesPerSec, percent};
use crate::workload::Workload;

/// Share of the datasheet's bandwidth at which a published engine decodes on an A100 (gpt-fast, Llama-2-7B: 1397 GB/s).
const DECODE_REACHED: f64 = 0.685;

pub(super) fn prefill(case: &Case) -> Claim {
    let claimed = Some(Claimed::about(0.05));
    let flops = Workload::prefill(case.model, 1, PROMPT).total().flops;
    let at = |share: f64| {
        Figure::of(format!("{:.0}% of the peak", share * 100.0), Quantity::Seconds)
            .predicted((flops / (case.roof.peak * share)).0, claimed)
    };
    let mut figures = vec![at(1.0).measured(case, About::Card, |machine| {
        let step = machine.prefill(PROMPT)?;
        let share = step.flops_per_second / step.roof_flops_per_second;
        Some(found(step, step.seconds.median, Some(format!("{} of its measured peak", percent(share)))))
    })];
    figures.extend(PREFILL_REACHED.iter().rev().map(|&share| at(share).unmeasured(case)));
    case.claim(
        "Prefill of 1000 tokens takes about 50 ms on an A100",
        figures,
        "Operations of the whole pass, attention and the head of the last token included, over that share of the dense \
         bf16 peak. Published engines reach 60 to 75% of it."
            .into(),
    )
}

/// Seconds of the decode of the request, and its share of the whole, with this much of the peak and of the bandwidth.
fn decode(case: &Case, bandwidth: f64, peak: f64) -> (f64, f64) {
    let roof = Roofline { bandwidth: BytesPerSec(bandwidth), peak: case.roof.peak * peak };
    let first = shortest(&Workload::prefill(case.model, 1, PROMPT), roof).0.0;
    let each = shortest(&Workload::decode(case.model, 1, CONTEXT), roof).0.0;
    // The prefill's pass puts out the first token.
    let rest = each * f64::from(GENERATE - 1);
    (rest, rest / (first + rest))
}

pub(super) fn request(case: &Case) -> Claim {
    let (time, share) = (Some(Claimed::is(0.8)), Some(Claimed::is(0.94)));
    let datasheet = case.roof.bandwidth.0;
    let mut figures = Vec::new();
    for (name, bandwidth, peak, is_best) in [
        ("at 2.0 TB/s".to_string(), COURSE_BANDWIDTH, 1.0, false),
        ("at the datasheet's roofs".into(), datasheet, 1.0, true),
        (
            format!(
                "at {:.1}% of the bandwidth, {:.0}% of the peak",
                DECODE_REACHED * 100.0,
                PREFILL_REACHED[1] * 100.0
            ),
            datasheet * DECODE_REACHED,
            PREFILL_REACHED[1],
            false,
        ),
    ] {
        let (seconds, part) = decode(case, bandwidth, peak);
        let measured = |of: fn(&crate::run::Request) -> f64| {
            move |machine: &super::Machine| {
                let request = machine.request(PROMPT, GENERATE).filter(|_| is_best)?;
                Some(Found { value: of(request), spread: 0.0, remark: None })
            }
        };
        figures.push(
            Figure::of(format!("decode {name}"), Quantity::Seconds).predicted(seconds, time).measured(
                case,
                About::Card,
                measured(|r| r.total_seconds * r.decode_share),
            ),
        );
        figures.push(
            Figure::of(format!("its share {name}"), Quantity::Share).predicted(part, share).measured(
                case,
                About::Card,
                measured(|r| r.decode_share),
            ),
        );
    }
    case.claim(
        "Decoding 100 tokens takes 800 ms, 94% of the request",
        figures,
        format!(
            "{} steps at context {CONTEXT} after a prefill of {PROMPT} tokens, which puts out the first one. The shares \
             of the roofs are published ones (gpt-fast on an A100, the better prefills), not measured here.",
            GENERATE - 1
        ),
    )
}
