//! The sensors of NVIDIA GPUs, from NVML: the library that comes with the driver.
//!
//! Every call may be refused: by the kind of GPU, by a container, by a driver that went away. What is refused is
//! `None` with its reason, for this field alone.

mod counting;
mod processes;
mod reason;
mod throttle;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_POWER_INSTANT;
use nvml_wrapper::{Device, Nvml};

use super::{Counting, Facts, Reading, Sensors};
use reason::{Refusals, why};

/// The power sensor and the energy counter are the whole board's: what a slice takes is not told apart.
const SLICE: &str = "a MIG slice has no sensor of its own";

/// One GPU, or one slice of it.
struct Gpu {
    nvml: &'static Nvml,
    /// The GPU or the slice.
    own: Device<'static>,
    slice: bool,
    /// The GPU that a slice is part of; in a container it may not be shown.
    parent: Option<Device<'static>>,
}

/// The sensors of the GPU, or of the MIG slice, with this UUID.
///
/// # Errors
/// Why there are none, in one line.
pub fn open(uuid: &str) -> Result<Arc<dyn Sensors>, String> {
    let nvml = library()?;
    let own = find(nvml, uuid).map_err(|e| format!("NVML does not show {uuid}: {}", why(&e)))?;
    let slice = own.mig_is_mig_device_handle().unwrap_or(false);
    let parent = slice.then(|| own.mig_parent_device().ok()).flatten();
    Ok(Arc::new(Gpu { nvml, own, slice, parent }))
}

/// NVML, opened once. It is never closed: the wrapper would panic on a library without a shutdown, and samples and
/// devices live as long as they like.
fn library() -> Result<&'static Nvml, String> {
    static NVML: OnceLock<Result<Nvml, String>> = OnceLock::new();
    NVML.get_or_init(|| {
        // The unversioned name belongs to development packages.
        let path = if cfg!(windows) { "nvml.dll" } else { "libnvidia-ml.so.1" };
        Nvml::builder().lib_path(path.as_ref()).init().map_err(|e| match e {
            NvmlError::LibloadingError(_) => format!("{path} was not found"),
            NvmlError::FailedToLoadSymbol(_) => format!("{path} has no nvmlInit_v2: the driver is too old"),
            other => why(&other),
        })
    })
    .as_ref()
    .map_err(Clone::clone)
}

/// The driver for computing prints a slice's UUID like a GPU's: both spellings are tried.
fn find(nvml: &'static Nvml, uuid: &str) -> Result<Device<'static>, NvmlError> {
    let bare = uuid.trim_start_matches("GPU-").trim_start_matches("MIG-");
    nvml.device_by_uuid(uuid).or_else(|first| {
        let other = if uuid.starts_with("MIG-") { "GPU-" } else { "MIG-" };
        nvml.device_by_uuid(format!("{other}{bare}")).map_err(|_| first)
    })
}

impl Gpu {
    /// What the slices of a GPU share: clocks, temperature, ECC.
    fn board(&self) -> &Device<'static> {
        self.parent.as_ref().unwrap_or(&self.own)
    }

    /// Milliwatts now. Without the newer sensor it is the driver's average over up to a second.
    fn power(&self) -> Result<f64, NvmlError> {
        let instant = self.own.field_values_for(&[FieldId(NVML_FI_DEV_POWER_INSTANT)]);
        let instant = instant.ok().and_then(|fields| fields.into_iter().next()?.ok()?.value.ok());
        match instant {
            Some(SampleValue::U32(value)) if value > 0 => Ok(f64::from(value)),
            _ => self.own.power_usage().map(f64::from),
        }
    }

    /// All bits, those without a name too.
    fn throttle_bits(&self) -> Result<u64, NvmlError> {
        match self.board().current_throttle_reasons_strict() {
            Ok(reasons) => Ok(reasons.bits()),
            Err(NvmlError::IncorrectBits(Bits::U64(bits))) => Ok(bits),
            Err(other) => Err(other),
        }
    }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) * 1e-3
}

fn hertz(megahertz: u32) -> f64 {
    f64::from(megahertz) * 1e6
}

impl Sensors for Gpu {
    fn facts(&self) -> Facts {
        let mut refused = Refusals::default();
        let board = self.board();
        let memory = self.own.memory_info();
        let (total, used) = match &memory {
            Ok(info) => (Some(info.total as f64), Some(info.used as f64)),
            Err(e) => {
                refused.add("memory_total_bytes", why(e));
                refused.add("memory_used_bytes", why(e));
                (None, None)
            }
        };
        let bus_width = if self.slice {
            refused.add("bus_width", "a MIG slice has a share of the bus");
            None
        } else {
            refused.take("bus_width", self.own.memory_bus_width())
        };
        let other_processes = match self.own.running_compute_processes() {
            Ok(list) => {
                // A process with several contexts is listed several times.
                let pids: BTreeSet<u32> = list.iter().map(|process| process.pid).collect();
                let others = processes::others(&pids, std::process::id(), processes::contained());
                others.map_err(|reason| refused.add("other_processes", reason)).ok()
            }
            Err(e) => {
                refused.add("other_processes", why(&e));
                None
            }
        };
        Facts {
            driver: refused.take("driver", self.nvml.sys_driver_version()),
            ecc: refused.take("ecc", board.is_ecc_enabled().map(|state| state.currently_enabled)),
            mig: refused.take("mig", board.mig_mode().map(|mode| mode.current != 0)),
            power_limit_watts: refused.take("power_limit_watts", board.enforced_power_limit().map(watts)),
            power_limit_default_watts: refused
                .take("power_limit_default_watts", board.power_management_limit_default().map(watts)),
            max_sm_clock_hz: refused.take("max_sm_clock_hz", board.max_clock_info(Clock::SM).map(hertz)),
            max_memory_clock_hz: refused
                .take("max_memory_clock_hz", board.max_clock_info(Clock::Memory).map(hertz)),
            bus_width,
            memory_total_bytes: total,
            memory_used_bytes: used,
            other_processes,
            unavailable: refused.reasons,
        }
    }

    fn reading(&self) -> Reading {
        let mut refused = Refusals::default();
        let board = self.board();
        let at = Instant::now();
        let power_watts = if self.slice {
            refused.add("power_watts", SLICE);
            None
        } else {
            refused.take("power_watts", self.power().map(|milliwatts| milliwatts * 1e-3))
        };
        Reading {
            at,
            power_watts,
            sm_clock_hz: refused.take("sm_clock_hz", board.clock_info(Clock::SM).map(hertz)),
            memory_clock_hz: refused.take("memory_clock_hz", board.clock_info(Clock::Memory).map(hertz)),
            temperature_celsius: refused
                .take("temperature_celsius", board.temperature(TemperatureSensor::Gpu).map(f64::from)),
            throttle_reasons: refused.take("throttle_reasons", self.throttle_bits().map(throttle::names)),
            unavailable: refused.reasons,
        }
    }

    fn joules(&self) -> Result<f64, String> {
        if self.slice {
            return Err(SLICE.into());
        }
        self.own.total_energy_consumption().map(|millijoules| millijoules as f64 * 1e-3).map_err(|e| why(&e))
    }

    fn count(&self) -> Result<Box<dyn Counting + '_>, String> {
        if self.slice {
            return Err("the counters are the whole GPU's, this is a MIG slice".into());
        }
        Ok(Box::new(counting::Running::start(self.nvml, &self.own)?))
    }
}
