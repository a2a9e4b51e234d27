//! A run as pictures that can go into a paper: the roofline, and what else a run has to show, as SVG;
//! and the roofline for a console.
//!
//! plotters maps values to the canvas ([`scale`]); the SVG is written here ([`svg`]), because labels must be
//! measured and placed ([`labels`]) and text must stay text.

pub mod caption;
mod frame;
pub mod geometry;
pub mod labels;
mod legend;
mod roofline;
pub mod scale;
mod series;
pub mod size;
mod stages;
pub mod svg;
pub mod terminal;
pub mod text;
pub mod theme;

use crate::error::{Failure, Result};
use crate::run::Run;
use series::Along;
use terminal::Screen;
use theme::Theme;

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Rate over arithmetic intensity, under the roofs.
    Roofline,
    /// Where the time of each step goes, stage by stage.
    Stages,
    /// Tokens per second against batch size.
    Batch,
    /// Tokens per second against context.
    Context,
}

impl Figure {
    /// All figures, in the order of reading.
    pub const ALL: [Figure; 4] = [Figure::Roofline, Figure::Stages, Figure::Batch, Figure::Context];

    /// Lower-case name, as in file names.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Roofline => "roofline",
            Figure::Stages => "stages",
            Figure::Batch => "batch",
            Figure::Context => "context",
        }
    }
}

/// Which points a roofline shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Whole steps.
    Phase,
    /// Stages.
    Stage,
    /// Both.
    #[default]
    All,
}

/// How a figure looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Which points of a roofline.
    pub level: Level,
    /// In which colours.
    pub theme: Theme,
}

/// A figure of a run, or of several over each other, as SVG. The same runs give the same bytes.
///
/// # Errors
/// No run, or runs with nothing that this figure could show.
pub fn to_svg(runs: &[Run], figure: Figure, look: Look) -> Result<String> {
    some(runs)?;
    match figure {
        Figure::Roofline => roofline::draw(runs, look),
        Figure::Stages => stages::draw(runs, look),
        Figure::Batch => series::draw(runs, Along::Batch, look),
        Figure::Context => series::draw(runs, Along::Context, look),
    }
}

/// The roofline of a run, or of several over each other, as lines of text for a console.
///
/// # Errors
/// As [`to_svg`].
pub fn to_terminal(runs: &[Run], screen: Screen) -> Result<String> {
    some(runs)?;
    roofline::terminal::draw(runs, screen)
}

fn some(runs: &[Run]) -> Result<()> {
    match runs {
        [] => Err(Failure::input("no run to plot").hint("name one or more run files")),
        _ => Ok(()),
    }
}
