//! What runs, points and their types are called on the page.

use crate::plot::theme;

pub(super) use crate::plot::caption::{letter, lettered};
use crate::run::{Point, Run};
use crate::workload::Phase;

/// The page's heading.
pub(super) fn title(runs: &[Run]) -> String {
    let first = &runs[0];
    let (model, device) = (&first.model.name, &first.device.name);
    let one_model = runs.iter().all(|run| run.model.name == *model);
    let one_device = runs.iter().all(|run| run.device.name == *device);
    match (runs.len(), one_model, one_device) {
        (1, ..) => format!("{model} on {device}"),
        (n, true, true) => format!("{model} on {device}: {n} runs"),
        // Two of three may be of one device.
        (n, true, false) => format!("{model}: {n} runs"),
        (n, false, true) => format!("{n} runs on {device}"),
        (n, ..) => format!("{n} runs"),
    }
}

/// The class that has a run's colour in the figures.
pub(super) fn hue(run: usize) -> String {
    format!("hue hue-{}", run % theme::RUNS.len())
}

/// `decode step`, `prefill attention`.
pub(super) fn work(point: &Point) -> String {
    match point.stage {
        None => format!("{} step", point.phase),
        Some(stage) => format!("{} {stage}", point.phase),
    }
}

/// A point in a sentence: `decode attention, batch 8`.
pub(super) fn point(point: &Point) -> String {
    let tokens = match point.phase {
        Phase::Prefill => format!(", {} tokens", point.tokens),
        Phase::Decode => String::new(),
    };
    format!("{}, batch {}{tokens}", work(point), point.batch)
}

/// The types that a point computes with, as the filter names them: weights, activations, key/value cache.
pub(super) fn types(point: &Point) -> String {
    format!("{}/{}/{}", point.weights, point.activations, point.kv)
}

/// The same for people.
pub(super) fn types_in_words(point: &Point) -> String {
    let all = [point.weights, point.activations, point.kv];
    if all.iter().all(|t| *t == all[0]) {
        return all[0].to_string();
    }
    format!("{} weights, {} activations, {} cache", point.weights, point.activations, point.kv)
}
