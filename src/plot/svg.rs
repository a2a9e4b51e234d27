//! Writes SVG: shapes and real text, with coordinates to a tenth of a pixel so that the bytes never vary.
//!
//! Every element carries its colour as an attribute, which any viewer understands, and as a class, by which a style
//! sheet can give it that of another scheme.

use std::fmt::Write;

use super::geometry::{At, Outline, at};
use super::text;
use super::theme::{self, Colour, Theme};

/// Which end of a text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The beginning.
    Start,
    /// The middle.
    Middle,
    /// The end.
    End,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// Place of the anchor on the baseline.
    pub at: At,
    /// Which end stands there.
    pub anchor: Anchor,
    /// Turned around the anchor, in degrees clockwise.
    pub angle: f64,
    /// Font size.
    pub size: f64,
    /// Heavier letters.
    pub bold: bool,
    /// Colour.
    pub colour: Colour,
}

impl Text {
    /// The box that it needs at most.
    pub fn outline(&self) -> Outline {
        let width = text::width(&self.text, self.size, self.bold);
        let left = match self.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -width / 2.0,
            Anchor::End => -width,
        } + self.at.x;
        let upright = Outline::rectangle(
            at(left, self.at.y - 0.82 * self.size),
            at(left + width, self.at.y + 0.26 * self.size),
        );
        if self.angle == 0.0 { upright } else { upright.turned(self.at, self.angle) }
    }
}

/// How a shape is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// Colour of the inside.
    pub fill: Option<Colour>,
    /// Colour of the line.
    pub stroke: Option<Colour>,
    /// Width of the line.
    pub width: f64,
    /// Dashes of the line; empty for none.
    pub dash: &'static str,
}

impl Style {
    /// A filled shape without a line.
    pub fn filled(fill: Colour) -> Self {
        Style { fill: Some(fill), stroke: None, width: 0.0, dash: "" }
    }

    /// A line.
    pub fn line(stroke: Colour, width: f64) -> Self {
        Style { fill: None, stroke: Some(stroke), width, dash: "" }
    }

    /// A filled shape with a line around it.
    pub fn outlined(fill: Colour, stroke: Colour, width: f64) -> Self {
        Style { fill: Some(fill), stroke: Some(stroke), width, dash: "" }
    }

    /// The same with dashes.
    pub fn dashed(self, dash: &'static str) -> Self {
        Style { dash, ..self }
    }
}

/// The elements of a picture in the order they are painted.
#[derive(Debug)]
pub struct Canvas {
    theme: Theme,
    /// Begins every id, so that several pictures can stand in one page.
    name: &'static str,
    used: Vec<Colour>,
    body: String,
}

impl Canvas {
    /// An empty picture of this name.
    pub fn new(name: &'static str, theme: Theme) -> Self {
        Canvas { theme, name, used: Vec::new(), body: String::new() }
    }

    /// Begins a group that only shows inside this box.
    pub fn clip(&mut self, low: At, high: At) {
        let name = self.name;
        let _ = writeln!(
            self.body,
            "<clipPath id=\"llmroof-{name}-area\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n\
             <g clip-path=\"url(#llmroof-{name}-area)\">",
            number(low.x),
            number(low.y),
            number(high.x - low.x),
            number(high.y - low.y)
        );
    }

    /// Begins a group that tools and people reading the file find by its class.
    pub fn group(&mut self, class: &str) {
        let _ = writeln!(self.body, "<g class=\"{}\">", text::escape(class));
    }

    /// Begins a group that belongs to these points, each named `RUN.POINT` by its place in the input.
    pub fn group_of(&mut self, class: &str, points: &[String]) {
        let _ = writeln!(
            self.body,
            "<g class=\"{}\" data-points=\"{}\">",
            text::escape(class),
            text::escape(&points.join(" "))
        );
    }

    /// Begins a group that belongs to a whole run, by its place in the input.
    pub fn group_of_run(&mut self, class: &str, run: usize) {
        let _ = writeln!(self.body, "<g class=\"{}\" data-run=\"{run}\">", text::escape(class));
    }

    /// Ends the group.
    pub fn end(&mut self) {
        self.body.push_str("</g>\n");
    }

    fn colour(&mut self, attribute: &str, colour: Colour) -> String {
        if !self.used.contains(&colour) {
            self.used.push(colour);
        }
        format!(" {attribute}=\"{}\"", colour.of(self.theme.scheme()))
    }

    fn attributes(&mut self, style: Style) -> String {
        let mut out = match style.fill {
            Some(colour) => self.colour("fill", colour),
            None => " fill=\"none\"".to_string(),
        };
        if let Some(colour) = style.stroke {
            out += &self.colour("stroke", colour);
            let _ = write!(out, " stroke-width=\"{}\"", number(style.width));
        }
        if !style.dash.is_empty() {
            let _ = write!(out, " stroke-dasharray=\"{}\"", style.dash);
        }
        if self.theme.has_classes() {
            let fill = style.fill.map(|c| format!("f-{}", c.name));
            let stroke = style.stroke.map(|c| format!("s-{}", c.name));
            let classes: Vec<String> = fill.into_iter().chain(stroke).collect();
            if !classes.is_empty() {
                let _ = write!(out, " class=\"{}\"", classes.join(" "));
            }
        }
        out
    }

    /// Straight lines through these places.
    pub fn polyline(&mut self, places: &[At], style: Style) {
        let attributes = self.attributes(style);
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\"{attributes} stroke-linejoin=\"round\"/>",
            points(places),
        );
    }

    /// Lines from place to place that have nothing to do with each other, as one element.
    pub fn lines(&mut self, lines: &[(At, At)], style: Style) {
        if lines.is_empty() {
            return;
        }
        let attributes = self.attributes(style);
        let path: String = lines
            .iter()
            .map(|(a, b)| format!("M{} {}L{} {}", number(a.x), number(a.y), number(b.x), number(b.y)))
            .collect();
        let _ = writeln!(self.body, "<path d=\"{path}\"{attributes}/>");
    }

    /// An area with these corners.
    pub fn polygon(&mut self, corners: &[At], style: Style) {
        let attributes = self.attributes(style);
        let _ = writeln!(self.body, "<polygon points=\"{}\"{attributes}/>", points(corners));
    }

    /// An upright box.
    pub fn rectangle(&mut self, low: At, high: At, style: Style) {
        let attributes = self.attributes(style);
        let _ = writeln!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{attributes}/>",
            number(low.x),
            number(low.y),
            number(high.x - low.x),
            number(high.y - low.y)
        );
    }

    /// A circle.
    pub fn circle(&mut self, centre: At, radius: f64, style: Style) {
        let attributes = self.attributes(style);
        let _ = writeln!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{attributes}/>",
            number(centre.x),
            number(centre.y),
            number(radius),
        );
    }

    /// What a pointer over the next group's shapes is told; screen readers read it too.
    pub fn tip(&mut self, what: &str) {
        let _ = writeln!(self.body, "<title>{}</title>", text::escape(what));
    }

    /// A line of text.
    pub fn text(&mut self, t: &Text) {
        let anchor = match t.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (number(t.at.x), number(t.at.y));
        let turn = match t.angle {
            0.0 => String::new(),
            angle => format!(" transform=\"rotate({} {x} {y})\"", number(angle)),
        };
        let weight = if t.bold { " font-weight=\"bold\"" } else { "" };
        let attributes = self.attributes(Style::filled(t.colour));
        let _ = writeln!(
            self.body,
            "<text x=\"{x}\" y=\"{y}\"{turn} text-anchor=\"{anchor}\" font-size=\"{}\"{weight}{attributes}>{}</text>",
            number(t.size),
            text::escape(&t.text)
        );
    }

    /// The whole file. The title and the description are for those who cannot see it.
    pub fn finish(mut self, height: f64, title: &str, description: &str) -> String {
        let (width, height) = (number(theme::WIDTH), number(height));
        // In a page the page itself is the ground.
        let ground = match self.theme {
            Theme::Page => String::new(),
            _ => {
                let attributes = self.attributes(Style::filled(theme::GROUND));
                format!("<rect width=\"{width}\" height=\"{height}\"{attributes}/>\n")
            }
        };
        let sheet = match self.theme {
            Theme::Auto => {
                format!("<style>{}</style>\n", theme::stylesheet(&self.used, ".llmroof"))
            }
            _ => String::new(),
        };
        let name = self.name;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"llmroof\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-labelledby=\"llmroof-{name}-title llmroof-{name}-desc\" font-family=\"{}\">\n\
             <title id=\"llmroof-{name}-title\">{}</title>\n<desc id=\"llmroof-{name}-desc\">{}</desc>\n\
             {sheet}{ground}{}</svg>\n",
            theme::FONTS,
            text::escape(title),
            text::escape(description),
            self.body
        )
    }
}

fn points(places: &[At]) -> String {
    places.iter().map(|p| format!("{},{}", number(p.x), number(p.y))).collect::<Vec<_>>().join(" ")
}

/// A coordinate to a tenth, without needless zeros and without a negative zero.
fn number(value: f64) -> String {
    let tenths = (value * 10.0).round() as i64;
    let (sign, tenths) = (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs());
    match tenths % 10 {
        0 => format!("{sign}{}", tenths / 10),
        tenth => format!("{sign}{}.{tenth}", tenths / 10),
    }
}
