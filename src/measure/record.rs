//! The run file as it grows, and what is said of it at the end.

use std::time::Instant;

use super::all_reduces::AllReduces;
use super::ceilings::Ceilings;
use super::energy::Meter;
use super::plan::Plan;
use super::points::{Layout, Measured};
use super::readings::Round;
use super::watched::Watched;
use super::{Clock, Options, name};
use crate::backend::Session;
use crate::error::{Code, Failure};
use crate::model::DType;
use crate::request::Sweeps;
use crate::run::{
    self, Conditions, Device, Origin, Point, Process, Run, RunStatus, SCHEMA_VERSION, Status, Tool, Trial,
    merge,
};
use crate::telemetry::Load;

/// The run, and what its conditions are read from.
pub(super) struct Record {
    /// What this process has measured so far.
    pub run: Run,
    /// What earlier processes measured into the same run.
    before: Option<Run>,
    /// A GPU's sensors.
    pub watched: Option<Watched>,
    load: Box<dyn Load>,
    no_energy: Option<String>,
    all_reduces: AllReduces,
}

impl Record {
    /// The run before anything is measured.
    pub fn new(
        session: &dyn Session,
        options: &Options,
        origin: Origin,
        watched: Option<Watched>,
        meter: &Meter,
        load: Box<dyn Load>,
    ) -> Record {
        let (device, setup) = (session.device(), session.setup());
        let energy = meter.source(options.budget);
        let run = Run {
            schema_version: SCHEMA_VERSION,
            tool: Tool { name: "llmroof".into(), version: env!("CARGO_PKG_VERSION").into() },
            processes: vec![Process {
                argv: origin.argv.clone(),
                created: origin.created.clone(),
                budget_seconds: options.budget.as_secs_f64(),
                wall_seconds: 0.0,
                foreign_load: None,
            }],
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
                energy_source: energy.clone().ok(),
                seed: options.seed,
                weights_from: options.weights_from.clone(),
                budget_seconds: options.budget.as_secs_f64(),
                wall_seconds: 0.0,
                gpu: None,
            }),
            ceilings: Vec::new(),
            points: Vec::new(),
            collectives: Vec::new(),
            request: None,
            draft: None,
            ways: Vec::new(),
            verification: None,
            notes: Vec::new(),
            plan: None,
            trials: Vec::new(),
        };
        let before = options.before.clone();
        Record { run, before, watched, load, no_energy: energy.err(), all_reduces: AllReduces::default() }
    }

    /// What is known of the all-reduces among ranks.
    pub fn reduce(&mut self, known: AllReduces) {
        self.run.collectives = known.list();
        self.all_reduces = known;
    }

    /// Keeps what is to be measured, for whoever goes on with this run.
    pub fn plan(&mut self, options: &Options, plan: &Plan) {
        let sweeps = options.sweeps.clone();
        let first = options.sweeps.precisions.first().copied();
        self.run.plan = Some(run::Plan {
            phases: sweeps.phases,
            batches: sweeps.batches,
            prompts: sweeps.prompts,
            contexts: sweeps.contexts,
            generate: sweeps.generate,
            speculate: sweeps.speculate,
            mix: sweeps.mix,
            kv_pages: sweeps.kv_pages,
            layers: plan.layout().layers,
            weights: sweeps.precisions.iter().map(|precision| precision.weights).collect(),
            head: first.filter(|p| p.head != p.weights).map(|p| p.head),
            // Of several types those that are quantised may run with narrower inputs than the others.
            activations: match sweeps
                .precisions
                .iter()
                .find(|p| p.activations.is_quantised())
                .or(first.as_ref())
            {
                Some(precision) => precision.activations,
                None => DType::Bf16,
            },
            kv: first.filter(|p| p.kv != p.border()).map(|p| p.kv),
            ranks: sweeps.ranks,
            link: options.link.as_ref().map(|link| link.profile.clone()),
            repeat: options.repeat,
            gemm: options.gemm.clone(),
        });
    }

    /// A trial begins now.
    pub fn begin_trial(&mut self) {
        let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        self.run.trials.push(Trial { started, process: 0 });
    }

    /// The whole run: what earlier processes measured, and this one.
    pub fn whole(&self, sweeps: &Sweeps) -> Run {
        let Some(before) = &self.before else { return self.run.clone() };
        let mut run = merge(before, self.run.clone());
        run.plan.clone_from(&self.run.plan);
        run.request = sweeps.request(&run.points);
        run
    }

    /// Brings the run up to what has been measured so far.
    pub fn update(
        &mut self,
        session: &dyn Session,
        options: &Options,
        plan: &Plan,
        ceilings: &Ceilings,
        measured: &[Measured],
        clock: &Clock,
    ) {
        let readings = self.watched.as_ref().map(Watched::readings).unwrap_or_default();
        let run = &mut self.run;
        run.ceilings = ceilings.list();
        let layout = Layout { threads: session.setup().threads, ..plan.layout() };
        let best = |m: &Measured| ceilings.roofline(m.product?).ok();
        let known = &self.all_reduces;
        let points = measured.iter().flat_map(|m| {
            let all_reduces = known.of(&m.work);
            m.points(&layout, best(m), &readings).into_iter().map(move |point| point.all_reduced(all_reduces))
        });
        run.points = points.collect();
        // In the order people read: type by type, ranks by ranks, prefill, then decode by batch.
        let types = options.sweeps.precisions.clone();
        let place = |p: &Point| types.iter().position(|of| *of == p.precision());
        run.points.sort_by_key(|p| (place(p), p.ranks, p.phase, p.batch));
        run.request = options.sweeps.request(&run.points);
        if let Some(watched) = &mut self.watched {
            if let Some(reason) = &self.no_energy {
                watched.in_vain("joules_per_token", reason);
            }
            if measured.iter().any(|m| !m.is_empty()) && measured.iter().all(|m| m.window.is_none()) {
                for field in ["witnessed_bytes", "tensor_activity"] {
                    watched.in_vain(field, "it takes a window of seconds, and the run had none (--budget)");
                }
            }
            for window in measured.iter().filter_map(|m| m.window.as_ref()) {
                if let Some(reason) = &window.no_energy {
                    watched.in_vain("joules_per_token", reason);
                }
                if let Some(reason) = &window.no_witness {
                    watched.in_vain("witnessed_bytes", reason);
                    watched.in_vain("tensor_activity", reason);
                }
            }
        }
        if let Some(conditions) = &mut run.conditions {
            conditions.huge_page_share = session.setup().huge_page_share;
            conditions.foreign_load = self.load.cores();
            conditions.wall_seconds = clock.spent().as_secs_f64();
            if let Some(process) = run.processes.first_mut() {
                process.foreign_load = conditions.foreign_load;
                process.wall_seconds = conditions.wall_seconds;
            }
            conditions.gpu =
                self.watched.as_ref().map(|watched| watched.describe(&readings, session.software()));
        }
    }

    /// A device that was caught with an impossible result midway is not believed what it said before.
    fn disbelieve(&mut self, failure: &Failure) {
        self.run.request = None;
        for point in &mut self.run.points {
            point.status = Status::Invalid;
            if point.stage.is_none() {
                point.notes.push(format!("not believed for what came later: {}", failure.what));
            }
        }
    }

    /// Judges the whole and says what a reader must know. Readings after `end` are not of the points.
    pub fn finish(
        mut self,
        options: &Options,
        measured: &[Measured],
        stopped: Option<Code>,
        failure: Option<&Failure>,
        warm: Option<String>,
        end: Instant,
    ) -> Run {
        let missing: Vec<&Measured> = measured.iter().filter(|m| m.missing() > 0).collect();
        let ended_early = stopped.is_some() || failure.is_some();
        if let Some(failure) = failure.filter(|failure| failure.code == Code::Invalid) {
            self.disbelieve(failure);
        }
        let points = self.run.points.iter().chain(self.before.iter().flat_map(|before| &before.points));
        let invalid = points.into_iter().any(|point| point.status == Status::Invalid);
        self.run.status = match () {
            () if invalid => RunStatus::Invalid,
            () if ended_early || !missing.is_empty() => RunStatus::Partial,
            () => RunStatus::Complete,
        };
        let sampled = self.run.points.iter().any(|point| point.layers_measured < point.layers_total);
        let notes = &mut self.run.notes;
        if let Some(failure) = failure {
            notes.push(format!("failed midway, what had been measured is kept: {}", failure.what));
        }
        if stopped.is_some() {
            notes.push("interrupted: what had been measured until then is kept".into());
        }
        if !missing.is_empty() {
            let why = if ended_early { "not reached" } else { "left out, the time budget ended (--budget)" };
            let named: Vec<String> = missing.iter().map(|m| left_out(m)).collect();
            notes.push(format!("{why}: {}", named.join(", ")));
        }
        notes.extend(warm);
        notes.extend(self.all_reduces.notes(&options.sweeps.ranks));
        if let Some(watched) = &self.watched {
            let rounds: Vec<Round> = measured.iter().flat_map(Measured::rounds).collect();
            notes.extend(watched.notes(&watched.readings(), &rounds, end));
        }
        // Without sensors there is no energy either, for the reason that was just given.
        let sensed = self.watched.as_ref().is_none_or(Watched::has_sensors);
        if let Some(reason) = self.no_energy.as_ref().filter(|_| sensed) {
            notes.push(format!("no energy: {reason}"));
        } else if sensed && self.watched.is_some() && !ended_early {
            let without = measured.iter().filter(|m| !m.is_empty() && m.window.is_none());
            let without: Vec<String> = without.map(|m| name(&m.work)).collect();
            if !without.is_empty() {
                notes.push(format!(
                    "no energy of {}: the time budget left no room for seconds of repeating (--budget)",
                    without.join(", ")
                ));
            }
        }
        notes.extend(no_witness(measured, sampled).map(|reason| format!("no witnessed bytes: {reason}")));
        let load = self.run.conditions.as_ref().and_then(|c| c.foreign_load).filter(|&load| load >= 0.1);
        if let Some(load) = load.filter(|_| self.watched.is_none()) {
            notes.push(format!(
                "other processes used {load:.1} CPU cores during the run: shares of the roof are measured in turn \
                 with it and hold, absolute times may not"
            ));
        }
        self.whole(&options.sweeps)
    }
}

/// A pass of which trials are missing, and how many if there are others.
fn left_out(measured: &Measured) -> String {
    let name = name(&measured.work);
    match (measured.wanted, measured.missing()) {
        (1, _) => name,
        (wanted, missing) => format!("{name} ({missing} of {wanted} trials)"),
    }
}

/// Why no window has witnessed bytes.
fn no_witness(measured: &[Measured], sampled: bool) -> Option<String> {
    let mut windows = measured.iter().filter_map(|m| m.window.as_ref()).peekable();
    windows.peek()?;
    if windows.clone().any(|window| window.witnessed_bytes.is_some()) {
        return sampled.then(|| "a counter's figure of some layers is not scaled to all".into());
    }
    windows.find_map(|window| window.no_witness.clone())
}
