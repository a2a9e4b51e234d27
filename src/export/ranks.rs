//! What the table says of several ranks: what the all-reduces add, and how much faster it gets.

use crate::compare::title;
use crate::run::{AllReduceFrom, Key, Point, Run, RunStatus};
use crate::units::{figures, percent};

/// What is behind a rate that has a modelled part.
const MODELLED: &str = "†";
/// What is behind a rate that counts all-reduces which were measured by themselves.
const MEASURED: &str = "‡";

/// Whether there is anything to say.
pub(super) fn several(run: &Run) -> bool {
    run.points.iter().any(|point| point.ranks > 1)
}

/// Tokens per second, marked where a part of it is modelled or was measured apart.
pub(super) fn rate(point: &Point) -> String {
    let marked = match point.all_reduce_from {
        Some(AllReduceFrom::Modelled) => MODELLED,
        Some(AllReduceFrom::Measured) => MEASURED,
        None => "",
    };
    point.tokens_per_second.map_or(String::new(), |rate| figures(rate) + marked)
}

/// The lines below the table: what the marks mean, and of each pass on several ranks the share of its all-reduces and, where it
/// ran on one rank as well, how many times as fast it is.
pub(super) fn below(run: &Run) -> Vec<String> {
    if !several(run) {
        return Vec::new();
    }
    let timed = if run.status == RunStatus::Predicted { "predicted" } else { "measured" };
    let marks = [
        (AllReduceFrom::Modelled, MODELLED, "modelled"),
        (AllReduceFrom::Measured, MEASURED, "measured among as many GPUs, by themselves"),
    ];
    let marked = |from| run.points.iter().any(|point| point.all_reduce_from == Some(from));
    let sources: Vec<String> = marks
        .into_iter()
        .filter(|(from, ..)| marked(*from))
        .map(|(_, mark, how)| format!("{mark} {how}"))
        .collect();
    let mut lines = vec![format!(
        "of several ranks one's shard is {timed}, and all but tok/s is of it alone; tok/s and the speed-up count its time \
         and that of the all-reduces: {}",
        if sources.is_empty() { "not known".into() } else { sources.join(", ") }
    )];
    let steps: Vec<&Point> =
        run.points.iter().filter(|p| p.stage.is_none() && !p.is_invalid() && !p.is_variant()).collect();
    for (at, first) in steps.iter().enumerate() {
        if steps[..at].iter().any(|before| is_pass_of(before, first)) {
            continue;
        }
        let pass = || steps.iter().filter(|point| is_pass_of(point, first));
        let one = pass().find(|point| point.ranks == 1).map(|one| one.seconds.median);
        let each: Vec<String> =
            pass().filter(|point| point.ranks > 1).map(|point| said(point, one)).collect();
        if !each.is_empty() {
            let key = Key { ranks: 1, ..first.key() };
            lines.push(format!("ranks: {}, {} weights: {}", title(&key), first.weights, each.join("; ")));
        }
    }
    lines
}

/// `4 ranks 2.67x of ideal 4, all-reduces 33.3% of the step, modelled`.
fn said(point: &Point, one: Option<f64>) -> String {
    let ranks = point.ranks;
    let (Some(step), Some(share)) = (point.step_at(point.seconds.median), point.all_reduce_share()) else {
        return format!("{ranks} ranks not known");
    };
    let times = one.map_or(String::new(), |one| format!(" {:.2}x of ideal {ranks},", one / step));
    let from = point.all_reduce_from.map_or("not known", AllReduceFrom::name);
    format!("{ranks} ranks{times} all-reduces {} of the step, {from}", percent(share))
}

/// Whether both are the same work but for the ranks.
fn is_pass_of(point: &Point, other: &Point) -> bool {
    Key { ranks: other.ranks, ..point.key() } == other.key()
}
