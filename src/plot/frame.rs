//! What every figure has around its subject: heading, axes with their grid, captions.

use super::caption;
use super::geometry::{At, at};
use super::scale::{Scale, Tick};
use super::svg::{Anchor, Canvas, Style, Text};
use super::text;
use super::theme;
use crate::run::Run;

/// Title and subtitle; returns where they end.
pub fn heading(canvas: &mut Canvas, title: &str, subtitle: &str) -> f64 {
    let room = theme::WIDTH - theme::LEFT - theme::RIGHT;
    canvas.group("heading");
    canvas.text(&Text {
        text: text::fit(title, theme::TITLE, true, room),
        at: at(theme::LEFT, 30.0),
        anchor: Anchor::Start,
        angle: 0.0,
        size: theme::TITLE,
        bold: true,
        colour: theme::INK.text,
    });
    if !subtitle.is_empty() {
        let subtitle = text::fit(subtitle, theme::LABEL, false, room);
        canvas.text(&quiet(subtitle, at(theme::LEFT, 49.0), theme::LABEL));
    }
    canvas.end();
    64.0
}

/// A line of text that is not the subject.
pub fn quiet(text: String, at: At, size: f64) -> Text {
    Text { text, at, anchor: Anchor::Start, angle: 0.0, size, bold: false, colour: theme::QUIET }
}

/// An axis: its ticks and its name.
pub struct Axis {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// What it shows, with the unit.
    pub name: String,
}

/// Grid lines at all ticks, those with a label stronger.
pub fn grid(canvas: &mut Canvas, scale: &Scale, x: &Axis, y: &Axis) {
    let (low, high) = (scale.low, scale.high);
    canvas.group("grid");
    for (labelled, colour) in [(false, theme::GRID_MINOR), (true, theme::GRID)] {
        let wanted = |ticks: &[Tick]| -> Vec<f64> {
            ticks.iter().filter(|t| t.strong == labelled).map(|t| t.value).collect()
        };
        let upright = wanted(&x.ticks).into_iter().map(|value| scale.at(value, scale.y.low).x);
        let level = wanted(&y.ticks).into_iter().map(|value| scale.at(scale.x.low, value).y);
        let lines: Vec<(At, At)> = upright
            .map(|x| (at(x, low.y), at(x, high.y)))
            .chain(level.map(|y| (at(low.x, y), at(high.x, y))))
            .collect();
        canvas.lines(&lines, Style::line(colour, 0.8));
    }
    canvas.end();
}

/// The frame with its ticks, their labels, and the names of the axes.
pub fn axes(canvas: &mut Canvas, scale: &Scale, x: &Axis, y: &Axis) {
    let (low, high) = (scale.low, scale.high);
    canvas.group("axes");
    let frame = [low, at(high.x, low.y), high, at(low.x, high.y)];
    canvas.polygon(&frame, Style::line(theme::FRAME, 1.0));
    let mut ticks = Vec::new();
    let mut labels = Vec::new();
    for tick in &x.ticks {
        let x = scale.at(tick.value, scale.y.low).x;
        ticks.push((at(x, high.y), at(x, high.y + if tick.label.is_some() { 5.0 } else { 3.0 })));
        let place = at(x, high.y + 18.0);
        labels.extend(
            tick.label
                .clone()
                .map(|label| Text { anchor: Anchor::Middle, ..quiet(label, place, theme::SMALL) }),
        );
    }
    for tick in &y.ticks {
        let y = scale.at(scale.x.low, tick.value).y;
        ticks.push((at(low.x - if tick.label.is_some() { 5.0 } else { 3.0 }, y), at(low.x, y)));
        let place = at(low.x - 8.0, y + 0.36 * theme::SMALL);
        labels.extend(
            tick.label.clone().map(|label| Text { anchor: Anchor::End, ..quiet(label, place, theme::SMALL) }),
        );
    }
    canvas.lines(&ticks, Style::line(theme::FRAME, 0.8));
    labels.iter().for_each(|label| canvas.text(label));
    let widths = y.ticks.iter().filter_map(|t| t.label.as_ref()).map(|l| text::width(l, theme::SMALL, false));
    let beside = (low.x - 22.0 - widths.fold(0.0, f64::max)).max(16.0);
    let name = |text: &str, at, angle| Text {
        anchor: Anchor::Middle,
        angle,
        colour: theme::INK.text,
        ..quiet(text.to_string(), at, theme::LABEL)
    };
    canvas.text(&name(&x.name, at((low.x + high.x) / 2.0, high.y + 37.0), 0.0));
    canvas.text(&name(&y.name, at(beside, (low.y + high.y) / 2.0), -90.0));
    canvas.end();
}

/// What a figure says below itself: its own sentences, then each run's device, conditions and date, and the sources.
/// Returns where it ends.
pub fn captions(canvas: &mut Canvas, own: &[String], runs: &[Run], top: f64) -> f64 {
    let room = theme::WIDTH - theme::LEFT - theme::RIGHT;
    let wrap = |text: &str, lines| text::wrap(text, theme::SMALL, room, lines);
    let mut lines: Vec<String> = own.iter().flat_map(|text| wrap(text, 3)).collect();
    let mut said: Vec<String> = Vec::new();
    for caption in runs.iter().map(caption::caption) {
        if !said.contains(&caption) {
            lines.extend(wrap(&caption, 3));
            said.push(caption);
        }
    }
    lines.extend(caption::sources(runs).into_iter().flat_map(|s| wrap(&s, 6)));
    canvas.group("caption");
    let mut y = top;
    for line in lines {
        y += 15.0;
        canvas.text(&quiet(line, at(theme::LEFT, y), theme::SMALL));
    }
    canvas.end();
    (y + 16.0).ceil()
}

/// The sentence on marks whose label found no room; none where all have theirs.
pub fn unlabelled(left_out: &[String], runs: usize) -> Option<String> {
    match left_out {
        [] => None,
        few if runs == 1 && few.len() <= 8 => {
            Some(format!("Without a label for want of room: {}.", left_out.join(", ")))
        }
        many => Some(format!(
            "{} labels found no room; their numbers are in this file's description.",
            many.len()
        )),
    }
}
