//! Ways past the memory wall: what batching, narrower weights, speculation, more ranks and more bandwidth are worth, and
//! what eats the rest.
//!
//! Memory bandwidth of shared machines changes between one model in memory and the next, so times that were not taken in
//! turn are not divided by each other. Every step's share of the roof was: a step counts as the shortest time that its
//! bytes and FLOPs allow under one bandwidth, the run's read ceiling, over its share.

mod losses;
mod serving;
mod speculation;

pub use serving::{Mixed, Paged, mixed, paged};
pub use speculation::{Verified, tokens_per_cycle, verified};

use crate::device::DeviceProfile;
use crate::model::DType;
use crate::roofline::Roofline;
use crate::run::{AllReduceFrom, Basis, Point, Run, RunStatus, Way};
use crate::units::{BytesPerSec, FlopsPerSec, Seconds};
use crate::workload::{Phase, Stage, Workload};

/// What a table of ways takes besides a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    /// Devices among which one with more bandwidth is looked for.
    pub devices: Vec<DeviceProfile>,
    /// Dollars for an hour of the device.
    pub dollars_per_hour: Option<f64>,
}

/// Acceptances that speculation is shown at: the chance that a proposed token is what the model itself would have chosen.
pub const ACCEPTANCES: [f64; 3] = [0.6, 0.7, 0.8];

/// A device with this many times the bandwidth is another kind of device.
const MUCH_MORE: f64 = 1.5;

/// A step and what it would take under the run's read ceiling.
#[derive(Clone, Copy)]
struct Step<'a> {
    run: &'a Run,
    point: &'a Point,
    /// Seconds of the step on one rank.
    seconds: f64,
}

impl<'a> Step<'a> {
    fn of(run: &'a Run, point: &'a Point) -> Option<Step<'a>> {
        if point.is_invalid() || point.fraction_of_roof <= 0.0 {
            return None;
        }
        let roof =
            Roofline { bandwidth: run.roofline()?.bandwidth, peak: FlopsPerSec(point.roof_flops_per_second) };
        let seconds = shortest(&run.workload(point), roof).0 / point.fraction_of_roof;
        Some(Step { run, point, seconds })
    }

    fn work(&self) -> Workload {
        self.run.workload(self.point)
    }

    fn bytes(&self) -> f64 {
        self.point.bytes
    }
}

fn shortest(work: &Workload, roof: Roofline) -> Seconds {
    roof.shortest_of_parts(Stage::ALL.map(|stage| work.cost(stage)).map(|cost| (cost.flops, cost.bytes()))).0
}

/// Whole steps of every kind.
fn whole_steps(run: &Run) -> impl Iterator<Item = Step<'_>> {
    run.points.iter().filter(|p| p.stage.is_none()).filter_map(|point| Step::of(run, point))
}

/// Whole decode steps of one new token, and of several, with a contiguous cache.
fn steps(run: &Run) -> impl Iterator<Item = Step<'_>> {
    whole_steps(run).filter(|step| step.point.phase == Phase::Decode && step.point.kv_page.is_none())
}

/// The step that all ways are held against: bf16 weights where there are any, one rank, the smallest batch at the first
/// context.
fn base(run: &Run) -> Option<Step<'_>> {
    let plain = |step: &Step| step.point.tokens == 1 && step.point.ranks == 1;
    steps(run).filter(plain).min_by_key(|s| (s.point.weights != DType::Bf16, s.point.context, s.point.batch))
}

/// One row for each way that the run has something about; none where it has no decode step.
pub fn ways(run: &Run, terms: &Terms) -> Vec<Way> {
    let Some(base) = base(run) else { return Vec::new() };
    let table = Table { base, dollars_per_hour: terms.dollars_per_hour };
    let mut ways = Vec::new();
    let same = |s: &Step| s.point.context == base.point.context;
    let alone = |s: &Step| s.point.tokens == 1 && s.point.ranks == 1 && same(s);
    let base_types = |s: &Step| s.point.precision() == base.point.precision();
    ways.extend(
        steps(run)
            .filter(|s| alone(s) && base_types(s) && s.point.batch > base.point.batch)
            .map(|step| table.batch(step)),
    );
    ways.extend(
        steps(run)
            .filter(|s| alone(s) && !base_types(s) && s.point.batch == base.point.batch)
            .map(|step| table.weights(step)),
    );
    ways.extend(table.speculation());
    ways.extend(
        steps(run)
            .filter(|s| s.point.ranks > 1 && same(s) && s.point.tokens == 1)
            .filter(|s| base_types(s) && s.point.batch == base.point.batch)
            .filter_map(|step| table.ranks(step)),
    );
    ways.extend(faster(run, &terms.devices).and_then(|device| table.bandwidth(device)));
    ways
}

/// The device that has least of those with much more bandwidth than the run's.
fn faster<'a>(run: &Run, devices: &'a [DeviceProfile]) -> Option<&'a DeviceProfile> {
    let enough = MUCH_MORE * run.roofline()?.bandwidth.0;
    let bandwidth = |device: &DeviceProfile| device.memory_bandwidth.value;
    devices
        .iter()
        .filter(|device| bandwidth(device) >= enough)
        .min_by(|a, b| bandwidth(a).total_cmp(&bandwidth(b)))
}

struct Table<'a> {
    base: Step<'a>,
    dollars_per_hour: Option<f64>,
}

impl Table<'_> {
    /// A row. `energy` is joules per token of the step it is of.
    fn way(&self, way: String, ideal: f64, gain: f64, basis: Basis, energy: Option<f64>) -> Way {
        let base_rate = self.base.point.batch as f64 / self.base.seconds;
        let rate = base_rate * gain;
        let predicted = self.base.run.status == RunStatus::Predicted;
        Way {
            way,
            nominal_gain: None,
            ideal_gain: ideal,
            gain,
            basis: if predicted { Basis::Predicted } else { basis },
            eaten_by: Vec::new(),
            tokens_per_second: rate,
            joules_per_million_tokens: energy.map(|joules| joules * 1e6),
            dollars_per_million_tokens: self.dollars_per_hour.map(|dollars| dollars / 3600.0 / rate * 1e6),
        }
    }

    fn batch(&self, step: Step) -> Way {
        let more = f64::from(step.point.batch) / f64::from(self.base.point.batch);
        let ideal = more * self.base.bytes() / step.bytes();
        let gain = more * self.base.seconds / step.seconds;
        let energy = step.point.joules_per_token;
        let mut way = self.way(format!("batch {}", step.point.batch), ideal, gain, Basis::Measured, energy);
        way.nominal_gain = Some(more);
        way.eaten_by = losses::of_batch(&self.base, &step);
        way
    }

    fn weights(&self, step: Step) -> Way {
        let (ideal, gain) = (self.base.bytes() / step.bytes(), self.base.seconds / step.seconds);
        let name = step.point.precision().name();
        let mut way = self.way(name, ideal, gain, Basis::Measured, step.point.joules_per_token);
        let nominal = self.base.point.weights.bytes() / step.point.weights.bytes();
        way.nominal_gain = Some(nominal);
        way.eaten_by = losses::of_weights(&self.base, &step, nominal);
        way
    }

    /// At each acceptance the number of tokens that gains most.
    fn speculation(&self) -> Vec<Way> {
        let base = self.base.point;
        let all = verified(self.base.run);
        let of_base =
            |v: &&Verified| (v.precision, v.batch, v.context) == (base.precision(), base.batch, base.context);
        let row = |acceptance: f64| {
            let gain = |v: &Verified| tokens_per_cycle(acceptance, v.tokens) / v.cycle();
            let best = all.iter().filter(of_base).max_by(|a, b| gain(a).total_cmp(&gain(b)))?;
            let ideal = tokens_per_cycle(acceptance, best.tokens) / best.bytes_ratio;
            let name = format!("{} tokens verified, acceptance {acceptance}", best.tokens);
            let mut way = self.way(name, ideal, gain(best), Basis::Assumed, None);
            way.eaten_by = losses::of_speculation(best);
            Some(way)
        };
        ACCEPTANCES.into_iter().filter_map(row).collect()
    }

    fn ranks(&self, step: Step) -> Option<Way> {
        let (ranks, reduce) = (step.point.ranks, step.point.all_reduce_seconds?);
        let seconds = step.seconds + reduce;
        let name = format!("{ranks} ranks");
        let ideal = self.base.bytes() / step.bytes();
        let basis = match step.point.all_reduce_from? {
            AllReduceFrom::Modelled => Basis::Modelled,
            AllReduceFrom::Measured => Basis::Measured,
        };
        let mut way = self.way(name, ideal, self.base.seconds / seconds, basis, None);
        way.nominal_gain = Some(f64::from(ranks));
        way.dollars_per_million_tokens =
            way.dollars_per_million_tokens.map(|dollars| dollars * f64::from(ranks));
        way.eaten_by = losses::of_ranks(&self.base, &step, reduce / seconds);
        Some(way)
    }

    /// A device at this one's share of the roof.
    fn bandwidth(&self, device: &DeviceProfile) -> Option<Way> {
        let here = self.base.run.roofline()?.bandwidth;
        let roof = Roofline {
            bandwidth: BytesPerSec(device.memory_bandwidth.value),
            peak: device.roofline(DType::Bf16)?.peak,
        };
        let there = shortest(&self.base.work(), roof).0 / self.base.point.fraction_of_roof;
        let name = format!("the bandwidth of {}", device.name);
        let mut way =
            self.way(name, roof.bandwidth.0 / here.0, self.base.seconds / there, Basis::Predicted, None);
        way.dollars_per_million_tokens = None;
        way.eaten_by = vec!["datasheet bandwidth at the share of the roof measured here".into()];
        Some(way)
    }
}
