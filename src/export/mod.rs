//! Results as text: one file per format behind the trait `Exporter`, and the registry of formats.
//!
//! Formatting is pure; [`mod@file`] alone touches the disk.

mod csv;
pub mod file;
mod gpu;
mod grid;
mod json;
mod listing;
mod markdown;
mod table;
mod view;

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
const REGISTRY: [Entry; 4] = [
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
