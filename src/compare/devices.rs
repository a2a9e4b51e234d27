//! One device against another: what the datasheets, the measured ceilings and the results say, side by side.

use schemars::JsonSchema;
use serde::Serialize;

use super::Interval;
use crate::roofline::Bound;
use crate::run::Key;

/// Two devices side by side. All ratios are of speed, NEW over BASE: above 1, NEW is faster.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Devices {
    /// The device of BASE.
    pub base: String,
    /// The device of NEW.
    pub new: String,
    /// One entry for each pass that both sides have.
    pub passes: Vec<DevicePass>,
}

/// One pass on two devices.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DevicePass {
    /// What explains the step's ratio: `decode batch 1: 2.35x on paper, 2.21x in read bandwidth, 2.17x measured:
    /// memory-bound on both`.
    pub sentence: String,
    /// The step, then its stages.
    pub ratios: Vec<DeviceRatio>,
}

/// One step or stage on two devices.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeviceRatio {
    /// What it is of.
    pub key: Key,
    /// Which roof limits it on BASE.
    pub base_limit: Limit,
    /// Which roof limits it on NEW.
    pub new_limit: Limit,
    /// What it is bound by on BASE; `overhead` where its roof does not explain its time.
    pub base_bound: Bound,
    /// What it is bound by on NEW.
    pub new_bound: Bound,
    /// Speed that the datasheets promise: of the roofs that limit it. Null where either device has no profile.
    pub datasheet: Option<f64>,
    /// Speed that the measured ceilings allow; null where either side measured none.
    pub ceiling: Option<f64>,
    /// Speed measured.
    pub result: f64,
    /// Interval of the speed measured; null without trials on both sides.
    pub interval: Option<Interval>,
    /// Whether either side's result is predicted.
    pub predicted: bool,
}

/// A roof that limits a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Read bandwidth of memory.
    ReadBandwidth,
    /// Arithmetic peak of the data type it computes in.
    ComputePeak,
}
