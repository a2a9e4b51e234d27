//! The roofs of a run as lines: the slanted memory roof, a plateau for each data type, and their ridge.

use crate::model::DType;
use crate::plot::geometry::At;
use crate::plot::scale::Scale;
use crate::roofline::{CeilingKind, CeilingSource};
use crate::run::Run;
use crate::units::{BytesPerSec, FlopsPerSec, Intensity};

/// A rate and how low it fell during the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Height {
    /// The ceiling itself.
    pub rate: f64,
    /// How low it fell; the same where that is not known.
    pub low: f64,
}

/// A level roof: the arithmetic peak of one data type, or of several that have the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Plateau {
    /// The data types.
    pub dtypes: Vec<DType>,
    /// FLOP/s.
    pub height: Height,
}

/// All roofs from one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofs {
    /// Measured, or the datasheet's.
    pub source: CeilingSource,
    /// Memory bandwidth in bytes per second.
    pub memory: Option<Height>,
    /// Last-level cache bandwidth in bytes per second.
    pub cache: Option<f64>,
    /// Plateaus, the highest first.
    pub plateaus: Vec<Plateau>,
    /// What heat and power leave of them after a while, the highest first.
    pub sustained: Vec<Plateau>,
    /// Which plateau belongs to the data type that the run computed with.
    pub main: Option<usize>,
}

/// Rates outside of this cannot be a machine's and would stretch the axes beyond use.
pub const CREDIBLE: std::ops::RangeInclusive<f64> = 1e3..=1e24;

/// Dashes of a sustained peak.
pub const SUSTAINED_DASH: &str = "9 3 2 3";
/// Two peaks closer than this (in natural logarithms) are one line to the eye.
pub const INDISTINGUISHABLE: f64 = 0.01;

impl Roofs {
    /// The run's roofs from this source; `None` where it has none.
    pub fn of(run: &Run, source: CeilingSource) -> Option<Roofs> {
        let height = |kind| {
            run.ceilings
                .iter()
                .find(|c| c.kind == kind && c.source == source && CREDIBLE.contains(&c.rate))
                .map(|c| Height { rate: c.rate, low: c.low.unwrap_or(c.rate).min(c.rate) })
        };
        let plateaus = plateaus_of(run, CeilingKind::Compute, source);
        let used = run.points.first().map_or(DType::Bf16, |p| p.activations);
        let main = plateaus.iter().position(|p| p.dtypes.contains(&used)).or(match plateaus.len() {
            0 => None,
            _ => Some(0),
        });
        let roofs = Roofs {
            source,
            memory: height(CeilingKind::MemoryRead),
            cache: height(CeilingKind::CacheRead).map(|h| h.rate),
            plateaus,
            sustained: plateaus_of(run, CeilingKind::ComputeSustained, source),
            main,
        };
        (roofs.memory.is_some() || !roofs.plateaus.is_empty()).then_some(roofs)
    }

    /// The plateau of the data type that the run computed with.
    pub fn main_plateau(&self) -> Option<&Plateau> {
        self.plateaus.get(self.main?)
    }

    /// Where the memory roof and the main plateau meet.
    pub fn ridge(&self) -> Option<(Intensity, FlopsPerSec)> {
        let peak = FlopsPerSec(self.main_plateau()?.height.rate);
        Some((peak / BytesPerSec(self.memory?.rate), peak))
    }

    /// The highest rate of any plateau.
    pub fn top(&self) -> Option<f64> {
        self.plateaus.first().map(|p| p.height.rate)
    }

    /// `measured` or `datasheet`.
    pub fn source_name(&self) -> &'static str {
        match self.source {
            CeilingSource::Measured => "measured",
            CeilingSource::Datasheet => "datasheet",
        }
    }
}

/// The run's peaks of this kind, equal ones as one, the highest first.
fn plateaus_of(run: &Run, kind: CeilingKind, source: CeilingSource) -> Vec<Plateau> {
    let mut plateaus: Vec<Plateau> = Vec::new();
    for ceiling in run.ceilings.iter().filter(|c| c.kind == kind && c.source == source) {
        let Some(dtype) = ceiling.dtype.filter(|_| CREDIBLE.contains(&ceiling.rate)) else { continue };
        match plateaus.iter_mut().find(|p| p.height.rate == ceiling.rate) {
            Some(same) => same.dtypes.push(dtype),
            None => plateaus.push(Plateau {
                dtypes: vec![dtype],
                height: Height {
                    rate: ceiling.rate,
                    low: ceiling.low.unwrap_or(ceiling.rate).min(ceiling.rate),
                },
            }),
        }
    }
    plateaus.sort_by(|a, b| b.height.rate.total_cmp(&a.height.rate));
    plateaus
}

impl Plateau {
    /// Its data types: `bf16, f16`.
    pub fn names(&self) -> String {
        self.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
    }
}

/// The visible part of the line of a bandwidth, up to where it meets `peak`.
pub fn slope(scale: &Scale, bandwidth: f64, peak: Option<f64>) -> Option<(At, At)> {
    let top = peak.unwrap_or(f64::INFINITY).min(scale.y.high);
    let from = scale.x.low.max(scale.y.low / bandwidth);
    let to = scale.x.high.min(top / bandwidth);
    (from < to).then(|| (scale.at(from, from * bandwidth), scale.at(to, to * bandwidth)))
}

/// The visible part of a plateau, from where it meets the bandwidth.
pub fn level(scale: &Scale, bandwidth: Option<f64>, rate: f64) -> Option<(At, At)> {
    let from = bandwidth.map_or(scale.x.low, |bandwidth| (rate / bandwidth).max(scale.x.low));
    (from < scale.x.high && scale.y.holds(rate)).then(|| (scale.at(from, rate), scale.at(scale.x.high, rate)))
}

/// Corners of the area between the roof at its best and the roof where it fell lowest.
pub fn band(scale: &Scale, memory: Height, peak: Height) -> Vec<At> {
    let edge = |bandwidth: f64, peak: f64| {
        let ridge = (peak / bandwidth).clamp(scale.x.low, scale.x.high);
        [scale.x.low, ridge, scale.x.high].map(|x| scale.at(x, (x * bandwidth).min(peak)))
    };
    let lower = edge(memory.low, peak.low);
    edge(memory.rate, peak.rate).into_iter().chain(lower.into_iter().rev()).collect()
}

/// Corners of the area under the roof between two intensities.
pub fn under(scale: &Scale, bandwidth: f64, peak: f64, from: f64, to: f64) -> Vec<At> {
    let (from, to) = (from.clamp(scale.x.low, scale.x.high), to.clamp(scale.x.low, scale.x.high));
    let floor = scale.y.low.min(from * bandwidth);
    [(from, floor), (from, (from * bandwidth).min(peak)), (to, (to * bandwidth).min(peak)), (to, floor)]
        .map(|(x, y)| scale.at(x, y))
        .to_vec()
}
