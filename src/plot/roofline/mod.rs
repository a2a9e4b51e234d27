//! The roofline: axes, zones, roofs, marks, labels, key and captions, in the order of painting.

mod annotate;
mod detail;
mod key;
pub mod marks;
pub mod roofs;
pub(super) mod terminal;

use super::caption;
use super::frame::{self, Axis};
use super::geometry::{At, at};
use super::legend;
use super::scale::{self, Range, Scale, round_si};
use super::svg::{Canvas, Style};
use super::theme::{self, Hue};
use super::{Level, Look};
use crate::error::{Failure, Result};
use crate::roofline::CeilingSource;
use crate::run::{Run, RunStatus};
use crate::workload::Phase;
use marks::Mark;
use roofs::Roofs;

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
pub(super) fn draw(runs: &[Run], look: Look) -> Result<String> {
    let overlay = runs.len() > 1;
    let mut layers: Vec<Layer> =
        runs.iter().enumerate().map(|(i, run)| layer(run, i, overlay, look.level)).collect();
    let (x, y) = ranges(&layers).ok_or_else(nothing)?;
    let title = caption::title(runs);
    let mut canvas = Canvas::new("roofline", look.theme);
    let top = frame::heading(&mut canvas, &title, &caption::subtitle(runs));
    let scale = Scale::new(x, y, top);
    let thinned = detail::thin(&scale, &mut layers);
    let (x, y) = axes(&scale);

    canvas.clip(scale.low, scale.high);
    if let [layer] = layers.as_slice() {
        zones(&mut canvas, &scale, layer);
    }
    frame::grid(&mut canvas, &scale, &x, &y);
    for (i, layer) in layers.iter().enumerate() {
        draw_roofs(&mut canvas, &scale, i, layer, overlay);
    }
    canvas.end();
    frame::axes(&mut canvas, &scale, &x, &y);
    for (i, layer) in layers.iter().enumerate() {
        draw_marks(&mut canvas, &scale, i, layer);
    }
    let left_out = annotate::draw(&mut canvas, &scale, &layers);

    let below = legend::draw(&mut canvas, &key::entries(&scale, &layers), scale.high.y + 62.0);
    let mut own: Vec<String> = Vec::new();
    if runs.iter().any(|r| r.status != RunStatus::Predicted) {
        own.push(
            "Percentages: share of the speed that the roofs allow, which were probed beside each measured point."
                .into(),
        );
    }
    own.extend(thinned);
    own.extend(frame::unlabelled(&left_out, runs.len()));
    let height = frame::captions(&mut canvas, &own, runs, below - 8.0);
    Ok(canvas.finish(height, &title, &caption::description(runs)))
}

fn nothing() -> Failure {
    Failure::input("nothing to draw: no roof and no point with operations")
        .hint("plot a run that `llmroof measure` or `predict` wrote")
}

fn axes(scale: &Scale) -> (Axis, Axis) {
    let x = Axis {
        ticks: scale.x_ticks(scale::plain),
        name: "Arithmetic intensity (FLOP per compulsory byte)".into(),
    };
    let y =
        Axis { ticks: scale.y_ticks(|rate| round_si(rate, "FLOP/s")), name: "Performance (FLOP/s)".into() };
    (x, y)
}

fn layer(run: &Run, index: usize, overlay: bool, level: Level) -> Layer<'_> {
    let own = theme::RUNS[index % theme::RUNS.len()];
    let hue_of = |phase| match phase {
        _ if overlay => own,
        Phase::Decode => theme::BLUE,
        Phase::Prefill => theme::VERMILLION,
        Phase::Mixed => theme::GREEN,
    };
    Layer {
        run,
        hue: if overlay { own } else { theme::INK },
        measured: Roofs::of(run, CeilingSource::Measured),
        datasheet: Roofs::of(run, CeilingSource::Datasheet),
        marks: marks::marks(run, index, level, overlay, hue_of),
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
    let x = Range::holding(intensities, 2.2, 3.0)
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

/// What heat and power leave of the plateaus, where it is lower by an amount that can be seen. Of an overlay none.
pub(super) fn sustained(roofs: &Roofs, overlay: bool) -> impl Iterator<Item = &roofs::Plateau> {
    let near = |rate: f64| {
        roofs.plateaus.iter().any(|p| (p.height.rate / rate).ln().abs() < roofs::INDISTINGUISHABLE)
    };
    roofs.sustained.iter().filter(move |p| !overlay && !near(p.height.rate))
}

fn draw_roofs(canvas: &mut Canvas, scale: &Scale, run: usize, layer: &Layer, overlay: bool) {
    canvas.group_of_run("roofs", run);
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
        for plateau in sustained(roofs, overlay) {
            if let Some((from, to)) = roofs::level(scale, memory, plateau.height.rate) {
                canvas.polyline(&[from, to], style(false).dashed(roofs::SUSTAINED_DASH));
            }
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
        canvas.circle(corner, 3.4, Style::outlined(theme::GROUND, layer.hue.main, 1.4));
    }
    canvas.end();
}

/// Places of the 95% interval of a mark's rate, where it is long enough to be seen beyond the mark.
pub(super) fn interval(scale: &Scale, mark: &Mark) -> Option<(At, At)> {
    let p = mark.point;
    let ends = [p.seconds.high, p.seconds.low].map(|s| scale.at(p.intensity, (p.flops / s).max(scale.y.low)));
    (mark.is_step() && ends[0].y - ends[1].y > 2.0 * mark.radius() + 3.0).then_some((ends[0], ends[1]))
}

fn draw_marks(canvas: &mut Canvas, scale: &Scale, run: usize, layer: &Layer) {
    canvas.group("points");
    for sweep in layer.sweeps.iter().filter(|s| s.len() > 1) {
        let places: Vec<At> = sweep.iter().map(|(_, p)| scale.at(p.intensity, p.flops_per_second)).collect();
        let hue = layer.marks.iter().find(|m| m.point.phase == sweep[0].1.phase).map_or(layer.hue, |m| m.hue);
        let ids: Vec<String> = sweep.iter().map(|(i, _)| format!("{run}.{i}")).collect();
        canvas.group_of("sweep", &ids);
        canvas.polyline(&places, Style::line(hue.main, 1.6));
        canvas.end();
    }
    let drops: Vec<(&Mark, (At, At))> =
        layer.marks.iter().filter_map(|m| Some((m, drop_line(scale, m)?))).collect();
    for (mark, line) in &drops {
        canvas.group_of("drop", std::slice::from_ref(&mark.id));
        canvas.lines(&[*line], Style::line(mark.hue.main, 0.9).dashed("2 2"));
        canvas.end();
    }
    for mark in &layer.marks {
        let centre = scale.at(mark.point.intensity, mark.point.flops_per_second);
        let style = mark_style(mark);
        canvas.group_of("point", std::slice::from_ref(&mark.id));
        canvas.tip(&caption::describe(mark.point));
        if let Some((low, high)) = interval(scale, mark) {
            canvas.lines(&[(low, high)], Style::line(mark.hue.main, 1.2));
        }
        match mark.point.phase {
            Phase::Decode => canvas.circle(centre, mark.radius(), style),
            Phase::Prefill => canvas.polygon(&mark.diamond(centre), style),
            Phase::Mixed => canvas.polygon(&mark.square(centre), style),
        }
        canvas.end();
    }
    canvas.end();
}

/// From the upper edge of a step's mark to the speed that its own roofs allow, where that is far enough to be seen.
pub(super) fn drop_line(scale: &Scale, mark: &Mark) -> Option<(At, At)> {
    let p = mark.point;
    if !mark.is_step() || !mark.is_solid() || !scale.shows(p.intensity, p.attainable_flops_per_second) {
        return None;
    }
    let (centre, roof) =
        (scale.at(p.intensity, p.flops_per_second), scale.at(p.intensity, p.attainable_flops_per_second));
    let from = at(centre.x, centre.y - mark.reach());
    (from.y - roof.y > 3.0).then_some((from, roof))
}

/// Whole steps are full, stages light with a thin outline, predictions and what cannot be true hollow.
pub(super) fn mark_style(mark: &Mark) -> Style {
    let (fill, stroke, width) = match (mark.is_solid(), mark.is_step()) {
        (false, step) => (theme::GROUND, mark.hue.main, if step { 2.0 } else { 1.0 }),
        (true, true) => (mark.hue.main, theme::GROUND, 1.0),
        (true, false) => (mark.hue.soft, mark.hue.main, 0.9),
    };
    Style::outlined(fill, stroke, width)
}
