//! Ceilings, the roofline they make, and where a piece of work lies under it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::DType;
use crate::stats;
use crate::units::{Bytes, BytesPerSec, Flops, FlopsPerSec, Intensity, Seconds};

/// What a ceiling bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CeilingKind {
    /// Read-only bandwidth of main memory, over a footprint as large as the model.
    MemoryRead,
    /// Copy bandwidth of main memory, counting the bytes read and the bytes written.
    MemoryCopy,
    /// Read bandwidth of the last-level cache.
    CacheRead,
    /// Arithmetic peak of one data type, in bursts.
    Compute,
    /// The same after working at it for a while: what heat and power leave of it.
    ComputeSustained,
}

impl CeilingKind {
    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            CeilingKind::MemoryRead => "memory_read",
            CeilingKind::MemoryCopy => "memory_copy",
            CeilingKind::CacheRead => "cache_read",
            CeilingKind::Compute => "compute",
            CeilingKind::ComputeSustained => "compute_sustained",
        }
    }

    /// The unit of its rate.
    pub fn unit(self) -> &'static str {
        match self {
            CeilingKind::Compute | CeilingKind::ComputeSustained => FlopsPerSec::UNIT,
            _ => BytesPerSec::UNIT,
        }
    }
}

/// Where a ceiling's rate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CeilingSource {
    /// Measured by this run on this device.
    Measured,
    /// The vendor's figure.
    Datasheet,
}

/// A rate that bounds work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// What it bounds.
    pub kind: CeilingKind,
    /// Data type of a compute peak, null for bandwidths.
    pub dtype: Option<DType>,
    /// Bytes per second or operations per second. Measured: what the best tenth of the run's windows reached; of a
    /// sustained peak the median.
    pub rate: f64,
    /// First quartile of the samples: how low the ceiling itself fell during the run.
    pub low: Option<f64>,
    /// Median of the samples.
    pub median: Option<f64>,
    /// Measured or datasheet.
    pub source: CeilingSource,
    /// How it was measured, or the datasheet's title.
    pub citation: String,
    /// Rates of all samples, in the order taken.
    pub samples: Vec<f64>,
}

/// The quantile of all windows that is the ceiling: reached by a tenth of them, so no lucky single one.
pub const BEST: f64 = 0.9;

impl Ceiling {
    /// The ceiling that the windows of a probe gave, in the order taken; `None` without any. A burst is what the best
    /// tenth reached; what is sustained is the median.
    pub fn measured(
        kind: CeilingKind,
        dtype: Option<DType>,
        citation: String,
        samples: Vec<f64>,
    ) -> Option<Ceiling> {
        let quantile = if kind == CeilingKind::ComputeSustained { 0.5 } else { BEST };
        Some(Ceiling {
            kind,
            dtype,
            rate: stats::quantile(&samples, quantile)?,
            low: stats::quantile(&samples, 0.25),
            median: stats::median(&samples),
            source: CeilingSource::Measured,
            citation,
            samples,
        })
    }
}

/// A bandwidth and a peak: the two lines of a roofline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Slope of the memory roof.
    pub bandwidth: BytesPerSec,
    /// Height of the compute roof.
    pub peak: FlopsPerSec,
}

/// What keeps a piece of work from running faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Memory bandwidth.
    Memory,
    /// Arithmetic peak.
    Compute,
    /// Neither: launch gaps, or work too short for either roof to explain.
    Overhead,
}

impl Bound {
    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Memory => "memory",
            Bound::Compute => "compute",
            Bound::Overhead => "overhead",
        }
    }
}

/// A time explained by its roofs to less than this share is bound by overhead.
pub const EXPLAINED: f64 = 1.0 / 3.0;

impl Roofline {
    /// The intensity at which both roofs meet.
    pub fn ridge(&self) -> Intensity {
        self.peak / self.bandwidth
    }

    /// Highest rate that work of this intensity can reach: `min(peak, intensity x bandwidth)`.
    pub fn attainable(&self, intensity: Intensity) -> FlopsPerSec {
        FlopsPerSec((intensity * self.bandwidth).0.min(self.peak.0))
    }

    /// Shortest time for this work, and which roof sets it.
    pub fn shortest(&self, flops: Flops, bytes: Bytes) -> (Seconds, Bound) {
        let (memory, compute) = (bytes / self.bandwidth, flops / self.peak);
        if compute > memory { (compute, Bound::Compute) } else { (memory, Bound::Memory) }
    }

    /// The roof of a step: the sum of its parts' own shortest times (they run one after the other), and the
    /// bound that most of that time is spent under. Judged on the parts, because a sum of memory-bound and
    /// compute-bound parts can lie under the ridge and still reach neither roof.
    pub fn shortest_of_parts(&self, parts: impl IntoIterator<Item = (Flops, Bytes)>) -> (Seconds, Bound) {
        let (mut memory, mut compute) = (Seconds(0.0), Seconds(0.0));
        for (flops, bytes) in parts {
            match self.shortest(flops, bytes) {
                (time, Bound::Compute) => compute += time,
                (time, _) => memory += time,
            }
        }
        (memory + compute, if compute > memory { Bound::Compute } else { Bound::Memory })
    }
}

/// The bound of work that took `measured` where its roof allows `shortest`.
pub fn bound(roof: Bound, shortest: Seconds, measured: Seconds) -> Bound {
    if shortest.0 < EXPLAINED * measured.0 { Bound::Overhead } else { roof }
}
