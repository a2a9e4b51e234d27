//! The picture: snapshots of whole figures, and what must hold for any figure.

#![allow(clippy::unwrap_used)]

mod figures;
mod hostile;
#[path = "../support/hostile.rs"]
mod hostile_text;
mod labels;
mod palette;
mod program;
#[cfg(feature = "png")]
mod raster;
mod runs;
mod terminal;

use llmroof::error::Result;
use llmroof::plot::{Figure, Level, Look, to_svg};
use llmroof::run::Run;

/// The roofline of these runs.
fn roofline(runs: &[Run], level: Level) -> Result<String> {
    to_svg(runs, Figure::Roofline, Look { level, ..Look::default() })
}
