//! Samples into points: sampled layers scaled to all, each sample held against the roofs beside it.

use super::drift::drift;
use super::energy::Window;
use super::readings::{Readings, Round, distinct};
use crate::backend::{Execution, Multiplier};
use crate::roofline::Roofline;
use crate::run::{Placement, Point, PointTrial, Status, StoppedBy, Timing};
use crate::stats;
use crate::units::{BytesPerSec, FlopsPerSec, Seconds};
use crate::workload::{Phase, Stage, Workload};

/// What the points say of how they were run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Layers that ran.
    pub layers: u32,
    /// Threads; `None` on a GPU.
    pub threads: Option<u32>,
    /// The held weights fit the caches: they may be faster than memory.
    pub warm: bool,
}

/// Fewest samples of a point that is not called partial.
pub(super) const LEAST_SAMPLES: usize = 10;
/// A point this much above its roof is an accounting error.
const ABOVE: f64 = 1.02;
/// Stages below this share of the step are too short to be held against a roof: caches and clocks blur them.
const SHORT: f64 = 0.01;
/// The longest time, in seconds, that a device's clock may miss: a GPU's events tick twice in a microsecond.
const TICK: f64 = 2e-6;
/// A window this much slower than the samples is worth a note: without pauses the GPU meets its power limit.
const LONGER: f64 = 1.02;

/// One execution and the roofs measured right before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Seconds of the resident layers.
    pub execution: Execution,
    /// The roofs beside it.
    pub roof: Roofline,
    /// When it was taken.
    pub round: Round,
}

/// The samples that one trial took.
#[derive(Debug, Clone)]
struct Taken {
    /// The trial's place in this process.
    trial: u32,
    samples: Vec<Sample>,
}

/// All samples of one workload.
#[derive(Debug)]
pub(super) struct Measured {
    /// The workload, of the whole model.
    pub work: Workload,
    /// Trials to take; fewer where an earlier process took some.
    pub wanted: u32,
    trials: Vec<Taken>,
    stopped_by: Option<StoppedBy>,
    /// What runs its products of many rows on a GPU.
    pub gemm: Option<String>,
    /// What its products are made of.
    pub product: Option<Multiplier>,
    /// What the GPU's counters found.
    pub window: Option<Window>,
    joules: f64,
    metered_seconds: f64,
}

impl Measured {
    /// Nothing is measured yet.
    pub fn new(work: Workload, wanted: u32) -> Measured {
        Measured {
            work,
            wanted,
            trials: Vec::new(),
            stopped_by: None,
            gemm: None,
            product: None,
            window: None,
            joules: 0.0,
            metered_seconds: 0.0,
        }
    }

    /// Adds what a trial took.
    pub fn add(&mut self, trial: u32, samples: Vec<Sample>, stopped_by: StoppedBy) {
        self.trials.push(Taken { trial, samples });
        self.stopped_by = Some(stopped_by);
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.trials.iter().map(|taken| taken.samples.len()).sum()
    }

    /// When its samples were taken, one round for each.
    pub fn rounds(&self) -> impl Iterator<Item = Round> {
        self.trials.iter().flat_map(|taken| &taken.samples).map(|sample| sample.round)
    }

    /// Adds the energy of executions that took so many seconds together.
    pub fn energy(&mut self, joules: f64, seconds: f64) {
        self.joules += joules;
        self.metered_seconds += seconds;
    }

    /// Trials that were to be taken and were not.
    pub fn missing(&self) -> u32 {
        self.wanted.saturating_sub(self.trials.len() as u32)
    }

    /// Whether there is not a single sample.
    pub fn is_empty(&self) -> bool {
        self.samples() == 0
    }

    /// The whole step and those of its seven stages that the clock resolves; nothing without samples. `best` are the best roofs of the run, `readings`
    /// what a GPU's sensors said meanwhile.
    pub fn points(&self, layout: &Layout, best: Option<Roofline>, readings: &Readings) -> Vec<Point> {
        let taken = self.trials.iter().map(|taken| &taken.samples);
        let scaled: Vec<Vec<Scaled>> = taken
            .clone()
            .map(|samples| {
                samples.iter().map(|s| Scaled::of(&s.execution, &self.work, layout.layers)).collect()
            })
            .collect();
        let samples: Vec<Sample> = taken.flatten().copied().collect();
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
        let clocks = Clocks::of(&samples, readings);
        let beside: Vec<Beside> = self.trials.iter().map(|taken| Beside::of(taken, readings)).collect();

        let (mut points, mut unresolved) = (Vec::with_capacity(1 + Stage::ALL.len()), Vec::new());
        for stage in std::iter::once(None).chain(Stage::ALL.map(Some)) {
            let of = |s: &Scaled| stage.map_or(s.step, |stage| s.stages[stage.index()]);
            let Some(mut seconds) = timing(&scaled, of) else { continue };
            // The clock does not tick during it: its time is not known, and no rate follows from none.
            let silent = |trial: &Vec<Scaled>| {
                timing(std::slice::from_ref(trial), of).is_some_and(|t| t.median <= 0.0)
            };
            if let (Some(stage), true) = (stage, seconds.low <= 0.0 || scaled.iter().any(silent)) {
                let (flops, bytes) = parts[stage.index()];
                unresolved.push((stage, highest(best, &samples).shortest(flops, bytes).0.0));
                continue;
            }
            seconds.stopped_by = self.stopped_by;
            let shortest = |roof: Roofline| match stage {
                None => roof.shortest_of_parts(parts).0.0,
                Some(stage) => {
                    let (flops, bytes) = parts[stage.index()];
                    roof.shortest(flops, bytes).0.0
                }
            };
            let trials: Vec<PointTrial> = self
                .trials
                .iter()
                .zip(&scaled)
                .zip(&beside)
                .filter_map(|((taken, scaled), beside)| {
                    let times: Vec<f64> = scaled.iter().map(of).collect();
                    let fractions: Vec<f64> =
                        taken.samples.iter().zip(&times).map(|(s, time)| shortest(s.roof) / time).collect();
                    let bubbles: Vec<f64> = scaled.iter().map(|s| s.bubble).collect();
                    Some(PointTrial {
                        trial: taken.trial,
                        seconds: Timing::of(&[times])?.median,
                        fraction_of_roof: stats::median(&fractions),
                        roof_bytes_per_second: Some(beside.roof.bandwidth.0),
                        roof_flops_per_second: Some(beside.roof.peak.0),
                        bubble_seconds: stats::median(&bubbles).filter(|_| stage.is_none()),
                        sm_clock_hz: beside.clocks.median,
                        throttled_samples: beside.clocks.throttled,
                    })
                })
                .collect();
            let mut point = Point::new(&self.work, stage, seconds, place(status));
            let fractions: Vec<f64> = trials.iter().filter_map(|trial| trial.fraction_of_roof).collect();
            if let Some(fraction) = stats::median(&fractions) {
                point = point.paired(fraction);
            }
            point.trials = trials;
            point.throttled_samples = clocks.throttled;
            point.sm_clock_hz = clocks.median;
            if stage.is_none_or(|stage| self.multiplies_rows(stage)) {
                point.gemm.clone_from(&self.gemm);
            }
            if stage.is_none() {
                let scaled: Vec<Scaled> = scaled.concat();
                let bubbles: Vec<f64> = scaled.iter().map(|s| s.bubble).collect();
                point.bubble_seconds = stats::median(&bubbles);
                point.wall_seconds = wall(&samples, &scaled);
                self.charge(&mut point, &samples);
                self.explain(&mut point, &samples, &clocks);
            }
            hold_against(&mut point, highest(best, &samples), layout.warm);
            points.push(point);
        }
        if let Some(step) = points.first_mut() {
            leave_out(step, &unresolved);
        }
        points
    }

    /// Whether a stage is products of many rows: embed looks up, attention multiplies per sequence, and the head of a
    /// prefill has the last row of each sequence alone.
    fn multiplies_rows(&self, stage: Stage) -> bool {
        match stage {
            Stage::Embed | Stage::Attention => false,
            Stage::LmHead => self.work.phase == Phase::Decode,
            Stage::Qkv | Stage::OutProj | Stage::GateUp | Stage::Down => true,
        }
    }

    /// Energy and what counters saw, for the whole step.
    fn charge(&self, step: &mut Point, samples: &[Sample]) {
        let tokens = self.work.new_tokens();
        if self.joules > 0.0 && self.metered_seconds > 0.0 {
            step.joules_per_token = Some(self.joules / self.metered_seconds * step.seconds.median / tokens);
        }
        let Some(window) = &self.window else { return };
        let held: Vec<f64> = samples.iter().map(|sample| sample.execution.seconds).collect();
        let sampled = step.layers_measured < step.layers_total;
        // Sampled layers take energy in proportion to their time.
        let factor = match stats::median(&held) {
            Some(held) if sampled && held > 0.0 => step.seconds.median / held,
            _ => 1.0,
        };
        step.joules_per_token = window.joules.map(|joules| joules * factor / tokens);
        step.tensor_activity = window.tensor_activity;
        // A witness is not extrapolated.
        step.witnessed_bytes = window.witnessed_bytes.filter(|_| !sampled);
    }

    /// What a reader must know of the whole step.
    fn explain(&self, step: &mut Point, samples: &[Sample], clocks: &Clocks) {
        if samples.len() < LEAST_SAMPLES {
            let why = match self.stopped_by {
                Some(StoppedBy::Failure) => "the device failed",
                Some(StoppedBy::Interrupt) => "interrupted",
                _ => "the time budget allowed no more",
            };
            step.notes.push(format!("{} samples: {why}", samples.len()));
        }
        let repeats: Vec<f64> = samples.iter().map(|s| f64::from(s.execution.repeats.max(1))).collect();
        if let Some(repeats) = stats::median(&repeats).filter(|&repeats| repeats > 1.0) {
            step.notes.push(format!(
                "each sample is the mean of {repeats:.0} executions: one is too short for the device's clock"
            ));
        }
        if let Some(throttled) = clocks.throttled.filter(|&n| n > 0) {
            step.notes.push(format!(
                "{throttled} of {} samples were taken while the GPU held its clocks down ({})",
                samples.len(),
                clocks.reasons.join(", ")
            ));
        }
        if let Some((first, last)) = clocks.drift {
            step.notes.push(format!(
                "the GPU's clock went from {:.0} to {:.0} MHz between the first and the last third of the samples",
                first * 1e-6,
                last * 1e-6
            ));
        }
        step.notes.extend(self.drifts());
        let Some(window) = &self.window else { return };
        step.notes.extend(window.no_energy.iter().map(|reason| format!("no energy: {reason}")));
        let held: Vec<f64> = samples.iter().map(|sample| sample.execution.seconds).collect();
        let Some(held) = stats::median(&held) else { return };
        if window.seconds > LONGER * held {
            step.notes.push(format!(
                "without pauses, for energy, it took {:.1}% longer than in the samples",
                (window.seconds / held - 1.0) * 100.0
            ));
        }
    }

    /// Trials that were not as fast at their end as at their beginning.
    fn drifts(&self) -> Vec<String> {
        let drift_of = |taken: &Taken| {
            drift(&taken.samples.iter().map(|sample| sample.execution.seconds).collect::<Vec<_>>())
        };
        let several = self.trials.len() > 1;
        let drifts =
            self.trials.iter().enumerate().filter_map(|(at, trial)| Some((at + 1, drift_of(trial)?)));
        drifts
            .map(|(number, change)| {
                format!(
                    "the samples{} took {:.0}% {} in the last third than in the first: the device's speed drifted",
                    if several { format!(" of trial {number}") } else { String::new() },
                    change.abs() * 100.0,
                    if change > 0.0 { "longer" } else { "less" }
                )
            })
            .collect()
    }
}

/// What was beside the samples of one trial.
struct Beside {
    roof: Roofline,
    clocks: Clocks,
}

impl Beside {
    fn of(taken: &Taken, readings: &Readings) -> Beside {
        Beside { roof: median_roof(&taken.samples), clocks: Clocks::of(&taken.samples, readings) }
    }
}

/// A GPU's clocks during some samples.
struct Clocks {
    /// Samples while they were held down; `None` where nothing is known of any.
    throttled: Option<u32>,
    reasons: Vec<&'static str>,
    median: Option<f64>,
    /// First and last, where they differ.
    drift: Option<(f64, f64)>,
}

impl Clocks {
    fn of(samples: &[Sample], readings: &Readings) -> Clocks {
        let rounds: Vec<Round> = samples.iter().map(|sample| sample.round).collect();
        let known: Vec<Vec<&'static str>> =
            rounds.iter().filter_map(|&round| readings.throttled(round)).collect();
        let throttled = known.iter().filter(|reasons| !reasons.is_empty()).count() as u32;
        Clocks {
            throttled: (!known.is_empty()).then_some(throttled),
            reasons: distinct(known.iter().flatten().copied()),
            median: readings.clock(&rounds),
            drift: readings.clock_drift(&rounds),
        }
    }
}

/// Host seconds of the whole model's step: what the launch of one step adds is not scaled with the layers.
fn wall(samples: &[Sample], scaled: &[Scaled]) -> Option<f64> {
    let walls: Vec<f64> = samples
        .iter()
        .zip(scaled)
        .filter_map(|(sample, scaled)| {
            Some((scaled.step + sample.execution.wall_seconds? - sample.execution.seconds).max(0.0))
        })
        .collect();
    stats::median(&walls)
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
fn hold_against(point: &mut Point, best: Roofline, warm: bool) {
    if point.share_of_step < SHORT {
        return;
    }
    let slowest = point.seconds.high;
    let memory = point.bytes / slowest / best.bandwidth.0;
    let compute = point.flops / slowest / best.peak.0;
    // Activations of a short prefill stay in the caches, and so do weights that fit them; only what must come from
    // memory can be above its roof.
    let streamed = !warm && point.intensity < best.ridge().0;
    if (streamed && memory > ABOVE) || compute > ABOVE {
        point.status = Status::Invalid;
        point.notes.push(format!(
            "{:.0}% of the best roof measured in this run: the bytes or FLOPs charged cannot be right",
            memory.max(compute) * 100.0
        ));
    }
}

/// Says of the step which stages took no time by the device's clock, each with the shortest that the roofs allow it.
fn leave_out(step: &mut Point, unresolved: &[(Stage, f64)]) {
    if unresolved.is_empty() {
        return;
    }
    let names: Vec<&str> = unresolved.iter().map(|(stage, _)| stage.name()).collect();
    step.notes.push(format!("too short for the device's clock, left out: {}", names.join(", ")));
    let long = |shortest: f64| shortest > TICK && shortest > SHORT * step.seconds.median;
    if let Some((stage, shortest)) = unresolved.iter().find(|(_, shortest)| long(*shortest)) {
        step.status = Status::Invalid;
        step.notes
            .push(format!("{stage} took no time, where the roofs allow {}", Seconds(*shortest).human()));
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
    /// Stages of a layer count for all layers; embed and lm_head ran once, as in the whole model. The bubble grows
    /// with the number of borders between stages; where it is negative, because stages overlap in the step, with
    /// what overlaps.
    fn of(execution: &Execution, work: &Workload, layers: u32) -> Scaled {
        let total = f64::from(work.model.layers);
        let factor = total / f64::from(layers);
        let per_layer = Stage::ALL.iter().filter(|stage| stage.per_layer()).count() as f64;
        let once = Stage::ALL.len() as f64 - per_layer;
        let borders = (per_layer * total + once) / (per_layer * f64::from(layers) + once);
        let held = execution.stages.iter().sum::<f64>();
        let mut stages = execution.stages;
        for stage in Stage::ALL.into_iter().filter(|stage| stage.per_layer()) {
            stages[stage.index()] *= factor;
        }
        let all = stages.iter().sum::<f64>();
        let bubble = execution.seconds - held;
        let bubble = bubble * if bubble < 0.0 { all / held } else { borders };
        Scaled { step: all + bubble, stages, bubble }
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
