//! Where the time of a step goes: a bar for each step, cut into its stages and the bubble between them. The full part
//! of a stage is the time that its roofs need, the light part is what was lost.

use super::caption;
use super::frame;
use super::geometry::{At, at};
use super::legend::{self, Sign};
use super::svg::{Anchor, Canvas, Style, Text};
use super::theme::{self, Hue};
use super::{Look, text};
use crate::error::{Failure, Result};
use crate::roofline::Bound;
use crate::run::{Point, Run, Status};
use crate::units::{Seconds, percent};
use crate::workload::{Phase, Stage};

/// A step with its stages.
struct Bar<'a> {
    run: usize,
    id: String,
    step: &'a Point,
    stages: Vec<(String, &'a Point)>,
}

/// More bars than this do not fit on a page.
const MOST: usize = 24;
/// From one bar to the next.
const PITCH: f64 = 47.0;
const THICK: f64 = 20.0;
/// Left of the bars: which step.
const LEFT: f64 = 190.0;
/// Right of the bars: its time.
const RIGHT: f64 = 112.0;

fn bars(runs: &[Run]) -> Vec<Bar<'_>> {
    let mut all: Vec<Bar> = Vec::new();
    for (r, run) in runs.iter().enumerate() {
        for (i, point) in run.points.iter().enumerate() {
            let id = format!("{r}.{i}");
            match point.stage {
                None => all.push(Bar { run: r, id, step: point, stages: Vec::new() }),
                Some(_) => {
                    let step = |b: &&mut Bar| b.run == r && b.step.shares_pass_with(point);
                    if let Some(bar) = all.iter_mut().rev().find(step) {
                        bar.stages.push((id, point));
                    }
                }
            }
        }
    }
    all.retain(|bar| {
        let seconds = bar.step.seconds.median;
        let credible = (1e-12..1e9).contains(&seconds) && bar.step.status != Status::Invalid;
        // Passes that verify several tokens have a table of their own.
        !bar.stages.is_empty() && credible && !bar.step.is_variant()
    });
    for bar in &mut all {
        bar.stages.sort_by_key(|(_, p)| p.stage.map_or(0, Stage::index));
    }
    // The same work of several runs stands together.
    let order: Vec<Work> = {
        let mut order = Vec::new();
        for work in all.iter().map(|b| work(b.step)) {
            if !order.contains(&work) {
                order.push(work);
            }
        }
        order
    };
    all.sort_by_key(|b| order.iter().position(|w| *w == work(b.step)));
    all
}

/// What a step is of; more than this the runs of a figure share.
type Work = (Phase, u32, u32, u32, u32);

fn work(step: &Point) -> Work {
    (step.phase, step.batch, step.tokens, step.context, step.ranks)
}

/// The whole SVG.
pub(super) fn draw(runs: &[Run], look: Look) -> Result<String> {
    let mut all = bars(runs);
    if all.is_empty() {
        return Err(Failure::input("no step with stages to draw")
            .hint("plot a run that `llmroof measure` or `predict` wrote"));
    }
    let found = all.len();
    all.truncate(MOST);
    let title = format!("Time by stage, {}", caption::subject(runs));
    let mut canvas = Canvas::new("stages", look.theme);
    let top = frame::heading(&mut canvas, &title, &caption::subtitle(runs)) + 6.0;
    canvas.group("bars");
    let mut named = Vec::new();
    for (row, bar) in all.iter().enumerate() {
        // Among runs of the same work the slowest is the full length.
        let longest = all
            .iter()
            .filter(|b| work(b.step) == work(bar.step))
            .map(|b| b.step.seconds.median)
            .fold(0.0, f64::max);
        let y = top + PITCH * row as f64;
        draw_bar(&mut canvas, runs, bar, bar.step.seconds.median / longest, y, &mut named);
    }
    canvas.end();
    let below = top + PITCH * all.len() as f64 + 12.0;
    let below = legend::draw(&mut canvas, &entries(&all, runs), below);
    let mut own = vec![match runs.len() {
        1 => "Each bar is one step; the width of a stage is its share of the step's time.".to_string(),
        _ => "Each bar is one step; of the same work the slowest run has the full width.".to_string(),
    }];
    let narrow = Stage::ALL.into_iter().filter(|s| {
        !named.contains(s) && all.iter().flat_map(|b| &b.stages).any(|(_, p)| p.stage == Some(*s))
    });
    let narrow: Vec<String> = narrow.map(|s| s.to_string()).collect();
    if !narrow.is_empty() {
        own.push(format!("Too narrow for a label: {}.", narrow.join(", ")));
    }
    let scaled = all.iter().map(|b| (1.0 - total(b)).abs()).fold(0.0, f64::max);
    if scaled > 0.002 {
        own.push(format!(
            "Medians of stages need not add up to that of their step: widths are scaled by up to {}.",
            percent(scaled)
        ));
    }
    if found > MOST {
        own.push(format!("{MOST} of {found} steps drawn."));
    }
    let height = frame::captions(&mut canvas, &own, runs, below - 8.0);
    Ok(canvas.finish(height, &title, &description(&all)))
}

fn share(stage: &Point) -> f64 {
    stage.share_of_step.clamp(0.0, 1.0)
}

/// The bubble's share of the step.
fn bubble(step: &Point) -> f64 {
    (step.bubble_seconds.unwrap_or(0.0) / step.seconds.median).clamp(0.0, 1.0)
}

fn total(bar: &Bar) -> f64 {
    bar.stages.iter().map(|(_, p)| share(p)).sum::<f64>() + bubble(bar.step)
}

fn hue(stage: &Point) -> Hue {
    match stage.bound {
        Bound::Memory => theme::BLUE,
        Bound::Compute => theme::VERMILLION,
        Bound::Overhead => theme::INK,
    }
}

/// Draws one bar with its label line above; adds the stages that found room for a label to `named`.
fn draw_bar(canvas: &mut Canvas, runs: &[Run], bar: &Bar, length: f64, y: f64, named: &mut Vec<Stage>) {
    let words = |text: String, at, anchor, size, bold, colour| Text {
        text,
        at,
        anchor,
        angle: 0.0,
        size,
        bold,
        colour,
    };
    let (low, high) = (y + 16.0, y + 16.0 + THICK);
    let middle = (low + high) / 2.0 + 0.36 * theme::LABEL;
    let step = bar.step;
    let letter = if runs.len() > 1 { format!("{} · ", caption::letter(bar.run)) } else { String::new() };
    let other_types = |p: &Point| p.weights != step.weights;
    let types = match runs[bar.run].points.iter().any(other_types) {
        true => format!(", {}", step.weights),
        false => String::new(),
    };
    let name = match step.phase {
        Phase::Decode => format!("decode, batch {}", step.batch),
        // With the type behind it there is no room for the word.
        Phase::Prefill if step.batch == 1 && !types.is_empty() => format!("prefill, {}", step.tokens),
        Phase::Prefill if step.batch == 1 => format!("prefill, {} tokens", step.tokens),
        Phase::Prefill => format!("prefill, {} × {} tokens", step.batch, step.tokens),
        Phase::Mixed => format!("mixed, {} + {}", step.batch, step.riding()),
    };
    let own = if runs.len() > 1 { theme::RUNS[bar.run % theme::RUNS.len()] } else { theme::INK };
    let place = at(LEFT - 12.0, middle);
    let room = LEFT - 20.0;
    canvas.text(&words(
        text::fit(&(letter + &name + &types + &step.of_ranks()), theme::LABEL, true, room),
        place,
        Anchor::End,
        theme::LABEL,
        true,
        own.text,
    ));
    let whole = theme::WIDTH - LEFT - RIGHT;
    let width = whole * length.clamp(0.0, 1.0);
    let time = Seconds(step.seconds.median).human();
    let end = at(LEFT + whole + 8.0, middle);
    canvas.text(&words(
        text::fit(&time, theme::LABEL, false, RIGHT - 12.0),
        end,
        Anchor::Start,
        theme::LABEL,
        false,
        own.text,
    ));

    let predicted = step.status == Status::Predicted;
    let bubble = bubble(step);
    // Medians of stages need not add up to that of the step.
    let parts = total(bar);
    let unit = if parts > 0.0 { width / parts } else { 0.0 };
    let mut x = LEFT;
    let mut labels = LabelRow::new(LEFT + width.max(0.3 * whole));
    for (id, stage) in &bar.stages {
        let wide = unit * share(stage);
        let hue = if runs.len() > 1 { own } else { hue(stage) };
        canvas.group_of("point", std::slice::from_ref(id));
        canvas.tip(&format!("{}, {} of the step", caption::describe(stage), percent(share(stage))));
        let (a, b) = (at(x, low), at(x + wide, high));
        if predicted {
            canvas.rectangle(a, b, Style::outlined(theme::GROUND, hue.main, 1.0));
        } else {
            canvas.rectangle(a, b, Style::filled(hue.soft));
            let needed = wide * stage.fraction_of_roof.clamp(0.0, 1.0);
            canvas.rectangle(a, at(x + needed, high), Style::filled(hue.main));
        }
        canvas.end();
        labels.add(stage, id, x, wide, hue);
        x += wide;
    }
    if unit * bubble >= 0.5 {
        canvas.group_of("point", std::slice::from_ref(&bar.id));
        canvas.tip(&format!("bubble: {} of the step between its stages", percent(bubble)));
        let (a, b) = (at(x, low), at(LEFT + width, high));
        canvas.rectangle(a, b, Style::outlined(theme::GROUND, theme::FRAME, 1.0));
        canvas.end();
    }
    if !predicted {
        // The boundaries between stages, over their fillings.
        let mut x = LEFT;
        let cuts = bar.stages.iter().map(|(_, stage)| {
            x += unit * share(stage);
            (at(x, low), at(x, high))
        });
        let cuts: Vec<(At, At)> = cuts.filter(|(cut, _)| cut.x < LEFT + width - 0.5).collect();
        canvas.lines(&cuts, Style::line(theme::GROUND, 1.2));
    }
    labels.draw(canvas, low - 4.0, named);
    let sub = format!("{} of roof · bubble {}", percent(step.fraction_of_roof), percent(bubble));
    let sub = if predicted { "predicted".to_string() } else { sub };
    canvas.text(&words(
        text::fit(&sub, theme::SMALL, false, room),
        at(LEFT - 12.0, low - 4.0),
        Anchor::End,
        theme::SMALL,
        false,
        theme::QUIET,
    ));
}

/// The labels over a bar: each in the middle of its stage, as far as they leave each other room.
struct LabelRow<'a> {
    /// Point, its id, the middle of its label, the colour.
    stages: Vec<(&'a Point, &'a str, f64, Hue)>,
    end: f64,
}

/// Stages narrower than this would not be found under their label.
const NARROWEST: f64 = 14.0;

impl<'a> LabelRow<'a> {
    fn new(end: f64) -> Self {
        LabelRow { stages: Vec::new(), end }
    }

    fn add(&mut self, stage: &'a Point, id: &'a str, from: f64, wide: f64, hue: Hue) {
        if wide >= NARROWEST {
            self.stages.push((stage, id, from + wide / 2.0, hue));
        }
    }

    /// Draws them on the line `y`, the widest stage first; adds those that found room to `named`.
    fn draw(mut self, canvas: &mut Canvas, y: f64, named: &mut Vec<Stage>) {
        self.stages.sort_by(|a, b| b.0.share_of_step.total_cmp(&a.0.share_of_step));
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for (point, id, middle, hue) in self.stages {
            let Some(stage) = point.stage else { continue };
            let text = format!("{stage} {:.0}%", share(point) * 100.0);
            let half = text::width(&text, theme::SMALL, false) / 2.0;
            let middle = middle.max(LEFT + half).min(self.end - half);
            let (from, to) = (middle - half - 4.0, middle + half + 4.0);
            if from < LEFT - 4.5 || taken.iter().any(|(low, high)| from < *high && *low < to) {
                continue;
            }
            taken.push((from, to));
            if !named.contains(&stage) {
                named.push(stage);
            }
            canvas.group_of("label", &[id.to_string()]);
            canvas.text(&Text {
                text,
                at: at(middle, y),
                anchor: Anchor::Middle,
                angle: 0.0,
                size: theme::SMALL,
                bold: false,
                colour: hue.text,
            });
            canvas.end();
        }
    }
}

fn entries(all: &[Bar], runs: &[Run]) -> Vec<(Sign, String)> {
    let mut out: Vec<(Sign, String)> = Vec::new();
    let stages = || all.iter().flat_map(|b| &b.stages).map(|(_, p)| *p);
    if runs.len() > 1 {
        for (i, run) in runs.iter().enumerate() {
            let hue = theme::RUNS[i % theme::RUNS.len()];
            out.push((Sign::Swatch(hue.main), caption::lettered(i, run)));
        }
    } else {
        for (bound, hue, name) in [
            (Bound::Memory, theme::BLUE, "memory-bound stage"),
            (Bound::Compute, theme::VERMILLION, "compute-bound stage"),
            (Bound::Overhead, theme::INK, "bound by neither"),
        ] {
            if stages().any(|p| p.bound == bound && share(p) > 0.001) {
                out.push((Sign::Swatch(hue.main), name.into()));
            }
        }
    }
    if stages().any(|p| p.status != Status::Predicted) {
        let hue = if runs.len() > 1 { theme::INK } else { theme::BLUE };
        out.push((Sign::Parts(hue), "full: what its roofs need, light: lost".into()));
    }
    if all.iter().any(|b| bubble(b.step) > 0.001) {
        out.push((Sign::Box(theme::GROUND, theme::FRAME), "bubble between stages".into()));
    }
    out
}

fn description(all: &[Bar]) -> String {
    let mut out = String::from("Stacked bars: how the time of each step divides into its stages.");
    for bar in all {
        out += &format!(" {}, {}:", caption::describe(bar.step), Seconds(bar.step.seconds.median).human());
        for (_, stage) in &bar.stages {
            let name = stage.stage.map_or("", Stage::name);
            out += &format!(
                " {name} {} ({} of roof),",
                percent(stage.share_of_step),
                percent(stage.fraction_of_roof)
            );
        }
        out += &format!(" bubble {}.", percent(bubble(bar.step)));
    }
    out
}
