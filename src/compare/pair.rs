//! Points of the same work on both sides.

use schemars::JsonSchema;
use serde::Serialize;

use super::PairVerdict;
use crate::roofline::Bound;
use crate::run::{Key, Status};

/// One step or stage on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Pair {
    /// What it is of.
    pub key: Key,
    /// What BASE measured; null where it has no such point.
    pub base: Option<Measured>,
    /// What NEW measured; null where it has no such point.
    pub new: Option<Measured>,
    /// Time of NEW over that of BASE (with metric `roof` the times over the shortest that the roofs allow): the
    /// Hodges-Lehmann estimate, not the quotient of the medians; above 1 is slower. Null where it is on one side only.
    pub ratio: Option<f64>,
    /// Interval of the ratio; null without trials on both sides.
    pub interval: Option<Interval>,
    /// Interval of the ratio of times, whatever the metric; null without trials on both sides.
    pub time_interval: Option<Interval>,
    /// The verdict.
    pub verdict: PairVerdict,
    /// Why, in one sentence without a full stop.
    pub reason: String,
    /// Probability of a difference as large as this or larger if there were none, adjusted for the number of points
    /// (Holm); null where the pair was not judged.
    pub p_difference: Option<f64>,
    /// The same if the difference were the margin, in the direction seen.
    pub p_beyond_margin: Option<f64>,
    /// The same for two sides whose difference is at least the margin: small means that they are the same. Not
    /// adjusted, since that needs no adjusting.
    pub p_same: Option<f64>,
    /// What these trials could have shown; null where the pair was not judged.
    pub detectable: Option<Detectable>,
    /// The comparison in clock cycles; null where a clock is not known for every trial or the devices differ.
    pub cycles: Option<Cycles>,
    /// What a reader must know of this pair besides the reason.
    pub notes: Vec<String>,
}

/// What one side measured of a step or stage.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Measured {
    /// Seconds of one execution: the median of the trials.
    pub median_seconds: f64,
    /// Trials.
    pub trials: u32,
    /// Spread of the trials around their median, relative to it (coefficient of variation); null under two trials.
    pub spread: Option<f64>,
    /// New tokens per second, of several ranks with their all-reduces; null for a stage, and where those are not known.
    pub tokens_per_second: Option<f64>,
    /// Share of the step's time.
    pub share_of_step: f64,
    /// Shortest time that the roofs allow over the measured time: median of the trials.
    pub fraction_of_roof: f64,
    /// Bandwidth of the memory roof beside the samples: median of the trials.
    pub roof_bytes_per_second: f64,
    /// Height of the compute roof beside the samples: median of the trials.
    pub roof_flops_per_second: f64,
    /// What it is bound by.
    pub bound: Bound,
    /// Energy per new token; null for a stage and where no counter was read.
    pub joules_per_token: Option<f64>,
    /// Median clock of a GPU's multiprocessors; null where not known.
    pub sm_clock_hz: Option<f64>,
    /// The worst status of the points that went into this.
    pub status: Status,
}

/// An interval of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How often such intervals hold the truth: 0.95, or less where so few trials allow no more.
    pub confidence: f64,
}

/// What the trials at hand could show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Detectable {
    /// Smallest slowdown, as a share of the time, that would have been found nine times in ten; null where so few
    /// trials can find none.
    pub slowdown: Option<f64>,
    /// Trials per side that would decide this pair nine times in ten, should what was seen be the truth; null where
    /// the pair is decided, and where even 1000 would not.
    pub trials_to_settle: Option<u32>,
    /// Trials per side below which no difference at all can be found among as many points.
    pub trials_at_least: u32,
}

/// The comparison in clock cycles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Cycles {
    /// Median clock of BASE.
    pub base_hz: f64,
    /// Median clock of NEW.
    pub new_hz: f64,
    /// Cycles of NEW over those of BASE.
    pub ratio: f64,
    /// Interval of the ratio.
    pub interval: Interval,
    /// The verdict on cycles alone.
    pub verdict: PairVerdict,
}
