//! Synthetic runs: five passes of eight points, 40 in all, with times made by a noise model.

use llmroof::compare::{self, Comparison, Options};
use llmroof::model::ModelSpec;
use llmroof::roofline::Roofline;
use llmroof::run::{
    Device, Host, Placement, Point, PointTrial, Process, Run, RunStatus, SCHEMA_VERSION, Status, Timing,
    Tool, Trial,
};
use llmroof::stats::random::Random;
use llmroof::units::{BytesPerSec, FlopsPerSec, Seconds};
use llmroof::workload::{Stage, Workload};

use crate::noise::{Among, Noise};

/// Points of a synthetic run.
pub const POINTS: usize = 40;

/// How two sides' trials lie in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turns {
    /// A B A B ...
    Alternate,
    /// A A ... B B ...
    After,
    /// Two processes on each side: half of A, half of B, half of A, half of B.
    Halves,
}

impl Turns {
    /// The places in time of the trials of both sides.
    pub fn places(self, base: usize, new: usize) -> (Vec<usize>, Vec<usize>) {
        let all = 0..base + new;
        let of_base = |at: &usize| match self {
            Turns::Alternate => at.is_multiple_of(2),
            Turns::After => *at < base,
            Turns::Halves => *at < base / 2 || (base / 2 + new / 2..base + new / 2).contains(at),
        };
        all.partition(of_base)
    }
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub noise: Noise,
    pub among: Among,
    pub cv: f64,
    pub turns: Turns,
    pub trials: (usize, usize),
    /// The point of NEW that differs, and how long it takes over what it did.
    pub change: Option<(usize, f64)>,
}

impl Case {
    /// Ten trials each in turns, nothing changed.
    pub fn new(noise: Noise, cv: f64) -> Case {
        Case { noise, among: Among::Own, cv, turns: Turns::Alternate, trials: (10, 10), change: None }
    }

    /// A pair of runs whose times [`Case::fill`] sets.
    pub fn runs(&self) -> [Run; 2] {
        let (base, new) = self.turns.places(self.trials.0, self.trials.1);
        [run(&base), run(&new)]
    }

    /// Gives both runs new times.
    pub fn fill(&self, runs: &mut [Run; 2], seed: u64) {
        let mut random = Random::new(seed);
        let all = self.trials.0 + self.trials.1;
        let (base, new) = self.turns.places(self.trials.0, self.trials.1);
        let factors = self.noise.of_points(self.among, self.cv, (POINTS, all), &mut random);
        for (which, (run, places)) in runs.iter_mut().zip([base, new]).enumerate() {
            for (at, (point, factors)) in run.points.iter_mut().zip(&factors).enumerate() {
                let changed = self.change.filter(|&(point, _)| which == 1 && point == at);
                let seconds = point.seconds.median * changed.map_or(1.0, |(_, ratio)| ratio);
                for (trial, &place) in point.trials.iter_mut().zip(&places) {
                    trial.seconds = seconds * factors[place];
                    trial.fraction_of_roof = Some(0.8 * point.seconds.median / trial.seconds);
                }
            }
        }
    }

    /// Compares many seeded pairs on both cores and keeps what `see` makes of each, in the order of the seeds.
    pub fn simulate<T: Send>(
        &self,
        comparisons: u64,
        options: &Options,
        see: impl Fn(&Comparison) -> T + Sync,
    ) -> Vec<T> {
        const CORES: u64 = 2;
        let part = |core: u64| {
            let mut runs = self.runs();
            (0..comparisons)
                .filter(|seed| seed % CORES == core)
                .map(|seed| {
                    self.fill(&mut runs, seed);
                    let comparison = compare::compare(&runs[..1], &runs[1..], options).unwrap();
                    (seed, see(&comparison))
                })
                .collect::<Vec<_>>()
        };
        let mut seen: Vec<(u64, T)> = std::thread::scope(|scope| {
            let part = &part;
            let handles: Vec<_> = (0..CORES).map(|core| scope.spawn(move || part(core))).collect();
            handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
        });
        seen.sort_by_key(|(seed, _)| *seed);
        seen.into_iter().map(|(_, seen)| seen).collect()
    }
}

/// A small model whose stages all take more than 1% of the step.
pub fn model() -> ModelSpec {
    ModelSpec::from_toml(include_str!("../../profiles/models/llama-1b.toml")).unwrap()
}

/// A run of five passes, with one trial at each of these places in time, a minute apart.
pub fn run(places: &[usize]) -> Run {
    let model = model();
    let works = [1, 2, 4, 8].map(|batch| Workload::decode(&model, batch, 1024));
    let works = std::iter::once(Workload::prefill(&model, 1, 512)).chain(works);
    let points = works.flat_map(|work| points(&work, places.len())).collect();
    let started = |place: &usize| format!("2026-01-01T{:02}:{:02}:00.000Z", place / 60, place % 60);
    Run {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "llmroof".into(), version: "0.1.0".into() },
        argv: vec!["llmroof".into(), "measure".into()],
        created: started(places.first().unwrap_or(&0)),
        status: RunStatus::Complete,
        host: Host {
            os: "Linux".into(),
            arch: "x86_64".into(),
            cpu: "synthetic".into(),
            physical_cores: None,
            logical_cores: 2,
            memory_bytes: 1e10,
        },
        device: Device {
            kind: "cpu".into(),
            name: "synthetic".into(),
            id: None,
            profile: None,
            memory_bytes: 1e10,
            cache_bytes: None,
        },
        model,
        conditions: None,
        ceilings: Vec::new(),
        points,
        collectives: Vec::new(),
        request: None,
        draft: None,
        ways: Vec::new(),
        verification: None,
        notes: Vec::new(),
        plan: None,
        processes: vec![process()],
        trials: places.iter().map(|at| Trial { started: started(at), process: 0 }).collect(),
    }
}

fn process() -> Process {
    Process {
        argv: vec!["llmroof".into(), "measure".into()],
        created: "2026-01-01T00:00:00Z".into(),
        budget_seconds: 60.0,
        wall_seconds: 60.0,
        foreign_load: None,
    }
}

/// The step, a second long, and seven stages of a seventh of it each.
fn points(work: &Workload, trials: usize) -> Vec<Point> {
    let place = Placement {
        roof: Roofline { bandwidth: BytesPerSec(2e10), peak: FlopsPerSec(1e12) },
        threads: Some(2),
        layers_measured: work.model.layers,
        step_seconds: 1.0,
        status: Status::Ok,
    };
    let stages = Stage::ALL.into_iter().map(Some);
    std::iter::once(None)
        .chain(stages)
        .map(|stage| {
            let seconds = if stage.is_none() { 1.0 } else { 1.0 / 7.0 };
            let mut timing = Timing::computed(Seconds(seconds));
            timing.samples = vec![seconds; trials];
            timing.trials = vec![1; trials];
            let mut point = Point::new(work, stage, timing, place);
            point.trials = (0..trials as u32).map(|trial| point_trial(trial, seconds)).collect();
            point
        })
        .collect()
}

/// A trial that knows its time and its roof, and no clock.
pub fn point_trial(trial: u32, seconds: f64) -> PointTrial {
    PointTrial {
        trial,
        seconds,
        fraction_of_roof: Some(0.8),
        roof_bytes_per_second: Some(2e10),
        roof_flops_per_second: Some(1e12),
        bubble_seconds: None,
        sm_clock_hz: None,
        throttled_samples: None,
    }
}
