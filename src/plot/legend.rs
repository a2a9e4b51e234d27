//! The key under the picture: what each shape, line and colour means. Only what appears is explained.

use super::geometry::{At, at};
use super::svg::{Anchor, Canvas, Style, Text};
use super::text;
use super::theme::{self, Colour, Hue};

/// What an entry shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Sign {
    /// A circle (decode): radius, filling, line, width of the line.
    Circle(f64, Colour, Colour, f64),
    /// A diamond (prefill): as a circle.
    Diamond(f64, Colour, Colour, f64),
    /// A square (mixed steps): as a circle.
    Square(f64, Colour, Colour, f64),
    /// Circles of falling size.
    Sizes,
    /// A line.
    Line(Style),
    /// Circles on a line.
    Path(Hue),
    /// A band under a line.
    Band,
    /// An upright bar.
    Bar(Colour),
    /// A dotted line up from a mark.
    Drop(Colour),
    /// A small box: filling and line.
    Box(Colour, Colour),
    /// A stage of a bar: what was needed and what was lost.
    Parts(Hue),
    /// A run's colour.
    Swatch(Colour),
}

const ROW: f64 = 19.0;
const SIGN: f64 = 34.0;
const GAP: f64 = 12.0;

/// Draws the entries in rows from `top` on and returns where they end.
pub fn draw(canvas: &mut Canvas, entries: &[(Sign, String)], top: f64) -> f64 {
    let (left, right) = (theme::LEFT, theme::WIDTH - theme::RIGHT);
    let (mut x, mut y) = (left, top);
    canvas.group("legend");
    for (sign, words) in entries {
        let words = text::fit(words, theme::SMALL, false, right - left - SIGN);
        let needed = SIGN + text::width(&words, theme::SMALL, false);
        if x > left && x + needed > right {
            x = left;
            y += ROW;
        }
        draw_sign(canvas, sign, at(x + SIGN / 2.0 - 4.0, y));
        canvas.text(&Text {
            text: words,
            at: at(x + SIGN, y + 0.36 * theme::SMALL),
            anchor: Anchor::Start,
            angle: 0.0,
            size: theme::SMALL,
            bold: false,
            colour: theme::INK.main,
        });
        x += needed + GAP;
    }
    canvas.end();
    if entries.is_empty() { top } else { y + ROW }
}

fn draw_sign(canvas: &mut Canvas, sign: &Sign, centre: At) {
    let half = SIGN / 2.0 - 5.0;
    let (from, to) = (at(centre.x - half, centre.y), at(centre.x + half, centre.y));
    match *sign {
        Sign::Circle(radius, fill, stroke, width) => {
            canvas.circle(centre, radius, Style::outlined(fill, stroke, width));
        }
        Sign::Diamond(radius, fill, stroke, width) => {
            let reach = radius * 1.25;
            let corners = [(0.0, -reach), (reach, 0.0), (0.0, reach), (-reach, 0.0)]
                .map(|(dx, dy)| at(centre.x + dx, centre.y + dy));
            canvas.polygon(&corners, Style::outlined(fill, stroke, width));
        }
        Sign::Square(radius, fill, stroke, width) => {
            let half = radius * 0.9;
            let (low, high) = (at(centre.x - half, centre.y - half), at(centre.x + half, centre.y + half));
            canvas.rectangle(low, high, Style::outlined(fill, stroke, width));
        }
        Sign::Sizes => {
            for (share, x) in [(0.5, -8.0), (0.2, 3.0), (0.07, 10.5)] {
                let place = at(centre.x + x, centre.y);
                canvas.circle(place, theme::radius(share), Style::outlined(theme::GROUND, theme::QUIET, 0.9));
            }
        }
        Sign::Line(style) => canvas.polyline(&[from, to], style),
        Sign::Path(hue) => {
            canvas.polyline(&[from, to], Style::line(hue.main, 1.4));
            for place in [from, centre, to] {
                canvas.circle(place, 3.2, Style::outlined(hue.main, theme::GROUND, 0.8));
            }
        }
        Sign::Band => {
            let corners = [
                at(from.x, from.y - 4.0),
                at(to.x, to.y - 4.0),
                at(to.x, to.y + 5.0),
                at(from.x, from.y + 5.0),
            ];
            canvas.polygon(&corners, Style::filled(theme::BAND));
            canvas.polyline(&corners[..2], Style::line(theme::INK.main, 2.2));
        }
        Sign::Bar(colour) => {
            canvas.polyline(
                &[at(centre.x, centre.y - 7.0), at(centre.x, centre.y + 7.0)],
                Style::line(colour, 1.2),
            );
        }
        Sign::Drop(colour) => {
            let (top, foot) = (at(centre.x, centre.y - 8.0), at(centre.x, centre.y + 3.0));
            canvas.polyline(&[top, foot], Style::line(colour, 0.9).dashed("2 2"));
            canvas.circle(at(centre.x, centre.y + 5.0), 3.0, Style::filled(colour));
        }
        Sign::Box(fill, stroke) => {
            let (low, high) = (at(from.x, from.y - 5.0), at(to.x, to.y + 5.0));
            canvas.rectangle(low, high, Style::outlined(fill, stroke, 1.0));
        }
        Sign::Parts(hue) => {
            let (low, high) = (at(from.x, from.y - 5.0), at(to.x, to.y + 5.0));
            canvas.rectangle(low, high, Style::filled(hue.soft));
            canvas.rectangle(low, at(centre.x + 4.0, high.y), Style::filled(hue.main));
        }
        Sign::Swatch(colour) => {
            canvas.polyline(&[from, to], Style::line(colour, 6.0));
        }
    }
}
