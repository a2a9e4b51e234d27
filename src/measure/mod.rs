//! What is measured and in which order.
//!
//! - [`verify`]: the check of the kernels that comes before any timing.
//! - `plan`: how many layers run, and which points fit the budget.
//! - `ceilings`: the roofs, surveyed first and probed again beside every sample.
//! - `sampler`: takes samples of one pass until they are enough.
//! - `points`: samples into points, sampled layers scaled to all.
//!
//! Nothing is printed here: an [`Observer`] is told.

mod ceilings;
mod plan;
mod points;
mod sampler;
pub mod verify;

use std::time::{Duration, Instant};

use crate::backend::weights::WeightSource;
use crate::backend::{Session, Work};
use crate::error::{Code, Failure, Result};
use crate::model::{DType, ModelSpec};
use crate::request::Sweeps;
use crate::run::{Conditions, Device, Origin, Run, RunStatus, SCHEMA_VERSION, Status, Tool};
use crate::telemetry::{self, ForeignLoad};
use crate::workload::Workload;
use ceilings::Ceilings;
pub use plan::Layers;
use plan::Plan;
use points::{Layout, Measured};
use sampler::Sampler;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The model.
    pub model: ModelSpec,
    /// `random`, or the checkpoint's folder.
    pub weights_from: String,
    /// Phases, batches, lengths.
    pub sweeps: Sweeps,
    /// How many layers to run.
    pub layers: Layers,
    /// Precision of what goes into matrix products.
    pub activations: DType,
    /// Time to spend.
    pub budget: Duration,
    /// Trials, each with fresh allocations.
    pub repeat: u32,
    /// Seed of random weights.
    pub seed: u64,
    /// Name of the device profile that matches the device.
    pub profile: Option<String>,
}

impl Options {
    /// Checks that the model can do what is asked, before a device is opened.
    ///
    /// # Errors
    /// More layers than the model has, or more positions than it was made for.
    pub fn check(&self) -> Result<()> {
        match (self.layers, self.model.layers) {
            (Layers::Count(n), total) if n > total => {
                return Err(Failure::input(format!("--layers {n}, but {} has {total}", self.model.name))
                    .hint(format!("give 1 to {total}, all, or auto")));
            }
            _ => {}
        }
        self.sweeps.workloads(&self.model).map(|_| ())
    }
}

/// Is told how a measurement goes, and may end it.
pub trait Observer {
    /// What is running now, and what remains of the budget.
    fn doing(&mut self, what: &str, left: Duration);

    /// A point has been measured: the run so far, marked partial.
    ///
    /// # Errors
    /// The run cannot be kept; ends the measurement.
    fn measured(&mut self, run: &Run) -> Result<()>;

    /// The signal that asks to stop, if one came: [`Code::Interrupted`] or [`Code::Terminated`].
    fn interrupted(&self) -> Option<Code>;
}

/// Time spent and left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    budget: Duration,
}

impl Clock {
    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.start.elapsed())
    }
}

/// Measures what `options` ask for. Interrupted, it returns what it has, marked partial.
///
/// # Errors
/// The kernels compute wrongly, the work does not fit, or the device failed.
pub fn measure(
    session: &mut dyn Session,
    weights: &dyn WeightSource,
    options: &Options,
    origin: Origin,
    observer: &mut dyn Observer,
) -> Result<Run> {
    // The end of a run is not free: the last sample overshoots, files are written, memory is given back.
    let clock = Clock { start: Instant::now(), budget: options.budget.mul_f64(0.97) };
    let foreign = ForeignLoad::start();
    options.check()?;
    let works = options.sweeps.workloads(&options.model)?;
    let works: Vec<Workload> = works
        .into_iter()
        // The cache holds what attention multiplies with: it has the activations' precision.
        .map(|work| Workload { activations: options.activations, kv: options.activations, ..work })
        .collect();

    let mut energy = telemetry::cpu_energy();
    let mut run = empty(session, options, origin, energy.as_ref().map(|meter| meter.name().to_owned()));
    plan::check_memory(session, options, &works)?;

    observer.doing("checking the kernels", clock.left());
    run.verification = Some(verify::quick_check(session, options.seed, options.activations)?);

    let mut ceilings = Ceilings::of(session);
    observer.doing("ceilings: compute, cache and copy", clock.left());
    // A fourteenth of the budget, shared by five probes; the read bandwidth's turn comes after loading.
    let each = (options.budget.as_secs_f64() / 70.0).clamp(0.02, 2.0);
    ceilings.survey(session, each)?;

    let plan = Plan::new(session, options, &works, ceilings.estimate()?, clock.left())?;
    let mut measured: Vec<Measured> = plan.order(&works).into_iter().map(Measured::new).collect();
    let mut stopped = None;
    'trials: for trial in 0..options.repeat {
        observer.doing(&format!("loading {}", plan.describe()), clock.left());
        session.load(&plan.residency, weights)?;
        observer.doing("ceilings: memory", clock.left());
        ceilings.survey_memory(session, each)?;
        let trials_left = f64::from(options.repeat - trial);
        for at in 0..measured.len() {
            stopped = observer.interrupted();
            if stopped.is_some() {
                break 'trials;
            }
            let waiting: Vec<&Workload> = measured[at..].iter().map(|m| &m.work).collect();
            let left = clock.left().mul_f64(1.0 / trials_left);
            let Some(allotment) = plan.allot(&waiting, left, at == 0) else {
                continue;
            };
            let sampler =
                Sampler { session, ceilings: &mut ceilings, clock: &clock, energy: energy.as_mut().ok() };
            sampler.sample(&mut measured[at], allotment, observer)?;
            update(&mut run, session, options, &plan, &ceilings, &measured, &clock, &foreign);
            observer.measured(&run)?;
        }
    }
    stopped = stopped.or_else(|| observer.interrupted());
    update(&mut run, session, options, &plan, &ceilings, &measured, &clock, &foreign);
    finish(&mut run, &measured, stopped, energy.err());
    Ok(run)
}

/// The run before anything is measured.
fn empty(
    session: &dyn Session,
    options: &Options,
    origin: Origin,
    energy: std::result::Result<String, &String>,
) -> Run {
    let (device, setup) = (session.device(), session.setup());
    Run {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "llmroof".into(), version: env!("CARGO_PKG_VERSION").into() },
        argv: origin.argv,
        created: origin.created,
        status: RunStatus::Partial,
        host: origin.host,
        device: Device {
            kind: device.kind.into(),
            name: device.name.clone(),
            id: device.id.clone(),
            profile: options.profile.clone(),
            memory_bytes: device.memory.0,
            cache_bytes: device.cache.map(|bytes| bytes.0),
        },
        model: options.model.clone(),
        conditions: Some(Conditions {
            instruction_set: setup.instruction_set,
            threads: setup.threads,
            pinned_cpus: setup.pinned_cpus,
            huge_page_share: None,
            foreign_load: None,
            energy_source: energy.ok(),
            seed: options.seed,
            weights_from: options.weights_from.clone(),
            budget_seconds: options.budget.as_secs_f64(),
            wall_seconds: 0.0,
            gpu: None,
        }),
        ceilings: Vec::new(),
        points: Vec::new(),
        request: None,
        verification: None,
        notes: Vec::new(),
    }
}

/// Brings the run up to what has been measured so far.
#[allow(clippy::too_many_arguments)]
fn update(
    run: &mut Run,
    session: &dyn Session,
    options: &Options,
    plan: &Plan,
    ceilings: &Ceilings,
    measured: &[Measured],
    clock: &Clock,
    foreign: &ForeignLoad,
) {
    run.ceilings = ceilings.list();
    let layout = Layout { threads: session.setup().threads, ..plan.layout() };
    let best = ceilings.roofline().ok();
    run.points = measured.iter().flat_map(|m| m.points(&layout, best)).collect();
    // In the order people read: prefill, then decode by batch.
    run.points.sort_by_key(|p| (p.phase, p.batch));
    run.request = options.sweeps.request(&run.points);
    if let Some(conditions) = &mut run.conditions {
        conditions.huge_page_share = session.setup().huge_page_share;
        conditions.foreign_load = foreign.cores();
        conditions.wall_seconds = clock.start.elapsed().as_secs_f64();
    }
}

/// Judges the whole and says what a reader must know.
fn finish(run: &mut Run, measured: &[Measured], stopped: Option<Code>, no_energy: Option<String>) {
    let left_out: Vec<String> = measured.iter().filter(|m| m.is_empty()).map(|m| name(&m.work)).collect();
    let invalid = run.points.iter().any(|point| point.status == Status::Invalid);
    run.status = match () {
        () if invalid => RunStatus::Invalid,
        () if stopped.is_some() || !left_out.is_empty() => RunStatus::Partial,
        () => RunStatus::Complete,
    };
    if stopped.is_some() {
        run.notes.push("interrupted: what had been measured until then is kept".into());
    }
    if !left_out.is_empty() {
        let why =
            if stopped.is_some() { "not reached" } else { "left out, the time budget ended (--budget)" };
        run.notes.push(format!("{why}: {}", left_out.join(", ")));
    }
    if let Some(reason) = no_energy {
        run.notes.push(format!("no energy: {reason}"));
    }
    if let Some(load) = run.conditions.as_ref().and_then(|c| c.foreign_load).filter(|&load| load >= 0.1) {
        run.notes.push(format!(
            "other processes used {load:.1} CPU cores during the run: shares of the roof are measured in turn with \
             it and hold, absolute times may not"
        ));
    }
}

/// `prefill of 1000 tokens`, `decode batch 8`.
fn name(work: &Workload) -> String {
    match work.phase {
        crate::workload::Phase::Prefill => format!("prefill of {} tokens", work.tokens),
        crate::workload::Phase::Decode => format!("decode batch {}", work.batch),
    }
}

/// The pass of this workload, for a session.
fn pass(work: &Workload) -> Work {
    Work { phase: work.phase, batch: work.batch, tokens: work.tokens, context: work.context }
}

/// How an interrupted measurement ends the process, after all was kept.
pub fn interruption(code: Code) -> Failure {
    Failure::new(code, "interrupted").hint("what was measured is kept, marked partial")
}
