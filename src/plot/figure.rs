//! Puts the picture together: axes, zones, roofs, marks, labels, key and captions, in the order of painting.

use super::caption;
use super::geometry::{At, at};
use super::legend;
use super::marks::{self, Mark};
use super::roofs::{self, Roofs};
use super::scale::{Range, Scale};
use super::svg::{Anchor, Canvas, Style, Text};
use super::theme::{self, Hue};
use super::{Level, annotate, key, text};
use crate::error::{Failure, Result};
use crate::roofline::CeilingSource;
use crate::run::{Run, RunStatus};
use crate::workload::Phase;

/// One run with all that is drawn of it.
pub(super) struct Layer<'a> {
    pub run: &'a Run,
    pub hue: Hue,
    pub measured: Option<Roofs>,
    pub datasheet: Option<Roofs>,
    pub marks: Vec<Mark<'a>>,
    pub sweeps: Vec<marks::Sweep<'a>>,
}

impl Layer<'_> {
    /// The measured roofs, or the datasheet's where nothing was measured.
    pub fn roofs(&self) -> Option<&Roofs> {
        self.measured.as_ref().or(self.datasheet.as_ref())
    }

    fn all_roofs(&self) -> impl Iterator<Item = &Roofs> {
        self.measured.iter().chain(&self.datasheet)
    }
}

/// The whole SVG.
pub(super) fn draw(runs: &[Run], level: Level) -> Result<String> {
    let layers: Vec<Layer> =
        runs.iter().enumerate().map(|(i, run)| layer(run, i, runs.len(), level)).collect();
    let (x, y) = ranges(&layers).ok_or_else(|| {
        Failure::input("nothing to draw: no roof and no point with operations")
            .hint("plot a run that `llmroof measure` or `predict` wrote")
    })?;
    let title = caption::title(runs);
    let mut canvas = Canvas::default();
    let top = heading(&mut canvas, &title, &caption::subtitle(runs));
    let scale = Scale::new(x, y, top);

    canvas.clip(scale.low, scale.high);
    if let [layer] = layers.as_slice() {
        zones(&mut canvas, &scale, layer);
    }
    axes_grid(&mut canvas, &scale);
    for layer in &layers {
        draw_roofs(&mut canvas, &scale, layer, layers.len() > 1);
    }
    canvas.end();
    axes(&mut canvas, &scale);
    for layer in &layers {
        draw_marks(&mut canvas, &scale, layer);
    }
    let left_out = annotate::draw(&mut canvas, &scale, &layers);

    let below = legend::draw(&mut canvas, &key::entries(&scale, &layers), scale.high.y + 62.0);
    let height = captions(&mut canvas, runs, &left_out, below - 8.0);
    Ok(canvas.finish(height, &title, &caption::description(runs)))
}

fn layer(run: &Run, index: usize, runs: usize, level: Level) -> Layer<'_> {
    let own = theme::RUNS[index % theme::RUNS.len()];
    let hue_of = |phase| match phase {
        _ if runs > 1 => own,
        Phase::Decode => theme::BLUE,
        Phase::Prefill => theme::VERMILLION,
    };
    Layer {
        run,
        hue: if runs > 1 { own } else { theme::INK },
        measured: Roofs::of(run, CeilingSource::Measured),
        datasheet: Roofs::of(run, CeilingSource::Datasheet),
        marks: marks::marks(run, level, hue_of),
        sweeps: if level == Level::Stage { Vec::new() } else { marks::sweeps(run) },
    }
}

/// Ranges of both axes: all marks and plateaus, and the ridge with room on both sides.
fn ranges(layers: &[Layer]) -> Option<(Range, Range)> {
    let points = || layers.iter().flat_map(|l| &l.marks).map(|m| m.point);
    let ridges = || layers.iter().filter_map(|l| l.roofs()?.ridge());
    let tops = layers.iter().flat_map(|l| l.all_roofs()).filter_map(Roofs::top);
    let memory = layers.iter().filter_map(|l| l.roofs()?.memory);
    let intensities = points().map(|p| p.intensity).chain(ridges().flat_map(|(x, _)| [x.0 / 3.0, x.0 * 6.0]));
    let x = Range::holding(intensities, 2.2, 1.6)
        // Only bandwidths: any stretch of them will do.
        .or_else(|| memory.clone().next().map(|_| Range { low: 0.5, high: 500.0 }))
        .or(Some(Range { low: 0.5, high: 500.0 }))?;
    let rates = points().map(|p| p.flops_per_second).chain(tops);
    let y = Range::holding(rates, 2.6, 1.7)
        .or_else(|| Range::holding(memory.flat_map(|m| [m.rate * x.low, m.rate * x.high]), 1.0, 1.0))?;
    // A plateau alone has no extent of its own.
    let y = if y.high / y.low < 30.0 { Range { low: y.high / 30.0, ..y } } else { y };
    Some((x, y))
}

fn heading(canvas: &mut Canvas, title: &str, subtitle: &str) -> f64 {
    let room = theme::WIDTH - theme::LEFT - theme::RIGHT;
    canvas.group("heading");
    canvas.text(&Text {
        text: text::fit(title, theme::TITLE, true, room),
        at: at(theme::LEFT, 30.0),
        anchor: Anchor::Start,
        angle: 0.0,
        size: theme::TITLE,
        bold: true,
        colour: theme::INK.main,
    });
    if !subtitle.is_empty() {
        canvas.text(&quiet(
            text::fit(subtitle, theme::LABEL, false, room),
            at(theme::LEFT, 49.0),
            theme::LABEL,
        ));
    }
    canvas.end();
    64.0
}

fn quiet(text: String, at: At, size: f64) -> Text {
    Text { text, at, anchor: Anchor::Start, angle: 0.0, size, bold: false, colour: theme::QUIET }
}

/// Where memory and where the arithmetic is the limit, and the ground that the roof itself lost.
fn zones(canvas: &mut Canvas, scale: &Scale, layer: &Layer) {
    let Some(roofs) = layer.roofs() else { return };
    let (Some(memory), Some(peak)) = (roofs.memory, roofs.main_plateau().map(|p| p.height)) else { return };
    let ridge = peak.rate / memory.rate;
    let area = |from, to| roofs::under(scale, memory.rate, peak.rate, from, to);
    canvas.polygon(&area(scale.x.low, ridge), Style::filled(theme::MEMORY_ZONE));
    canvas.polygon(&area(ridge, scale.x.high), Style::filled(theme::COMPUTE_ZONE));
    if roofs.source == CeilingSource::Measured {
        canvas.polygon(&roofs::band(scale, memory, peak), Style::filled(theme::BAND));
    }
}

fn axes_grid(canvas: &mut Canvas, scale: &Scale) {
    canvas.group("grid");
    for (whole, colour) in [(false, theme::GRID_MINOR), (true, theme::GRID)] {
        let wanted = |value: f64| (value.log10().fract().abs() < 1e-9) == whole;
        for (value, _) in scale.x_ticks().into_iter().filter(|(v, _)| wanted(*v)) {
            let x = scale.at(value, scale.y.low).x;
            canvas.polyline(&[at(x, scale.low.y), at(x, scale.high.y)], Style::line(colour, 0.8));
        }
        for (value, _) in scale.y_ticks().into_iter().filter(|(v, _)| wanted(*v)) {
            let y = scale.at(scale.x.low, value).y;
            canvas.polyline(&[at(scale.low.x, y), at(scale.high.x, y)], Style::line(colour, 0.8));
        }
    }
    canvas.end();
}

fn axes(canvas: &mut Canvas, scale: &Scale) {
    let (low, high) = (scale.low, scale.high);
    canvas.group("axes");
    let frame = [low, at(high.x, low.y), high, at(low.x, high.y)];
    canvas.polygon(&frame, Style::line(theme::FRAME, 1.0));
    for (value, label) in scale.x_ticks() {
        let x = scale.at(value, scale.y.low).x;
        let length = if label.is_some() { 5.0 } else { 3.0 };
        canvas.polyline(&[at(x, high.y), at(x, high.y + length)], Style::line(theme::FRAME, 0.8));
        if let Some(label) = label {
            let place = at(x, high.y + 18.0);
            canvas.text(&Text { anchor: Anchor::Middle, ..quiet(label, place, theme::SMALL) });
        }
    }
    for (value, label) in scale.y_ticks() {
        let y = scale.at(scale.x.low, value).y;
        let length = if label.is_some() { 5.0 } else { 3.0 };
        canvas.polyline(&[at(low.x - length, y), at(low.x, y)], Style::line(theme::FRAME, 0.8));
        if let Some(label) = label {
            let place = at(low.x - 8.0, y + 0.36 * theme::SMALL);
            canvas.text(&Text { anchor: Anchor::End, ..quiet(label, place, theme::SMALL) });
        }
    }
    let middle = at((low.x + high.x) / 2.0, high.y + 37.0);
    let name = |text: &str, at, angle| Text {
        anchor: Anchor::Middle,
        angle,
        colour: theme::INK.main,
        ..quiet(text.to_string(), at, theme::LABEL)
    };
    canvas.text(&name("Arithmetic intensity (FLOP per compulsory byte)", middle, 0.0));
    canvas.text(&name("Performance (FLOP/s)", at(16.0, (low.y + high.y) / 2.0), -90.0));
    canvas.end();
}

/// How the roofs of a source are drawn: the main ones and the others.
pub(super) fn roof_style(source: CeilingSource, main: bool, hue: Hue) -> Style {
    match (source, main) {
        (CeilingSource::Measured, true) => Style::line(hue.main, 2.2),
        (CeilingSource::Measured, false) => Style::line(hue.main, 1.1),
        (CeilingSource::Datasheet, main) => Style::line(hue.main, if main { 1.3 } else { 0.9 }).dashed("6 4"),
    }
}

/// The plateaus to draw: all of a single run, of an overlay only those of the types that were computed with.
pub(super) fn plateaus(roofs: &Roofs, overlay: bool) -> impl Iterator<Item = (bool, &roofs::Plateau)> {
    roofs
        .plateaus
        .iter()
        .enumerate()
        .map(|(i, p)| (Some(i) == roofs.main, p))
        .filter(move |(main, _)| *main || !overlay)
}

fn draw_roofs(canvas: &mut Canvas, scale: &Scale, layer: &Layer, overlay: bool) {
    canvas.group("roofs");
    for roofs in layer.all_roofs() {
        let memory = roofs.memory.map(|m| m.rate);
        let highest = plateaus(roofs, overlay)
            .map(|(_, p)| p.height.rate)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        let style = |main| roof_style(roofs.source, main, layer.hue);
        if let (Some(rate), false) = (roofs.cache, overlay)
            && let Some((from, to)) = roofs::slope(scale, rate, highest)
        {
            canvas.polyline(&[from, to], Style::line(layer.hue.main, 0.8));
        }
        for (_, plateau) in plateaus(roofs, overlay).filter(|(main, _)| !main) {
            if let Some((from, to)) = roofs::level(scale, roofs.cache.or(memory), plateau.height.rate) {
                canvas.polyline(&[from, to], style(false));
            }
        }
        // Beyond the main ridge the slope only serves the higher plateaus.
        let main = roofs.main_plateau().map(|p| p.height.rate);
        if let (Some(memory), Some(highest)) = (memory, highest)
            && main != Some(highest)
            && let Some((from, to)) = roofs::slope(scale, memory, Some(highest))
        {
            canvas.polyline(&[from, to], style(false));
        }
        let mut corners = Vec::new();
        corners.extend(memory.and_then(|rate| roofs::slope(scale, rate, main)).map(|(from, to)| [from, to]));
        corners.extend(main.and_then(|rate| roofs::level(scale, memory, rate)).map(|(from, to)| [from, to]));
        if !corners.is_empty() {
            canvas.polyline(&corners.concat(), style(true));
        }
    }
    if let Some((x, peak)) = layer.roofs().and_then(Roofs::ridge)
        && scale.shows(x.0, peak.0)
    {
        let corner = scale.at(x.0, peak.0);
        canvas.polyline(
            &[corner, at(corner.x, scale.high.y)],
            Style::line(layer.hue.main, 1.0).dashed("1.5 3"),
        );
        canvas.circle(corner, 3.4, Style { fill: "#ffffff", stroke: layer.hue.main, width: 1.4, dash: "" });
    }
    canvas.end();
}

/// Places of the 95% interval of a mark's rate, where it is long enough to be seen beyond the mark.
pub(super) fn interval(scale: &Scale, mark: &Mark) -> Option<(At, At)> {
    let p = mark.point;
    let ends = [p.seconds.high, p.seconds.low].map(|s| scale.at(p.intensity, (p.flops / s).max(scale.y.low)));
    (mark.is_step() && ends[0].y - ends[1].y > 2.0 * mark.radius() + 3.0).then_some((ends[0], ends[1]))
}

fn draw_marks(canvas: &mut Canvas, scale: &Scale, layer: &Layer) {
    canvas.group("points");
    for sweep in &layer.sweeps {
        let places: Vec<At> = sweep.iter().map(|p| scale.at(p.intensity, p.flops_per_second)).collect();
        let hue = layer.marks.iter().find(|m| m.point.phase == Phase::Decode).map_or(layer.hue, |m| m.hue);
        if places.len() > 1 {
            canvas.polyline(&places, Style::line(hue.main, 1.6));
        }
    }
    for mark in &layer.marks {
        let centre = scale.at(mark.point.intensity, mark.point.flops_per_second);
        if let Some((low, high)) = interval(scale, mark) {
            canvas.polyline(&[low, high], Style::line(mark.hue.main, 1.2));
        }
        let style = mark_style(mark);
        canvas.group("point");
        canvas.tip(&caption::describe(mark.point));
        match mark.point.phase {
            Phase::Decode => canvas.circle(centre, mark.radius(), style),
            Phase::Prefill => canvas.polygon(&mark.diamond(centre), style),
        }
        canvas.end();
    }
    canvas.end();
}

/// Whole steps are full, stages light with a thin outline, predictions and what cannot be true hollow.
pub(super) fn mark_style(mark: &Mark) -> Style {
    let (fill, stroke, width) = match (mark.is_solid(), mark.is_step()) {
        (false, step) => ("#ffffff", mark.hue.main, if step { 2.0 } else { 1.0 }),
        (true, true) => (mark.hue.main, "#ffffff", 1.0),
        (true, false) => (mark.hue.light, mark.hue.main, 0.9),
    };
    Style { fill, stroke, width, dash: "" }
}

fn captions(canvas: &mut Canvas, runs: &[Run], left_out: &[String], top: f64) -> f64 {
    let room = theme::WIDTH - theme::LEFT - theme::RIGHT;
    let mut lines = Vec::new();
    let probed = match runs.iter().all(|r| r.status == RunStatus::Predicted) {
        true => "",
        false => ", which were probed beside each measured point",
    };
    let percentages = format!("Percentages: share of the speed that the roofs allow{probed}.");
    lines.extend(text::wrap(&percentages, theme::SMALL, room, 2));
    match left_out {
        [] => {}
        few if runs.len() == 1 && few.len() <= 8 => lines.extend(text::wrap(
            &format!("Without a label for want of room: {}.", left_out.join(", ")),
            theme::SMALL,
            room,
            2,
        )),
        many => lines.push(format!(
            "{} labels found no room; their numbers are in this file's description.",
            many.len()
        )),
    }
    for run in runs {
        lines.extend(text::wrap(&caption::caption(run), theme::SMALL, room, 3));
    }
    lines.extend(caption::sources(runs).into_iter().flat_map(|s| text::wrap(&s, theme::SMALL, room, 2)));
    canvas.group("caption");
    let mut y = top;
    for line in lines {
        y += 15.0;
        canvas.text(&quiet(line, at(theme::LEFT, y), theme::SMALL));
    }
    canvas.end();
    (y + 16.0).ceil()
}
