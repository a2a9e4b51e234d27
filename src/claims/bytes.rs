//! What a token reads, and the rate that this allows.

use super::machine::found;
use super::{About, CONTEXT, COURSE_BANDWIDTH, Case, Claim, Claimed, Figure, GENERATE, PROMPT, Quantity};
use crate::model::{DType, Precision};
use crate::predict::arithmetic;
use crate::roofline::Bound;
use crate::units::{Bytes, percent};

/// What the course takes the weights of an 8B model for, in bytes.
const WEIGHTS: f64 = 16e9;

pub(super) fn weights(case: &Case) -> Claim {
    let (count, prompt) = (f64::from(GENERATE), f64::from(PROMPT));
    let (resident, streamed) = (case.model.resident_bytes(Precision::BF16), case.streamed());
    let all = streamed * count;
    // Token i after the prompt attends prompt + i positions.
    let positions = count * prompt + count * (count + 1.0) / 2.0;
    let cache = case.model.kv_bytes_per_token(DType::Bf16) * positions;
    let figures = vec![
        Figure::of("in memory", Quantity::Bytes).predicted(resident.0, None).unmeasured(case),
        Figure::of("weights read for a token", Quantity::Bytes)
            .predicted(streamed.0, Some(Claimed::is(WEIGHTS)))
            .unmeasured(case),
        Figure::of(format!("all read for a token at context {CONTEXT}"), Quantity::Bytes)
            .predicted((streamed + case.kv(CONTEXT)).0, None)
            .measured(case, About::Nothing, |machine| {
                let step = machine.decode(1)?;
                match step.witnessed_bytes {
                    Some(bytes) => Some(found(step, bytes, Some("counted by the device".into()))),
                    // In a memory-bound step's time no more than this comes through the roof beside it.
                    None if step.bound == Bound::Memory => {
                        let most = "at most: what the read ceiling passes in its time";
                        Some(found(step, step.bytes / step.fraction_of_roof, Some(most.into())))
                    }
                    None => None,
                }
            }),
        Figure::of(format!("weights read for {GENERATE} tokens"), Quantity::Bytes)
            .predicted(all.0, Some(Claimed::is(WEIGHTS * count)))
            .unmeasured(case),
        Figure::of(format!("all read for {GENERATE} tokens"), Quantity::Bytes)
            .predicted((all + cache).0, None)
            .unmeasured(case),
    ];
    case.claim(
        "Each generated token reads all 16 GB of weights, and a hundred tokens read 1.6 TB",
        figures,
        "Read are the layers, the head and the norms, and the KV cache; of an embedding table that is not shared with \
         the head, one row."
            .into(),
    )
}

pub(super) fn ceiling(case: &Case) -> Claim {
    let claimed = Some(Claimed::is(COURSE_BANDWIDTH / WEIGHTS));
    let streamed = case.streamed();
    let datasheet = case.roof.bandwidth.0;
    let resident = case.model.resident_bytes(Precision::BF16);
    let rate = |bandwidth: f64, context: u32| arithmetic::ceiling(bandwidth, streamed, case.kv(context));
    let at = |what: String, value: f64, claimed| {
        Figure::of(what, Quantity::TokensPerSec).predicted(value, claimed)
    };
    let mut figures = vec![
        at("2.0 TB/s, context 0".into(), rate(COURSE_BANDWIDTH, 0), claimed).unmeasured(case),
        at("the datasheet's bandwidth, context 0".into(), rate(datasheet, 0), claimed).unmeasured(case),
        at(format!("the datasheet's bandwidth, context {CONTEXT}"), rate(datasheet, CONTEXT), claimed)
            .measured(case, About::Nothing, |machine| {
                let step = machine.decode(1)?;
                let share = format!("{} of what its roofs allow", percent(step.fraction_of_roof));
                Some(found(step, step.tokens_per_second?, Some(share)))
            }),
    ];
    let longest = case.model.max_position;
    figures.push(
        at(format!("the datasheet's bandwidth, context {longest}"), rate(datasheet, longest), None)
            .unmeasured(case),
    );
    if let Some((card, roof)) = case.other("a100-sxm4-40gb").filter(|(card, _)| card.name != case.card.name) {
        let value = arithmetic::ceiling(roof.bandwidth.0, streamed, Bytes(0.0));
        figures.push(at(format!("{}, context 0", card.name), value, None).unmeasured(case));
    }
    // What can be asked of any device: does it stay below the ceiling that reading all of the weights would be?
    figures.push(
        Figure::of("rate over that of reading all that is in memory", Quantity::Share)
            .predicted(resident.0 / streamed.0, Some(Claimed::at_most(1.0)))
            .measured(case, About::Any, |machine| {
                let step = machine.decode(1).filter(|step| step.bound == Bound::Memory)?;
                Some(found(step, resident.0 * step.fraction_of_roof / step.bytes, None))
            }),
    );
    case.claim(
        "2 TB/s over 16 GB is a hard ceiling: an A100 decodes at most 125 tokens per second",
        figures,
        "Ceiling: bandwidth / (weights read + KV cache), batch 1. It falls with the context.".into(),
    )
}
