//! Colours, sizes and fonts of the picture, in one place.
//!
//! The hues are those of Okabe and Ito, which people with any kind of colour vision tell apart.

/// A hue in three depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hue {
    /// Lines and the filling of whole steps.
    pub main: &'static str,
    /// Text: dark enough to read on white.
    pub dark: &'static str,
    /// Filling of stages.
    pub light: &'static str,
}

/// Decode, where one run is drawn.
pub const BLUE: Hue = Hue { main: "#0072b2", dark: "#004a75", light: "#a9d1ea" };
/// Prefill, where one run is drawn.
pub const VERMILLION: Hue = Hue { main: "#d55e00", dark: "#8a3d00", light: "#f7cbaa" };
/// Roofs, where one run is drawn.
pub const INK: Hue = Hue { main: "#222222", dark: "#222222", light: "#bbbbbb" };
const GREEN: Hue = Hue { main: "#009e73", dark: "#00634a", light: "#a3dfcc" };
const PURPLE: Hue = Hue { main: "#cc79a7", dark: "#86406a", light: "#eccede" };
const ORANGE: Hue = Hue { main: "#e69f00", dark: "#7d5600", light: "#f9e0a8" };
const SKY: Hue = Hue { main: "#56b4e9", dark: "#1f6a94", light: "#c6e5f8" };

/// One hue for each run of an overlay; beyond six they repeat.
pub const RUNS: [Hue; 6] = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY];

/// Text that is not the subject: ticks, captions.
pub const QUIET: &str = "#555555";
/// Frame and tick marks.
pub const FRAME: &str = "#888888";
/// Grid at whole decades.
pub const GRID: &str = "#dcdcdc";
/// Grid between the decades.
pub const GRID_MINOR: &str = "#f1f1f1";
/// Under the slanted roof.
pub const MEMORY_ZONE: &str = "#f1f7fb";
/// Under the level roof.
pub const COMPUTE_ZONE: &str = "#fdf5ee";
/// Between how low a measured roof fell and its best.
pub const BAND: &str = "#d9d9d9";

/// Fonts in order of preference; the last always exists.
pub const FONTS: &str = "Helvetica Neue, Helvetica, Arial, Liberation Sans, Noto Sans, sans-serif";

/// Width of the whole picture.
pub const WIDTH: f64 = 900.0;
/// Space left of the plot area: the labels of the vertical axis.
pub const LEFT: f64 = 104.0;
/// Space right of the plot area.
pub const RIGHT: f64 = 24.0;
/// Size of the title.
pub const TITLE: f64 = 17.0;
/// Size of the labels of whole steps, roofs and axes.
pub const LABEL: f64 = 12.0;
/// Size of the labels of stages, ticks, legend and captions.
pub const SMALL: f64 = 11.0;

/// Radius of the mark of a whole step.
pub const STEP_RADIUS: f64 = 9.0;
/// Radius under which no mark would be seen.
pub const LEAST_RADIUS: f64 = 2.4;

/// Radius of a mark whose area is `share` of a whole step's.
pub fn radius(share: f64) -> f64 {
    (STEP_RADIUS * share.clamp(0.0, 1.0).sqrt()).max(LEAST_RADIUS)
}
