//! Device profiles: what the vendor's datasheet says of a card, each number with its source.

mod link;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::model::DType;
use crate::roofline::{Ceiling, CeilingKind, CeilingSource, Roofline};
use crate::units::{BytesPerSec, FlopsPerSec};
pub use link::{Link, ProfileLink};

/// A datasheet figure with the document that states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// The figure, in base SI units.
    pub value: f64,
    /// Title (and address) of the document.
    pub source: String,
}

/// Datasheet facts of one device. Dense figures: sparsity is never counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Name on the command line, for instance `a100-sxm4-80gb`.
    pub name: String,
    /// Name people know, for instance `NVIDIA A100 SXM4 80 GB`.
    pub title: String,
    /// Names the driver reports for this card.
    #[serde(default)]
    pub driver_names: Vec<String>,
    /// Memory bandwidth in bytes per second.
    pub memory_bandwidth: Fact,
    /// Memory capacity in bytes.
    pub memory: Fact,
    /// Last-level cache in bytes.
    pub cache: Fact,
    /// Streaming multiprocessors (or cores).
    pub units: Fact,
    /// Power limit in watts.
    pub power: Fact,
    /// Dense peak per data type in operations per second, with fp32 accumulation.
    pub peak: BTreeMap<DType, Fact>,
    /// What a healthy card reaches in any case; null where nothing published says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floors: Option<ProfileFloors>,
    /// What joins it to others of its kind; null where nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<ProfileLink>,
}

/// The least shares that a healthy card reaches, 0 to 1. A figure for which nothing published is known has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileFloors {
    /// Read bandwidth, of the datasheet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_read: Option<Fact>,
    /// Peak of bf16 products in bursts, of the datasheet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_bf16: Option<Fact>,
    /// A decode step of batch 1, of the read bandwidth measured beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<Fact>,
}

impl ProfileFloors {
    /// Those that there are, by their field.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &Fact)> {
        let all = [
            ("memory_read", &self.memory_read),
            ("compute_bf16", &self.compute_bf16),
            ("decode", &self.decode),
        ];
        all.into_iter().filter_map(|(field, fact)| Some((field, fact.as_ref()?)))
    }
}

impl DeviceProfile {
    /// Reads a device profile (TOML).
    ///
    /// # Errors
    /// Names the line or the field that is wrong.
    pub fn from_toml(text: &str) -> Result<Self> {
        let profile: DeviceProfile = toml::from_str(text).map_err(|e| {
            Failure::toml(text, &e)
                .hint("compare with `llmroof devices a100-sxm4-80gb -o json` for the fields of a device")
        })?;
        profile.validate()?;
        Ok(profile)
    }

    /// Checks that every figure can be one of a real device.
    ///
    /// # Errors
    /// Names the first field that cannot.
    pub fn validate(&self) -> Result<()> {
        let facts = [
            ("memory_bandwidth", &self.memory_bandwidth),
            ("memory", &self.memory),
            ("cache", &self.cache),
            ("units", &self.units),
            ("power", &self.power),
        ];
        let peaks = self.peak.iter().map(|(dtype, fact)| (dtype.name(), fact));
        for (field, fact) in facts.into_iter().chain(peaks) {
            if !(fact.value.is_finite() && fact.value > 0.0) {
                return Err(Failure::input(format!("{field} of {} is {}", self.name, fact.value))
                    .hint("it must be a positive number in base units (bytes, bytes/s, FLOP/s, W)"));
            }
            if fact.source.trim().is_empty() {
                return Err(Failure::input(format!("{field} of {} has no source", self.name))
                    .hint("say which document states the figure"));
            }
        }
        for (field, fact) in self.floors.iter().flat_map(ProfileFloors::facts) {
            if !(fact.value > 0.0 && fact.value <= 1.0) {
                return Err(Failure::input(format!("floors.{field} of {} is {}", self.name, fact.value))
                    .hint("a floor is a share above 0 and up to 1, 0.8 for 80%"));
            }
            if fact.source.trim().is_empty() {
                return Err(Failure::input(format!("floors.{field} of {} has no source", self.name))
                    .hint("say what it was set by"));
            }
        }
        if self.floors.as_ref().is_some_and(|floors| floors.facts().next().is_none()) {
            return Err(Failure::input(format!("[floors] of {} is empty", self.name))
                .hint("give memory_read, compute_bf16 or decode, or leave it out"));
        }
        if let Some(link) = &self.link {
            link.validate(&self.name)?;
        }
        if !self.peak.contains_key(&DType::Bf16) {
            return Err(Failure::input(format!("{} has no bf16 peak", self.name))
                .hint("add peak.bf16 = { value = ..., source = \"...\" }"));
        }
        Ok(())
    }

    /// The datasheet's roofline for one data type, where the device has it.
    pub fn roofline(&self, dtype: DType) -> Option<Roofline> {
        let peak = self.peak.get(&dtype)?;
        Some(Roofline { bandwidth: BytesPerSec(self.memory_bandwidth.value), peak: FlopsPerSec(peak.value) })
    }

    /// What joins it to others of its kind, to model all-reduces over.
    pub fn link(&self) -> Option<Link> {
        Some(Link { profile: self.name.clone(), facts: self.link.clone()? })
    }

    /// The datasheet's ceilings.
    pub fn ceilings(&self) -> Vec<Ceiling> {
        let ceiling = |kind, dtype, fact: &Fact| Ceiling {
            kind,
            dtype,
            rate: fact.value,
            low: None,
            median: None,
            source: CeilingSource::Datasheet,
            citation: fact.source.clone(),
            samples: Vec::new(),
        };
        let mut all = vec![ceiling(CeilingKind::MemoryRead, None, &self.memory_bandwidth)];
        all.extend(self.peak.iter().map(|(&dtype, fact)| ceiling(CeilingKind::Compute, Some(dtype), fact)));
        all
    }
}
