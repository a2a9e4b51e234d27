//! The points of a run as marks: where, how large, which shape, and what is written beside them.

use std::collections::BTreeSet;

use crate::model::DType;
use crate::plot::Level;
use crate::plot::caption;
use crate::plot::geometry::{At, at};
use crate::plot::theme::{self, Hue};
use crate::run::{Point, Run, Status};
use crate::units::percent;
use crate::workload::{Phase, Stage};

/// A point to draw.
#[derive(Debug, Clone)]
pub struct Mark<'a> {
    /// The point.
    pub point: &'a Point,
    /// Where it is in the input: `RUN.POINT`.
    pub id: String,
    /// Its colours.
    pub hue: Hue,
    /// What is written beside it; nothing where others of its kind speak for it.
    pub label: Option<String>,
    /// Larger is labelled first.
    pub importance: f64,
}

impl Mark<'_> {
    /// Radius of the circle of the same area.
    pub fn radius(&self) -> f64 {
        theme::radius(self.point.share_of_step)
    }

    /// How far up and to the sides it reaches from its centre: a diamond further than a circle of the same area, a square less far.
    pub fn reach(&self) -> f64 {
        match self.point.phase {
            Phase::Decode => self.radius(),
            Phase::Prefill => self.radius() * (std::f64::consts::PI / 2.0).sqrt(),
            Phase::Mixed => self.radius() * std::f64::consts::PI.sqrt() / 2.0,
        }
    }

    /// Whether it is a whole step.
    pub fn is_step(&self) -> bool {
        self.point.stage.is_none()
    }

    /// Whether it was measured and can be true.
    pub fn is_solid(&self) -> bool {
        matches!(self.point.status, Status::Ok | Status::Partial)
    }

    /// Corners of the diamond with the area of the circle.
    pub fn diamond(&self, centre: At) -> [At; 4] {
        let reach = self.reach();
        [
            at(centre.x, centre.y - reach),
            at(centre.x + reach, centre.y),
            at(centre.x, centre.y + reach),
            at(centre.x - reach, centre.y),
        ]
    }

    /// Corners of the square with the area of the circle.
    pub fn square(&self, centre: At) -> [At; 4] {
        let reach = self.reach();
        [(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)]
            .map(|(x, y)| at(centre.x + x, centre.y + y))
    }
}

/// Steps of the same work at several sizes, the smallest first, each with its place in the run.
pub type Sweep<'a> = Vec<(usize, &'a Point)>;

/// Whether a point has a place on logarithmic axes. A stage without operations (embed) has none.
pub fn drawable(point: &Point) -> bool {
    const CREDIBLE: std::ops::RangeInclusive<f64> = 1e-9..=1e12;
    // Passes with a table of their own are not drawn.
    !point.is_variant()
        && CREDIBLE.contains(&point.intensity)
        && super::roofs::CREDIBLE.contains(&point.flops_per_second)
}

/// What two points must share to lie on one path: all but what grows along it.
type Work = (Phase, String, u32, [DType; 3], Option<u32>, u32);

fn work(point: &Point) -> Work {
    let fixed = match point.phase {
        Phase::Decode => point.context,
        Phase::Prefill => point.batch,
        Phase::Mixed => point.riding(),
    };
    let types = [point.weights, point.activations, point.kv];
    (point.phase, point.model.clone(), fixed, types, point.threads, point.ranks)
}

/// The steps of a run as paths: decode from the smallest batch to the largest, prefill from the shortest prompt to the
/// longest.
pub fn sweeps(run: &Run) -> Vec<Sweep<'_>> {
    let mut sweeps: Vec<(Work, Sweep)> = Vec::new();
    for (i, point) in run.points.iter().enumerate() {
        if point.stage.is_some() || !drawable(point) {
            continue;
        }
        match sweeps.iter_mut().find(|(work_of, _)| *work_of == work(point)) {
            Some((_, sweep)) => sweep.push((i, point)),
            None => sweeps.push((work(point), vec![(i, point)])),
        }
    }
    sweeps
        .into_iter()
        .map(|(_, mut sweep)| {
            sweep.sort_by_key(|(_, p)| (p.batch, p.tokens));
            sweep
        })
        .collect()
}

/// The marks of a run: whole steps, and of each phase the stages of the smallest batch at the shortest context, on the fewest
/// ranks. More stages would lie on top of each other.
pub fn marks<'a>(
    run: &'a Run,
    index: usize,
    level: Level,
    overlay: bool,
    hue_of: impl Fn(Phase) -> Hue,
) -> Vec<Mark<'a>> {
    // Several runs leave little room for words; the key says that circles are decode.
    let (decode, of_roof) = if overlay { ("", "") } else { ("decode, ", " of roof") };
    let letter = if overlay { format!("{} · ", caption::letter(index)) } else { String::new() };
    // The pass that stands for its phase: on the fewest ranks the smallest batch, and of those the shortest context.
    let first_types = run.points.first().map(Point::precision);
    let other = |p: &Point| Some(p.precision()) != first_types;
    let several_types = run.points.iter().any(other);
    // The run's first types, where it has several.
    let place = |p: &Point| (other(p), p.ranks, p.batch, p.context);
    let [decode_first, prefill_first] = [Phase::Decode, Phase::Prefill]
        .map(|phase| run.points.iter().filter(|p| p.is_plain(phase)).map(place).min());
    let first = |phase| match phase {
        Phase::Decode => decode_first,
        Phase::Prefill => prefill_first,
        // Its stages are those of the other two.
        Phase::Mixed => None,
    };
    let of_first = |p: &Point| first(p.phase) == Some(place(p));
    // The paths of further contexts, of other types and of more ranks lie close to the first: only their ends are named.
    let further = |p: &Point| {
        p.phase == Phase::Decode
            && decode_first.is_some_and(|f| (f.0, f.1, f.3) != (other(p), p.ranks, p.context))
    };
    let within_further_path = |p: &Point| {
        let of_path = |p: &Point| (p.phase, p.context, p.ranks, p.precision());
        let path = run.points.iter().filter(|o| of_path(o) == of_path(p));
        p.stage.is_none() && further(p) && path.map(|o| o.batch).max() != Some(p.batch)
    };
    let several = |phase, of: fn(&Point) -> u32| {
        run.points.iter().filter(|p| p.is_plain(phase)).map(of).collect::<BTreeSet<_>>().len() > 1
    };
    let several_contexts = several(Phase::Decode, |p| p.context);
    let several_prompts = several(Phase::Prefill, |p| p.tokens) || several(Phase::Prefill, |p| p.batch);
    let mut marks: Vec<Mark> = run
        .points
        .iter()
        .enumerate()
        .filter(|(_, p)| drawable(p))
        .filter(|(_, p)| match p.stage {
            None => level != Level::Stage,
            Some(_) => level != Level::Phase && of_first(p),
        })
        .map(|(i, point)| {
            let types = if several_types { format!("{}, ", point.weights) } else { String::new() };
            let (name, of_roof, importance) = match (point.stage, point.phase) {
                (None, Phase::Decode) if of_first(point) => {
                    let context =
                        if several_contexts { format!(", context {}", point.context) } else { String::new() };
                    (format!("{letter}{decode}{types}batch {}{context}", point.batch), of_roof, 100.0)
                }
                (None, Phase::Decode) if further(point) => {
                    let context =
                        if several_contexts { format!(", context {}", point.context) } else { String::new() };
                    let name = format!("{types}batch {}{context}{}", point.batch, point.of_ranks());
                    (name, "", 60.0)
                }
                (None, Phase::Decode) => (format!("batch {}", point.batch), "", 50.0),
                (None, Phase::Prefill) if point.ranks > 1 => {
                    (format!("prefill, {} tokens{}", point.tokens, point.of_ranks()), "", 75.0)
                }
                (None, Phase::Prefill) if several_types => {
                    (format!("{types}prefill, {} tokens", point.tokens), "", 85.0)
                }
                (None, Phase::Prefill) if !several_prompts => (format!("{letter}prefill"), of_roof, 90.0),
                (None, Phase::Prefill) if point.batch == 1 => {
                    (format!("prefill, {} tokens", point.tokens), "", 85.0)
                }
                (None, Phase::Prefill) => {
                    (format!("prefill, {} × {} tokens", point.batch, point.tokens), "", 80.0)
                }
                (None, Phase::Mixed) => {
                    (format!("{types}batch {} + {}", point.batch, point.riding()), "", 70.0)
                }
                // Far from the other prefill stages, among those of decode.
                (Some(Stage::LmHead), Phase::Prefill) => {
                    ("prefill lm_head".to_string(), "", point.share_of_step)
                }
                (Some(stage), _) => (stage.to_string(), "", point.share_of_step),
            };
            let colon = if point.stage.is_none() { ":" } else { "" };
            let label = match share(point) {
                Some(share) => format!("{name}{colon} {share}{of_roof}"),
                None => name,
            };
            let label = Some(label).filter(|_| !within_further_path(point));
            Mark { point, id: format!("{index}.{i}"), hue: hue_of(point.phase), label, importance }
        })
        .collect();
    // Large ones first, so that small ones lie on top of them.
    marks.sort_by(|a, b| {
        b.is_step().cmp(&a.is_step()).then(b.point.share_of_step.total_cmp(&a.point.share_of_step))
    });
    marks
}

/// What hollow marks mean among these points, if there are any.
pub fn hollow_name<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Option<&'static str> {
    let any = |status| points.clone().any(|p| p.status == status);
    match (any(Status::Predicted), any(Status::Invalid)) {
        (true, true) => Some("predicted or invalid"),
        (true, false) => Some("predicted"),
        (false, true) => Some("invalid"),
        (false, false) => None,
    }
}

/// Share of the roof as it is written beside a mark. A prediction is the roof itself.
pub fn share(point: &Point) -> Option<String> {
    match point.status {
        Status::Predicted => None,
        Status::Invalid => Some("invalid".to_string()),
        _ if point.fraction_of_roof >= 0.1 => Some(format!("{:.0}%", point.fraction_of_roof * 100.0)),
        _ => Some(percent(point.fraction_of_roof)),
    }
}
