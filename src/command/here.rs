//! What is known of a GPU of this machine: what its driver says, its sensors, and the profile it matches. Says it for
//! people and in JSON; asks nobody.

use serde_json::{Map, Value, json};

use crate::backend::{DeviceInfo, GpuInfo};
use crate::telemetry::Facts;
use crate::units::Bytes;

/// A GPU that is here.
#[derive(Debug, Clone)]
pub struct Here {
    /// What its driver says.
    pub gpu: GpuInfo,
    /// UUID.
    pub id: Option<String>,
    /// What its sensors say.
    pub facts: Facts,
    /// Name of the profile that it matches, or why there is none.
    pub profile: Result<String, String>,
}

impl Here {
    /// `cuda:0`, as `--device` takes it.
    pub fn name(&self) -> String {
        format!("cuda:{}", self.gpu.ordinal)
    }

    /// Some lines for people. What is not known is named at the end with the reason, fields of one reason together.
    pub fn lines(&self) -> Vec<String> {
        let (gpu, facts) = (&self.gpu, &self.facts);
        let known = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let (major, minor) = gpu.capability;
        let on = |state: bool| if state { "on" } else { "off" };
        let slice = self.id.as_ref().is_some_and(|id| id.starts_with("MIG-"));
        let watts = |value: f64| format!("{} W", value.round());
        let megahertz = |value: f64| format!("{} MHz", (value * 1e-6).round());
        let limit = facts.power_limit_watts.map(|limit| match facts.power_limit_default_watts {
            Some(default) if (default - limit).abs() >= 1.0 => {
                format!("power limit {} (default {})", watts(limit), watts(default))
            }
            _ => format!("power limit {}", watts(limit)),
        });
        let memory = gpu.theoretical_bandwidth().zip(gpu.memory_clock.zip(gpu.bus_width)).map(
            |(bandwidth, (clock, width))| {
                let whole = if slice { " of the whole GPU" } else { "" };
                format!("memory {} x {width} bit = {:.0} GB/s{whole}", megahertz(clock), bandwidth * 1e-9)
            },
        );
        let used = facts
            .memory_used_bytes
            .zip(facts.memory_total_bytes)
            .map(|(used, total)| format!("{} of {} used", Bytes(used).human(), Bytes(total).human()));
        let mut lines = vec![
            known(vec![self.id.clone(), Some(format!("PCI {}", gpu.pci))]),
            known(vec![
                facts.driver.as_ref().map(|version| format!("driver {version}")),
                Some(format!("CUDA {}", gpu.cuda)),
                Some(format!("compute capability {major}.{minor}")),
                Some(format!("{} multiprocessors", gpu.multiprocessors)),
            ]),
            known(vec![
                facts.max_sm_clock_hz.map(|clock| format!("clock up to {}", megahertz(clock))),
                memory,
                limit,
                facts.ecc.map(|state| format!("ECC {}", on(state))),
                facts.mig.map(|state| format!("MIG {}", on(state))),
            ]),
            known(vec![
                used,
                facts.other_processes.map(|count| match count {
                    1 => "1 other process".into(),
                    count => format!("{count} other processes"),
                }),
            ]),
            match &self.profile {
                Ok(name) => format!("profile {name}"),
                Err(reason) => format!("no datasheet percentages: {reason}"),
            },
        ];
        lines.extend(self.unknown());
        lines.retain(|line| !line.is_empty());
        let name = self.name();
        lines.into_iter().map(|line| format!("{name}: {line}")).collect()
    }

    /// `not known: ecc, mig (not supported by this GPU or driver)`.
    fn unknown(&self) -> Vec<String> {
        let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
        for (&field, reason) in &self.facts.unavailable {
            match by_reason.iter_mut().find(|(known, _)| known == reason) {
                Some((_, fields)) => fields.push(field),
                None => by_reason.push((reason, vec![field])),
            }
        }
        by_reason
            .into_iter()
            .map(|(reason, fields)| match fields.len() {
                // All that the sensors could have said.
                count if count == Facts::FIELDS.len() => format!("no sensors: {reason}"),
                _ => format!("not known: {} ({reason})", fields.join(", ")),
            })
            .collect()
    }

    /// Every field under its name, null where not known, with the reasons.
    pub fn json(&self) -> Value {
        let (gpu, facts) = (&self.gpu, &self.facts);
        let mut unavailable: Map<String, Value> = facts
            .unavailable
            .iter()
            .map(|(field, reason)| ((*field).into(), reason.clone().into()))
            .collect();
        let mut missing = |field: &str, known: bool, reason: &str| {
            if !known {
                unavailable.insert(field.into(), reason.into());
            }
        };
        let silent = "the driver does not say";
        missing("uuid", self.id.is_some(), silent);
        missing("memory_clock_hz", gpu.memory_clock.is_some(), silent);
        missing("bus_width", gpu.bus_width.is_some(), silent);
        missing("theoretical_bandwidth", gpu.theoretical_bandwidth().is_some(), silent);
        if let Err(reason) = &self.profile {
            missing("profile", false, reason);
        }
        json!({
            "ordinal": gpu.ordinal,
            "uuid": self.id,
            "pci": gpu.pci,
            "driver": facts.driver,
            "cuda": gpu.cuda,
            "compute_capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
            "multiprocessors": gpu.multiprocessors,
            "max_sm_clock_hz": facts.max_sm_clock_hz,
            "max_memory_clock_hz": facts.max_memory_clock_hz,
            "memory_clock_hz": gpu.memory_clock,
            "bus_width": gpu.bus_width,
            "theoretical_bandwidth": gpu.theoretical_bandwidth(),
            "memory_total_bytes": facts.memory_total_bytes,
            "memory_used_bytes": facts.memory_used_bytes,
            "power_limit_watts": facts.power_limit_watts,
            "power_limit_default_watts": facts.power_limit_default_watts,
            "ecc": facts.ecc,
            "mig": facts.mig,
            "other_processes": facts.other_processes,
            "profile": self.profile.as_ref().ok(),
            "unavailable": unavailable,
        })
    }
}

/// A GPU of the list, if this is one: `sensors` asks for the facts by UUID.
pub fn here(
    info: &DeviceInfo,
    sensors: impl FnOnce(&str) -> Result<Facts, String>,
    profile: Result<String, String>,
) -> Option<Here> {
    let gpu = info.gpu.clone()?;
    let facts = info.id.as_deref().ok_or_else(|| "the GPU has no UUID".to_owned()).and_then(sensors);
    Some(Here {
        gpu,
        id: info.id.clone(),
        facts: facts.unwrap_or_else(|reason| Facts::unavailable(&reason)),
        profile,
    })
}
