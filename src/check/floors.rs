//! The floors: what a healthy device reaches in any case.

use std::fmt;

use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::model::DType;
use crate::roofline::{Ceiling, CeilingKind, CeilingSource};
use crate::run::{Point, Run, RunStatus, Status};
use crate::units::{BytesPerSec, FlopsPerSec, percent};
use crate::workload::Phase;

/// A figure of a device that has a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Read bandwidth of main memory, in bytes per second.
    MemoryRead,
    /// Arithmetic peak of a data type, in operations per second.
    Compute(DType),
    /// A decode step of batch 1: the share of the memory roof probed beside it that it reached.
    Decode,
}

/// What the floors are shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The datasheet's figures; of decode the memory roof probed beside it.
    Datasheet,
    /// What an earlier run measured.
    Run,
}

/// The least that one figure may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor {
    /// Of what.
    pub figure: Figure,
    /// What the share is of, in the figure's unit.
    pub reference: f64,
    /// The share of it that must be reached, 0 to 1.
    pub share: f64,
    /// Where it comes from.
    pub source: String,
}

/// All floors of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Floors {
    /// What they are shares of.
    pub basis: Basis,
    /// In the order that people read them.
    pub list: Vec<Floor>,
}

impl Figure {
    /// Name in files: `memory_read`, `compute_bf16`, `decode`.
    pub fn name(self) -> String {
        match self {
            Figure::MemoryRead => "memory_read".into(),
            Figure::Compute(dtype) => format!("compute_{dtype}"),
            Figure::Decode => "decode".into(),
        }
    }

    /// For people: `3.24 TB/s`, `81% of read`.
    pub fn human(self, value: f64) -> String {
        match self {
            Figure::MemoryRead => BytesPerSec(value).human(),
            Figure::Compute(_) => FlopsPerSec(value).human(),
            Figure::Decode => format!("{} of read", percent(value)),
        }
    }

    /// What a run reached: of a ceiling what its best tenth of windows did, so that no short disturbance counts. `None`
    /// where it was not measured.
    pub fn reached(self, run: &Run) -> Option<f64> {
        match self {
            Figure::Decode => decode(run).map(|point| point.fraction_of_roof),
            ceiling => Some(ceiling.ceiling(run)?.rate),
        }
    }

    /// What a run shows to be possible at any time: of a ceiling its first quartile. On a GPU that is its rate but for
    /// a percent; on a machine that others share it is how low the ceiling itself fell.
    fn dependable(self, run: &Run) -> Option<f64> {
        match self {
            Figure::Decode => self.reached(run),
            ceiling => ceiling.ceiling(run).map(|found| found.low.or(found.median).unwrap_or(found.rate)),
        }
    }

    fn ceiling(self, run: &Run) -> Option<&Ceiling> {
        match self {
            Figure::MemoryRead => run.ceiling(CeilingKind::MemoryRead, None, CeilingSource::Measured),
            Figure::Compute(dtype) => run.ceiling(CeilingKind::Compute, Some(dtype), CeilingSource::Measured),
            Figure::Decode => None,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::MemoryRead => f.write_str("read"),
            Figure::Compute(dtype) => write!(f, "{dtype}"),
            Figure::Decode => f.write_str("decode"),
        }
    }
}

/// The whole decode step of batch 1 of a run, on one rank.
pub fn decode(run: &Run) -> Option<&Point> {
    let steps = run.points.iter().filter(|point| point.is_plain(Phase::Decode) && point.stage.is_none());
    steps.into_iter().find(|point| (point.batch, point.ranks) == (1, 1))
}

impl Floors {
    /// Those of a profile.
    ///
    /// # Errors
    /// It has none.
    pub fn of_profile(profile: &DeviceProfile) -> Result<Floors> {
        let none = || {
            Failure::input(format!("the profile {} has no floors", profile.name)).hint(
                "run `llmroof measure` on a healthy one and give its run file to --against, or write [floors] in a \
                 profile of yours (--profiles)",
            )
        };
        let floors = profile.floors.as_ref().ok_or_else(none)?;
        let peak = profile.peak.get(&DType::Bf16).ok_or_else(none)?.value;
        let of = [
            (Figure::MemoryRead, profile.memory_bandwidth.value, &floors.memory_read),
            (Figure::Compute(DType::Bf16), peak, &floors.compute_bf16),
            (Figure::Decode, 1.0, &floors.decode),
        ];
        let list = of.into_iter().filter_map(|(figure, reference, fact)| {
            let fact = fact.as_ref()?;
            Some(Floor { figure, reference, share: fact.value, source: fact.source.clone() })
        });
        Ok(Floors { basis: Basis::Datasheet, list: list.collect() })
    }

    /// `1 - tolerance` of what an earlier run measured: its read bandwidth, its peak of the type that it computed
    /// with, and its decode step of batch 1 where it has one.
    ///
    /// # Errors
    /// The run measured nothing, or not what can be believed.
    pub fn of_run(run: &Run, tolerance: f64) -> Result<Floors> {
        let hint = "give a run file that `llmroof measure` wrote on a healthy device";
        // A stage above its roof is blurred; a step above it says that the roofs were measured too low.
        if run.points.iter().any(|point| point.stage.is_none() && point.status == Status::Invalid) {
            return Err(Failure::input("the run has a step above its measured roof").hint(hint));
        }
        // A CPU without instructions for the type multiplies in f32.
        let types = [decode(run).map_or(DType::Bf16, |point| point.activations), DType::F32];
        let computed = types.into_iter().map(Figure::Compute).find(|figure| figure.ceiling(run).is_some());
        let figures = [Some(Figure::MemoryRead), computed, Some(Figure::Decode)];
        let list: Vec<Floor> = figures
            .into_iter()
            .flatten()
            .filter(|_| run.status != RunStatus::Predicted)
            .filter_map(|figure| {
                let source = match figure {
                    Figure::Decode => format!("its share of read in the run of {}", run.created),
                    _ => format!("first quartile of the run of {}", run.created),
                };
                Some(Floor { figure, reference: figure.dependable(run)?, share: 1.0 - tolerance, source })
            })
            .collect();
        if list.is_empty() {
            return Err(Failure::input("the run holds no measured ceilings").hint(hint));
        }
        Ok(Floors { basis: Basis::Run, list })
    }
}
