//! What trackers of benchmarks over time read: one entry per step, its tokens per second.
//!
//! Points that are not to be believed are left out; what was predicted says so in its name.

use serde_json::{Map, Value, json};

use super::{Exporter, Listing};
use crate::compare::title;
use crate::error::{Failure, Result};
use crate::run::{AllReduceFrom, Point, Run, Status};
use crate::units::{figures, percent};

/// `customBiggerIsBetter` of github-action-benchmark: an array of name, unit and value.
pub(super) struct GithubActionBenchmark;

/// Bencher's metric format: measures by the name of the benchmark.
pub(super) struct BencherMetricFormat;

impl Exporter for GithubActionBenchmark {
    fn run(&self, run: &Run) -> Result<String> {
        let entries = steps(run).map(|(point, tokens)| {
            // All-reduces count with one figure, which has no spread.
            let measured = 1.0 - point.all_reduce_share().unwrap_or(0.0);
            let relative = point.seconds.relative_interval() * measured;
            json!({
                "name": name(point),
                "unit": "tokens/s",
                "value": tokens,
                "range": format!("± {}", figures(tokens * relative)),
                "extra": format!(
                    "{} of its roof, {} samples in {} trials on {}{}",
                    percent(point.fraction_of_roof),
                    point.seconds.count,
                    point.seconds.trials.len(),
                    run.device.name,
                    point.all_reduce_from.map_or(String::new(), |from| format!(
                        ", all-reduces of {} ranks {}",
                        point.ranks,
                        from.name()
                    ))
                ),
            })
        });
        text(&Value::Array(entries.collect()))
    }

    fn listing(&self, _listing: &Listing) -> Result<String> {
        Err(of_runs())
    }
}

impl Exporter for BencherMetricFormat {
    fn run(&self, run: &Run) -> Result<String> {
        let mut benchmarks = Map::new();
        for (point, tokens) in steps(run) {
            let time = &point.seconds;
            let step = |seconds: f64| point.step_at(seconds).unwrap_or(seconds);
            let nanoseconds = |seconds: f64| step(seconds) * 1e9;
            benchmarks.insert(
                name(point),
                json!({
                    "throughput": {
                        "value": tokens,
                        "lower_value": tokens * step(time.median) / step(time.high),
                        "upper_value": tokens * step(time.median) / step(time.low),
                    },
                    "latency": {
                        "value": nanoseconds(time.median),
                        "lower_value": nanoseconds(time.low),
                        "upper_value": nanoseconds(time.high),
                    },
                    "fraction-of-roof": { "value": point.fraction_of_roof },
                }),
            );
        }
        text(&Value::Object(benchmarks))
    }

    fn listing(&self, _listing: &Listing) -> Result<String> {
        Err(of_runs())
    }
}

/// The whole steps that are worth tracking, with their tokens per second.
fn steps(run: &Run) -> impl Iterator<Item = (&Point, f64)> {
    let believed = run.points.iter().filter(|point| point.status != Status::Invalid);
    believed.filter_map(|point| Some((point, point.tokens_per_second?)))
}

/// `llama-8b, decode batch 8, context 1050, bf16`.
fn name(point: &Point) -> String {
    let predicted = match (point.status, point.all_reduce_from) {
        (Status::Predicted, _) => " (predicted)",
        (_, Some(AllReduceFrom::Modelled)) => " (all-reduces modelled)",
        (_, Some(AllReduceFrom::Measured) | None) => "",
    };
    format!("{}, {}, {}{predicted}", point.model, title(&point.key()), point.weights)
}

fn text(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Failure::invalid(format!("the run cannot be written: {e}")))
}

pub(super) fn of_runs() -> Failure {
    Failure::input("this format is for measured steps").hint("use table, json, csv or markdown")
}
