//! The roofline in a console: a few steps under their roof, every number in the lines below.

mod words;

use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::symbols::Marker;
use ratatui_core::widgets::Widget;
use ratatui_widgets::canvas::{Canvas, Line, Points};

use super::marks::share;
use super::{Layer, caption, layer, plateaus, ranges};
use crate::error::Result;
use crate::plot::Level;
use crate::plot::scale::{self, Range, round_si};
use crate::plot::terminal::{Cells, Screen};
use crate::run::{Point, Run};
use crate::units::{BytesPerSec, FlopsPerSec};
use crate::workload::Phase;
use words::{below, fit, subtitle};

/// Columns of the labels of the vertical axis.
const LEFT: u16 = 7;
/// Lines above and below the plot area: title, subtitle; axis, its labels.
const AROUND: u16 = 4;
/// Fewest lines of the plot area.
const LEAST: u16 = 8;
/// One for each run; beyond six they repeat.
const COLOURS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];

/// The plot area: its cells and what they stand for, in decades.
struct Plane {
    area: Rect,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plane {
    fn new(area: Rect, x: Range, y: Range) -> Plane {
        Plane { area, x: (x.low.log10(), x.high.log10()), y: (y.low.log10(), y.high.log10()) }
    }

    /// The cell that holds this place, the one that lines drawn in dots go through as well.
    fn cell(&self, intensity: f64, rate: f64) -> (i32, i32) {
        let dot = |value: f64, (low, high): (f64, f64), dots: u16| {
            (value.log10() - low) / (high - low) * (f64::from(dots) - 1.0)
        };
        let x = dot(intensity, self.x, self.area.width * 2).round() as i32 / 2;
        let below = dot(rate, self.y, self.area.height * 4);
        let y = (f64::from(self.area.height * 4) - 1.0 - below).round() as i32 / 4;
        (x + i32::from(self.area.x), y + i32::from(self.area.y))
    }

    fn holds(&self, (x, y): (i32, i32)) -> bool {
        let inside =
            |value: i32, from: u16, length: u16| (i32::from(from)..i32::from(from + length)).contains(&value);
        inside(x, self.area.x, self.area.width) && inside(y, self.area.y, self.area.height)
    }
}

/// The whole picture as lines.
pub(in crate::plot) fn draw(runs: &[Run], screen: Screen) -> Result<String> {
    let screen = screen.bounded();
    let overlay = runs.len() > 1;
    let layers: Vec<Layer> =
        runs.iter().enumerate().map(|(i, run)| layer(run, i, overlay, Level::Phase)).collect();
    let (x, y) = ranges(&layers).ok_or_else(super::nothing)?;
    let below = below(&layers, usize::from(screen.width));
    // The line that the prompt comes to stand in is not ours.
    let room = screen.height.saturating_sub(1 + AROUND).saturating_sub(below.len() as u16);
    let area = Rect::new(LEFT + 1, 2, screen.width - LEFT - 1, room.max(LEAST));
    let plane = Plane::new(area, x, y);
    let mut cells = Cells::new(screen, area.height + AROUND + below.len() as u16);

    draw_roofs(&mut cells, &plane, &layers);
    cells.settle();
    let marks = draw_marks(&mut cells, &plane, &layers);
    axes(&mut cells, &plane, x, y);
    label(&mut cells, &plane, &layers, marks);

    cells.put(0, 0, &caption::title(runs), Style::new().add_modifier(Modifier::BOLD));
    cells.put(0, 1, "FLOP/s", Style::new());
    let subtitle = fit(&subtitle(runs), usize::from(area.width));
    cells.put(area.x, 1, &subtitle, Style::new());
    for (i, (words, colour)) in below.iter().enumerate() {
        let style = Style::new().fg(*colour);
        cells.put(0, area.bottom() + 2 + i as u16, words, style);
    }
    Ok(cells.finish())
}

fn colour(index: usize, phase: Phase, overlay: bool) -> Color {
    match phase {
        _ if overlay => COLOURS[index % COLOURS.len()],
        Phase::Decode => COLOURS[0],
        Phase::Prefill => COLOURS[1],
        Phase::Mixed => COLOURS[2],
    }
}

/// The sign of a step: `D`, `P` and `M`, of several runs their letters, small but for decode.
fn sign(index: usize, phase: Phase, overlay: bool) -> String {
    let letter = || caption::letter(index).chars().last().map(String::from).unwrap_or_default();
    match (overlay, phase) {
        (false, Phase::Decode) => "D".into(),
        (false, Phase::Prefill) => "P".into(),
        (false, Phase::Mixed) => "M".into(),
        (true, Phase::Decode) => letter(),
        (true, Phase::Prefill | Phase::Mixed) => letter().to_lowercase(),
    }
}

/// Lines of dots: the main roof full, the other plateaus and the foot of the ridge sparse.
fn draw_roofs(cells: &mut Cells, plane: &Plane, layers: &[Layer]) {
    let overlay = layers.len() > 1;
    let canvas = Canvas::default()
        .marker(Marker::Braille)
        .x_bounds([plane.x.0, plane.x.1])
        .y_bounds([plane.y.0, plane.y.1])
        .paint(|context| {
            for (i, layer) in layers.iter().enumerate() {
                let Some(roofs) = layer.roofs() else { continue };
                let color = if overlay { colour(i, Phase::Decode, true) } else { Color::Reset };
                let memory = roofs.memory.map(|m| m.rate.log10());
                let main = roofs.main_plateau().map(|p| p.height.rate.log10());
                let meets = |rate: f64| memory.map_or(plane.x.0, |m| (rate - m).max(plane.x.0));
                let mut dotted = Vec::new();
                if let Some(m) = memory {
                    let from = plane.x.0.max(plane.y.0 - m);
                    let to = plane.x.1.min(main.unwrap_or(plane.y.1) - m);
                    if from < to {
                        context.draw(&Line { x1: from, y1: from + m, x2: to, y2: to + m, color });
                    }
                }
                if let Some(peak) = main {
                    let from = meets(peak);
                    context.draw(&Line { x1: from, y1: peak, x2: plane.x.1, y2: peak, color });
                    if memory.is_some() {
                        let every =
                            2.0 * (plane.y.1 - plane.y.0) / (f64::from(plane.area.height) * 4.0 - 1.0);
                        dotted.extend(steps(plane.y.0, peak, every).map(|y| (from, y)));
                    }
                }
                for (_, plateau) in plateaus(roofs, overlay).filter(|(main, _)| !main) {
                    let rate = plateau.height.rate.log10();
                    let every = 4.0 * (plane.x.1 - plane.x.0) / (f64::from(plane.area.width) * 2.0 - 1.0);
                    let sparse = steps(plane.x.0, plane.x.1, every);
                    dotted.extend(sparse.filter(|x| *x >= meets(rate)).map(|x| (x, rate)));
                }
                let color = if overlay { color } else { Color::DarkGray };
                context.draw(&Points { coords: &dotted, color });
            }
        });
    canvas.render(plane.area, &mut cells.buffer);
}

/// Values so far apart.
fn steps(from: f64, to: f64, every: f64) -> impl Iterator<Item = f64> {
    (0..10_000).map(move |i| from + every * f64::from(i)).take_while(move |value| *value <= to)
}

/// A step that has been drawn.
struct Drawn<'a> {
    at: (i32, i32),
    index: usize,
    point: &'a Point,
    importance: f64,
    label: Option<String>,
}

fn draw_marks<'a>(cells: &mut Cells, plane: &Plane, layers: &[Layer<'a>]) -> Vec<Drawn<'a>> {
    let overlay = layers.len() > 1;
    let mut drawn: Vec<Drawn> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        for mark in &layer.marks {
            let at = plane.cell(mark.point.intensity, mark.point.flops_per_second);
            if !plane.holds(at) {
                continue;
            }
            let own = sign(index, mark.point.phase, overlay);
            // What several different steps share is neither's.
            let shared = drawn.iter().any(|d| d.at == at && sign(d.index, d.point.phase, overlay) != own);
            let style =
                Style::new().fg(colour(index, mark.point.phase, overlay)).add_modifier(Modifier::BOLD);
            cells.put(at.0 as u16, at.1 as u16, if shared { "*" } else { &own }, style);
            let (importance, label) = (mark.importance, mark.label.clone());
            drawn.push(Drawn { at, index, point: mark.point, importance, label });
        }
    }
    drawn.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    drawn
}

fn axes(cells: &mut Cells, plane: &Plane, x: Range, y: Range) {
    let area = plane.area;
    let style = Style::new();
    for row in area.top()..area.bottom() {
        cells.put(LEFT, row, "│", style);
    }
    cells.put(LEFT, area.bottom(), &format!("└{}", "─".repeat(usize::from(area.width))), style);
    let decade = f64::from(area.height) / (plane.y.1 - plane.y.0);
    let mut last = i32::MAX;
    for tick in scale::ticks(y, decade, 2.0, |rate| round_si(rate, "")) {
        let (_, row) = plane.cell(x.low, tick.value);
        let Some(label) = tick.label.filter(|_| plane.holds((i32::from(area.x), row)) && row < last) else {
            continue;
        };
        let label = format!("{:>1$}", label.trim_end(), usize::from(LEFT) - 1);
        cells.put(0, row as u16, &label, style);
        cells.put(LEFT, row as u16, "┤", style);
        last = row;
    }
    let name = "FLOP/byte";
    let end = i32::from(area.right()) - name.len() as i32;
    cells.put(end as u16, area.bottom() + 1, name, style);
    let decade = f64::from(area.width) / (plane.x.1 - plane.x.0);
    for tick in scale::ticks(x, decade, 6.0, scale::plain) {
        let Some(label) = tick.label else { continue };
        let (column, _) = plane.cell(tick.value, y.low);
        let from = (column - label.len() as i32 / 2).max(0);
        let row = i32::from(area.bottom()) + 1;
        if from + (label.len() as i32) < end && cells.is_free(from - 1, row, label.len() + 2) {
            cells.put(from as u16, row as u16, &label, style);
            cells.put(column as u16, area.bottom(), "┬", style);
        }
    }
}

/// Writes a text at the first of these places that is free; the text is in its longest form that fits.
fn place(
    cells: &mut Cells,
    plane: &Plane,
    forms: &[String],
    spots: impl Fn(i32) -> Vec<(i32, i32)>,
    style: Style,
) -> bool {
    for form in forms {
        let width = cells.width(form);
        for (x, y) in spots(width as i32) {
            let inside = plane.holds((x, y)) && plane.holds((x + width as i32 - 1, y));
            // A space on either side keeps it apart from what else stands there.
            let before = usize::from(cells.symbol(x - 1, y) != Some("│"));
            let after = usize::from(x + (width as i32) < i32::from(plane.area.right()));
            if inside && cells.is_free(x - before as i32, y, width + before + after) {
                cells.put(x as u16, y as u16, form, style);
                return true;
            }
        }
    }
    false
}

fn label(cells: &mut Cells, plane: &Plane, layers: &[Layer], marks: Vec<Drawn>) {
    let overlay = layers.len() > 1;
    match layers {
        [layer] => label_roofs(cells, plane, layer),
        several => {
            for (i, layer) in several.iter().enumerate() {
                label_ridge(cells, plane, layer, Style::new().fg(colour(i, Phase::Decode, true)));
            }
        }
    }
    for mark in marks {
        let style = Style::new().fg(colour(mark.index, mark.point.phase, overlay));
        let label = mark.label.as_ref().filter(|_| !overlay);
        let forms = label.map_or_else(Vec::new, |label| forms(mark.point, label));
        let (x, y) = mark.at;
        let spots = |width: i32| {
            vec![
                (x + 2, y),
                (x + 2, y + 1),
                (x - 1 - width, y),
                (x - width / 2, y + 1),
                (x - 1 - width, y - 1),
                (x - width / 2, y - 1),
                (x - 1 - width, y + 1),
                (x + 2, y - 1),
            ]
        };
        place(cells, plane, &forms, spots, style);
    }
}

fn label_roofs(cells: &mut Cells, plane: &Plane, layer: &Layer) {
    let Some(roofs) = layer.roofs() else { return };
    let style = Style::new();
    let right = i32::from(plane.area.right());
    for (_, plateau) in plateaus(roofs, false) {
        let rate = plateau.height.rate;
        let (_, y) = plane.cell(10f64.powf(plane.x.0), rate);
        let forms = [format!("{} {}", plateau.names(), FlopsPerSec(rate).human()), plateau.names()];
        let spots = |width: i32| {
            let ends = [right, right - 8, right - 16];
            ends.iter().flat_map(|end| [(end - width, y - 1), (end - width, y + 1)]).collect()
        };
        place(cells, plane, &forms, spots, style);
    }
    let Some((x, bottom)) = label_ridge(cells, plane, layer, style) else { return };
    place(cells, plane, &["← memory-bound".to_string()], |w| vec![(x - 1 - w, bottom)], style);
    place(cells, plane, &["compute-bound →".to_string()], |_| vec![(x + 2, bottom - 1)], style);
    if let (Some(memory), Some((ridge, _))) = (roofs.memory, roofs.ridge()) {
        let rate = BytesPerSec(memory.rate).human();
        let forms = [format!("DRAM {rate}"), rate];
        // Left of the slope, from its middle upwards.
        let spots = |width: i32| {
            let middle = (plane.x.0 + ridge.0.log10()) / 2.0;
            let end = ridge.0.log10();
            steps(middle, end, (end - middle) / 12.0)
                .map(|x| {
                    let (x, y) = plane.cell(10f64.powf(x), memory.rate * 10f64.powf(x));
                    (x - 2 - width, y)
                })
                .collect()
        };
        place(cells, plane, &forms, spots, style);
    }
}

/// Writes where the ridge is beside its foot; returns the cell of the foot.
fn label_ridge(cells: &mut Cells, plane: &Plane, layer: &Layer, style: Style) -> Option<(i32, i32)> {
    let (ridge, peak) = layer.roofs()?.ridge()?;
    let (x, _) = plane.cell(ridge.0, peak.0);
    let bottom = i32::from(plane.area.bottom()) - 1;
    let name = [format!("ridge {}", ridge.human())];
    place(cells, plane, &name, |width| vec![(x + 2, bottom), (x - 1 - width, bottom - 1)], style);
    Some((x, bottom))
}

/// What may be written beside a step, the longest first.
fn forms(point: &Point, label: &str) -> Vec<String> {
    let (name, long) = match point.phase {
        Phase::Decode => (format!("batch {}", point.batch), None),
        // Of several prompts the label has the length.
        Phase::Prefill => ("prefill".to_string(), Some(label.to_string())),
        Phase::Mixed => (format!("{} + {}", point.batch, point.riding()), None),
    };
    let share = share(point).map(|share| format!("{name}: {share}"));
    let number = (point.phase == Phase::Decode).then(|| point.batch.to_string());
    long.into_iter().chain(share).chain([name]).chain(number).collect()
}
