//! What is measured and in which order.
//!
//! - [`verify`]: the check of the kernels that comes before any timing.
//! - `plan`: how many layers run, and which points fit the budget.
//! - `all_reduces`: those among several ranks, timed or modelled.
//! - `ceilings`: the roofs, surveyed first and probed again beside every sample.
//! - `sampler`: takes samples of one pass until they are enough.
//! - `plausible`: refuses times that no device can have taken.
//! - `energy`: a CPU's around the samples, a GPU's in windows of seconds, with its counters of memory traffic.
//! - `readings`, `watched`: a GPU's clocks, power and throttling meanwhile.
//! - `draft`: the steps of the model that proposes tokens for speculation.
//! - `drift`: whether a device was as fast at the end as at the beginning.
//! - `points`: samples into points, sampled layers scaled to all.
//! - `soak`: the peak that is left after a while of computing.
//! - `record`: the run file as it grows.
//! - `time`: the clock that all of this goes by.
//!
//! Nothing is printed here: an [`Observer`] is told.

mod all_reduces;
mod ceilings;
mod draft;
mod drift;
mod energy;
mod plan;
mod plausible;
mod points;
mod readings;
mod record;
mod sampler;
mod soak;
mod time;
pub mod verify;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::weights::WeightSource;
use crate::backend::{DeviceInfo, Session, Work};
use crate::device::Link;
use crate::error::{Code, Failure, Result};
use crate::model::ModelSpec;
use crate::request::Sweeps;
use crate::run::{Difference, Origin, Point, Run, differences, of_pages, of_ranks};
use crate::telemetry::{Load, Sensors};
use crate::ways::{self, Terms};
use crate::workload::{Phase, Workload};
use all_reduces::AllReduces;
use ceilings::Ceilings;
use energy::Meter;
pub use plan::Layers;
use plan::Plan;
use points::Measured;
use record::Record;
use sampler::Sampler;
pub(crate) use time::Clock;
pub use time::{RealTime, Time};
use watched::Watched;

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
    /// Time to spend.
    pub budget: Duration,
    /// How much of it is gone already: finding and opening the device takes a GPU's driver seconds.
    pub spent: Duration,
    /// After all points: how long to compute for the sustained peak.
    pub soak: Option<Duration>,
    /// Trials in all, each with fresh contexts and allocations.
    pub repeat: u32,
    /// A run that this one goes on with: what it has of the trials is not measured again, and what is measured is put
    /// together with it. Its plan is the one of these options.
    pub before: Option<Run>,
    /// What was asked to run a GPU's products of many rows, for the run file.
    pub gemm: Option<String>,
    /// Seed of random weights.
    pub seed: u64,
    /// Name of the device profile that matches the device.
    pub profile: Option<String>,
    /// What all-reduces of several ranks are modelled over where they cannot be timed.
    pub link: Option<Link>,
    /// The model that proposes tokens for speculation: its steps are timed after all points.
    pub draft: Option<ModelSpec>,
    /// Show what every way past the memory wall is worth, even where there is nothing but batches.
    pub show_ways: bool,
    /// What that takes besides the run.
    pub terms: Terms,
}

impl Options {
    /// Checks that the model can do what is asked, before a device is opened.
    ///
    /// # Errors
    /// More layers than the model has, more positions than it or the draft was made for, or ranks that do not divide it.
    pub fn check(&self) -> Result<()> {
        match (self.layers, self.model.layers) {
            (Layers::Count(n), total) if n > total => {
                return Err(Failure::input(format!("--layers {n}, but {} has {total}", self.model.name))
                    .hint(format!("give 1 to {total}, all, or auto")));
            }
            _ => {}
        }
        if let Some(draft) = &self.draft {
            let first = self.sweeps.precisions.first().copied();
            let own = Sweeps {
                phases: vec![Phase::Decode],
                ranks: vec![1],
                precisions: first.into_iter().collect(),
                ..self.sweeps.clone()
            };
            own.workloads(draft).map_err(|failure| failure.at(format!("--draft {}", draft.name)))?;
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

/// A GPU's sensors, or why there are none; `None` on other devices.
pub type GpuSensors = Option<std::result::Result<Arc<dyn Sensors>, String>>;

/// What a measurement reads besides the device itself.
pub struct Instruments<'a> {
    /// The host's clock.
    pub time: &'a dyn Time,
    /// A GPU's sensors.
    pub sensors: GpuSensors,
    /// What others use of the machine.
    pub load: Box<dyn Load>,
}

/// A measurement that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What was measured; marked partial where the plan was not carried out.
    pub run: Run,
    /// What ended it midway, for the process to end with after the run has been kept.
    pub failure: Option<Failure>,
}

/// Measures what `options` ask for. Interrupted, or failing after the first point, it returns what it has, marked
/// partial.
///
/// # Errors
/// The kernels compute wrongly, the work does not fit, or the device failed before anything was measured.
pub fn measure(
    session: &mut dyn Session,
    weights: &dyn WeightSource,
    options: &Options,
    instruments: Instruments,
    origin: Origin,
    observer: &mut dyn Observer,
) -> Result<Ended> {
    let Instruments { time, sensors, load } = instruments;
    let now = time.now();
    let start = now.checked_sub(options.spent).unwrap_or(now);
    // The end of a run is not free: the last sample overshoots, files are written, memory is given back.
    let clock = Clock { start, budget: options.budget.mul_f64(0.97), time };
    options.check()?;
    let works = options.sweeps.workloads(&options.model)?;

    let (watched, meter) = watch(session.device(), sensors, &clock);
    let mut record = Record::new(session, options, origin, watched, &meter, load);
    if let Some(before) = &options.before {
        goes_on(before, &record.run)?;
    }
    plan::check_memory(session, options, &works)?;

    observer.doing("checking the kernels", clock.left());
    let Sweeps { precisions, kv_pages, mix, .. } = &options.sweeps;
    record.run.verification =
        Some(verify::quick_check(session, options.seed, precisions, kv_pages, !mix.is_empty())?);

    // While next to nothing is held: what joins GPUs takes memory on each of them.
    record.reduce(AllReduces::time(session, options, &works, &clock, observer)?);

    let mut ceilings = Ceilings::of(session);
    observer.doing("ceilings: compute, cache and copy", clock.left());
    // A fourteenth of the budget, shared by the probes; the read bandwidth's turn comes after loading.
    let each = (options.budget.as_secs_f64() / 14.0 / ceilings.len().max(1) as f64).clamp(0.02, 2.0);
    ceilings.survey(session, each)?;

    let plan = Plan::new(session, options, &works, ceilings.estimate()?, clock.left())?;
    record.plan(options, &plan);
    let mut measured: Vec<Measured> = plan
        .order(&works)
        .into_iter()
        .map(|work| {
            let there = options.before.as_ref().map_or(0, |before| trials_of(before, &work));
            Measured::new(work, options.repeat.saturating_sub(there))
        })
        .collect();
    let mut trials = Trials { session, options, plan, ceilings, meter, clock, each };
    let mut ended = trials.run(weights, &mut measured, &mut record, observer);
    let mut draft = None;
    if let (Ok(None), Some(model)) = (&ended, &options.draft) {
        let Trials { session, ceilings, .. } = &mut trials;
        match draft::draft(*session, model, &works, options, ceilings, &clock, observer) {
            Ok(steps) => draft = steps,
            Err(failure) => ended = Err(failure),
        }
    }
    let end = clock.now();
    if let (Ok(None), Some(time)) = (&ended, options.soak) {
        match soak::soak(trials.session, time, &clock, observer) {
            Ok(peak) => trials.ceilings.sustained = peak,
            Err(failure) => ended = Err(failure),
        }
    }
    let (stopped, failure) = match ended {
        Ok(stopped) => (stopped.or_else(|| observer.interrupted()), None),
        Err(failure) if measured.iter().all(Measured::is_empty) => return Err(failure),
        Err(failure) => (None, Some(failure)),
    };
    trials.update(&mut record, &measured);
    let run = record.finish(options, &measured, stopped, failure.as_ref(), trials.plan.note(), end);
    let mut run = run;
    run.draft = draft.or(run.draft);
    let Sweeps { precisions, speculate, ranks, .. } = &options.sweeps;
    if options.show_ways || precisions.len() > 1 || !speculate.is_empty() || ranks.len() > 1 {
        run.ways = ways::ways(&run, &options.terms);
    }
    Ok(Ended { run, failure })
}

/// Refuses to go on with a run that was measured under other conditions.
fn goes_on(before: &Run, now: &Run) -> Result<()> {
    let differ = differences(before, now);
    let unit = match (&before.device.id, &now.device.id) {
        (Some(then), Some(now)) if then != now => Some(format!("device {then}, now {now}")),
        _ => None,
    };
    let named = |d: &Difference| format!("{} {}, now {}", d.condition, d.base, d.new);
    let differ: Vec<String> = differ.iter().map(named).chain(unit).collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!("the run was measured under other conditions: {}", differ.join("; ")))
        .hint("trials of one run share their conditions: restore them, or measure into a new file"))
}

/// How many trials a run has of a pass.
fn trials_of(run: &Run, work: &Workload) -> u32 {
    let same = |point: &&Point| point.stage.is_none() && run.workload(point) == *work;
    run.points.iter().find(same).map_or(0, |point| point.trials.len() as u32)
}

/// What watches the device and meters its energy.
fn watch(device: &DeviceInfo, sensors: GpuSensors, clock: &Clock) -> (Option<Watched>, Meter) {
    let Some(info) = &device.gpu else { return (None, Meter::of_cpu()) };
    let sensors = sensors.unwrap_or_else(|| Err("none were opened".into()));
    let meter = Meter::of_gpu(&sensors, info.theoretical_bandwidth());
    (Some(Watched::start(info, sensors, clock.start)), meter)
}

/// The trials: each opens the device and loads the weights afresh and samples every pass.
struct Trials<'a> {
    session: &'a mut dyn Session,
    options: &'a Options,
    plan: Plan,
    ceilings: Ceilings,
    meter: Meter,
    clock: Clock<'a>,
    /// Seconds of a ceiling's survey.
    each: f64,
}

impl Trials<'_> {
    /// Runs them all; returns the signal that stopped them, if one did.
    fn run(
        &mut self,
        weights: &dyn WeightSource,
        measured: &mut [Measured],
        record: &mut Record,
        observer: &mut dyn Observer,
    ) -> Result<Option<Code>> {
        for trial in 0..self.trials(measured) {
            if trial > 0 {
                observer.doing("opening the device afresh", self.clock.left());
                self.session.reopen()?;
            }
            record.begin_trial();
            let mut loaded = None;
            for at in 0..measured.len() {
                if let Some(code) = observer.interrupted() {
                    return Ok(Some(code));
                }
                if trial >= measured[at].wanted {
                    continue;
                }
                let work = &measured[at].work;
                let held = (work.precision, work.ranks);
                if loaded != Some(held) {
                    let residency = self.plan.residency(work);
                    observer.doing(&format!("loading {}", self.plan.describe(work)), self.clock.left());
                    self.session.load(residency, weights)?;
                    observer.doing("ceilings: memory", self.clock.left());
                    self.ceilings.survey_memory(self.session, self.each)?;
                    loaded = Some(held);
                    if let Some(code) = observer.interrupted() {
                        return Ok(Some(code));
                    }
                }
                let before = measured[at].samples();
                let sampled = self.point(measured, at, trial, observer);
                if measured[at].samples() > before {
                    self.update(record, measured);
                    observer.measured(&record.whole(&self.options.sweeps))?;
                }
                sampled?;
            }
        }
        Ok(None)
    }

    /// How many there are to be.
    fn trials(&self, measured: &[Measured]) -> u32 {
        measured.iter().map(|m| m.wanted).max().unwrap_or(0)
    }

    /// Samples one pass, if there is time.
    fn point(
        &mut self,
        measured: &mut [Measured],
        at: usize,
        trial: u32,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        // An earlier process has measured the energy of what it has trials of.
        let first_ever = trial == 0 && measured[at].wanted == self.options.repeat;
        let window = self.meter.window_seconds(self.options.budget).filter(|_| first_ever);
        let trials_left = f64::from(self.trials(measured) - trial);
        // The first pass of each phase has a window in any case: its time is not the samples'.
        let kind = |m: &Measured| (m.work.phase, m.work.precision, m.work.ranks);
        let is_first = |at: usize| !measured[..at].iter().any(|m| kind(m) == kind(&measured[at]));
        let reserved = |from: usize| {
            window.unwrap_or(0.0) * (from..measured.len()).filter(|&at| is_first(at)).count() as f64
        };
        let left =
            |clock: &Clock, from: usize| (clock.left().as_secs_f64() - reserved(from)).max(0.0) / trials_left;
        let (first, later) = (is_first(at), reserved(at + 1));

        let waiting: Vec<&Workload> =
            measured[at..].iter().filter(|m| trial < m.wanted).map(|m| &m.work).collect();
        let free = left(&self.clock, at) - self.plan.later_loads(&waiting);
        let Some(allotment) = self.plan.allot(&waiting, free, at == 0) else {
            return Ok(());
        };
        let wanted: f64 = waiting[1..].iter().map(|work| self.plan.wanted(work)).sum();
        let Trials { session, ceilings, clock, meter, .. } = self;
        let mut sampler = Sampler { session: *session, ceilings, clock, meter };
        sampler.sample(&mut measured[at], trial, &allotment, observer)?;
        let Some(seconds) = window.filter(|_| observer.interrupted().is_none()) else { return Ok(()) };
        let room = (clock.left().as_secs_f64() - later) / trials_left - wanted;
        if first || room >= seconds {
            sampler.window(&mut measured[at], seconds, observer)?;
        }
        Ok(())
    }

    fn update(&self, record: &mut Record, measured: &[Measured]) {
        record.update(self.session, self.options, &self.plan, &self.ceilings, measured, &self.clock);
    }
}

/// `prefill of 1000 tokens`, `decode batch 8, int4 weights, 4 ranks`.
fn name(work: &Workload) -> String {
    let pass = match work.phase {
        Phase::Prefill => format!("prefill of {} tokens", work.tokens),
        Phase::Decode if work.tokens == 1 => format!("decode batch {}", work.batch),
        Phase::Decode => format!("decode batch {} x {} tokens", work.batch, work.tokens),
        Phase::Mixed => {
            format!("decode batch {} with {} of a prompt", work.batch, work.chunk.map_or(0, |c| c.tokens))
        }
    };
    let pass = pass + &of_pages(work.kv_page);
    let ranks = of_ranks(work.ranks);
    if work.precision.is_quantised() {
        format!("{pass}, {}{ranks}", work.precision.name())
    } else {
        pass + &ranks
    }
}

/// The pass of this workload, for a session.
fn pass(work: &Workload) -> Work {
    let Workload { phase, batch, tokens, context, chunk, kv_page, .. } = *work;
    Work { phase, batch, tokens, context, chunk, kv_page }
}

/// How an interrupted measurement ends the process, after all was kept.
pub fn interruption(code: Code) -> Failure {
    Failure::new(code, "interrupted").hint("what was measured is kept, marked partial")
}
