//! What is watched beside a measurement: energy, a GPU's sensors, and the load that others put on the machine.

mod load;
mod nvml;
mod rapl;
mod watch;

use std::collections::BTreeMap;
use std::time::Instant;

pub use load::{ForeignLoad, Load};
pub use nvml::open as gpu_sensors;
pub use watch::Watch;

/// A counter of energy since some moment.
pub trait EnergyMeter {
    /// What it counts, for instance `RAPL package-0`.
    fn name(&self) -> &str;

    /// Joules since the meter was opened; `None` where it could not be read this time.
    fn joules(&mut self) -> Option<f64>;
}

/// The energy meter of the CPU.
///
/// # Errors
/// Why there is none, in one line.
pub fn cpu_energy() -> Result<Box<dyn EnergyMeter>, String> {
    Ok(Box::new(rapl::Rapl::open(std::path::Path::new("/sys/class/powercap"))?))
}

/// A GPU's sensors. Every figure that is `None` has its reason in `unavailable`, under the field's name.
pub trait Sensors: Send + Sync {
    /// What does not change while work runs, and who else uses the GPU.
    fn facts(&self) -> Facts;

    /// The sensors now.
    fn reading(&self) -> Reading;

    /// Joules since some fixed moment. The counter ticks about every 100 ms.
    ///
    /// # Errors
    /// Why there is no counter, in one line.
    fn joules(&self) -> Result<f64, String>;

    /// Begins to count memory traffic and the matrix units' activity.
    ///
    /// # Errors
    /// Why the GPU has no such counters, in one line.
    fn count(&self) -> Result<Box<dyn Counting + '_>, String>;
}

/// Counters that run.
pub trait Counting {
    /// What they counted since [`Sensors::count`].
    ///
    /// # Errors
    /// Why they could not be read, in one line.
    fn end(self: Box<Self>) -> Result<Activity, String>;
}

/// What a GPU's counters saw over some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    /// Share of the memory's theoretical bandwidth that was used, 0 to 1.
    pub memory: f64,
    /// Share of the time that the matrix units were busy, 0 to 1.
    pub tensor: Option<f64>,
}

/// What is known of a GPU besides what its driver for computing says.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Facts {
    /// Version of the driver.
    pub driver: Option<String>,
    pub ecc: Option<bool>,
    pub mig: Option<bool>,
    pub power_limit_watts: Option<f64>,
    pub power_limit_default_watts: Option<f64>,
    /// Highest clock of the multiprocessors.
    pub max_sm_clock_hz: Option<f64>,
    /// Highest clock of the memory.
    pub max_memory_clock_hz: Option<f64>,
    /// In bits.
    pub bus_width: Option<u32>,
    pub memory_total_bytes: Option<f64>,
    pub memory_used_bytes: Option<f64>,
    /// Processes that compute on this GPU, this one left out; `None` where it cannot be told from them.
    pub other_processes: Option<u32>,
    /// Why a figure is `None`, by its field's name.
    pub unavailable: BTreeMap<&'static str, String>,
}

impl Facts {
    /// Names of the fields.
    pub const FIELDS: [&'static str; 11] = [
        "driver",
        "ecc",
        "mig",
        "power_limit_watts",
        "power_limit_default_watts",
        "max_sm_clock_hz",
        "max_memory_clock_hz",
        "bus_width",
        "memory_total_bytes",
        "memory_used_bytes",
        "other_processes",
    ];

    /// Of a GPU without sensors: nothing is known, all for one reason.
    pub fn unavailable(reason: &str) -> Facts {
        let unavailable = Self::FIELDS.iter().map(|&field| (field, reason.to_owned())).collect();
        Facts { unavailable, ..Facts::default() }
    }
}

/// The sensors at one moment.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Reading {
    pub at: Instant,
    pub power_watts: Option<f64>,
    pub sm_clock_hz: Option<f64>,
    pub memory_clock_hz: Option<f64>,
    pub temperature_celsius: Option<f64>,
    /// What holds the clocks back: `sw_power_cap`, `hw_thermal_slowdown`, ..., a reason without a name as `0x200`.
    /// Being idle, or clocks that someone set, is no reason. Empty if nothing holds them.
    pub throttle_reasons: Option<Vec<&'static str>>,
    /// Why a figure is `None`, by its field's name.
    pub unavailable: BTreeMap<&'static str, String>,
}
