//! Samples into points: sampled layers scaled to all, each sample held against the roofs beside it.

use crate::backend::Execution;
use crate::roofline::Roofline;
use crate::run::{Placement, Point, Status, StoppedBy, Timing};
use crate::stats;
use crate::units::{BytesPerSec, FlopsPerSec};
use crate::workload::{Stage, Workload};

/// What the points say of how they were run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Layers that ran.
    pub layers: u32,
    /// Threads; `None` on a GPU.
    pub threads: Option<u32>,
}

/// Fewest samples of a point that is not called partial.
pub(super) const LEAST_SAMPLES: usize = 10;
/// A point this much above its roof is an accounting error.
const ABOVE: f64 = 1.02;
/// Stages below this share of the step are too short to be held against a roof: caches and clocks blur them.
const SHORT: f64 = 0.01;

/// One execution and the roofs measured right before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Seconds of the resident layers.
    pub execution: Execution,
    /// The roofs beside it.
    pub roof: Roofline,
}

/// All samples of one workload.
#[derive(Debug)]
pub(super) struct Measured {
    /// The workload, of the whole model.
    pub work: Workload,
    trials: Vec<Vec<Sample>>,
    stopped_by: Option<StoppedBy>,
    joules: f64,
    metered_seconds: f64,
}

impl Measured {
    /// Nothing is measured yet.
    pub fn new(work: Workload) -> Measured {
        Measured { work, trials: Vec::new(), stopped_by: None, joules: 0.0, metered_seconds: 0.0 }
    }

    /// Adds a trial.
    pub fn add(&mut self, samples: Vec<Sample>, stopped_by: StoppedBy) {
        self.trials.push(samples);
        self.stopped_by = Some(stopped_by);
    }

    /// Adds the energy of some executions.
    pub fn energy(&mut self, joules: f64, seconds: f64) {
        self.joules += joules;
        self.metered_seconds += seconds;
    }

    /// Whether there is not a single sample.
    pub fn is_empty(&self) -> bool {
        self.trials.iter().all(Vec::is_empty)
    }

    /// The whole step and its seven stages; nothing without samples. `best` are the best roofs of the run.
    pub fn points(&self, layout: &Layout, best: Option<Roofline>) -> Vec<Point> {
        let scaled: Vec<Vec<Scaled>> = self
            .trials
            .iter()
            .map(|trial| trial.iter().map(|s| Scaled::of(&s.execution, &self.work, layout.layers)).collect())
            .collect();
        let samples: Vec<Sample> = self.trials.concat();
        let Some(step) = timing(&scaled, |s| s.step) else { return Vec::new() };
        let roof = median_roof(&samples);
        let place = |status| Placement {
            roof,
            threads: layout.threads,
            layers_measured: layout.layers,
            step_seconds: step.median,
            status,
        };
        let status = if samples.len() < LEAST_SAMPLES { Status::Partial } else { Status::Ok };
        let parts = Stage::ALL.map(|stage| self.work.cost(stage)).map(|cost| (cost.flops, cost.bytes()));

        let mut points = Vec::with_capacity(1 + Stage::ALL.len());
        for stage in std::iter::once(None).chain(Stage::ALL.map(Some)) {
            let of = |s: &Scaled| stage.map_or(s.step, |stage| s.stages[stage.index()]);
            let Some(mut seconds) = timing(&scaled, of) else { continue };
            // A clock that does not tick during the shortest stages would make a rate infinite.
            seconds.median = seconds.median.max(1e-9);
            seconds.low = seconds.low.max(1e-9);
            seconds.high = seconds.high.max(1e-9);
            seconds.stopped_by = self.stopped_by;
            let fractions: Vec<f64> = samples
                .iter()
                .zip(scaled.iter().flatten())
                .map(|(sample, scaled)| {
                    let shortest = match stage {
                        None => sample.roof.shortest_of_parts(parts).0,
                        Some(stage) => {
                            let (flops, bytes) = parts[stage.index()];
                            sample.roof.shortest(flops, bytes).0
                        }
                    };
                    shortest.0 / of(scaled).max(1e-9)
                })
                .collect();
            let mut point = Point::new(&self.work, stage, seconds, place(status));
            if let Some(fraction) = stats::median(&fractions) {
                point = point.paired(fraction);
            }
            if stage.is_none() {
                let bubbles: Vec<f64> = scaled.iter().flatten().map(|s| s.bubble).collect();
                point.bubble_seconds = stats::median(&bubbles);
                let watts = self.joules / self.metered_seconds;
                point.joules_per_token =
                    (self.joules > 0.0).then(|| watts * step.median / self.work.new_tokens());
            }
            if stage.is_none() && samples.len() < LEAST_SAMPLES {
                point.notes.push(format!("{} samples: the time budget allowed no more", samples.len()));
            }
            hold_against(&mut point, highest(best, &samples));
            points.push(point);
        }
        points
    }
}

/// The highest roofs seen: the run's best, or those beside these samples where the machine had just got faster.
fn highest(best: Option<Roofline>, samples: &[Sample]) -> Roofline {
    let none = Roofline { bandwidth: BytesPerSec(0.0), peak: FlopsPerSec(0.0) };
    samples.iter().map(|sample| sample.roof).chain(best).fold(none, |a, b| Roofline {
        bandwidth: BytesPerSec(a.bandwidth.0.max(b.bandwidth.0)),
        peak: FlopsPerSec(a.peak.0.max(b.peak.0)),
    })
}

/// Marks a point that lies above the highest roofs by more than any noise: its ledger must be wrong.
fn hold_against(point: &mut Point, best: Roofline) {
    if point.share_of_step < SHORT {
        return;
    }
    let slowest = point.seconds.high;
    let memory = point.bytes / slowest / best.bandwidth.0;
    let compute = point.flops / slowest / best.peak.0;
    // Activations of a short prefill stay in the caches; only what must come from memory can be above its roof.
    let streamed = point.intensity < best.ridge().0;
    if (streamed && memory > ABOVE) || compute > ABOVE {
        point.status = Status::Invalid;
        point.notes.push(format!(
            "{:.0}% of the best roof measured in this run: the bytes or FLOPs charged cannot be right",
            memory.max(compute) * 100.0
        ));
    }
}

/// One execution scaled to the whole model.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    step: f64,
    stages: [f64; 7],
    bubble: f64,
}

impl Scaled {
    /// Stages of a layer count for all layers; embed and lm_head ran once, as in the whole model; the bubble grows
    /// with the number of borders between stages.
    fn of(execution: &Execution, work: &Workload, layers: u32) -> Scaled {
        let total = f64::from(work.model.layers);
        let factor = total / f64::from(layers);
        let per_layer = Stage::ALL.iter().filter(|stage| stage.per_layer()).count() as f64;
        let once = Stage::ALL.len() as f64 - per_layer;
        let borders = (per_layer * total + once) / (per_layer * f64::from(layers) + once);
        let bubble = (execution.seconds - execution.stages.iter().sum::<f64>()) * borders;
        let mut stages = execution.stages;
        for stage in Stage::ALL.into_iter().filter(|stage| stage.per_layer()) {
            stages[stage.index()] *= factor;
        }
        Scaled { step: stages.iter().sum::<f64>() + bubble, stages, bubble }
    }
}

fn timing(trials: &[Vec<Scaled>], of: impl Fn(&Scaled) -> f64) -> Option<Timing> {
    Timing::of(&trials.iter().map(|trial| trial.iter().map(&of).collect()).collect::<Vec<_>>())
}

fn median_roof(samples: &[Sample]) -> Roofline {
    let median = |of: fn(&Sample) -> f64| {
        stats::median(&samples.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    Roofline {
        bandwidth: BytesPerSec(median(|s| s.roof.bandwidth.0)),
        peak: FlopsPerSec(median(|s| s.roof.peak.0)),
    }
}
