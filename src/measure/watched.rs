//! A GPU's surroundings over a run: driver, limits, sensors, and what a reader must know of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::readings::{Readings, Round, distinct};
use crate::backend::{GpuInfo, GpuSoftware};
use crate::run::{Gpu, Kernel, Reading};
use crate::telemetry::{self, Facts, Sensors, Watch};

/// How often the sensors are read.
const EVERY: Duration = Duration::from_millis(100);
/// Most readings in a run file; of more, every second, third, ... is kept.
const MOST_READINGS: usize = 2000;
/// Clocks held down within this time of the first sample were so from the start.
const START: Duration = Duration::from_millis(200);

/// A field of a reading, and whether a reading has it.
type Field = (&'static str, fn(&telemetry::Reading) -> bool);

/// The sensors of a GPU while it is measured, or why there are none.
pub(super) struct Watched {
    info: GpuInfo,
    sensors: Result<Arc<dyn Sensors>, String>,
    watch: Option<Watch>,
    start: Instant,
    /// As they were before any work.
    facts: Facts,
    idle: Option<telemetry::Reading>,
    /// What was asked for in vain during the run, by the field's name.
    in_vain: BTreeMap<String, String>,
}

impl Watched {
    /// Looks at the idle GPU, then begins to watch it.
    pub fn start(info: &GpuInfo, sensors: Result<Arc<dyn Sensors>, String>, start: Instant) -> Watched {
        let sensed = sensors.as_ref().ok();
        let (facts, idle) =
            (sensed.map(|s| s.facts()).unwrap_or_default(), sensed.map(|sensors| sensors.reading()));
        let watch = sensed.map(|sensors| Watch::start(Arc::clone(sensors), EVERY));
        Watched { info: info.clone(), sensors, watch, start, facts, idle, in_vain: BTreeMap::new() }
    }

    /// All readings so far.
    pub fn readings(&self) -> Readings {
        Readings(self.watch.as_ref().map(Watch::readings).unwrap_or_default())
    }

    /// Whether there are sensors.
    pub fn has_sensors(&self) -> bool {
        self.sensors.is_ok()
    }

    /// Keeps why a point's figure could not be had; without sensors for want of those.
    pub fn in_vain(&mut self, field: &str, reason: &str) {
        let reason = self.sensors.as_ref().err().map_or(reason, String::as_str);
        self.in_vain.entry(field.into()).or_insert_with(|| reason.into());
    }

    /// The GPU for the run file.
    pub fn describe(&self, readings: &Readings, software: Option<GpuSoftware>) -> Gpu {
        let (facts, info, software) = (&self.facts, &self.info, software.unwrap_or_default());
        let stride = readings.0.len().div_ceil(MOST_READINGS).max(1);
        let kernel = |image: crate::backend::KernelImage| Kernel {
            name: image.kernel,
            target: image.target,
            registers: image.registers,
            local_bytes: image.local_bytes,
            shared_bytes: image.shared_bytes,
        };
        let mut gpu = Gpu {
            driver: facts.driver.clone(),
            cuda: info.cuda.clone(),
            pci: info.pci.clone(),
            capability: format!("{}.{}", info.capability.0, info.capability.1),
            multiprocessors: info.multiprocessors,
            memory_clock_hz: info.memory_clock.or(facts.max_memory_clock_hz),
            sm_clock_limit_hz: facts.max_sm_clock_hz,
            bus_width: info.bus_width.or(facts.bus_width),
            ecc: facts.ecc,
            mig: facts.mig,
            power_limit_watts: facts.power_limit_watts,
            power_limit_default_watts: facts.power_limit_default_watts,
            idle_watts: self.idle.as_ref().and_then(|idle| idle.power_watts),
            memory_used_bytes: facts.memory_used_bytes,
            other_processes: facts.other_processes,
            kernels: software.kernels.into_iter().map(kernel).collect(),
            graph_node_seconds: software.graph_node_seconds,
            graph_launch_seconds: software.graph_launch_seconds,
            readings: readings.0.iter().step_by(stride).map(|reading| self.reading(reading)).collect(),
            unavailable: BTreeMap::new(),
        };
        gpu.unavailable = self.unavailable(&gpu, readings);
        gpu
    }

    fn reading(&self, reading: &telemetry::Reading) -> Reading {
        let reasons = reading.throttle_reasons.as_ref();
        Reading {
            seconds: reading.at.saturating_duration_since(self.start).as_secs_f64(),
            power_watts: reading.power_watts,
            sm_clock_hz: reading.sm_clock_hz,
            memory_clock_hz: reading.memory_clock_hz,
            temperature_celsius: reading.temperature_celsius,
            throttle_reasons: reasons.map(|all| all.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    /// The reason of every field that is null.
    fn unavailable(&self, gpu: &Gpu, readings: &Readings) -> BTreeMap<String, String> {
        let absent = self.sensors.as_ref().err();
        let mut unavailable = self.in_vain.clone();
        let fields = [
            ("driver", gpu.driver.is_none()),
            ("ecc", gpu.ecc.is_none()),
            ("mig", gpu.mig.is_none()),
            ("power_limit_watts", gpu.power_limit_watts.is_none()),
            ("power_limit_default_watts", gpu.power_limit_default_watts.is_none()),
            ("memory_used_bytes", gpu.memory_used_bytes.is_none()),
            ("other_processes", gpu.other_processes.is_none()),
            ("bus_width", gpu.bus_width.is_none()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, null)| *null) {
            let reason = absent.or_else(|| self.facts.unavailable.get(field));
            unavailable.insert(field.into(), reason.map_or("not reported".into(), String::clone));
        }
        for (field, fact, null) in [
            ("memory_clock_hz", "max_memory_clock_hz", gpu.memory_clock_hz.is_none()),
            ("sm_clock_limit_hz", "max_sm_clock_hz", gpu.sm_clock_limit_hz.is_none()),
        ] {
            if null {
                let reason = absent.or_else(|| self.facts.unavailable.get(fact));
                unavailable.insert(field.into(), reason.map_or("not reported".into(), String::clone));
            }
        }
        if gpu.idle_watts.is_none() {
            let idle = self.idle.as_ref().and_then(|idle| idle.unavailable.get("power_watts"));
            let reason = absent.or(idle);
            unavailable.insert("idle_watts".into(), reason.map_or("not reported".into(), String::clone));
        }
        for (field, null) in [
            ("graph_node_seconds", gpu.graph_node_seconds.is_none()),
            ("graph_launch_seconds", gpu.graph_launch_seconds.is_none()),
        ] {
            if null {
                unavailable.insert(field.into(), "not measured".into());
            }
        }
        match absent {
            Some(reason) => {
                unavailable.insert("readings".into(), reason.clone());
            }
            // The last reading that lacks a field says why.
            None => {
                for (field, reason) in readings.0.iter().flat_map(|reading| &reading.unavailable) {
                    unavailable.insert(format!("readings.{field}"), reason.clone());
                }
            }
        }
        unavailable
    }

    /// What a reader must know. `rounds` are those of all samples; readings after `end` are of a soak.
    pub fn notes(&self, readings: &Readings, rounds: &[Round], end: Instant) -> Vec<String> {
        let mut notes = Vec::new();
        let sensors = match &self.sensors {
            Ok(sensors) => sensors,
            Err(reason) => return vec![format!("no sensors: {reason}")],
        };
        // Others may have come while it ran.
        let others = self.facts.other_processes.max(sensors.facts().other_processes).unwrap_or(0);
        if others > 0 {
            let who =
                if others == 1 { "another process".into() } else { format!("{others} other processes") };
            notes.push(format!(
                "{who} computed on this GPU: times, power and ceilings are of what was left of it"
            ));
        }
        notes.extend(self.throttling(readings, rounds, end));
        notes.extend(self.silence(readings));
        notes
    }

    fn throttling(&self, readings: &Readings, rounds: &[Round], end: Instant) -> Option<String> {
        let began = rounds.iter().map(|round| round.from).min();
        let known: Vec<&telemetry::Reading> = readings
            .between(began, end)
            .iter()
            .filter(|reading| reading.throttle_reasons.is_some())
            .collect();
        let held =
            |reading: &telemetry::Reading| reading.throttle_reasons.as_ref().is_some_and(|r| !r.is_empty());
        let throttled: Vec<&telemetry::Reading> = known.iter().copied().filter(|r| held(r)).collect();
        let first = throttled.first()?;
        let reasons = distinct(throttled.iter().flat_map(|r| r.throttle_reasons.iter().flatten().copied()));
        let samples =
            rounds.iter().filter(|&&round| readings.throttled(round).is_some_and(|r| !r.is_empty()));
        let when = if began.is_none_or(|began| first.at <= began + START) {
            "from the start".into()
        } else {
            format!("midway, from {:.1} s on", first.at.saturating_duration_since(self.start).as_secs_f64())
        };
        Some(format!(
            "throttled {when}: {} in {} of {} readings; {} of {} samples are marked",
            reasons.join(", "),
            throttled.len(),
            known.len(),
            samples.count(),
            rounds.len()
        ))
    }

    /// From when on the sensors said less than before.
    fn silence(&self, readings: &Readings) -> Option<String> {
        let last = readings.0.last()?;
        let fields: [Field; 5] = [
            ("power_watts", |r| r.power_watts.is_some()),
            ("sm_clock_hz", |r| r.sm_clock_hz.is_some()),
            ("memory_clock_hz", |r| r.memory_clock_hz.is_some()),
            ("temperature_celsius", |r| r.temperature_celsius.is_some()),
            ("throttle_reasons", |r| r.throttle_reasons.is_some()),
        ];
        let lost: Vec<(&str, &telemetry::Reading)> = fields
            .into_iter()
            .filter(|(_, there)| !there(last))
            .filter_map(|(field, there)| Some((field, readings.0.iter().rfind(|reading| there(reading))?)))
            .collect();
        let since = lost.iter().map(|(_, reading)| reading.at).min()?;
        let reason = lost.iter().find_map(|(field, _)| last.unavailable.get(field));
        let fields: Vec<&str> = lost.iter().map(|(field, _)| *field).collect();
        Some(format!(
            "the sensors fell silent after {:.1} s ({}): {}",
            since.saturating_duration_since(self.start).as_secs_f64(),
            fields.join(", "),
            reason.map_or("no reason given", String::as_str)
        ))
    }
}
