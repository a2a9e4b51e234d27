//! CSV: one line per pair, in base units.

use crate::compare::{Comparison, Measured, Pair};
use crate::error::Result;
use crate::export::csv::{KEY, text, write};
use serde_json::Value;

/// The columns after the key. Ratios of times are NEW over BASE, those of speed (on paper, ceilings, result) as well.
const COLUMNS: [&str; 28] = [
    "verdict",
    "reason",
    "ratio",
    "ratio_low",
    "ratio_high",
    "base_seconds",
    "new_seconds",
    "base_trials",
    "new_trials",
    "base_spread",
    "new_spread",
    "base_fraction_of_roof",
    "new_fraction_of_roof",
    "p_difference",
    "p_beyond_margin",
    "p_same",
    "detectable_slowdown",
    "trials_to_settle",
    "cycles_ratio",
    "cycles_verdict",
    "speed_datasheet",
    "speed_ceiling",
    "speed_result",
    "base_dollars_per_million_tokens",
    "new_dollars_per_million_tokens",
    "base_joules_per_token",
    "new_joules_per_token",
    "notes",
];

/// All pairs.
///
/// # Errors
/// A figure that CSV cannot hold.
pub(super) fn render(comparison: &Comparison) -> Result<String> {
    write(&[&KEY[..], &COLUMNS].concat(), comparison.pairs.iter().map(|pair| Ok(row(comparison, pair))))
}

fn row(comparison: &Comparison, pair: &Pair) -> Vec<String> {
    let key = &pair.key;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| text(&Value::from(value)));
    let count = |value: Option<u32>| value.map_or(String::new(), |value| value.to_string());
    let of = |side: &Option<Measured>, get: fn(&Measured) -> Option<f64>| number(side.as_ref().and_then(get));
    let ratio = comparison
        .devices
        .iter()
        .flat_map(|devices| &devices.passes)
        .flat_map(|pass| &pass.ratios)
        .find(|ratio| ratio.key == *key);
    let cost = comparison.costs.iter().find(|cost| cost.key == *key);
    vec![
        key.model.clone(),
        key.phase.to_string(),
        key.stage.map_or(String::new(), |stage| stage.to_string()),
        key.batch.to_string(),
        key.tokens.to_string(),
        key.context.to_string(),
        key.weights.to_string(),
        key.head.to_string(),
        key.activations.to_string(),
        key.kv.to_string(),
        count(key.kv_page),
        count(key.chunk.map(|chunk| chunk.tokens)),
        count(key.chunk.map(|chunk| chunk.context)),
        key.ranks.to_string(),
        pair.verdict.name().into(),
        pair.reason.clone(),
        number(pair.ratio),
        number(pair.interval.map(|i| i.low)),
        number(pair.interval.map(|i| i.high)),
        of(&pair.base, |m| Some(m.median_seconds)),
        of(&pair.new, |m| Some(m.median_seconds)),
        count(pair.base.as_ref().map(|m| m.trials)),
        count(pair.new.as_ref().map(|m| m.trials)),
        of(&pair.base, |m| m.spread),
        of(&pair.new, |m| m.spread),
        of(&pair.base, |m| Some(m.fraction_of_roof)),
        of(&pair.new, |m| Some(m.fraction_of_roof)),
        number(pair.p_difference),
        number(pair.p_beyond_margin),
        number(pair.p_same),
        number(pair.detectable.and_then(|d| d.slowdown)),
        count(pair.detectable.and_then(|d| d.trials_to_settle)),
        number(pair.cycles.map(|c| c.ratio)),
        pair.cycles.map_or(String::new(), |c| c.verdict.name().into()),
        number(ratio.and_then(|r| r.datasheet)),
        number(ratio.and_then(|r| r.ceiling)),
        number(ratio.map(|r| r.result)),
        number(cost.and_then(|c| c.base.dollars_per_million_tokens)),
        number(cost.and_then(|c| c.new.dollars_per_million_tokens)),
        of(&pair.base, |m| m.joules_per_token),
        of(&pair.new, |m| m.joules_per_token),
        pair.notes.join("; "),
    ]
}
