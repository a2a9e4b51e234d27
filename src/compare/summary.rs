//! What is said of a whole comparison.

use super::reasons::{share, times, title};
use super::{Counts, Metric, Options, Order, Pair, PairVerdict, Side, Verdict};
use crate::stats::dependence::{Dependence, Times};

/// The verdict in one sentence.
pub(super) fn sentence(verdict: Verdict, counts: &Counts, pairs: &[Pair], options: &Options) -> String {
    let margin = share(options.threshold);
    let judged = counts.slower + counts.faster + counts.same + counts.inconclusive;
    let what = match options.metric {
        Metric::Time => "",
        Metric::Roof => ", held against its roof",
    };
    let said = match verdict {
        Verdict::Slower => {
            let worst = extreme(pairs, PairVerdict::Slower, f64::max);
            format!("{} of {} slower by more than {margin}{what}{worst}", counts.slower, points(judged))
        }
        Verdict::Faster => {
            let best = extreme(pairs, PairVerdict::Faster, f64::min);
            format!(
                "{} of {} faster by more than {margin}{what}{best}, none slower",
                counts.faster,
                points(judged)
            )
        }
        Verdict::Same => format!("all {} within {margin}{what}", points(judged)),
        Verdict::Inconclusive if judged == 0 => "nothing could be judged".into(),
        Verdict::Inconclusive => {
            format!("no verdict on {} of {}{what}", counts.inconclusive, points(judged))
        }
    };
    let others = [
        (counts.slower, "slower", verdict == Verdict::Slower),
        (counts.faster, "faster", verdict == Verdict::Faster),
        (counts.same, "same", verdict == Verdict::Same),
        (counts.inconclusive, "inconclusive", verdict == Verdict::Inconclusive),
        (counts.not_judged, "too short to judge", false),
        (counts.unmatched, "unmatched", false),
    ];
    let others: Vec<String> = others
        .into_iter()
        .filter(|&(count, _, said)| count > 0 && !said)
        .map(|(count, name, _)| format!("{count} {name}"))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
    format!("{}: {said}{others}", verdict.name())
}

fn points(count: u32) -> String {
    if count == 1 { "1 point".into() } else { format!("{count} points") }
}

/// The pair that changed most: ` (decode batch 1, context 1088 takes 1.051x)`.
fn extreme(pairs: &[Pair], verdict: PairVerdict, further: fn(f64, f64) -> f64) -> String {
    let ratios = || pairs.iter().filter(|pair| pair.verdict == verdict).filter_map(|p| Some((p, p.ratio?)));
    let Some(ratio) = ratios().map(|(_, ratio)| ratio).reduce(further) else { return String::new() };
    let Some((pair, _)) = ratios().find(|&(_, here)| here == ratio) else { return String::new() };
    format!(" ({}: {})", title(&pair.key), times(ratio))
}

/// What must stand out beside an exit code of 0.
pub(super) fn warning(
    verdict: Verdict,
    counts: &Counts,
    pairs: &[Pair],
    options: &Options,
) -> Option<String> {
    if verdict != Verdict::Inconclusive {
        return None;
    }
    let open: Vec<&Pair> = pairs.iter().filter(|pair| pair.verdict == PairVerdict::Inconclusive).collect();
    if open.is_empty() {
        return Some("INCONCLUSIVE: nothing could be judged, so nothing is known".into());
    }
    let detectable = open.iter().filter_map(|pair| pair.detectable?.slowdown).reduce(f64::max);
    let unseen = match detectable {
        Some(slowdown) => format!("a slowdown of up to {} could have gone unseen", share(rounded(slowdown))),
        None => format!("a slowdown beyond {} could have gone unseen", share(options.threshold)),
    };
    let settle = open.iter().map(|pair| pair.detectable?.trials_to_settle).collect::<Option<Vec<u32>>>();
    let least = open.iter().filter_map(|pair| Some(pair.detectable?.trials_at_least)).max();
    let trials = match (settle.and_then(|all| all.into_iter().max()), least) {
        (Some(trials), _) => format!("; about {trials} trials on each side would settle it"),
        (None, Some(least)) if detectable.is_none() => {
            format!("; at least {least} trials on each side are needed")
        }
        _ => String::new(),
    };
    Some(format!("INCONCLUSIVE on {} of the points: {unseen}{trials}", counts.inconclusive))
}

fn rounded(share: f64) -> f64 {
    (share * 1e3).ceil() / 1e3
}

/// Trials from so few processes tell a change of the program from one of the process poorly.
const FEW_PROCESSES: u32 = 1;

/// What a reader must know of the sides and of how their trials lie in time.
pub(super) fn notes(
    sides: &(Side, Side),
    order: Order,
    dependence: &Dependence,
    times: &Times,
) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, side) in [("BASE", &sides.0), ("NEW", &sides.1)] {
        notes.extend(side.taints.iter().map(|taint| format!("{name}: {taint}")));
    }
    let measured = sides.0.trials > 0 && sides.1.trials > 0;
    match order {
        Order::Sequential if measured => notes.push(
            "BASE and NEW were measured one after the other: what changed in between, the machine's state included, \
             counts as a difference; runs taken in turns would tell them apart"
                .into(),
        ),
        Order::Unknown if measured => {
            notes.push("the runs do not say when their trials were taken: drift cannot be told from a difference".into());
        }
        _ => {}
    }
    if measured && sides.0.processes <= FEW_PROCESSES && sides.1.processes <= FEW_PROCESSES {
        notes.push(
            "one process on each side: what differs from process to process counts as a difference; several runs on \
             each side would tell"
                .into(),
        );
    }
    let drift = dependence.drift(times);
    if drift > 0.5 {
        notes.push(format!(
            "the trials may drift by {drift:.1} standard deviations of a trial over the time between the sides; the tests \
             allow for that much besides the margin"
        ));
    }
    let inflation = dependence.inflation(times);
    if inflation > 1.1 {
        notes.push(format!(
            "neighbouring trials are alike (correlation {:.2}): they count as 1 in {inflation:.1}",
            dependence.correlation
        ));
    }
    notes
}
