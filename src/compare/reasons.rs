//! Why a pair has its verdict, in words.

use super::judge::{MOST_TRIALS, Outcome, SAME};
use super::{Cycles, Detectable, Interval, Pair, PairVerdict};
use crate::roofline::Bound;
use crate::run::{Key, of_pages, of_ranks};
use crate::units::{percent, si};

/// What the tests found of one pair.
pub(super) struct Evidence {
    /// Of what was compared.
    pub outcome: Option<Outcome>,
    /// The interval of the ratio of times.
    pub time: Option<Interval>,
    /// Of clock cycles.
    pub cycles: Option<Outcome>,
    /// Of the time over the shortest that the roofs beside it allow.
    pub roof: Option<Outcome>,
    /// How many pairs were judged together.
    pub judged: usize,
    /// Whether to say what could have been found.
    pub power: bool,
    /// The practical margin.
    pub threshold: f64,
}

/// A ratio as people read it: `1.051x`.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.3}x")
}

/// A margin as people read it: `2%`.
pub(super) fn share(share: f64) -> String {
    format!("{}%", (share * 1e4).round() / 1e2)
}

/// What a key is of: `decode batch 1, context 1088, attention`.
pub fn title(key: &Key) -> String {
    let stage = key.stage.map_or(String::new(), |stage| format!(", {stage}"));
    format!("{}{stage}", pass(key))
}

/// The pass of a key: `decode batch 1, context 1088`, `prefill of 1024, 4 ranks`.
pub fn pass(key: &Key) -> String {
    let pass = match key.phase {
        crate::workload::Phase::Prefill if key.context > key.tokens => {
            format!("prefill of {} up to {}", key.tokens, key.context)
        }
        crate::workload::Phase::Prefill if key.batch == 1 => format!("prefill of {}", key.tokens),
        crate::workload::Phase::Prefill => format!("prefill of {}, batch {}", key.tokens, key.batch),
        crate::workload::Phase::Decode => {
            let several = if key.tokens > 1 { format!(" x {} tokens", key.tokens) } else { String::new() };
            format!("decode batch {}{several}, context {}", key.batch, key.context)
        }
        crate::workload::Phase::Mixed => {
            let riding = key.chunk.map_or(0, |chunk| chunk.tokens);
            format!("mixed batch {} with {riding} of a prompt, context {}", key.batch, key.context)
        }
    };
    pass + &of_pages(key.kv_page) + &of_ranks(key.ranks)
}

fn range(interval: &Interval) -> String {
    format!("{} to {}", times(interval.low), times(interval.high))
}

/// Gives a tested pair its verdict and its reason.
pub(super) fn explain(pair: &mut Pair, evidence: &Evidence) {
    let Some(outcome) = &evidence.outcome else { return };
    let margin = share(evidence.threshold);
    let seen = format!("{} ({})", times(outcome.ratio), range(&outcome.interval));
    pair.verdict = outcome.verdict;
    pair.reason = match outcome.verdict {
        PairVerdict::Slower | PairVerdict::Faster => changed(pair, outcome, &seen, &margin),
        PairVerdict::Same => format!("{seen}: within {margin}"),
        _ => open(pair.detectable, evidence, &seen),
    };
    if matches!(outcome.verdict, PairVerdict::Slower | PairVerdict::Faster) {
        pair.reason.push_str(&of_the_roof(pair, evidence).unwrap_or_default());
    }
    if let Some(note) = unchanged_time(pair) {
        pair.notes.push(note);
    }
}

/// Of a change in time: confirmed in cycles, or the clock's.
fn changed(pair: &mut Pair, outcome: &Outcome, seen: &str, margin: &str) -> String {
    let word = outcome.verdict.name();
    match pair.cycles {
        None => format!("{seen}: {word} by more than {margin}"),
        Some(cycles) if cycles.verdict == outcome.verdict => {
            format!("{seen}: {word} by more than {margin}, in clock cycles too ({})", times(cycles.ratio))
        }
        Some(cycles) => {
            pair.verdict = PairVerdict::Inconclusive;
            let instead = match cycles.verdict {
                PairVerdict::Same => "it is the same".into(),
                PairVerdict::Inconclusive => "that is not confirmed".into(),
                other => format!("it is {}", other.name()),
            };
            format!(
                "{seen}: {word} in time, but {}: in cycles {instead} ({})",
                clocks(&cycles),
                times(cycles.ratio)
            )
        }
    }
}

/// The clock's change: `the clock changed from 1.98 GHz to 1.70 GHz`.
fn clocks(cycles: &Cycles) -> String {
    if (cycles.new_hz / cycles.base_hz - 1.0).abs() < 1e-3 {
        return format!("the clock was {} on both sides", si(cycles.base_hz, "Hz"));
    }
    format!("the clock changed from {} to {}", si(cycles.base_hz, "Hz"), si(cycles.new_hz, "Hz"))
}

/// Of a time that stayed while its cycles did not.
fn unchanged_time(pair: &Pair) -> Option<String> {
    let cycles = pair.cycles?;
    let moved = matches!(cycles.verdict, PairVerdict::Slower | PairVerdict::Faster);
    if pair.verdict != PairVerdict::Same || !moved {
        return None;
    }
    let memory = pair.new.as_ref().is_some_and(|new| new.bound == Bound::Memory);
    let why = if memory {
        "bound by memory, it does not follow that clock: time is what counts"
    } else {
        "the clock made up for it"
    };
    Some(format!("{}, cycles are {}: {why}", clocks(&cycles), times(cycles.ratio)))
}

/// Of a change that the roof went through as well: the machine's, not the program's.
fn of_the_roof(pair: &Pair, evidence: &Evidence) -> Option<String> {
    let (base, new) = (pair.base.as_ref()?, pair.new.as_ref()?);
    let roof = evidence.roof.as_ref().filter(|roof| roof.p_same <= SAME)?;
    let (name, ratio) = match new.bound {
        Bound::Compute => ("compute", new.roof_flops_per_second / base.roof_flops_per_second),
        _ => ("read", new.roof_bytes_per_second / base.roof_bytes_per_second),
    };
    // The roof must have gone at least half of the way, and the same way: a slower time under a lower roof.
    let (wanted, went) = (-evidence.outcome.as_ref()?.ratio.ln(), ratio.ln());
    if went / wanted < 0.5 {
        return None;
    }
    let went = if ratio < 1.0 { "fell" } else { "rose" };
    Some(format!(
        "; the {name} ceiling itself {went} to {}, and the share of the roof is the same ({}): the machine, not the program",
        times(ratio),
        times(roof.ratio.recip()),
    ))
}

/// Why there is no verdict, and what would settle it.
fn open(detectable: Option<Detectable>, evidence: &Evidence, seen: &str) -> String {
    let Some(detectable) = detectable else { return seen.into() };
    let Some(slowdown) = detectable.slowdown else {
        return format!(
            "{seen}: so few trials can show nothing among {} points: at least {} on each side are needed",
            evidence.judged, detectable.trials_at_least
        );
    };
    let settle = match detectable.trials_to_settle {
        Some(trials) => format!("about {trials} trials on each side would settle it"),
        None => format!(
            "more than {MOST_TRIALS} trials on each side would be needed: the difference lies at the threshold"
        ),
    };
    format!(
        "{seen}: too noisy for a verdict: a slowdown under {} could go unseen; {settle}",
        percent(slowdown)
    )
}
