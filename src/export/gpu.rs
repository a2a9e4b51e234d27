//! What people are shown of a GPU: its state above the table, what host and counters saw below it.

use crate::run::{Gpu, Point, Run};
use crate::units::{Bytes, Seconds, figures, percent};
use crate::workload::Phase;

/// Host time that exceeds the device's by more than this share is worth a line.
const LONGER: f64 = 1.01;

/// Driver, limits, clocks, kernels and the cost of launching.
pub(super) fn state(run: &Run) -> Option<String> {
    let gpu = run.conditions.as_ref()?.gpu.as_ref()?;
    let mut parts = Vec::new();
    parts.extend(gpu.driver.as_ref().map(|version| format!("driver {version}")));
    parts.push(format!("CUDA {}", gpu.cuda));
    parts.push(format!("compute capability {}", gpu.capability));
    parts.extend(gpu.ecc.map(|on| format!("ECC {}", if on { "on" } else { "off" })));
    parts.extend(gpu.mig.filter(|&on| on).map(|_| "MIG on".into()));
    parts.extend(gpu.power_limit_watts.map(|watts| format!("{} W limit", figures(watts))));
    parts.extend(gpu.idle_watts.map(|watts| format!("{} W idle", figures(watts))));
    parts.extend(clock(run).map(|hertz| format!("{:.0} MHz median", hertz * 1e-6)));
    let targets = distinct(gpu.kernels.iter().map(|kernel| kernel.target.as_str()));
    if !targets.is_empty() {
        parts.push(format!("kernels {}{}", targets.join(" + "), spills(gpu)));
    }
    let gemm = distinct(run.points.iter().filter_map(|point| point.gemm.as_deref()));
    if !gemm.is_empty() {
        parts.push(format!("products of many rows by {}", gemm.join(" + ")));
    }
    let mut line = format!("GPU: {}", parts.join(", "));
    if let Some(launch) = gpu.graph_launch_seconds {
        line += &format!("; {} to launch a graph", Seconds(launch).human());
    }
    if let Some(node) = gpu.graph_node_seconds {
        line += &format!("; {} for one more kernel in it", Seconds(node).human());
    }
    Some(line)
}

/// Kernels whose registers did not suffice.
fn spills(gpu: &Gpu) -> String {
    match gpu.kernels.iter().filter(|kernel| kernel.local_bytes > 0).count() {
        0 => String::new(),
        n => format!(" ({n} of {} use local memory)", gpu.kernels.len()),
    }
}

/// The middle of the steps' clocks.
fn clock(run: &Run) -> Option<f64> {
    let mut clocks: Vec<f64> = steps(run).filter_map(|step| step.sm_clock_hz).collect();
    clocks.sort_by(f64::total_cmp);
    clocks.get(clocks.len() / 2).copied()
}

/// What the host's clock and the GPU's counters saw of whole steps that are to be believed.
pub(super) fn seen(run: &Run) -> Vec<String> {
    let longer: Vec<String> = steps(run)
        .filter_map(|step| Some((step, step.wall_seconds?)))
        .filter(|(step, wall)| *wall > LONGER * step.seconds.median)
        .map(|(step, wall)| {
            let share = percent(wall / step.seconds.median - 1.0);
            format!("{} {} ({share} longer)", name(step), Seconds(wall).human())
        })
        .collect();
    let traffic: Vec<String> = steps(run)
        .filter_map(|step| Some((step, step.witnessed_bytes?)))
        .map(|(step, bytes)| {
            let (human, share) = (Bytes(bytes).human(), figures(bytes / step.bytes));
            format!("{} {human}, {share} of the compulsory", name(step))
        })
        .collect();
    let busy: Vec<String> = steps(run)
        .filter_map(|step| Some(format!("{} {}", name(step), percent(step.tensor_activity?))))
        .collect();
    let mut lines = Vec::new();
    for (what, of) in [
        ("by the host's clock, launch included", longer),
        ("memory traffic by the GPU's counters", traffic),
        ("matrix units busy", busy),
    ] {
        if !of.is_empty() {
            lines.push(format!("{what}: {}", of.join("; ")));
        }
    }
    lines
}

fn steps(run: &Run) -> impl Iterator<Item = &Point> {
    run.points.iter().filter(|point| point.stage.is_none() && !point.is_invalid())
}

/// `prefill`, `decode batch 8`.
fn name(step: &Point) -> String {
    match step.phase {
        Phase::Prefill => "prefill".into(),
        Phase::Decode => format!("decode batch {}", step.batch),
        Phase::Mixed => format!("mixed batch {}", step.batch),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}
