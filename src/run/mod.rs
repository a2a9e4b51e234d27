//! The run file: everything one invocation measured or predicted, in base SI units.
//!
//! Null means not known; why stands in the notes beside it.

mod differences;
mod gpu;
mod key;
mod merge;
mod point;
mod ranks;
mod trial;
mod ways;

pub use differences::{Condition, Difference, differences};
pub use gpu::{Gpu, Kernel, Reading};
pub use key::{Key, of_pages};
pub use merge::merge;
pub use point::{Placement, Point, Status, StoppedBy, Timing};
pub use ranks::{AllReduce, AllReduceFrom, Collectives, of_ranks};
pub use trial::{Plan, PointTrial, Process, Trial};
pub use ways::{Basis, Draft, DraftStep, Way};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec};
use crate::roofline::{Ceiling, CeilingKind, CeilingSource, Roofline};
use crate::units::{BytesPerSec, FlopsPerSec};
use crate::workload::Workload;

/// Version of the file format that this program writes.
pub const SCHEMA_VERSION: u32 = 6;
/// Files before this version list the samples of trials, not what each trial found.
const FIRST_WITH_TRIALS: u32 = 3;

/// One invocation's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "llmroof run")]
pub struct Run {
    /// Version of this format.
    pub schema_version: u32,
    /// The program that wrote it.
    pub tool: Tool,
    /// The command line that began it.
    pub argv: Vec<String>,
    /// When the run began, RFC 3339 in UTC.
    pub created: String,
    /// Whether the whole plan was carried out.
    pub status: RunStatus,
    /// The machine.
    pub host: Host,
    /// The device that ran the work, or whose profile was used.
    pub device: Device,
    /// The model.
    pub model: ModelSpec,
    /// What surrounded the measurement; null for a prediction.
    pub conditions: Option<Conditions>,
    /// The ceilings, measured and from the datasheet.
    pub ceilings: Vec<Ceiling>,
    /// One entry for each whole step and each stage.
    pub points: Vec<Point>,
    /// All-reduces that were measured among GPUs, one entry for each number of ranks and process; empty where none were.
    #[serde(default)]
    pub collectives: Vec<Collectives>,
    /// The request of `--prompt` and `--generate`, put together from the points.
    pub request: Option<Request>,
    /// The draft that proposes tokens for speculation; null without one.
    #[serde(default)]
    pub draft: Option<Draft>,
    /// What each way past the memory wall is worth here; empty where it was not asked for.
    #[serde(default)]
    pub ways: Vec<Way>,
    /// Result of the verification that ran before the timing; null for a prediction.
    pub verification: Option<Verification>,
    /// What a reader must know, for the whole run.
    pub notes: Vec<String>,
    /// What was asked for; null for a prediction and in files before version 3.
    pub plan: Option<Plan>,
    /// The processes that measured into this run, in order; empty for a prediction and in files before version 3.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The trials in order of time; empty for a prediction and in files before version 3.
    #[serde(default)]
    pub trials: Vec<Trial>,
}

/// Name and version of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Always `llmroof`.
    pub name: String,
    /// Semantic version.
    pub version: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All of the plan was measured.
    Complete,
    /// It was interrupted, or the budget ended first; the notes say what is missing.
    Partial,
    /// Nothing was measured: computed from a profile.
    Predicted,
    /// Something measured cannot be true; the points say which.
    Invalid,
}

/// The machine that ran the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Operating system and its version.
    pub os: String,
    /// Processor architecture, for instance `x86_64`.
    pub arch: String,
    /// Processor model name.
    pub cpu: String,
    /// Physical cores; null where the system does not say.
    pub physical_cores: Option<u32>,
    /// Hardware threads.
    pub logical_cores: u32,
    /// Memory in bytes.
    pub memory_bytes: f64,
}

/// The device that did the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// `cpu`, `cuda`, or `profile` for a prediction.
    pub kind: String,
    /// Model name of the device.
    pub name: String,
    /// UUID or address that tells it from its siblings; null where there is none.
    pub id: Option<String>,
    /// Name of the profile its datasheet ceilings come from; null where none matches.
    pub profile: Option<String>,
    /// Memory in bytes.
    pub memory_bytes: f64,
    /// Last-level cache in bytes; null where not known.
    pub cache_bytes: Option<f64>,
}

/// What surrounded a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Instruction set of the kernels, for instance `avx512-bf16`.
    pub instruction_set: String,
    /// Threads that computed; null on a GPU.
    pub threads: Option<u32>,
    /// The logical CPUs that the threads were pinned to; empty where pinning was not possible.
    pub pinned_cpus: Vec<u32>,
    /// Share of the weights that lay in huge pages; null where the system does not say.
    pub huge_page_share: Option<f64>,
    /// CPU cores' worth of work that other processes did during the run; null where the system does not say.
    pub foreign_load: Option<f64>,
    /// Energy source, or null; the notes say why.
    pub energy_source: Option<String>,
    /// Seed of the random weights.
    pub seed: u64,
    /// `random` or the checkpoint's folder.
    pub weights_from: String,
    /// Budget in seconds.
    pub budget_seconds: f64,
    /// Wall-clock seconds from start to end.
    pub wall_seconds: f64,
    /// The GPU's driver, kernels and sensors; null on other devices.
    pub gpu: Option<Gpu>,
}

/// A request of some prompt tokens and some generated ones, batch 1, put together from measured points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Prompt tokens.
    pub prompt: u32,
    /// Generated tokens.
    pub generate: u32,
    /// Ranks that the model is divided among; of several the times hold their all-reduces.
    #[serde(default = "ranks::one")]
    pub ranks: u32,
    /// Time to first token: the prefill step.
    pub time_to_first_token_seconds: f64,
    /// Time per output token after the first: the decode step at the measured context (by default the middle of the
    /// generation).
    pub time_per_output_token_seconds: f64,
    /// The whole request: first token and the `generate - 1` that follow.
    pub total_seconds: f64,
    /// Share of the prefill in the whole.
    pub prefill_share: f64,
    /// Share of the decode in the whole.
    pub decode_share: f64,
}

/// What the check of the kernels before the timing found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Whether every error was under its bound.
    pub passed: bool,
    /// The largest relative error found.
    pub largest_error: f64,
    /// The bound it was held against.
    pub bound: f64,
    /// What was compared with what.
    pub description: String,
}

/// What a measurement or prediction cannot know by itself: who asked, when and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The command line.
    pub argv: Vec<String>,
    /// Now, RFC 3339 in UTC.
    pub created: String,
    /// The machine.
    pub host: Host,
}

impl Run {
    /// Reads a run file's text and checks it.
    ///
    /// # Errors
    /// Text that is no run, a newer format, or figures that cannot be true.
    pub fn from_json(text: &str) -> Result<Run> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let Version { schema_version } = serde_json::from_str(text).map_err(|e| not_a_run(&e))?;
        if schema_version > SCHEMA_VERSION {
            return Err(Failure::input(format!(
                "run file has schema_version {schema_version}, this llmroof reads up to {SCHEMA_VERSION}"
            ))
            .hint("update llmroof, or measure again with this one"));
        }
        let mut run: Run = serde_json::from_str(text).map_err(|e| not_a_run(&e))?;
        if run.schema_version < FIRST_WITH_TRIALS {
            run.points.iter_mut().for_each(Point::find_trials);
        }
        run.schema_version = SCHEMA_VERSION;
        run.validate()?;
        Ok(run)
    }

    /// The file's text: indented JSON with a final newline.
    ///
    /// # Errors
    /// A figure that JSON cannot hold.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|e| Failure::invalid(format!("the run cannot be written: {e}")))
    }

    /// Checks that every figure is finite and that rates and times are positive.
    ///
    /// # Errors
    /// Names the first entry that is not.
    pub fn validate(&self) -> Result<()> {
        self.model.validate().map_err(|e| e.at("model"))?;
        for (i, ceiling) in self.ceilings.iter().enumerate() {
            let rates = [Some(ceiling.rate), ceiling.low, ceiling.median];
            if !rates
                .into_iter()
                .flatten()
                .chain(ceiling.samples.iter().copied())
                .all(|x| x.is_finite() && x > 0.0)
            {
                return Err(impossible(format!(
                    "ceilings[{i}] ({}) has a rate that is not a positive number",
                    ceiling.kind.name()
                )));
            }
        }
        for (i, point) in self.points.iter().enumerate() {
            let place = |e: Failure| e.at(format!("points[{i}]"));
            point.validate().map_err(place)?;
            if self.model.shard(point.ranks).is_err() {
                return Err(place(impossible(format!("{} ranks do not divide the model", point.ranks))));
            }
        }
        if let Some(plan) = &self.plan {
            plan.validate()?;
        }
        self.draft.iter().try_for_each(Draft::validate).map_err(|e| e.at("draft"))?;
        self.collectives.iter().try_for_each(Collectives::validate).map_err(|e| e.at("collectives"))?;
        self.ways.iter().try_for_each(Way::validate).map_err(|e| e.at("ways"))?;
        let beyond = |trial: &PointTrial| trial.trial as usize >= self.trials.len();
        if !self.trials.is_empty() && self.points.iter().flat_map(|point| &point.trials).any(beyond) {
            return Err(impossible("a point has a trial that the run does not list".into()));
        }
        if let Some(trial) = self.trials.iter().find(|t| t.process as usize >= self.processes.len()) {
            return Err(impossible(format!("the run does not list the trials' process {}", trial.process)));
        }
        Ok(())
    }

    /// The run's roofline: read bandwidth and the peak of the data type that it computed with, measured where it
    /// was, otherwise the datasheet's.
    pub fn roofline(&self) -> Option<Roofline> {
        let dtype = self.points.first().map_or(DType::Bf16, |point| point.activations);
        [CeilingSource::Measured, CeilingSource::Datasheet].into_iter().find_map(|source| {
            let bandwidth = self.ceiling(CeilingKind::MemoryRead, None, source)?.rate;
            let peak = self.ceiling(CeilingKind::Compute, Some(dtype), source)?.rate;
            Some(Roofline { bandwidth: BytesPerSec(bandwidth), peak: FlopsPerSec(peak) })
        })
    }

    /// The forward pass that a point is of.
    pub fn workload(&self, point: &Point) -> Workload {
        Workload {
            // A run's ranks divide its model, or it would not have loaded.
            model: self.model.shard(point.ranks).unwrap_or_else(|_| self.model.clone()),
            ranks: point.ranks,
            phase: point.phase,
            batch: point.batch,
            tokens: point.tokens,
            context: point.context,
            precision: point.precision(),
            chunk: point.chunk,
            kv_page: point.kv_page,
        }
    }

    /// The ceiling of this kind and data type from this source.
    pub fn ceiling(
        &self,
        kind: CeilingKind,
        dtype: Option<DType>,
        source: CeilingSource,
    ) -> Option<&Ceiling> {
        self.ceilings.iter().find(|c| c.kind == kind && c.dtype == dtype && c.source == source)
    }
}

fn not_a_run(e: &serde_json::Error) -> Failure {
    Failure::input(format!("not a run file: {e}"))
        .hint("give a file that `llmroof measure` or `predict` wrote")
}

fn impossible(what: String) -> Failure {
    Failure::input(what).hint("the file is damaged: measure again")
}
