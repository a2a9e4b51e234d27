//! What runs, points and their types are called on the page.

use crate::plot::theme;

pub(super) use crate::plot::caption::{letter, lettered, subject};
use crate::run::{Point, of_pages};
use crate::workload::Phase;

/// The class that has a run's colour in the figures.
pub(super) fn hue(run: usize) -> String {
    format!("hue hue-{}", run % theme::RUNS.len())
}

/// `decode step`, `prefill attention`, `mixed step with 256 of a prompt, pages of 16`.
pub(super) fn work(point: &Point) -> String {
    let part = point.stage.map_or_else(|| "step".to_owned(), |stage| stage.to_string());
    let riding = point.chunk.map_or(String::new(), |chunk| format!(" with {} of a prompt", chunk.tokens));
    let pages = of_pages(point.kv_page);
    format!("{} {part}{riding}{pages}", point.phase)
}

/// A point in a sentence: `decode attention, batch 8`.
pub(super) fn point(point: &Point) -> String {
    let tokens = match point.phase {
        Phase::Prefill => format!(", {} tokens", point.tokens),
        Phase::Decode | Phase::Mixed => String::new(),
    };
    format!("{}, batch {}{tokens}{}", work(point), point.batch, point.of_ranks())
}

/// Ranks that the model is divided among, and where the all-reduces are from that its rate counts.
pub(super) fn ranks(point: &Point) -> String {
    match point.all_reduce_from {
        Some(from) => format!("{}, all-reduces {}", point.ranks, from.name()),
        None => point.ranks.to_string(),
    }
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
