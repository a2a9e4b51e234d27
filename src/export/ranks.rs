//! What the table says of several ranks: how many, what the all-reduces add, and how much faster it gets.

use crate::compare::title;
use crate::run::{Point, Run, RunStatus};
use crate::units::{figures, percent};

/// What is behind a rate that has a modelled part.
const MODELLED: &str = " †";

/// Whether there is anything to say.
pub(super) fn several(run: &Run) -> bool {
    run.points.iter().any(|point| point.ranks > 1)
}

/// The heading over the share of the all-reduces.
pub(super) const ALL_REDUCE: &str = "all-reduce †";

/// Share of the all-reduces in a step.
pub(super) fn share(point: &Point) -> String {
    match (point.stage, point.ranks) {
        (Some(_), _) | (None, 1) => String::new(),
        (None, _) => point.all_reduce_share().map_or("not known".into(), percent),
    }
}

/// Tokens per second, marked where a part of it is modelled.
pub(super) fn rate(point: &Point) -> String {
    let marked = if point.all_reduce_seconds.is_some() { MODELLED } else { "" };
    point.tokens_per_second.map_or(String::new(), |rate| figures(rate) + marked)
}

/// The lines below the table: what the mark means, and of each pass that ran on one rank as well how many times as fast it
/// is on several.
pub(super) fn below(run: &Run) -> Vec<String> {
    if !several(run) {
        return Vec::new();
    }
    let timed = if run.status == RunStatus::Predicted { "predicted" } else { "measured" };
    let mut lines = vec![format!(
        "† modelled: of several ranks one's shard is {timed} (ms, GB/s, of roof), tok/s and the \
         speed-up below count its time and that of the all-reduces, which are modelled; all-reduce is their share of \
         both"
    )];
    let steps = || run.points.iter().filter(|point| point.stage.is_none() && !point.is_invalid());
    for one in steps().filter(|point| point.ranks == 1) {
        let times: Vec<String> = steps()
            .filter(|point| point.ranks > 1 && is_pass_of(point, one))
            .filter_map(|point| {
                let times = one.seconds.median / point.step_at(point.seconds.median)?;
                Some(format!("{} ranks {times:.2}x (ideal {})", point.ranks, point.ranks))
            })
            .collect();
        if !times.is_empty() {
            lines.push(format!(
                "speed-up over 1 rank, modelled: {}, {} weights: {}",
                title(&one.key()),
                one.weights,
                times.join(", ")
            ));
        }
    }
    lines
}

/// Whether both are the same work but for the ranks.
fn is_pass_of(point: &Point, one: &Point) -> bool {
    let mut key = point.key();
    key.ranks = one.ranks;
    key == one.key()
}
