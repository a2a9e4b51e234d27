//! One line of the table: a whole step or a stage, with its ledger, its times and its place under the roof.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AllReduceFrom, Key, PointTrial, impossible, ranks};
use crate::error::Result;
use crate::model::{DType, Precision};
use crate::roofline::{self, Bound, Roofline};
use crate::stats;
use crate::units::{Bytes, Flops, Seconds};
use crate::workload::{Chunk, Phase, Stage, Workload};

/// A sample this many deviations slower than the median is an interruption by others.
pub(super) const INTERRUPTION: f64 = 10.0;

/// What a point's figures are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Measured.
    Ok,
    /// Measured, but it cannot be true; the notes say why.
    Invalid,
    /// Measured with fewer samples than the rule asks for.
    Partial,
    /// Computed from a profile, not measured.
    Predicted,
}

/// What weights were before files said what they are.
pub(super) fn bf16() -> DType {
    DType::Bf16
}

/// Seconds of one execution: the median of the samples and how sure it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Median, in seconds.
    pub median: f64,
    /// Lower end of the median's 95% interval.
    pub low: f64,
    /// Upper end of the median's 95% interval.
    pub high: f64,
    /// Samples kept.
    pub count: u32,
    /// Samples discarded as interruptions.
    pub discarded: u32,
    /// All samples in the order taken, trial after trial, discarded ones included.
    pub samples: Vec<f64>,
    /// How many of the samples belong to each trial (`--repeat`); they add up to all.
    pub trials: Vec<u32>,
    /// What ended the sampling; null for a prediction.
    pub stopped_by: Option<StoppedBy>,
}

/// What ended the sampling of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The interval of the median was narrow enough.
    Interval,
    /// The point's share of the time was used up.
    Budget,
    /// As many samples as one trial keeps had been taken.
    Samples,
    /// Ctrl-C or SIGTERM.
    Interrupt,
    /// The device failed; the samples until then are kept.
    Failure,
}

/// One whole step (`stage` null) or one stage of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Model name.
    pub model: String,
    /// Phase.
    pub phase: Phase,
    /// Stage; null for the whole step.
    pub stage: Option<Stage>,
    /// Sequences in the pass.
    pub batch: u32,
    /// New tokens per sequence.
    pub tokens: u32,
    /// Positions attended by the last new token, its own included.
    pub context: u32,
    /// Type of the layers' weights.
    pub weights: DType,
    /// Type of the head's weights; bf16 in files before version 5, which do not say.
    #[serde(default = "bf16")]
    pub head: DType,
    /// Type of the activations.
    pub activations: DType,
    /// Type of the key/value cache.
    pub kv: DType,
    /// Positions of a page of the key/value cache; null where each sequence's cache is contiguous, as in all files before
    /// version 6.
    #[serde(default)]
    pub kv_page: Option<u32>,
    /// The part of a prompt that rides along in a mixed step, in a sequence of its own; null in other phases.
    #[serde(default)]
    pub chunk: Option<Chunk>,
    /// Ranks that the model is divided among in tensor parallelism. Times, FLOPs, bytes, roofs, samples and energy are
    /// those of one of them, which runs its shard; 1 in files before version 5, which do not say.
    #[serde(default = "ranks::one")]
    pub ranks: u32,
    /// Threads; null where the notion does not apply.
    pub threads: Option<u32>,
    /// Layers that ran.
    pub layers_measured: u32,
    /// Layers of the model; times, bytes and FLOPs are for all of them.
    pub layers_total: u32,
    /// Operations of one execution.
    pub flops: f64,
    /// Compulsory bytes of one execution.
    pub bytes: f64,
    /// What the whole model occupies; of several ranks what one of them holds.
    pub resident_bytes: f64,
    /// What a hardware counter saw between memory and chip in one execution; null where there is none, for stages, and
    /// where only some layers ran.
    pub witnessed_bytes: Option<f64>,
    /// Time of one execution; of several ranks of one's shard, without all-reduces.
    pub seconds: Timing,
    /// Seconds of the step's all-reduces, on top of `seconds`; null for a stage, for one rank, and where they are not known.
    #[serde(default)]
    pub all_reduce_seconds: Option<f64>,
    /// Where that figure comes from, and so a part of `tokens_per_second`; null where there is none.
    #[serde(default)]
    pub all_reduce_from: Option<AllReduceFrom>,
    /// Step time minus the sum of its stages; null for a stage.
    pub bubble_seconds: Option<f64>,
    /// This stage's share of the step's time (1 for the step).
    pub share_of_step: f64,
    /// New tokens of all sequences per second, for the whole step: over `seconds`, of several ranks over `seconds` and
    /// `all_reduce_seconds` together, as if nothing of the one ran beside the other. Null for a stage, and where the
    /// all-reduces of several ranks are not known: one rank's rate alone is none of the model.
    pub tokens_per_second: Option<f64>,
    /// Compulsory bytes per second.
    pub bytes_per_second: f64,
    /// Operations per second.
    pub flops_per_second: f64,
    /// Operations per compulsory byte.
    pub intensity: f64,
    /// Bandwidth of the memory roof this point was held against: probed beside it when measured.
    pub roof_bytes_per_second: f64,
    /// Height of the compute roof this point was held against: probed beside it when measured.
    pub roof_flops_per_second: f64,
    /// Rate that these roofs allow; for a step from the sum of its stages' own roofs.
    pub attainable_flops_per_second: f64,
    /// Shortest time that the roofs allow over the measured time.
    pub fraction_of_roof: f64,
    /// What it is bound by.
    pub bound: Bound,
    /// Energy per new token, the device's idle power included, of several ranks of one and without all-reduces; null for a stage and where no counter was read.
    pub joules_per_token: Option<f64>,
    /// What the figures are worth.
    pub status: Status,
    /// What a reader must know of this point.
    pub notes: Vec<String>,
    /// Host seconds of one execution, launch included; null for a stage and where host and device have one clock.
    pub wall_seconds: Option<f64>,
    /// What ran a GPU's products of many rows: `own` or `cublaslt 12.8.4`; null where there are none.
    pub gemm: Option<String>,
    /// Samples taken while the GPU held its clocks down; null where that is not known.
    pub throttled_samples: Option<u32>,
    /// Median clock of the GPU's multiprocessors during the samples.
    pub sm_clock_hz: Option<f64>,
    /// Share of the time that the GPU's matrix units were busy, from its counters; null for a stage and where there is
    /// none.
    pub tensor_activity: Option<f64>,
    /// What each trial found, in the order of `seconds.trials`.
    #[serde(default)]
    pub trials: Vec<PointTrial>,
}

impl Timing {
    /// Median, interval and count of the samples of some trials; `None` without samples. Samples far slower
    /// than the median (over ten deviations) are interruptions by others: kept in the file, left out of the
    /// median.
    pub fn of(trials: &[Vec<f64>]) -> Option<Timing> {
        let samples = trials.concat();
        let trials = trials.iter().map(|t| t.len() as u32).collect();
        let (kept, discarded) = stats::without_interruptions(&samples, INTERRUPTION);
        let median = stats::median(&kept)?;
        let (low, high) = stats::median_interval(&kept)?;
        Some(Timing {
            median,
            low,
            high,
            count: kept.len() as u32,
            discarded: discarded as u32,
            samples,
            trials,
            stopped_by: None,
        })
    }

    /// A single computed time, for predictions.
    pub fn computed(seconds: Seconds) -> Timing {
        Timing {
            median: seconds.0,
            low: seconds.0,
            high: seconds.0,
            count: 0,
            discarded: 0,
            samples: Vec::new(),
            trials: Vec::new(),
            stopped_by: None,
        }
    }

    /// The samples of each trial, up to a count that is more than there are: those are refused by `validate`.
    pub fn by_trial(&self) -> impl Iterator<Item = &[f64]> {
        let mut rest = self.samples.as_slice();
        self.trials.iter().map_while(move |&count| {
            let (samples, after) = rest.split_at_checked(count as usize)?;
            rest = after;
            Some(samples)
        })
    }

    /// Width of the interval relative to the median, in each direction the larger.
    pub fn relative_interval(&self) -> f64 {
        (self.high - self.median).max(self.median - self.low) / self.median
    }
}

/// What is known of a step or stage besides its workload: where it ran and under which roofs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// The roofs it is held against.
    pub roof: Roofline,
    /// Threads.
    pub threads: Option<u32>,
    /// Layers that ran.
    pub layers_measured: u32,
    /// Median seconds of the whole step.
    pub step_seconds: f64,
    /// What its figures are worth.
    pub status: Status,
}

impl Point {
    /// What it is of.
    pub fn key(&self) -> Key {
        Key {
            model: self.model.clone(),
            phase: self.phase,
            stage: self.stage,
            batch: self.batch,
            tokens: self.tokens,
            context: self.context,
            weights: self.weights,
            head: self.head,
            activations: self.activations,
            kv: self.kv,
            kv_page: self.kv_page,
            chunk: self.chunk,
            ranks: self.ranks,
        }
    }

    /// The types that it ran with.
    pub fn precision(&self) -> Precision {
        let Point { weights, head, activations, kv, .. } = *self;
        Precision { weights, head, activations, kv }
    }

    /// The point of a whole step (`stage` `None`) or of one stage: ledger over time, under the roofs.
    pub fn new(work: &Workload, stage: Option<Stage>, seconds: Timing, place: Placement) -> Point {
        let cost = stage.map_or_else(|| work.total(), |stage| work.cost(stage));
        let (flops, bytes) = (cost.flops, cost.bytes());
        let (shortest, roof_bound) = match stage {
            Some(_) => place.roof.shortest(flops, bytes),
            None => {
                place.roof.shortest_of_parts(Stage::ALL.map(|s| work.cost(s)).map(|c| (c.flops, c.bytes())))
            }
        };
        let time = Seconds(seconds.median);
        let mut point = Point {
            model: work.model.name.clone(),
            phase: work.phase,
            stage,
            batch: work.batch,
            tokens: work.tokens,
            context: work.context,
            weights: work.precision.weights,
            head: work.precision.head,
            activations: work.precision.activations,
            kv: work.precision.kv,
            kv_page: work.kv_page,
            chunk: work.chunk,
            ranks: work.ranks,
            threads: place.threads,
            layers_measured: place.layers_measured,
            layers_total: work.model.layers,
            flops: flops.0,
            bytes: bytes.0,
            resident_bytes: work.model.resident_bytes(work.precision).0,
            witnessed_bytes: None,
            all_reduce_seconds: None,
            all_reduce_from: None,
            bubble_seconds: None,
            share_of_step: time.0 / place.step_seconds,
            tokens_per_second: (stage.is_none() && work.ranks == 1).then(|| work.new_tokens() / time.0),
            bytes_per_second: (bytes / time).0,
            flops_per_second: (flops / time).0,
            intensity: (flops / bytes).0,
            roof_bytes_per_second: place.roof.bandwidth.0,
            roof_flops_per_second: place.roof.peak.0,
            attainable_flops_per_second: (flops / shortest).0,
            fraction_of_roof: shortest.0 / time.0,
            bound: roofline::bound(roof_bound, shortest, time),
            joules_per_token: None,
            status: place.status,
            notes: Vec::new(),
            wall_seconds: None,
            gemm: None,
            throttled_samples: None,
            sm_clock_hz: None,
            tensor_activity: None,
            trials: Vec::new(),
            seconds,
        };
        point.find_trials();
        point
    }

    /// Tokens of a prompt that ride along; 0 but in a mixed step.
    pub fn riding(&self) -> u32 {
        self.chunk.map_or(0, |chunk| chunk.tokens)
    }

    /// Whether it is a decode pass of several tokens of each sequence, which a draft proposed.
    pub fn is_verifying(&self) -> bool {
        self.phase == Phase::Decode && self.tokens > 1
    }

    /// Whether it is a pass that another is compared with in a table of its own: one that verifies a draft, has its cache in
    /// pages, or is a chunk of a prompt by itself. Pictures and summaries leave these out.
    pub fn is_variant(&self) -> bool {
        let chunk_alone = self.phase == Phase::Prefill && self.context > self.tokens;
        self.is_verifying() || self.kv_page.is_some() || chunk_alone
    }

    /// Whether it is of a pass of this phase that stands for itself.
    pub fn is_plain(&self, phase: Phase) -> bool {
        self.phase == phase && !self.is_variant()
    }

    /// Holds the point against roofs probed right beside each of its samples: `fraction` is the median over the
    /// trials of the median over a trial's samples of the shortest time under the sample's own roofs over the sample's
    /// time. Where bandwidth swings from second to second this is exact, and a ratio of medians is not.
    #[must_use]
    pub fn paired(mut self, fraction: f64) -> Point {
        self.fraction_of_roof = fraction;
        self.attainable_flops_per_second = self.flops_per_second / fraction;
        self
    }

    /// Tells the trials from the samples, in a file that has no more than those.
    pub(super) fn find_trials(&mut self) {
        let trials = self.seconds.by_trial().enumerate();
        self.trials = trials.filter_map(|(at, samples)| PointTrial::of_samples(at as u32, samples)).collect();
    }

    /// Whether its figures are not to be shown as results.
    pub fn is_invalid(&self) -> bool {
        self.status == Status::Invalid
    }

    /// Whether the two are parts of one pass, or a part and the whole.
    pub fn shares_pass_with(&self, other: &Point) -> bool {
        self.key().same_pass(&other.key())
    }

    /// Operations as a quantity.
    pub fn flops(&self) -> Flops {
        Flops(self.flops)
    }

    /// Compulsory bytes as a quantity.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// Checks that the figures are finite and positive where they must be.
    pub(super) fn validate(&self) -> Result<()> {
        let positive = [
            ("bytes", self.bytes),
            ("resident_bytes", self.resident_bytes),
            ("seconds.median", self.seconds.median),
            ("seconds.low", self.seconds.low),
            ("seconds.high", self.seconds.high),
            ("bytes_per_second", self.bytes_per_second),
            ("roof_bytes_per_second", self.roof_bytes_per_second),
            ("roof_flops_per_second", self.roof_flops_per_second),
            ("fraction_of_roof", self.fraction_of_roof),
        ];
        for (field, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(impossible(format!("{field} is {value}, not a positive number")));
            }
        }
        let not_negative = [
            ("flops", self.flops),
            ("flops_per_second", self.flops_per_second),
            ("attainable_flops_per_second", self.attainable_flops_per_second),
            ("intensity", self.intensity),
            ("share_of_step", self.share_of_step),
        ];
        let optional = [
            ("witnessed_bytes", self.witnessed_bytes),
            ("tokens_per_second", self.tokens_per_second),
            ("all_reduce_seconds", self.all_reduce_seconds),
            ("joules_per_token", self.joules_per_token),
            ("wall_seconds", self.wall_seconds),
            ("sm_clock_hz", self.sm_clock_hz),
            ("tensor_activity", self.tensor_activity),
        ];
        let optional = optional.into_iter().filter_map(|(field, value)| Some((field, value?)));
        let samples = self.seconds.samples.iter().map(|&s| ("seconds.samples", s));
        for (field, value) in not_negative.into_iter().chain(optional).chain(samples) {
            if !(value.is_finite() && value >= 0.0) {
                return Err(impossible(format!("{field} is {value}, not a number of zero or more")));
            }
        }
        if self.bubble_seconds.is_some_and(|b| !b.is_finite()) {
            return Err(impossible("bubble_seconds is not a number".into()));
        }
        let counted: u64 = self.seconds.trials.iter().map(|&n| u64::from(n)).sum();
        if counted != self.seconds.samples.len() as u64 {
            return Err(impossible("seconds.trials does not add up to the number of samples".into()));
        }
        for (i, trial) in self.trials.iter().enumerate() {
            trial.validate().map_err(|e| e.at(format!("trials[{i}]")))?;
        }
        if self.trials.len() != self.seconds.trials.len() {
            return Err(impossible("trials and seconds.trials are of different lengths".into()));
        }
        if self.batch == 0 || self.tokens == 0 || self.context < self.tokens || self.layers_total == 0 {
            return Err(impossible("batch, tokens, context or layers are impossible".into()));
        }
        let chunk_fits = match self.chunk {
            Some(chunk) => self.phase == Phase::Mixed && chunk.tokens > 0 && chunk.context >= chunk.tokens,
            None => self.phase != Phase::Mixed,
        };
        if !chunk_fits || self.kv_page == Some(0) {
            return Err(impossible("chunk or kv_page are impossible".into()));
        }
        self.validate_ranks()
    }
}
