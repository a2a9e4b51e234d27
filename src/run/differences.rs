//! What must be equal for two runs' figures to be comparable, and where it is not.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Conditions, Gpu, Run};
use crate::units::si;

/// Something that must be equal for times to be comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Kind and name of the device.
    Device,
    /// Version of a GPU's driver.
    Driver,
    /// Limits of a GPU's clocks and power.
    Clocks,
    /// Error correction of a GPU's memory.
    Ecc,
    /// Whether a GPU is divided into instances.
    Mig,
    /// Threads that computed.
    Threads,
    /// Instruction set of the kernels; on a GPU the target of the PTX.
    Isa,
    /// Version of this program.
    Tool,
    /// How many of the identical layers ran.
    Layers,
    /// What was asked to run a GPU's products of many rows.
    Gemm,
    /// Random weights, or a checkpoint's.
    Weights,
}

/// A condition in which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Which.
    pub condition: Condition,
    /// What it was in the first run.
    pub base: String,
    /// What it was in the second.
    pub new: String,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 11] = [
        Condition::Device,
        Condition::Driver,
        Condition::Clocks,
        Condition::Ecc,
        Condition::Mig,
        Condition::Threads,
        Condition::Isa,
        Condition::Tool,
        Condition::Layers,
        Condition::Gemm,
        Condition::Weights,
    ];

    /// Lower-case name as in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Device => "device",
            Condition::Driver => "driver",
            Condition::Clocks => "clocks",
            Condition::Ecc => "ecc",
            Condition::Mig => "mig",
            Condition::Threads => "threads",
            Condition::Isa => "isa",
            Condition::Tool => "tool",
            Condition::Layers => "layers",
            Condition::Gemm => "gemm",
            Condition::Weights => "weights",
        }
    }

    /// What it was in a run; `None` where the run does not say.
    fn of(self, run: &Run) -> Option<String> {
        let conditions = run.conditions.as_ref();
        let gpu = conditions.and_then(|c| c.gpu.as_ref());
        match self {
            Condition::Device => Some(format!("{} ({})", run.device.name, run.device.kind)),
            Condition::Driver => gpu?.driver.clone(),
            Condition::Clocks => limits(gpu?),
            Condition::Ecc => gpu?.ecc.map(on_or_off),
            Condition::Mig => gpu?.mig.map(on_or_off),
            Condition::Threads => conditions?.threads.map(|n| n.to_string()),
            Condition::Isa => conditions.map(|c| c.instruction_set.clone()),
            Condition::Tool => Some(format!("{} {}", run.tool.name, run.tool.version)),
            Condition::Layers => {
                run.points.first().map(|point| format!("{} of {}", point.layers_measured, point.layers_total))
            }
            Condition::Gemm => run.plan.as_ref()?.gemm.clone(),
            Condition::Weights => conditions.map(weights),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The conditions in which two runs differ. What one of them does not say, older files for instance, is no difference.
pub fn differences(base: &Run, new: &Run) -> Vec<Difference> {
    let differ = |condition: Condition| {
        let (base, new) = (condition.of(base)?, condition.of(new)?);
        (base != new).then_some(Difference { condition, base, new })
    };
    Condition::ALL.into_iter().filter_map(differ).collect()
}

fn limits(gpu: &Gpu) -> Option<String> {
    let power = gpu.power_limit_watts.map(|watts| si(watts, "W"));
    let clock = gpu.sm_clock_limit_hz.map(|hertz| si(hertz, "Hz"));
    match (clock, power) {
        (None, None) => None,
        (clock, power) => Some(clock.into_iter().chain(power).collect::<Vec<_>>().join(", ")),
    }
}

fn on_or_off(on: bool) -> String {
    if on { "on".into() } else { "off".into() }
}

/// Which random weights they are does not matter to the time they take.
fn weights(conditions: &Conditions) -> String {
    conditions.weights_from.clone()
}
