//! A run as a picture: the roofline, log-log, as an SVG that can go into a paper.
//!
//! plotters maps values to the canvas ([`scale`]); the SVG is written here ([`svg`]), because labels must be
//! measured and placed ([`labels`]) and text must stay text.

mod annotate;
pub mod caption;
mod figure;
pub mod geometry;
mod key;
pub mod labels;
mod legend;
mod marks;
mod roofs;
pub mod scale;
pub mod svg;
pub mod text;
pub mod theme;

use crate::error::{Failure, Result};
use crate::run::Run;

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Whole steps.
    Phase,
    /// Stages.
    Stage,
    /// Both.
    All,
}

/// The roofline of a run, or of several over each other, as SVG. The same runs give the same bytes.
///
/// # Errors
/// No run, or runs with neither a roof nor a point that could be drawn.
pub fn to_svg(runs: &[Run], level: Level) -> Result<String> {
    if runs.is_empty() {
        return Err(Failure::input("no run to plot").hint("name one or more run files"));
    }
    figure::draw(runs, level)
}
