//! The filters: what points can be told apart by, as groups of boxes to tick.

use std::collections::BTreeSet;

use super::html::Html;
use super::names;
use crate::run::{Point, Run};
use crate::workload::{Phase, Stage};

/// More batch sizes than this are filtered by ranges.
const MOST_SIZES: usize = 16;

/// One property with the values that occur. The script finds them again in the embedded runs.
struct Facet {
    key: &'static str,
    title: &'static str,
    /// Value and what people read.
    options: Vec<(String, String)>,
}

fn facets(runs: &[Run]) -> Vec<Facet> {
    let points = || runs.iter().flat_map(|run| &run.points);
    let plain = |name: &str| (name.to_string(), name.to_string());
    let runs_named = runs.iter().enumerate().map(|(i, run)| (i.to_string(), names::lettered(i, run)));
    let phases = Phase::ALL.into_iter().filter(|&one| points().any(|p| p.phase == one));
    let stages = Stage::ALL.into_iter().filter(|&one| points().any(|p| p.stage == Some(one)));
    let step = points().any(|p| p.stage.is_none()).then(|| ("step".to_string(), "whole step".to_string()));
    let mut types: Vec<(String, String)> = Vec::new();
    for point in points() {
        let value = names::types(point);
        if types.iter().all(|(known, _)| *known != value) {
            types.push((value, names::types_in_words(point)));
        }
    }
    let ranks: BTreeSet<u32> = points().map(|p| p.ranks).collect();
    let all = [
        ("run", "Run", runs_named.collect()),
        ("phase", "Phase", phases.map(|phase| plain(phase.name())).collect()),
        ("stage", "Stage", step.into_iter().chain(stages.map(|stage| plain(stage.name()))).collect()),
        ("types", "Data type", types),
        ("batch", "Batch", batches(points())),
        ("ranks", "Ranks", ranks.into_iter().map(|n| plain(&n.to_string())).collect()),
    ];
    all.into_iter()
        .map(|(key, title, options)| Facet { key, title, options })
        .filter(|facet: &Facet| facet.options.len() > 1)
        .collect()
}

/// Each size, or ranges from one power of two to the next where there are many.
fn batches<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<(String, String)> {
    let sizes: BTreeSet<u32> = points.map(|p| p.batch).collect();
    if sizes.len() <= MOST_SIZES {
        return sizes.into_iter().map(|n| (format!("{n}-{n}"), n.to_string())).collect();
    }
    let powers: BTreeSet<u32> = sizes.into_iter().map(u32::ilog2).collect();
    powers
        .into_iter()
        .map(|power| (1_u64 << power, (1_u64 << (power + 1)) - 1))
        .map(|(low, high)| {
            let shown = if low == high { low.to_string() } else { format!("{low} to {high}") };
            (format!("{low}-{high}"), shown)
        })
        .collect()
}

/// The filters and the line that says how much they leave.
pub(super) fn write(html: &mut Html, runs: &[Run]) {
    let total: usize = runs.iter().map(|run| run.points.len()).sum();
    html.element("form", &[("class", "filters scripted"), ("aria-label", "Filters")], |html| {
        for facet in facets(runs) {
            html.element("fieldset", &[], |html| {
                html.element("legend", &[], |html| {
                    html.text(facet.title);
                    html.text(" ");
                    let label = format!("All or none: {}", facet.title);
                    let attributes = [
                        ("type", "button"),
                        ("class", "small"),
                        ("data-all", facet.key),
                        ("aria-label", &label),
                    ];
                    html.leaf("button", &attributes, "all/none");
                });
                for (value, shown) in &facet.options {
                    html.element("label", &[], |html| {
                        let attributes = [
                            ("type", "checkbox"),
                            ("checked", ""),
                            ("data-facet", facet.key),
                            ("value", value),
                            ("autocomplete", "off"),
                        ];
                        html.void("input", &attributes);
                        if facet.key == "run" {
                            let class = names::hue(value.parse().unwrap_or_default());
                            html.leaf("span", &[("class", &class), ("aria-hidden", "true")], "");
                        }
                        html.leaf("span", &[], shown);
                    });
                }
            });
        }
        html.element("p", &[("class", "count")], |html| {
            let shown = format!("{total} of {total} points shown");
            html.leaf("span", &[("id", "count"), ("role", "status"), ("aria-live", "polite")], &shown);
            html.text(" ");
            html.leaf("button", &[("type", "button"), ("id", "show-all")], "Show all");
        });
    });
}
