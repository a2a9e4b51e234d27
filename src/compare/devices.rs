//! One device against another: what the datasheets, the measured ceilings and the results say, side by side.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Interval, Pair, reasons};
use crate::model::DType;
use crate::roofline::{Bound, CeilingKind, CeilingSource, Roofline};
use crate::run::{Key, Run, Status};
use crate::units::{Bytes, BytesPerSec, Flops, FlopsPerSec, Seconds, percent};

/// Two devices side by side. All ratios are of speed, NEW over BASE: above 1, NEW is faster.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Devices {
    /// The device of BASE.
    pub base: String,
    /// The device of NEW.
    pub new: String,
    /// One entry for each pass that both sides have.
    pub passes: Vec<DevicePass>,
}

/// One pass on two devices.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DevicePass {
    /// What explains the step's ratio: `decode batch 1: 2.35x on paper, 2.21x in read bandwidth, 2.17x measured:
    /// memory-bound on both`.
    pub sentence: String,
    /// The step, then its stages.
    pub ratios: Vec<DeviceRatio>,
}

/// One step or stage on two devices.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeviceRatio {
    /// What it is of.
    pub key: Key,
    /// Which roof limits it on BASE.
    pub base_limit: Limit,
    /// Which roof limits it on NEW.
    pub new_limit: Limit,
    /// What it is bound by on BASE; `overhead` where its roof does not explain its time.
    pub base_bound: Bound,
    /// What it is bound by on NEW.
    pub new_bound: Bound,
    /// Speed that the datasheets promise: of the roofs that limit it. Null where either device has no profile.
    pub datasheet: Option<f64>,
    /// Speed that the measured ceilings allow; null where either side measured none.
    pub ceiling: Option<f64>,
    /// Speed measured.
    pub result: f64,
    /// Interval of the speed measured; null without trials on both sides.
    pub interval: Option<Interval>,
    /// Whether either side's result is predicted.
    pub predicted: bool,
}

/// A roof that limits a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Read bandwidth of memory.
    ReadBandwidth,
    /// Arithmetic peak of the data type it computes in.
    ComputePeak,
}

impl Limit {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Limit::ReadBandwidth => "read bandwidth",
            Limit::ComputePeak => "compute peak",
        }
    }
}

/// Ratios that are further apart than this want an explanation.
const APART: f64 = 0.05;

/// All passes that both sides have, on both devices.
pub(super) fn compare(base: &[Run], new: &[Run], pairs: &[Pair]) -> Option<Devices> {
    let (base, new) = (base.first()?, new.first()?);
    let steps = pairs.iter().filter(|pair| pair.key.stage.is_none());
    let passes = steps.filter_map(|step| {
        let of_pass = pairs.iter().filter(|pair| pair.key.same_pass(&step.key));
        let ratios: Vec<DeviceRatio> = of_pass.filter_map(|pair| ratio(base, new, pair)).collect();
        let whole = ratios.iter().find(|ratio| ratio.key.stage.is_none())?;
        Some(DevicePass { sentence: sentence(base, new, whole, step)?, ratios })
    });
    Some(Devices { base: base.device.name.clone(), new: new.device.name.clone(), passes: passes.collect() })
}

/// A run's roofline from one source.
fn roofline(run: &Run, dtype: DType, source: CeilingSource) -> Option<Roofline> {
    Some(Roofline {
        bandwidth: BytesPerSec(run.ceiling(CeilingKind::MemoryRead, None, source)?.rate),
        peak: FlopsPerSec(run.ceiling(CeilingKind::Compute, Some(dtype), source)?.rate),
    })
}

/// What a key's work is made of: a stage is one part, a step its stages.
fn parts(run: &Run, key: &Key) -> Vec<(Flops, Bytes)> {
    let of = |stages: bool| -> Vec<(Flops, Bytes)> {
        run.points
            .iter()
            .filter(|point| {
                let here = point.key();
                if stages { here.stage.is_some() && here.same_pass(key) } else { here == *key }
            })
            .map(|point| (point.flops(), point.bytes()))
            .collect()
    };
    let stages = if key.stage.is_none() { of(true) } else { Vec::new() };
    if stages.is_empty() { of(false) } else { stages }
}

fn ratio(base: &Run, new: &Run, pair: &Pair) -> Option<DeviceRatio> {
    let (on_base, on_new) = (pair.base.as_ref()?, pair.new.as_ref()?);
    let dtype = pair.key.activations;
    let parts = parts(base, &pair.key);
    let shortest =
        |run: &Run, source| Some(roofline(run, dtype, source)?.shortest_of_parts(parts.iter().copied()));
    let speed = |source| Some(shortest(base, source)?.0.0 / shortest(new, source)?.0.0);
    let limit = |run: &Run| {
        let (_, bound) = shortest(run, CeilingSource::Measured)
            .or_else(|| shortest(run, CeilingSource::Datasheet))
            .unwrap_or((Seconds(0.0), Bound::Memory));
        if bound == Bound::Compute { Limit::ComputePeak } else { Limit::ReadBandwidth }
    };
    let predicted = [on_base, on_new].iter().any(|side| side.status == Status::Predicted);
    Some(DeviceRatio {
        key: pair.key.clone(),
        base_limit: limit(base),
        new_limit: limit(new),
        base_bound: on_base.bound,
        new_bound: on_new.bound,
        datasheet: speed(CeilingSource::Datasheet),
        ceiling: speed(CeilingSource::Measured),
        result: on_base.median_seconds / on_new.median_seconds,
        interval: pair.time_interval.map(|time| Interval {
            low: time.high.recip(),
            high: time.low.recip(),
            confidence: time.confidence,
        }),
        predicted,
    })
}

/// `decode batch 1: 2.35x on paper, 2.21x in read bandwidth, 2.17x measured: memory-bound on both`.
fn sentence(base: &Run, new: &Run, ratio: &DeviceRatio, step: &Pair) -> Option<String> {
    let mut ratios = Vec::new();
    if let Some(paper) = ratio.datasheet {
        ratios.push(format!("{paper:.2}x on paper"));
    }
    if let Some(ceiling) = ratio.ceiling {
        let of = if ratio.base_limit == ratio.new_limit {
            ratio.base_limit.name()
        } else {
            "what the measured roofs allow"
        };
        ratios.push(format!("{ceiling:.2}x in {of}"));
    }
    let how = if ratio.predicted { "predicted" } else { "measured" };
    ratios.push(format!("{:.2}x {how}", ratio.result));
    let bound = if ratio.base_bound == ratio.new_bound {
        format!("{}-bound on both", ratio.base_bound.name())
    } else {
        format!("{}-bound on BASE, {}-bound on NEW", ratio.base_bound.name(), ratio.new_bound.name())
    };
    let mut sentence = format!("{}: {}: {bound}", reasons::pass(&ratio.key), ratios.join(", "));
    if let Some(why) = of_the_datasheet(base, new, ratio) {
        sentence.push_str(&format!("; {why}"));
    }
    if let (Some(ceiling), Some(on_base), Some(on_new)) = (ratio.ceiling, &step.base, &step.new)
        && (ratio.result / ceiling - 1.0).abs() > APART
    {
        sentence.push_str(&format!(
            "; BASE reaches {} of its roof, NEW {}",
            percent(on_base.fraction_of_roof),
            percent(on_new.fraction_of_roof)
        ));
    }
    Some(sentence)
}

/// How much of its datasheet each device's ceiling reaches, where that makes a difference.
fn of_the_datasheet(base: &Run, new: &Run, ratio: &DeviceRatio) -> Option<String> {
    if (ratio.ceiling? / ratio.datasheet? - 1.0).abs() <= APART || ratio.base_limit != ratio.new_limit {
        return None;
    }
    let (kind, dtype) = match ratio.base_limit {
        Limit::ReadBandwidth => (CeilingKind::MemoryRead, None),
        Limit::ComputePeak => (CeilingKind::Compute, Some(ratio.key.activations)),
    };
    let share = |run: &Run| {
        let rate = |source| Some(run.ceiling(kind, dtype, source)?.rate);
        Some(percent(rate(CeilingSource::Measured)? / rate(CeilingSource::Datasheet)?))
    };
    Some(format!(
        "the {} of BASE is {} of its datasheet's, that of NEW {}",
        ratio.base_limit.name(),
        share(base)?,
        share(new)?
    ))
}
