//! Where the time of a step goes: a bar for each step, cut into its stages and the bubble between them. The full part
//! of a stage is the time that its roofs need, the light part is what was lost.

use super::caption;
use super::frame;
use super::geometry::at;
use super::legend::{self, Sign};
use super::svg::{Anchor, Canvas, Style, Text};
use super::theme::{self, Hue};
use super::{Look, text};
use crate::error::{Failure, Result};
use crate::roofline::Bound;
use crate::run::{Point, Run, RunStatus, Status};
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
        !bar.stages.is_empty() && (1e-12..1e9).contains(&seconds) && bar.step.status != Status::Invalid
    });
    for bar in &mut all {
        bar.stages.sort_by_key(|(_, p)| p.stage.map_or(0, Stage::index));
    }
    // The same work of several runs stands together.
    let order: Vec<(Phase, u32, u32, u32)> = {
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

fn work(step: &Point) -> (Phase, u32, u32, u32) {
    (step.phase, step.batch, step.tokens, step.context)
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
    let mut narrow = Vec::new();
    for (row, bar) in all.iter().enumerate() {
        // Among runs of the same work the slowest is the full length.
        let longest = all
            .iter()
            .filter(|b| work(b.step) == work(bar.step))
            .map(|b| b.step.seconds.median)
            .fold(0.0, f64::max);
        let y = top + PITCH * row as f64;
        draw_bar(&mut canvas, runs, bar, bar.step.seconds.median / longest, y, &mut narrow);
    }
    canvas.end();
    let below = top + PITCH * all.len() as f64 + 12.0;
    let below = legend::draw(&mut canvas, &entries(&all, runs), below);
    let mut own = vec![match runs.len() {
        1 => "Each bar is one step; the width of a stage is its share of the step's time.".to_string(),
        _ => "Each bar is one step; of the same work the slowest run has the full width.".to_string(),
    }];
    if !narrow.is_empty() {
        own.push(format!("Too narrow for a label: {}.", narrow.join(", ")));
    }
    if found > MOST {
        own.push(format!("{MOST} of {found} steps drawn."));
    }
    let height = frame::captions(&mut canvas, &own, runs, below - 8.0);
    Ok(canvas.finish(height, &title, &description(&all)))
}

fn hue(stage: &Point) -> Hue {
    match stage.bound {
        Bound::Memory => theme::BLUE,
        Bound::Compute => theme::VERMILLION,
        Bound::Overhead => theme::INK,
    }
}

/// Draws one bar with its label line above, and adds the names of stages without room to `narrow`.
fn draw_bar(canvas: &mut Canvas, runs: &[Run], bar: &Bar, length: f64, y: f64, narrow: &mut Vec<String>) {
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
    let name = match step.phase {
        Phase::Decode => format!("decode, batch {}", step.batch),
        Phase::Prefill if step.batch == 1 => format!("prefill, {} tokens", step.tokens),
        Phase::Prefill => format!("prefill, {} × {} tokens", step.batch, step.tokens),
    };
    let own = if runs.len() > 1 { theme::RUNS[bar.run % theme::RUNS.len()] } else { theme::INK };
    let place = at(LEFT - 12.0, middle);
    let room = LEFT - 20.0;
    canvas.text(&words(
        text::fit(&name, theme::LABEL, true, room),
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
    let mut x = LEFT;
    for (id, stage) in &bar.stages {
        let share = stage.share_of_step.clamp(0.0, 1.0);
        let wide = (width * share).min(LEFT + width - x).max(0.0);
        let hue = hue(stage);
        canvas.group_of("point", std::slice::from_ref(id));
        canvas.tip(&format!("{}, {} of the step", caption::describe(stage), percent(share)));
        let shape = |from: f64, to: f64| (at(from, low), at(to, high));
        let (a, b) = shape(x, x + wide);
        if predicted {
            canvas.rectangle(a, b, Style::outlined(theme::GROUND, hue.main, 1.0));
        } else {
            canvas.rectangle(a, b, Style::filled(hue.soft));
            let needed = wide * stage.fraction_of_roof.clamp(0.0, 1.0);
            let (a, b) = shape(x, x + needed);
            canvas.rectangle(a, b, Style::filled(hue.main));
        }
        canvas.end();
        let label = stage.stage.map_or_else(String::new, |s| format!("{s} {}", whole_percent(share)));
        if text::width(&label, theme::SMALL, false) + 4.0 <= wide {
            let place = at(x + wide / 2.0, low - 4.0);
            canvas.group_of("label", std::slice::from_ref(id));
            canvas.text(&words(label, place, Anchor::Middle, theme::SMALL, false, hue.text));
            canvas.end();
        } else if let Some(stage) = stage.stage {
            let name = stage.to_string();
            if !narrow.contains(&name) {
                narrow.push(name);
            }
        }
        x += wide;
    }
    let bubble = step.bubble_seconds.unwrap_or(0.0) / step.seconds.median;
    if bubble > 0.0 && x < LEFT + width {
        canvas.group_of("point", std::slice::from_ref(&bar.id));
        canvas.tip(&format!("bubble: {} of the step between its stages", percent(bubble)));
        let (a, b) = (at(x, low), at(LEFT + width, high));
        canvas.rectangle(a, b, Style::outlined(theme::GROUND, theme::FRAME, 1.0));
        canvas.end();
    }
    // The boundaries between stages, over their fillings.
    let mut x = LEFT;
    let mut cuts = Vec::new();
    for (_, stage) in &bar.stages {
        x += width * stage.share_of_step.clamp(0.0, 1.0);
        if x < LEFT + width - 0.5 {
            cuts.push((at(x, low), at(x, high)));
        }
    }
    canvas.lines(&cuts, Style::line(theme::GROUND, 1.2));
    let sub = format!("{} of roof · bubble {}", percent(step.fraction_of_roof), percent(bubble.max(0.0)));
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

fn whole_percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

fn entries(all: &[Bar], runs: &[Run]) -> Vec<(Sign, String)> {
    let mut out: Vec<(Sign, String)> = Vec::new();
    if runs.len() > 1 {
        for (i, run) in runs.iter().enumerate() {
            let hue = theme::RUNS[i % theme::RUNS.len()];
            out.push((Sign::Swatch(hue.text), format!("{}, {}", run.device.name, run.model.name)));
        }
    }
    let stages = || all.iter().flat_map(|b| &b.stages).map(|(_, p)| *p);
    let any_measured = runs.iter().any(|r| r.status != RunStatus::Predicted);
    for (bound, hue, name) in [
        (Bound::Memory, theme::BLUE, "bound by memory"),
        (Bound::Compute, theme::VERMILLION, "bound by arithmetic"),
        (Bound::Overhead, theme::INK, "bound by neither"),
    ] {
        if stages().any(|p| p.bound == bound) {
            out.push((Sign::Swatch(hue.main), format!("{name}: what the roofs need")));
            if any_measured {
                out.push((Sign::Swatch(hue.soft), "lost".into()));
            }
        }
    }
    if all.iter().any(|b| b.step.bubble_seconds.is_some_and(|s| s > 0.0)) {
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
        let bubble = bar.step.bubble_seconds.unwrap_or(0.0).max(0.0) / bar.step.seconds.median;
        out += &format!(" bubble {}.", percent(bubble));
    }
    out
}
