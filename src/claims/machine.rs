//! Measured runs by the machine they were measured on, and what is found in their points.

use super::CONTEXT;
use crate::device::DeviceProfile;
use crate::model::DType;
use crate::roofline::{Bound, CeilingKind, CeilingSource};
use crate::run::{Point, Run, Status};
use crate::workload::Phase;

/// A device under the same conditions, with the runs that were measured on it.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    /// Its name, with threads and instruction set where it is a processor, and how many layers ran.
    pub name: String,
    /// The device's name alone.
    pub device: String,
    runs: Vec<&'a Run>,
}

/// A value out of points, and what a reader must know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// In base units.
    pub value: f64,
    /// Share of it by which it may be off: the interval of the time that it is made of.
    pub spread: f64,
    /// What a reader must know.
    pub remark: Option<String>,
}

/// The runs by machine, in the order of the first run of each.
pub fn machines(runs: &[Run]) -> Vec<Machine<'_>> {
    let conditions = |run: &Run| {
        let of_processor = run.conditions.as_ref().map(|c| (c.instruction_set.clone(), c.threads));
        (run.device.clone(), of_processor)
    };
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        let same = |group: &&mut Vec<&Run>| group.iter().all(|other| conditions(other) == conditions(run));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups.into_iter().filter_map(Machine::of).collect()
}

impl<'a> Machine<'a> {
    /// The machine of runs under the same conditions; `None` without any.
    fn of(runs: Vec<&'a Run>) -> Option<Machine<'a>> {
        let first = runs.first()?;
        let device = first.device.name.clone();
        let mut parts = vec![device.clone()];
        if let Some((threads, isa)) =
            first.conditions.as_ref().and_then(|c| Some((c.threads?, &c.instruction_set)))
        {
            parts.push(if threads == 1 { "1 thread".into() } else { format!("{threads} threads") });
            parts.push(isa.clone());
        }
        let sampled = runs.iter().flat_map(|run| &run.points).filter(|p| p.layers_measured < p.layers_total);
        if let Some(least) = sampled.min_by_key(|p| p.layers_measured) {
            parts.push(format!("{} of {} layers scaled to all", least.layers_measured, least.layers_total));
        }
        Some(Machine { name: parts.join(", "), device, runs })
    }
}

impl Machine<'_> {
    /// Whether it is this card.
    pub fn is_of(&self, card: &DeviceProfile) -> bool {
        self.runs.iter().any(|run| run.device.profile.as_deref() == Some(card.name.as_str()))
    }

    /// Points of whole passes that are measured and believed.
    fn steps(&self) -> impl Iterator<Item = &Point> {
        let measured = |point: &&Point| matches!(point.status, Status::Ok | Status::Partial);
        self.points().filter(measured).filter(|point| point.stage.is_none())
    }

    /// A shard of several ranks says nothing of one card.
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.runs.iter().flat_map(|run| &run.points).filter(|point| point.ranks == 1)
    }

    /// The decode step of this batch with bf16 weights, at the context nearest to the request's.
    pub fn decode(&self, batch: u32) -> Option<&Point> {
        self.decodes(batch, DType::Bf16).min_by_key(|point| point.context.abs_diff(CONTEXT))
    }

    fn decodes(&self, batch: u32, weights: DType) -> impl Iterator<Item = &Point> {
        self.steps().filter(move |point| {
            point.is_plain(Phase::Decode) && point.batch == batch && point.weights == weights
        })
    }

    /// The batch sizes of its decode steps.
    pub fn batches(&self) -> Vec<u32> {
        let mut batches: Vec<u32> =
            self.steps().filter(|p| p.is_plain(Phase::Decode)).map(|p| p.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    /// A prompt of so many tokens at batch 1, with bf16 weights.
    pub fn prefill(&self, prompt: u32) -> Option<&Point> {
        self.steps().find(|point| {
            point.is_plain(Phase::Prefill)
                && point.batch == 1
                && point.tokens == prompt
                && point.weights == DType::Bf16
        })
    }

    /// Time of a decode step of this batch over that of batch 1, at the same context.
    pub fn over_batch_1(&self, batch: u32) -> Option<Found> {
        let many = self.decode(batch)?;
        let one = self.decodes(1, DType::Bf16).find(|one| one.context == many.context)?;
        Some(Found {
            spread: spread(one, many),
            ..found(many, many.seconds.median / one.seconds.median, None)
        })
    }

    /// How many times as fast a decode step of batch 1 is with weights of this type as with bf16: at the same context and
    /// with the same cache, of several contexts the one nearest to the request's. Where `bytes` says of the bf16 step
    /// how many the other should read, only one that reads about as many counts: types of the same name differ in how
    /// the head is kept.
    pub fn faster_with(&self, weights: DType, bytes: impl Fn(&Point) -> Option<f64>) -> Option<Found> {
        /// Heads of two types differ by at least twice as much, scales by less.
        const NEAR: f64 = 0.03;
        let pairs = self.decodes(1, DType::Bf16).filter_map(|base| {
            let other = self.decodes(1, weights).find(|other| {
                (other.context, other.kv) == (base.context, base.kv)
                    && bytes(base).is_none_or(|bytes| (other.bytes / bytes - 1.0).abs() <= NEAR)
            })?;
            Some((base, other))
        });
        let (base, other) = pairs.min_by_key(|(base, _)| base.context.abs_diff(CONTEXT))?;
        let read = format!("reading {} instead of {}", other.bytes().human(), base.bytes().human());
        Some(Found {
            spread: spread(base, other),
            ..found(other, base.seconds.median / other.seconds.median, Some(read))
        })
    }

    /// Share of a decode step's time that goes into stages bound by compute.
    pub fn compute_share(&self, batch: u32) -> Option<Found> {
        let step = self.decode(batch)?;
        let stages: Vec<&Point> = self
            .points()
            .filter(|point| {
                point.stage.is_some() && point.key().same_pass(&step.key()) && !point.is_invalid()
            })
            .collect();
        // A step without its stages says nothing of them.
        let all: f64 = stages.iter().map(|stage| stage.seconds.median).sum();
        let compute = stages.iter().filter(|stage| stage.bound == Bound::Compute);
        // Of nothing the sum is 0, not the -0 that `sum` begins with.
        let share = compute.fold(0.0, |sum, stage| sum + stage.seconds.median) / all;
        let context = (step.context == CONTEXT).then(|| format!("context {CONTEXT}"));
        // Which stages are bound by compute is no matter of the interval of a time.
        (all > 0.0).then(|| Found { spread: 0.0, ..found(step, share, context) })
    }

    /// Where its measured roofs for bf16 work meet.
    pub fn ridge(&self) -> Option<Found> {
        self.runs.iter().find_map(|run| {
            let source = CeilingSource::Measured;
            let bandwidth = run.ceiling(CeilingKind::MemoryRead, None, source)?.rate;
            let peak = run.ceiling(CeilingKind::Compute, Some(DType::Bf16), source)?.rate;
            Some(Found { value: peak / bandwidth, spread: 0.0, remark: None })
        })
    }

    /// The measured request of these sizes.
    pub fn request(&self, prompt: u32, generate: u32) -> Option<&crate::run::Request> {
        self.runs
            .iter()
            .filter_map(|run| run.request.as_ref())
            .find(|request| (request.prompt, request.generate, request.ranks) == (prompt, generate, 1))
    }
}

/// A value of a point, with what a reader must know: `also`, and what the point is short of.
pub(super) fn found(point: &Point, value: f64, also: Option<String>) -> Found {
    Found { value, spread: point.seconds.relative_interval(), remark: remark(point, also) }
}

/// By how much a ratio of two points' times may be off.
fn spread(one: &Point, other: &Point) -> f64 {
    one.seconds.relative_interval() + other.seconds.relative_interval()
}

fn remark(point: &Point, also: Option<String>) -> Option<String> {
    let mut remarks: Vec<String> = also.into_iter().collect();
    if point.phase == Phase::Decode && point.context != CONTEXT {
        remarks.push(format!("context {}", point.context));
    }
    if point.status == Status::Partial {
        remarks.push("few samples".into());
    }
    (!remarks.is_empty()).then(|| remarks.join(", "))
}
