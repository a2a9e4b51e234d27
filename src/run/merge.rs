//! A run that goes on in another process: its earlier part and what was measured since, as one.

use super::{AllReduceFrom, Conditions, Gpu, Point, PointTrial, Run, Status, Timing};
use crate::roofline::{Bound, Ceiling, CeilingSource};
use crate::stats;
use crate::units::Seconds;

/// `before` with what `now` measured after it, both of the same plan and under the same conditions. The roofs of a
/// datasheet, the request and the status are `now`'s business.
pub fn merge(before: &Run, mut now: Run) -> Run {
    let offset = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (trials, processes) = (offset(before.trials.len()), offset(before.processes.len()));
    for trial in &mut now.trials {
        trial.process += processes;
    }
    for point in &mut now.points {
        for trial in &mut point.trials {
            trial.trial += trials;
        }
    }
    let mut merged = before.clone();
    merged.trials.append(&mut now.trials);
    merged.processes.append(&mut now.processes);
    merged.collectives.append(&mut now.collectives);
    merged.points = points(&before.points, now.points);
    merged.ceilings = ceilings(&before.ceilings, now.ceilings);
    merged.conditions = match (merged.conditions, now.conditions) {
        (Some(before_then), Some(since)) => Some(conditions(before_then, since)),
        (one, other) => one.or(other),
    };
    merged.verification = now.verification.or(merged.verification);
    merged.notes = before.notes.iter().map(|note| earlier(note)).chain(now.notes).collect();
    merged.notes.dedup();
    merged.status = now.status;
    merged
}

/// What an earlier process said of itself stays its own.
fn earlier(note: &str) -> String {
    const MARK: &str = "an earlier process: ";
    if note.starts_with(MARK) { note.into() } else { format!("{MARK}{note}") }
}

fn points(before: &[Point], now: Vec<Point>) -> Vec<Point> {
    let mut merged: Vec<Point> = before.to_vec();
    for new in now {
        match merged.iter_mut().find(|old| old.key() == new.key()) {
            Some(old) => *old = join(old, new),
            None => merged.push(new),
        }
    }
    // In the order people read: type by type and ranks by ranks as they came, prefill, then decode by batch.
    let held = |p: &Point| (p.precision(), p.ranks);
    let order: Vec<_> = merged.iter().map(held).collect();
    merged.sort_by_key(|p| (order.iter().position(|of| *of == held(p)), p.phase, p.batch));
    share_out(&mut merged);
    merged
}

/// One point of the trials of both.
fn join(old: &Point, new: Point) -> Point {
    let samples: Vec<Vec<f64>> =
        old.seconds.by_trial().chain(new.seconds.by_trial()).map(<[f64]>::to_vec).collect();
    let Some(mut seconds) = Timing::of(&samples) else { return new };
    let new = keep_measured_all_reduces(old, new);
    seconds.stopped_by = new.seconds.stopped_by;
    let trials: Vec<PointTrial> = old.trials.iter().chain(&new.trials).cloned().collect();
    let median =
        |of: fn(&PointTrial) -> Option<f64>| stats::median(&trials.iter().filter_map(of).collect::<Vec<_>>());
    let mut notes = old.notes.clone();
    notes.extend(new.notes.iter().filter(|note| !old.notes.contains(note)).cloned());
    let fraction = median(|trial| trial.fraction_of_roof).unwrap_or(new.fraction_of_roof);
    let sum = |of: fn(&Point) -> Option<u32>| match (of(old), of(&new)) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let mean = |of: fn(&Point) -> Option<f64>| match (of(old), of(&new)) {
        (Some(a), Some(b)) => Some((a + b) / 2.0),
        (a, b) => a.or(b),
    };
    let time = seconds.median;
    Point {
        tokens_per_second: new.tokens_per_second.and_then(|_| new.rate_at(time)),
        bytes_per_second: new.bytes / time,
        flops_per_second: new.flops / time,
        roof_bytes_per_second: median(|t| t.roof_bytes_per_second).unwrap_or(new.roof_bytes_per_second),
        roof_flops_per_second: median(|t| t.roof_flops_per_second).unwrap_or(new.roof_flops_per_second),
        fraction_of_roof: fraction,
        attainable_flops_per_second: new.flops / time / fraction,
        // Where the two disagree, one of them was bound by overhead: the share of the roof decides as for any point.
        bound: if old.bound == Bound::Overhead && fraction >= crate::roofline::EXPLAINED {
            new.bound
        } else {
            old.bound
        },
        bubble_seconds: median(|trial| trial.bubble_seconds).or(new.bubble_seconds),
        joules_per_token: old.joules_per_token.or(new.joules_per_token),
        witnessed_bytes: old.witnessed_bytes.or(new.witnessed_bytes),
        tensor_activity: old.tensor_activity.or(new.tensor_activity),
        wall_seconds: mean(|point| point.wall_seconds),
        sm_clock_hz: median(|trial| trial.sm_clock_hz).or(new.sm_clock_hz),
        throttled_samples: sum(|point| point.throttled_samples),
        status: worse(old.status, new.status),
        gemm: gemm(old, &new, &mut notes),
        notes,
        trials,
        seconds,
        ..new
    }
}

/// The later point with the earlier one's all-reduces where these alone were measured.
fn keep_measured_all_reduces(old: &Point, new: Point) -> Point {
    let measured = |point: &Point| point.all_reduce_from == Some(AllReduceFrom::Measured);
    match old.all_reduce_seconds {
        Some(seconds) if measured(old) && !measured(&new) => {
            new.all_reduced(Some((Seconds(seconds), AllReduceFrom::Measured)))
        }
        _ => new,
    }
}

fn gemm(old: &Point, new: &Point, notes: &mut Vec<String>) -> Option<String> {
    if let (Some(a), Some(b)) = (&old.gemm, &new.gemm)
        && a != b
    {
        let note = format!("the trials of another process ran their products of many rows by {b}, not {a}");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    old.gemm.clone().or_else(|| new.gemm.clone())
}

/// Invalid stays invalid; fewer samples than the rule asks for are made up by those of the other.
fn worse(a: Status, b: Status) -> Status {
    match (a, b) {
        (Status::Invalid, _) | (_, Status::Invalid) => Status::Invalid,
        (Status::Partial, Status::Partial) => Status::Partial,
        _ => Status::Ok,
    }
}

/// Each stage's share of its step's new time.
fn share_out(points: &mut [Point]) {
    let steps: Vec<(Point, f64)> = points
        .iter()
        .filter(|point| point.stage.is_none())
        .map(|step| (step.clone(), step.seconds.median))
        .collect();
    for point in points {
        let step = steps.iter().find(|(step, _)| step.key().same_pass(&point.key()));
        if let Some((_, seconds)) = step {
            point.share_of_step = point.seconds.median / seconds;
        }
    }
}

/// Measured ceilings of the windows of both; a datasheet's are left to whoever knows the profile.
fn ceilings(before: &[Ceiling], now: Vec<Ceiling>) -> Vec<Ceiling> {
    let mut merged: Vec<Ceiling> =
        before.iter().filter(|ceiling| ceiling.source == CeilingSource::Measured).cloned().collect();
    for new in now.into_iter().filter(|ceiling| ceiling.source == CeilingSource::Measured) {
        match merged.iter_mut().find(|old| (old.kind, old.dtype) == (new.kind, new.dtype)) {
            Some(old) => {
                old.samples.extend(new.samples);
                *old = Ceiling::measured(old.kind, old.dtype, new.citation, std::mem::take(&mut old.samples))
                    .unwrap_or_else(|| old.clone());
            }
            None => merged.push(new),
        }
    }
    merged
}

fn conditions(before: Conditions, since: Conditions) -> Conditions {
    let wall = before.wall_seconds + since.wall_seconds;
    let foreign_load = match (before.foreign_load, since.foreign_load) {
        (Some(a), Some(b)) if wall > 0.0 => Some((a * before.wall_seconds + b * since.wall_seconds) / wall),
        (a, b) => a.or(b),
    };
    Conditions {
        foreign_load,
        budget_seconds: before.budget_seconds + since.budget_seconds,
        gpu: match (before.gpu, since.gpu) {
            (Some(old), Some(new)) => Some(gpu(old, new, before.wall_seconds)),
            (old, new) => old.or(new),
        },
        wall_seconds: wall,
        ..since
    }
}

/// The GPU as it was first found; readings of the later process follow on the time that was measured, not on the clock
/// of the wall.
fn gpu(old: Gpu, new: Gpu, seconds: f64) -> Gpu {
    let mut merged = old;
    merged.readings.extend(new.readings.into_iter().map(|mut reading| {
        reading.seconds += seconds;
        reading
    }));
    for kernel in new.kernels {
        if !merged.kernels.iter().any(|known| known.name == kernel.name) {
            merged.kernels.push(kernel);
        }
    }
    merged.other_processes = merged.other_processes.max(new.other_processes);
    merged.graph_node_seconds = merged.graph_node_seconds.or(new.graph_node_seconds);
    merged.graph_launch_seconds = merged.graph_launch_seconds.or(new.graph_launch_seconds);
    merged.unavailable.extend(new.unavailable);
    merged
}
