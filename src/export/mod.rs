//! Results as text: one file per format behind the trait `Exporter`, and the registry of formats.
//!
//! Formatting is pure; [`mod@file`] alone touches the disk, with `temporary` beside it. [`steps`] is for tests.

mod cache;
pub mod comparison;
mod csv;
mod escape;
pub mod file;
mod gpu;
mod grid;
mod json;
mod listing;
mod markdown;
mod ranks;
mod serving;
pub mod steps;
mod table;
mod temporary;
mod trackers;
mod view;
mod ways;

pub use csv::write as write_csv;
pub use listing::{Cell, Column, Listing};

use clap::ValueEnum;

use crate::error::Result;
use crate::run::Run;

/// Formats of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, in human units
    Table,
    /// The run file, in base units
    Json,
    /// The points, in base units
    Csv,
    /// The table in Markdown
    Markdown,
    /// Tokens per second as github-action-benchmark's customBiggerIsBetter
    GithubActionBenchmark,
    /// Throughput and latency in Bencher's metric format
    Bmf,
}

impl Format {
    /// Whether lists of devices, models or checks can be written in it.
    ///
    /// # Errors
    /// It is one of measured steps alone.
    pub fn of_lists(self) -> Result<Format> {
        match self {
            Format::GithubActionBenchmark | Format::Bmf => Err(trackers::of_runs()),
            _ => Ok(self),
        }
    }
}

/// Writes results in one format, each ending in a newline.
trait Exporter: Sync {
    /// A run.
    fn run(&self, run: &Run) -> Result<String>;

    /// A list of devices, models or the like.
    fn listing(&self, listing: &Listing) -> Result<String>;
}

/// A format, the ending of its files, and who writes it.
struct Entry {
    format: Format,
    ending: &'static str,
    exporter: &'static dyn Exporter,
}

/// All formats. A new one is a file beside this and a line here.
const REGISTRY: [Entry; 6] = [
    // Of two endings that fit, the first counts.
    Entry {
        format: Format::GithubActionBenchmark,
        ending: "benchmark.json",
        exporter: &trackers::GithubActionBenchmark,
    },
    Entry { format: Format::Bmf, ending: "bmf.json", exporter: &trackers::BencherMetricFormat },
    Entry { format: Format::Table, ending: "txt", exporter: &table::Table },
    Entry { format: Format::Json, ending: "json", exporter: &json::Json },
    Entry { format: Format::Csv, ending: "csv", exporter: &csv::Csv },
    Entry { format: Format::Markdown, ending: "md", exporter: &markdown::Markdown },
];

fn exporter(format: Format) -> &'static dyn Exporter {
    REGISTRY.iter().find(|entry| entry.format == format).map_or(&table::Table, |entry| entry.exporter)
}

/// A run as text of this format.
///
/// # Errors
/// A figure that the format cannot hold.
pub fn render(run: &Run, format: Format) -> Result<String> {
    exporter(format).run(run)
}

/// A list as text of this format.
///
/// # Errors
/// A figure that the format cannot hold.
pub fn render_listing(listing: &Listing, format: Format) -> Result<String> {
    exporter(format).listing(listing)
}
