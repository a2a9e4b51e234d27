//! A comparison as text: one file per format, all of them from the same words.

mod csv;
mod junit;
mod text;
mod view;

use std::path::Path;

use clap::ValueEnum;

use crate::compare::Comparison;
use crate::error::{Failure, Result};

/// Formats of comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ComparisonFormat {
    /// For people, in human units
    Table,
    /// For pull requests and job summaries
    Markdown,
    /// Everything, in base units
    Json,
    /// One line per pair of points, in base units
    Csv,
    /// A test case per pair of points
    Junit,
}

/// The ending of each format's files.
const ENDINGS: [(ComparisonFormat, &str); 5] = [
    (ComparisonFormat::Table, "txt"),
    (ComparisonFormat::Markdown, "md"),
    (ComparisonFormat::Json, "json"),
    (ComparisonFormat::Csv, "csv"),
    (ComparisonFormat::Junit, "xml"),
];

impl ComparisonFormat {
    /// The format of a file by the ending of its name.
    ///
    /// # Errors
    /// An ending that no format has.
    pub fn of(path: &Path) -> Result<ComparisonFormat> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let known = ENDINGS.iter().find(|(_, known)| Some(*known) == ending.as_deref());
        known.map(|(format, _)| *format).ok_or_else(|| {
            let endings: Vec<String> = ENDINGS.iter().map(|(_, ending)| format!(".{ending}")).collect();
            Failure::input(format!("{}: the ending names no format", path.display()))
                .hint(format!("use {}", endings.join(", ")))
        })
    }
}

/// A comparison as text of this format. `fails_inconclusive` says whether a pair without a verdict is a failed test
/// case or a skipped one.
///
/// # Errors
/// A figure that the format cannot hold.
pub fn render_comparison(
    comparison: &Comparison,
    format: ComparisonFormat,
    fails_inconclusive: bool,
) -> Result<String> {
    match format {
        ComparisonFormat::Table => Ok(text::table(comparison)),
        ComparisonFormat::Markdown => Ok(text::markdown(comparison)),
        ComparisonFormat::Json => serde_json::to_string_pretty(comparison)
            .map(|text| text + "\n")
            .map_err(|e| Failure::invalid(format!("the comparison cannot be written: {e}"))),
        ComparisonFormat::Csv => csv::render(comparison),
        ComparisonFormat::Junit => junit::render(comparison, fails_inconclusive),
    }
}
