//! Writes SVG: shapes and real text, with coordinates to a tenth of a pixel so that the bytes never vary.

use std::fmt::Write;

use super::geometry::{At, Outline, at};
use super::text;
use super::theme;

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
    pub colour: &'static str,
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
    /// Colour of the inside, or `none`.
    pub fill: &'static str,
    /// Colour of the line, or `none`.
    pub stroke: &'static str,
    /// Width of the line.
    pub width: f64,
    /// Dashes of the line; empty for none.
    pub dash: &'static str,
}

impl Style {
    /// A filled shape without a line.
    pub fn filled(fill: &'static str) -> Self {
        Style { fill, stroke: "none", width: 0.0, dash: "" }
    }

    /// A line.
    pub fn line(stroke: &'static str, width: f64) -> Self {
        Style { fill: "none", stroke, width, dash: "" }
    }

    /// The same with dashes.
    pub fn dashed(self, dash: &'static str) -> Self {
        Style { dash, ..self }
    }

    fn attributes(&self) -> String {
        let mut out = format!(" fill=\"{}\"", self.fill);
        if self.stroke != "none" {
            let _ = write!(out, " stroke=\"{}\" stroke-width=\"{}\"", self.stroke, number(self.width));
        }
        if !self.dash.is_empty() {
            let _ = write!(out, " stroke-dasharray=\"{}\"", self.dash);
        }
        out
    }
}

/// The elements of a picture in the order they are painted.
#[derive(Debug, Default)]
pub struct Canvas {
    body: String,
}

impl Canvas {
    /// Begins a group that only shows inside this box.
    pub fn clip(&mut self, low: At, high: At) {
        let _ = writeln!(
            self.body,
            "<clipPath id=\"llmroof-area\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n\
             <g clip-path=\"url(#llmroof-area)\">",
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

    /// Ends the group.
    pub fn end(&mut self) {
        self.body.push_str("</g>\n");
    }

    /// Straight lines through these places.
    pub fn polyline(&mut self, places: &[At], style: Style) {
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\"{} stroke-linejoin=\"round\"/>",
            points(places),
            style.attributes()
        );
    }

    /// An area with these corners.
    pub fn polygon(&mut self, corners: &[At], style: Style) {
        let _ = writeln!(self.body, "<polygon points=\"{}\"{}/>", points(corners), style.attributes());
    }

    /// A circle.
    pub fn circle(&mut self, centre: At, radius: f64, style: Style) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}/>",
            number(centre.x),
            number(centre.y),
            number(radius),
            style.attributes()
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
        let _ = writeln!(
            self.body,
            "<text x=\"{x}\" y=\"{y}\"{turn} text-anchor=\"{anchor}\" font-size=\"{}\"{weight} fill=\"{}\">{}</text>",
            number(t.size),
            t.colour,
            text::escape(&t.text)
        );
    }

    /// The whole file. The title and the description are for those who cannot see it.
    pub fn finish(self, height: f64, title: &str, description: &str) -> String {
        let (width, height) = (number(theme::WIDTH), number(height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"llmroof-title llmroof-desc\" \
             font-family=\"{}\">\n\
             <title id=\"llmroof-title\">{}</title>\n<desc id=\"llmroof-desc\">{}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
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
