//! A run computed from a model and a datasheet, without the hardware: what the roofs allow at best.

pub mod arithmetic;
mod explain;
pub mod figure;

pub use explain::explain;

use crate::device::{DeviceProfile, Link};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::request::Sweeps;
use crate::roofline::Roofline;
use crate::run::{
    AllReduceFrom, Device, Draft, DraftStep, Origin, Placement, Point, Run, RunStatus, SCHEMA_VERSION,
    Status, Timing, Tool,
};
use crate::units::{Bytes, Seconds};
use crate::workload::{Phase, Stage, Workload};

/// Predicts the run that `sweeps` asks for: each pass and each stage at the time its datasheet roofs allow, and of
/// several ranks the all-reduces at the time that the device's own link allows.
///
/// # Errors
/// More positions than the model was made for, ranks that do not divide it, or a profile without the peak that it takes.
pub fn predict(model: &ModelSpec, device: &DeviceProfile, sweeps: &Sweeps, origin: Origin) -> Result<Run> {
    predict_over(model, device, device.link().as_ref(), sweeps, origin)
}

/// The same with the all-reduces over this link.
///
/// # Errors
/// The same.
pub fn predict_over(
    model: &ModelSpec,
    device: &DeviceProfile,
    link: Option<&Link>,
    sweeps: &Sweeps,
    origin: Origin,
) -> Result<Run> {
    let mut points = Vec::new();
    for work in sweeps.workloads(model)? {
        points.extend(pass(&work, roofline(device, work.precision)?, device, link));
    }
    let mut notes = vec![format!(
        "every time is the shortest that the datasheet's roofs of {} allow; no kernel reaches all of them",
        device.title
    )];
    notes.extend(Link::note(link, &sweeps.ranks));
    for (ranks, shard) in sweeps.shards(model)? {
        let resident = shard.resident_bytes(Precision::BF16);
        if resident.0 > device.memory.value {
            notes.push(format!(
                "{}{} does not fit: it occupies {}, the device has {}",
                if ranks == 1 { String::new() } else { format!("the shard of one of {ranks} ranks of ") },
                model.name,
                resident.human(),
                Bytes(device.memory.value).human()
            ));
        }
    }
    Ok(Run {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "llmroof".into(), version: env!("CARGO_PKG_VERSION").into() },
        argv: origin.argv,
        created: origin.created,
        status: RunStatus::Predicted,
        host: origin.host,
        device: Device {
            kind: "profile".into(),
            name: device.title.clone(),
            id: None,
            profile: Some(device.name.clone()),
            memory_bytes: device.memory.value,
            cache_bytes: Some(device.cache.value),
        },
        model: model.clone(),
        conditions: None,
        ceilings: device.ceilings(),
        request: sweeps.request(&points),
        points,
        collectives: Vec::new(),
        draft: None,
        ways: Vec::new(),
        verification: None,
        plan: None,
        processes: Vec::new(),
        trials: Vec::new(),
        notes,
    })
}

/// The roofline of a datasheet, under the peak of what products of these types are made of.
fn roofline(device: &DeviceProfile, precision: Precision) -> Result<Roofline> {
    let dtype = precision.multiplied();
    device.roofline(dtype).ok_or_else(|| {
        Failure::input(format!("{} has no {dtype} peak", device.name))
            .hint(format!("add peak.{dtype} to the profile"))
    })
}

/// The draft's decode steps at each batch and context of the sweeps, at the times its roofs allow.
///
/// # Errors
/// More positions than the draft was made for, or a profile without the peak that it takes.
pub fn predict_draft(model: &ModelSpec, device: &DeviceProfile, sweeps: &Sweeps) -> Result<Draft> {
    let own = Sweeps {
        speculate: Vec::new(),
        mix: Vec::new(),
        kv_pages: Vec::new(),
        ranks: vec![1],
        phases: vec![Phase::Decode],
        ..sweeps.clone()
    };
    let first = own.precisions.first().copied();
    let roof = roofline(device, first.unwrap_or(Precision::BF16))?;
    let works = own.workloads(model)?;
    let steps = works.iter().filter(|work| Some(work.precision) == first).map(|work| DraftStep {
        batch: work.batch,
        context: work.context,
        seconds: Stage::ALL
            .map(|stage| work.cost(stage))
            .map(|cost| roof.shortest(cost.flops, cost.bytes()).0.0)
            .iter()
            .sum(),
        flops: work.total().flops.0,
        bytes: work.total().bytes().0,
        fraction_of_roof: 1.0,
        count: 0,
    });
    Ok(Draft { model: model.name.clone(), steps: steps.collect() })
}

/// The whole step, then its seven stages.
fn pass(work: &Workload, roof: Roofline, device: &DeviceProfile, link: Option<&Link>) -> Vec<Point> {
    let times = Stage::ALL.map(|stage| {
        let cost = work.cost(stage);
        roof.shortest(cost.flops, cost.bytes()).0
    });
    let step: Seconds = times.into_iter().sum();
    let place = Placement {
        roof,
        threads: None,
        layers_measured: work.model.layers,
        step_seconds: step.0,
        status: Status::Predicted,
    };
    let modelled = work.all_reduce_seconds(|ranks, bytes| link?.all_reduce(ranks, bytes));
    let mut whole = Point::new(work, None, Timing::computed(step), place)
        .all_reduced(modelled.map(|seconds| (seconds, AllReduceFrom::Modelled)));
    let resident = work.model.resident_bytes(work.precision);
    let needed = resident + kv_cache(work);
    if resident.0 <= device.memory.value && needed.0 > device.memory.value {
        whole.notes.push(format!(
            "does not fit: weights and KV cache occupy {}, the device has {}",
            needed.human(),
            Bytes(device.memory.value).human()
        ));
    }
    let stages =
        Stage::ALL.into_iter().zip(times).map(|(s, t)| Point::new(work, Some(s), Timing::computed(t), place));
    std::iter::once(whole).chain(stages).collect()
}

/// What the keys and values of all sequences occupy.
fn kv_cache(work: &Workload) -> Bytes {
    work.model.kv_bytes_per_token(work.precision.kv) * work.positions()
}
