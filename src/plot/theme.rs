//! Colours, sizes and fonts of the pictures, in one place.
//!
//! A colour is named after what it is for and looks different in each scheme. That the hues stay apart for every kind
//! of colour vision, and that text can be read on its ground, is computed in `tests/plot/palette.rs`.

/// A colour: what it is for, and how it looks in each scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// Name of its class and of its CSS variable.
    pub name: &'static str,
    /// On white.
    pub light: &'static str,
    /// On a dark screen.
    pub dark: &'static str,
    /// On paper, where tints cost ink and fade.
    pub print: &'static str,
}

const fn colour(name: &'static str, light: &'static str, dark: &'static str, print: &'static str) -> Colour {
    Colour { name, light, dark, print }
}

/// One set of concrete colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// On white.
    Light,
    /// On a dark screen.
    Dark,
    /// On paper.
    Print,
}

impl Colour {
    /// How it looks: `#rrggbb`.
    pub fn of(self, scheme: Scheme) -> &'static str {
        match scheme {
            Scheme::Light => self.light,
            Scheme::Dark => self.dark,
            Scheme::Print => self.print,
        }
    }
}

/// Which scheme a picture is in, and who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// The reader's: light or dark as their system is set, for paper when printed; light where CSS is not understood.
    #[default]
    Auto,
    /// Always this one.
    Fixed(Scheme),
    /// That of the page around it, whose style sheet is [`stylesheet`].
    Page,
}

impl Theme {
    /// The scheme of what is written without CSS.
    pub fn scheme(self) -> Scheme {
        match self {
            Theme::Auto | Theme::Page => Scheme::Light,
            Theme::Fixed(scheme) => scheme,
        }
    }

    /// Whether CSS decides.
    pub fn has_classes(self) -> bool {
        !matches!(self, Theme::Fixed(_))
    }
}

/// A hue in three depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hue {
    /// Lines and the filling of whole steps.
    pub main: Colour,
    /// Text.
    pub text: Colour,
    /// Filling of stages.
    pub soft: Colour,
}

/// What lies behind everything.
pub const GROUND: Colour = colour("ground", "#ffffff", "#14181f", "#ffffff");
/// Text that is not the subject: ticks, captions.
pub const QUIET: Colour = colour("quiet", "#555555", "#a9b1bd", "#333333");
/// Frame and tick marks.
pub const FRAME: Colour = colour("frame", "#888888", "#7c8593", "#555555");
/// Grid at whole decades.
pub const GRID: Colour = colour("grid", "#dcdcdc", "#343c48", "#cccccc");
/// Grid between the decades.
pub const GRID_MINOR: Colour = colour("grid-minor", "#f1f1f1", "#20262f", "#ececec");
/// Under the slanted roof.
pub const MEMORY_ZONE: Colour = colour("memory-zone", "#f1f7fb", "#16212c", "#ffffff");
/// Under the level roof.
pub const COMPUTE_ZONE: Colour = colour("compute-zone", "#fdf5ee", "#261d18", "#ffffff");
/// Between how low a measured roof fell and its best.
pub const BAND: Colour = colour("band", "#d9d9d9", "#3d4653", "#dddddd");

/// Roofs, where one run is drawn.
pub const INK: Hue = Hue {
    main: colour("ink", "#222222", "#e6e9ee", "#000000"),
    text: colour("ink", "#222222", "#e6e9ee", "#000000"),
    soft: colour("ink-soft", "#bbbbbb", "#59626f", "#bbbbbb"),
};
/// Decode, where one run is drawn.
pub const BLUE: Hue = Hue {
    main: colour("blue", "#0072b2", "#4ba9e0", "#0072b2"),
    text: colour("blue-text", "#004a75", "#8ecbf2", "#00385a"),
    soft: colour("blue-soft", "#a9d1ea", "#1d4a68", "#a9d1ea"),
};
/// Prefill, where one run is drawn.
pub const VERMILLION: Hue = Hue {
    main: colour("vermillion", "#d55e00", "#f07f3c", "#d55e00"),
    text: colour("vermillion-text", "#8a3d00", "#f8b083", "#6e3000"),
    soft: colour("vermillion-soft", "#f7cbaa", "#6b3716", "#f7cbaa"),
};
/// Mixed steps, where one run is drawn.
pub const GREEN: Hue = Hue {
    main: colour("green", "#085642", "#30e8b0", "#085642"),
    text: colour("green-text", "#064434", "#7df0cd", "#04352a"),
    soft: colour("green-soft", "#a8d5c8", "#17604b", "#a8d5c8"),
};
const PURPLE: Hue = Hue {
    main: colour("purple", "#aa2172", "#efbed6", "#aa2172"),
    text: colour("purple-text", "#7d1854", "#f5d4e4", "#651143"),
    soft: colour("purple-soft", "#ecbdd8", "#6d3a54", "#ecbdd8"),
};
const OLIVE: Hue = Hue {
    main: colour("olive", "#5c4503", "#f2ea50", "#5c4503"),
    text: colour("olive-text", "#493702", "#f6f08a", "#382a00"),
    soft: colour("olive-soft", "#dccb97", "#65611b", "#dccb97"),
};
const INDIGO: Hue = Hue {
    main: colour("indigo", "#2a1a5e", "#6c70ea", "#2a1a5e"),
    text: colour("indigo-text", "#2a1a5e", "#a3a6f7", "#1d1144"),
    soft: colour("indigo-soft", "#bfb6e0", "#33366f", "#bfb6e0"),
};

/// One hue for each run of an overlay; beyond six they repeat.
pub const RUNS: [Hue; 6] = [BLUE, VERMILLION, GREEN, PURPLE, OLIVE, INDIGO];

const PLAIN: [Colour; 8] = [GROUND, QUIET, FRAME, GRID, GRID_MINOR, MEMORY_ZONE, COMPUTE_ZONE, BAND];

/// Every colour there is, each once.
pub fn colours() -> Vec<Colour> {
    let mut all = PLAIN.to_vec();
    for hue in std::iter::once(INK).chain(RUNS) {
        for colour in [hue.main, hue.text, hue.soft] {
            if !all.contains(&colour) {
                all.push(colour);
            }
        }
    }
    all
}

/// CSS that gives classes `f-NAME` (filling) and `s-NAME` (line) these colours through variables `--NAME`, under the
/// elements that `scope` selects. A viewer without variables skips all of it and keeps the light colours that every
/// element carries.
pub fn stylesheet(colours: &[Colour], scope: &str) -> String {
    let set = |scheme| format!("{scope}{{{}}}", variables(colours, scheme));
    format!(
        "@supports (color:var(--a)){{{}@media (prefers-color-scheme:dark){{{}}}@media print{{{}}}{}}}",
        set(Scheme::Light),
        set(Scheme::Dark),
        set(Scheme::Print),
        classes(colours)
    )
}

/// The CSS variables `--NAME` of these colours in one scheme.
pub fn variables(colours: &[Colour], scheme: Scheme) -> String {
    colours.iter().map(|c| format!("--{}:{};", c.name, c.of(scheme))).collect()
}

/// The CSS rules of the classes `f-NAME` and `s-NAME`.
pub fn classes(colours: &[Colour]) -> String {
    let rules = |c: &Colour| format!(".f-{0}{{fill:var(--{0})}}.s-{0}{{stroke:var(--{0})}}", c.name);
    colours.iter().map(rules).collect()
}

/// Fonts in order of preference; the last always exists.
pub const FONTS: &str = "Helvetica Neue, Helvetica, Arial, Liberation Sans, Noto Sans, sans-serif";

/// Width of the whole picture.
pub const WIDTH: f64 = 900.0;
/// Space left of the plot area: the labels of the vertical axis.
pub const LEFT: f64 = 112.0;
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
