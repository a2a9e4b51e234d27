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
    /// Its name, with threads and instruction set where it is a processor.
    pub name: String,
    runs: Vec<&'a Run>,
}

/// A value out of points, and what a reader must know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// In base units.
    pub value: f64,
    /// What a reader must know.
    pub remark: Option<String>,
}

/// The runs by machine, in the order of the first run of each.
pub fn machines(runs: &[Run]) -> Vec<Machine<'_>> {
    let same = |a: &Run, b: &Run| {
        let of = |run: &Run| {
            let conditions = run.conditions.as_ref();
            (run.device.clone(), conditions.map(|c| (c.instruction_set.clone(), c.threads)))
        };
        of(a) == of(b)
    };
    let mut machines: Vec<Machine> = Vec::new();
    for run in runs {
        match machines.iter_mut().find(|machine| machine.runs.first().is_some_and(|first| same(first, run))) {
            Some(machine) => machine.runs.push(run),
            None => machines.push(Machine { name: name(run), runs: vec![run] }),
        }
    }
    machines
}

fn name(run: &Run) -> String {
    let device = &run.device.name;
    match run.conditions.as_ref().and_then(|c| Some((c.threads?, &c.instruction_set))) {
        Some((1, isa)) => format!("{device}, 1 thread, {isa}"),
        Some((threads, isa)) => format!("{device}, {threads} threads, {isa}"),
        None => device.clone(),
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

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.runs.iter().flat_map(|run| &run.points)
    }

    /// The decode step of this batch with bf16 weights, at the context nearest to the request's.
    pub fn decode(&self, batch: u32) -> Option<&Point> {
        self.decodes(batch, DType::Bf16.name()).min_by_key(|point| point.context.abs_diff(CONTEXT))
    }

    fn decodes(&self, batch: u32, weights: &str) -> impl Iterator<Item = &Point> {
        self.steps().filter(move |point| {
            point.phase == Phase::Decode
                && point.tokens == 1
                && point.batch == batch
                && point.weights.name() == weights
        })
    }

    /// The batch sizes of its decode steps.
    pub fn batches(&self) -> Vec<u32> {
        let mut batches: Vec<u32> =
            self.steps().filter(|p| p.phase == Phase::Decode).map(|p| p.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    /// A prompt of so many tokens at batch 1, with bf16 weights.
    pub fn prefill(&self, prompt: u32) -> Option<&Point> {
        self.steps().find(|point| {
            point.phase == Phase::Prefill
                && point.batch == 1
                && point.tokens == prompt
                && point.weights == DType::Bf16
        })
    }

    /// Times of decode of batch `batch` over those of batch 1, at the same context.
    pub fn over_batch_1(&self, batch: u32) -> Option<(f64, &Point)> {
        let many = self.decode(batch)?;
        let one = self.decodes(1, DType::Bf16.name()).find(|one| one.context == many.context)?;
        Some((many.seconds.median / one.seconds.median, many))
    }

    /// How many times as fast a decode step of batch 1 is with weights of this type as with bf16, at the same context
    /// and cache. `bytes` says of the bf16 step how many the other should read: of several of one type, which differ
    /// in how the head is kept, the one that reads about as many counts.
    pub fn faster_with(&self, weights: &str, bytes: impl Fn(&Point) -> f64) -> Option<Found> {
        /// Formats that differ in the head differ by a tenth.
        const NEAR: f64 = 0.03;
        self.decodes(1, DType::Bf16.name()).find_map(|base| {
            let other = self.decodes(1, weights).find(|other| {
                (other.context, other.kv) == (base.context, base.kv)
                    && (other.bytes / bytes(base) - 1.0).abs() <= NEAR
            })?;
            Some(Found { value: base.seconds.median / other.seconds.median, remark: remark(other, None) })
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
        (all > 0.0).then(|| Found {
            value: compute.map(|stage| stage.seconds.median).sum::<f64>() / all,
            remark: remark(step, None),
        })
    }

    /// Where its measured roofs for bf16 work meet.
    pub fn ridge(&self) -> Option<Found> {
        self.runs.iter().find_map(|run| {
            let source = CeilingSource::Measured;
            let bandwidth = run.ceiling(CeilingKind::MemoryRead, None, source)?.rate;
            let peak = run.ceiling(CeilingKind::Compute, Some(DType::Bf16), source)?.rate;
            Some(Found { value: peak / bandwidth, remark: None })
        })
    }

    /// The measured request of these sizes.
    pub fn request(&self, prompt: u32, generate: u32) -> Option<&crate::run::Request> {
        self.runs
            .iter()
            .filter_map(|run| run.request.as_ref())
            .find(|request| (request.prompt, request.generate) == (prompt, generate))
    }
}

/// A value of a point, with what a reader must know: `also`, and what the point is short of.
pub(super) fn found(point: &Point, value: f64, also: Option<String>) -> Found {
    Found { value, remark: remark(point, also) }
}

fn remark(point: &Point, also: Option<String>) -> Option<String> {
    let mut remarks: Vec<String> = also.into_iter().collect();
    if point.phase == Phase::Decode && point.context != CONTEXT {
        remarks.push(format!("context {}", point.context));
    }
    if point.layers_measured < point.layers_total {
        remarks.push(format!("{} of {} layers, scaled", point.layers_measured, point.layers_total));
    }
    if point.status == Status::Partial {
        remarks.push("few samples".into());
    }
    (!remarks.is_empty()).then(|| remarks.join(", "))
}
