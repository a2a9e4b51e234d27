//! What surrounded a measurement on a GPU: its driver, the kernels as it compiled them, and its sensors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU during a run. A field that is null has its reason in `unavailable`, under the same name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Version of the driver, which compiled the kernels' PTX: `570.86.15`.
    pub driver: Option<String>,
    /// Newest CUDA version that the driver runs: `12.8`.
    pub cuda: String,
    /// PCI address.
    pub pci: String,
    /// Compute capability: `9.0`.
    pub capability: String,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest memory clock in hertz.
    pub memory_clock_hz: Option<f64>,
    /// Highest clock of the multiprocessors in hertz; null in files before version 3.
    pub sm_clock_limit_hz: Option<f64>,
    /// Width of the memory bus in bits.
    pub bus_width: Option<u32>,
    /// Error correction of the memory.
    pub ecc: Option<bool>,
    /// Whether the GPU is divided into instances.
    pub mig: Option<bool>,
    /// Power limit in force.
    pub power_limit_watts: Option<f64>,
    /// Power limit that the card comes with.
    pub power_limit_default_watts: Option<f64>,
    /// Power before the work began, with the GPU opened by this program; energy per token is not reduced by it.
    pub idle_watts: Option<f64>,
    /// Memory in use before the work began.
    pub memory_used_bytes: Option<f64>,
    /// Other processes that computed on this GPU before the work began.
    pub other_processes: Option<u32>,
    /// Every kernel that was loaded.
    pub kernels: Vec<Kernel>,
    /// Seconds that one more empty kernel adds to a graph.
    pub graph_node_seconds: Option<f64>,
    /// Host seconds to launch a graph.
    pub graph_launch_seconds: Option<f64>,
    /// The sensors, about ten times a second; of more than 2000 every second, third, ...
    pub readings: Vec<Reading>,
    /// Why a field is null, by its name; those of readings as `readings.power_watts`.
    pub unavailable: BTreeMap<String, String>,
}

/// One kernel as the driver compiled it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Name of its entry point.
    pub name: String,
    /// Target of the PTX that was compiled: `sm_80`, `sm_90`, or `sm_90a` for what runs on Hopper alone.
    pub target: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread; 0 if nothing was spilled.
    pub local_bytes: u32,
    /// Bytes of static shared memory of a block.
    pub shared_bytes: u32,
}

/// The sensors at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Power.
    pub power_watts: Option<f64>,
    /// Clock of the multiprocessors.
    pub sm_clock_hz: Option<f64>,
    /// Clock of the memory.
    pub memory_clock_hz: Option<f64>,
    /// Temperature of the chip.
    pub temperature_celsius: Option<f64>,
    /// Why the clocks are below their highest: `power_cap`, `thermal_slowdown`, ...; empty if nothing holds them.
    pub throttle_reasons: Option<Vec<String>>,
}
