//! Tokens per second of decode against batch size, and against context: what was reached, under what the roofs allow.

use super::caption;
use super::frame::{self, Axis};
use super::geometry::{At, Outline, at};
use super::labels::{self, Label, Obstacles};
use super::legend::{self, Sign};
use super::roofline::marks;
use super::scale::{self, Range, Scale, Tick};
use super::svg::{Anchor, Canvas, Style, Text};
use super::theme::{self, Hue};
use super::{Look, text};
use crate::error::{Failure, Result};
use crate::model::DType;
use crate::run::{Point, Run, Status, of_ranks};
use crate::units::{figures, percent};
use crate::workload::Phase;

/// What runs along the horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    /// Sequences in a step.
    Batch,
    /// Positions attended.
    Context,
}

impl Along {
    fn of(self, point: &Point) -> u32 {
        match self {
            Along::Batch => point.batch,
            Along::Context => point.context,
        }
    }

    /// What stays the same along a series.
    fn fixed(self, point: &Point) -> u32 {
        match self {
            Along::Batch => point.context,
            Along::Context => point.batch,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Along::Batch => "batch",
            Along::Context => "context",
        }
    }

    fn axis(self) -> &'static str {
        match self {
            Along::Batch => "Batch size (sequences in a decode step)",
            Along::Context => "Context (positions that the new token attends)",
        }
    }

    fn fixed_name(self, value: u32) -> String {
        match self {
            Along::Batch => format!("context {value}"),
            Along::Context => format!("batch {value}"),
        }
    }

    fn single(self) -> Failure {
        match self {
            Along::Batch => Failure::input("no two decode steps that differ in batch alone")
                .hint("measure a sweep: --batch 1,2,4,8,16,32"),
            Along::Context => Failure::input("no two decode steps that differ in context alone")
                .hint("measure a sweep: --context 128-8192*4"),
        }
    }
}

/// A decode step in a series.
struct Spot<'a> {
    id: String,
    point: &'a Point,
    tokens: f64,
}

impl Spot<'_> {
    /// Tokens per second that the step's own roofs allow; of several ranks after the same all-reduces.
    fn roof(&self) -> f64 {
        let shortest = self.point.seconds.median * self.point.fraction_of_roof;
        match self.point.all_reduce_seconds {
            None => self.tokens / self.point.fraction_of_roof,
            Some(_) => self.point.rate_at(shortest).unwrap_or(self.tokens),
        }
    }

    /// Tokens per second, had the rank that was timed taken so long.
    fn rate_at(&self, seconds: f64) -> f64 {
        match self.point.all_reduce_seconds {
            None => self.tokens * self.point.seconds.median / seconds,
            Some(_) => self.point.rate_at(seconds).unwrap_or(self.tokens),
        }
    }

    fn solid(&self) -> bool {
        matches!(self.point.status, Status::Ok | Status::Partial)
    }
}

/// Steps that differ in one thing only, in its order.
struct Series<'a> {
    run: usize,
    fixed: u32,
    key: Key,
    spots: Vec<Spot<'a>>,
}

impl Series<'_> {
    /// Ranks that the model is divided among.
    fn ranks(&self) -> u32 {
        self.key.4
    }

    /// The weights' type, as `int8 weights`.
    fn weights(&self) -> String {
        format!("{} weights", self.key.2[0])
    }

    /// Whether any of it was measured; a prediction is the roof itself.
    fn is_measured(&self) -> bool {
        self.spots.iter().any(|s| s.point.status != Status::Predicted)
    }
}

/// `1 rank`, `4 ranks`.
fn ranks_name(ranks: u32) -> String {
    if ranks == 1 { "1 rank".into() } else { format!("{ranks} ranks") }
}

type Key = (u32, String, [DType; 3], Option<u32>, u32);

/// Most values that are labelled on the horizontal axis; labels closer than this would touch.
const APART: f64 = 44.0;
/// More series than this are not told apart by anyone.
const MOST: usize = 24;
/// More steps than this are thinned.
const MOST_SPOTS: usize = 300;
const HEIGHT: f64 = 400.0;

fn series(runs: &[Run], along: Along) -> Vec<Series<'_>> {
    let mut all: Vec<Series> = Vec::new();
    for (r, run) in runs.iter().enumerate() {
        for (i, point) in run.points.iter().enumerate() {
            let (Phase::Decode, None, Some(tokens)) = (point.phase, point.stage, point.tokens_per_second)
            else {
                continue;
            };
            if !marks::drawable(point) || !(1e-6..1e15).contains(&tokens) || point.fraction_of_roof <= 0.0 {
                continue;
            }
            let key = (
                along.fixed(point),
                point.model.clone(),
                [point.weights, point.activations, point.kv],
                point.threads,
                point.ranks,
            );
            let spot = Spot { id: format!("{r}.{i}"), point, tokens };
            match all.iter_mut().find(|s| s.run == r && s.key == key) {
                Some(series) => series.spots.push(spot),
                None => {
                    all.push(Series { run: r, fixed: along.fixed(point), key, spots: vec![spot] });
                }
            }
        }
    }
    // Runs that each hold one value of the same work on the same device are one series.
    let (mut all, single): (Vec<Series>, Vec<Series>) = all.into_iter().partition(|s| s.spots.len() > 1);
    let mut joined: Vec<Series> = Vec::new();
    for mut one in single {
        let value = along.of(one.spots[0].point);
        let device = |run: usize| &runs[run].device.name;
        match joined.iter_mut().find(|s| {
            s.key == one.key
                && device(s.run) == device(one.run)
                && s.spots.iter().all(|spot| along.of(spot.point) != value)
        }) {
            Some(series) => series.spots.append(&mut one.spots),
            None => joined.push(one),
        }
    }
    all.extend(joined.into_iter().filter(|s| s.spots.len() > 1));
    all.iter_mut().for_each(|s| s.spots.sort_by_key(|spot| along.of(spot.point)));
    all
}

/// The whole SVG.
pub(super) fn draw(runs: &[Run], along: Along, look: Look) -> Result<String> {
    let mut all = series(runs, along);
    let found = all.len();
    all.truncate(MOST);
    let x_values = || all.iter().flat_map(|s| &s.spots).map(|s| f64::from(along.of(s.point)));
    let rates = || all.iter().flat_map(|s| &s.spots).flat_map(|s| [s.tokens, s.roof()]);
    let (Some(x), Some(y)) = (Range::holding(x_values(), 1.35, 1.6), Range::holding(rates(), 1.6, 1.5))
    else {
        return Err(along.single());
    };
    let title = format!("Decode speed by {}, {}", along.name(), caption::subject(runs));
    let mut canvas = Canvas::new(along.name(), look.theme);
    let top = frame::heading(&mut canvas, &title, &caption::subtitle(runs));
    let scale = Scale::filling(x, y, top, HEIGHT);
    let thinned = thin(&scale, along, &mut all);
    let shown = all.iter().flat_map(|s| &s.spots).map(|s| f64::from(along.of(s.point)));
    let x = Axis { ticks: x_ticks(&scale, shown), name: along.axis().into() };
    let y = Axis { ticks: scale.y_ticks(scale::plain), name: "Tokens per second, all sequences".into() };
    frame::grid(&mut canvas, &scale, &x, &y);
    frame::axes(&mut canvas, &scale, &x, &y);

    let hues: Vec<Hue> = hues(&all, runs.len());
    canvas.group("roofs");
    if along == Along::Batch {
        let lines: Vec<(At, At)> = all.iter().filter_map(|one| proportional(&scale, one)).collect();
        canvas.lines(&lines, Style::line(theme::QUIET, 1.0).dashed("1.5 3"));
    }
    for (one, hue) in all.iter().zip(&hues).filter(|(one, _)| one.is_measured()) {
        let roof: Vec<At> = one.spots.iter().map(|s| place(&scale, along, s, s.roof())).collect();
        canvas.group_of("sweep", &ids(one));
        canvas.polyline(&roof, Style::line(hue.main, 1.2).dashed("6 4"));
        canvas.end();
    }
    canvas.end();
    canvas.group("points");
    for (one, hue) in all.iter().zip(&hues) {
        draw_series(&mut canvas, &scale, along, one, *hue);
    }
    canvas.end();

    let runs_shown = all.iter().any(|s| s.run != all[0].run);
    let values_shown = all.iter().any(|s| s.fixed != all[0].fixed);
    let ranks_shown = all.iter().any(|s| s.ranks() != all[0].ranks());
    let types_shown = all.iter().any(|s| s.weights() != all[0].weights());
    let name_of = |i: usize| {
        let run = runs_shown.then(|| caption::letter(all[i].run));
        let value = values_shown.then(|| along.fixed_name(all[i].fixed));
        let types = types_shown.then(|| all[i].weights());
        let ranks = ranks_shown.then(|| ranks_name(all[i].ranks()));
        run.into_iter().chain(types).chain(value).chain(ranks).collect::<Vec<_>>().join(", ")
    };
    let labels: Vec<Label> = all
        .iter()
        .zip(&hues)
        .enumerate()
        .flat_map(|(i, (one, hue))| labels_of(&scale, along, one, *hue, i, name_of(i)))
        .collect();
    let placed = labels::place(&labels, &obstacles(&scale, along, &all));
    canvas.group("labels");
    labels::draw(&mut canvas, &labels, &placed);
    canvas.end();
    let missing = labels.iter().zip(&placed).filter(|(_, p)| p.is_none());
    let left_out: Vec<String> =
        missing.filter_map(|(label, _)| label.spots.first()?.texts.first().map(|t| t.text.clone())).collect();

    let below = legend::draw(&mut canvas, &entries(&all, &hues, runs, along), scale.high.y + 62.0);
    let mut own = Vec::new();
    if all.iter().any(Series::is_measured) {
        own.push(
            "Percentages: share of the speed that the roofs allow, which the dashed line shows: the shortest time of \
             every stage under the roofs of its step."
                .to_string(),
        );
    }
    if all.iter().any(|one| one.ranks() > 1) {
        own.push(
            format!(
                "Of several ranks one's shard is what the points are of; the all-reduces among them are {} and counted in.",
                reduced(&all)
            ),
        );
    }
    if found > MOST {
        own.push(format!("{MOST} of {found} series drawn."));
    }
    own.extend(thinned);
    own.extend(frame::unlabelled(&left_out, runs.len()));
    let height = frame::captions(&mut canvas, &own, runs, below - 8.0);
    Ok(canvas.finish(height, &title, &description(&all, along)))
}

/// `modelled`, `measured` or both: where the all-reduces of the series are from.
fn reduced(all: &[Series]) -> String {
    let spots = all.iter().flat_map(|one| &one.spots);
    let mut from: Vec<&str> = spots.filter_map(|spot| Some(spot.point.all_reduce_from?.name())).collect();
    from.sort_unstable();
    from.dedup();
    from.join(" or ")
}

/// Leaves out steps that lie on the one before them, where there are too many to tell apart. Returns what it says about
/// that.
fn thin(scale: &Scale, along: Along, all: &mut [Series]) -> Option<String> {
    let count = |all: &[Series]| all.iter().map(|s| s.spots.len()).sum::<usize>();
    let before = count(all);
    if before <= MOST_SPOTS {
        return None;
    }
    for one in &mut *all {
        let (mut at, last) = (0, one.spots.len() - 1);
        let mut kept: Option<At> = None;
        one.spots.retain(|spot| {
            let centre = place(scale, along, spot, spot.tokens);
            let keep = at == last || kept.is_none_or(|kept| kept.distance(centre) >= RADIUS);
            at += 1;
            kept = if keep { Some(centre) } else { kept };
            keep
        });
    }
    Some(format!("{} of {before} steps drawn; left out: those that lie on others.", count(all)))
}

/// Each run's own hue; the series of a single run take the hues in turn.
fn hues(all: &[Series], runs: usize) -> Vec<Hue> {
    let number = |i: usize, s: &Series| if runs > 1 { s.run } else { i };
    all.iter().enumerate().map(|(i, s)| theme::RUNS[number(i, s) % theme::RUNS.len()]).collect()
}

fn ids(one: &Series) -> Vec<String> {
    one.spots.iter().map(|spot| spot.id.clone()).collect()
}

fn place(scale: &Scale, along: Along, spot: &Spot, rate: f64) -> At {
    scale.at(f64::from(along.of(spot.point)), rate)
}

/// From the first step of a series the line of as many times its speed as there are sequences: batching for free.
fn proportional(scale: &Scale, one: &Series) -> Option<(At, At)> {
    let first = one.spots.first()?;
    let (batch, speed) = (f64::from(first.point.batch), first.tokens / f64::from(first.point.batch));
    let end = scale.x.high.min(scale.y.high / speed);
    (end > batch).then(|| (scale.at(batch, first.tokens), scale.at(end, end * speed)))
}

/// Ticks at the values that occur, labelled where there is room.
fn x_ticks(scale: &Scale, values: impl Iterator<Item = f64>) -> Vec<Tick> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let mut last = f64::NEG_INFINITY;
    values
        .into_iter()
        .map(|value| {
            let x = scale.at(value, scale.y.low).x;
            let shown = x - last >= APART;
            if shown {
                last = x;
            }
            Tick { value, label: shown.then(|| value.to_string()), strong: shown }
        })
        .collect()
}

fn draw_series(canvas: &mut Canvas, scale: &Scale, along: Along, one: &Series, hue: Hue) {
    let reached: Vec<At> = one.spots.iter().map(|s| place(scale, along, s, s.tokens)).collect();
    canvas.group_of("sweep", &ids(one));
    canvas.polyline(&reached, Style::line(hue.main, 1.8));
    canvas.end();
    for (spot, &centre) in one.spots.iter().zip(&reached) {
        canvas.group_of("point", std::slice::from_ref(&spot.id));
        canvas.tip(&caption::describe(spot.point));
        let seconds = &spot.point.seconds;
        let ends = [seconds.high, seconds.low].map(|s| spot.rate_at(s));
        if ends.iter().all(|rate| scale.y.holds(*rate)) {
            let [low, high] = ends.map(|rate| place(scale, along, spot, rate));
            if low.y - high.y > 2.0 * RADIUS + 3.0 {
                canvas.lines(&[(low, high)], Style::line(hue.main, 1.2));
            }
        }
        let style = if spot.solid() {
            Style::outlined(hue.main, theme::GROUND, 1.0)
        } else {
            Style::outlined(theme::GROUND, hue.main, 1.8)
        };
        canvas.circle(centre, RADIUS, style);
        canvas.end();
    }
}

const RADIUS: f64 = 5.5;

fn labels_of(scale: &Scale, along: Along, one: &Series, hue: Hue, index: usize, name: String) -> Vec<Label> {
    let words = |text: String, bold| Text {
        text: text::fit(&text, theme::LABEL, bold, 220.0),
        at: at(0.0, 0.0),
        anchor: Anchor::Start,
        angle: 0.0,
        size: theme::LABEL,
        bold,
        colour: hue.text,
    };
    let (last, named) = (one.spots.len() - 1, !name.is_empty());
    one.spots
        .iter()
        .enumerate()
        .map(|(i, spot)| {
            let share = match spot.point.status {
                Status::Predicted => None,
                Status::Invalid => Some("invalid".to_string()),
                _ => Some(percent(spot.point.fraction_of_roof)),
            };
            let speed = format!("{} tok/s", figures(spot.tokens));
            // Series that differ are named at their end; else both ends say how fast it is.
            let (parts, importance) = match (i == last, i == 0, named) {
                (true, _, true) => (vec![Some(name.clone()), share], 100.0),
                (true, _, false) => (vec![Some(speed), share], 100.0),
                (_, true, false) => (vec![Some(speed), share.map(|s| s + " of roof")], 90.0),
                _ => (vec![share], 20.0 - index as f64),
            };
            let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
            let centre = place(scale, along, spot, spot.tokens);
            Label {
                spots: if text.is_empty() {
                    Vec::new()
                } else {
                    labels::around(centre, RADIUS, &words(text, importance >= 90.0))
                },
                importance,
                most: if importance >= 90.0 { f64::INFINITY } else { 60.0 },
                colour: hue.main,
                of: vec![spot.id.clone()],
            }
        })
        .collect()
}

fn obstacles(scale: &Scale, along: Along, all: &[Series]) -> Obstacles {
    let inset = 3.0;
    let mut out = Obstacles {
        low: Some(at(scale.low.x + inset, scale.low.y + inset)),
        high: Some(at(scale.high.x - inset, scale.high.y - inset)),
        ..Obstacles::default()
    };
    for one in all {
        let reached: Vec<At> = one.spots.iter().map(|s| place(scale, along, s, s.tokens)).collect();
        let roof: Vec<At> = one.spots.iter().map(|s| place(scale, along, s, s.roof())).collect();
        out.solid.extend(reached.iter().map(|&centre| Outline::around(centre, RADIUS + 0.5)));
        let proportional = proportional(scale, one).filter(|_| along == Along::Batch);
        for path in [reached, roof].into_iter().chain(proportional.map(|(a, b)| vec![a, b])) {
            out.soft.extend(path.windows(2).map(|w| (Outline::line(w[0], w[1]), 45.0)));
        }
    }
    out
}

fn entries(all: &[Series], hues: &[Hue], runs: &[Run], along: Along) -> Vec<(Sign, String)> {
    let mut out: Vec<(Sign, String)> = Vec::new();
    let mut seen: Vec<usize> = Vec::new();
    let types = all.iter().any(|s| s.weights() != all[0].weights());
    for (one, hue) in all.iter().zip(hues) {
        let run = &runs[one.run];
        if runs.len() > 1 && !seen.contains(&one.run) {
            seen.push(one.run);
            out.push((Sign::Swatch(hue.main), caption::lettered(one.run, run)));
        } else if runs.len() == 1 {
            let types = if types { format!("{}, ", one.weights()) } else { String::new() };
            let name = types + &along.fixed_name(one.fixed) + &of_ranks(one.ranks());
            out.push((Sign::Swatch(hue.main), name));
        }
    }
    let spots = || all.iter().flat_map(|s| &s.spots);
    let ink = theme::INK.main;
    if spots().any(Spot::solid) {
        out.push((Sign::Circle(RADIUS, ink, theme::GROUND, 1.0), "measured".into()));
    }
    if let Some(name) = marks::hollow_name(spots().map(|s| s.point)) {
        out.push((Sign::Circle(RADIUS, theme::GROUND, ink, 1.8), name.into()));
    }
    if all.iter().any(Series::is_measured) {
        out.push((Sign::Line(Style::line(ink, 1.2).dashed("6 4")), "what the roofs allow".into()));
    }
    if along == Along::Batch {
        let line = Style::line(theme::QUIET, 1.0).dashed("1.5 3");
        out.push((Sign::Line(line), "in proportion to the batch: batching for free".into()));
    }
    out
}

fn description(all: &[Series], along: Along) -> String {
    let mut out = format!("Tokens per second of decode steps over {}, both logarithmic.", along.name());
    for one in all {
        for spot in one.spots.iter().take(caption::MOST_DESCRIBED) {
            out += &format!(
                " {}: {} tokens/s, roofs allow {}.",
                caption::describe(spot.point),
                figures(spot.tokens),
                figures(spot.roof())
            );
        }
    }
    out
}
