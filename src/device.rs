//! Device profiles: what the vendor's datasheet says of a card, each number with its source.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::model::DType;
use crate::roofline::{Ceiling, CeilingKind, CeilingSource, Roofline};
use crate::units::{BytesPerSec, FlopsPerSec};

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
