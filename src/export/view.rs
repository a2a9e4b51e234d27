//! What people are shown of a run: which rows and columns, in which units, and the lines around them.

use super::grid::Grid;
use super::ways::{Titled, tables};
use super::{cache, gpu, ranks};
use crate::model::Precision;
use crate::roofline::{Ceiling, CeilingKind, CeilingSource};
use crate::run::{Point, Run, RunStatus, Status};
use crate::units::{Seconds, figures, percent, si};
use crate::workload::Phase;

/// A run in words and columns.
pub(super) struct View {
    /// Model and device.
    pub title: String,
    /// Lines above the table.
    pub above: Vec<String>,
    /// The points.
    pub grid: Grid,
    /// Lines below the table.
    pub below: Vec<String>,
    /// More tables.
    pub more: Vec<Titled>,
}

impl View {
    /// The view of a run.
    pub fn of(run: &Run) -> View {
        View { title: title(run), above: above(run), grid: grid(run), below: below(run), more: tables(run) }
    }
}

fn title(run: &Run) -> String {
    let said = match run.status {
        RunStatus::Complete => "",
        RunStatus::Partial => "PARTIAL: ",
        RunStatus::Predicted => "PREDICTED: ",
        RunStatus::Invalid => "INVALID: ",
    };
    format!("{said}{} on {}", run.model.name, run.device.name)
}

fn above(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if let (RunStatus::Predicted, Some(profile)) = (run.status, &run.device.profile) {
        lines.push(format!("predicted from the device profile {profile}: nothing was measured"));
    }
    let precision = run.points.first().map_or(Precision::BF16, Point::precision);
    lines.push(format!(
        "model: {} billion parameters, {}: {} resident, {} streamed per decode step, {} of KV cache per position",
        figures(run.model.parameters() * 1e-9),
        precision.weights,
        run.model.resident_bytes(precision).human(),
        run.model.streamed_bytes(precision).human(),
        run.model.kv_bytes_per_token(precision.kv).human(),
    ));
    if let Some(point) = run.points.iter().find(|point| point.layers_measured < point.layers_total) {
        lines.push(format!(
            "layers: {} of {} measured, times scaled to all",
            point.layers_measured, point.layers_total
        ));
    }
    if let Some(c) = &run.conditions {
        let energy =
            c.energy_source.as_ref().map_or("no energy counter".into(), |e| format!("energy from {e}"));
        let load = c.foreign_load.map_or(String::new(), |l| format!(", {l:.2} cores busy with other work"));
        lines.push(format!(
            "conditions: {}, {}{} weights (seed {}), {energy}{load}",
            c.instruction_set,
            c.threads.map_or(String::new(), |n| format!("{n} threads, ")),
            c.weights_from,
            c.seed
        ));
    }
    lines.extend(gpu::state(run));
    if let Some(v) = &run.verification {
        let passed = if v.passed { "passed" } else { "FAILED" };
        lines.push(format!(
            "verification: {passed}, largest error {:.1e} of {:.1e} allowed ({})",
            v.largest_error, v.bound, v.description
        ));
    }
    if !run.ceilings.is_empty() {
        let all: Vec<String> = run.ceilings.iter().map(ceiling).collect();
        lines.push(format!("ceilings: {}", all.join("; ")));
    }
    if let Some(roofline) = run.roofline() {
        let ridge = figures(roofline.ridge().0);
        lines.push(format!("ridge: {ridge} FLOP/B; work of less intensity is memory-bound"));
    }
    lines
}

fn ceiling(ceiling: &Ceiling) -> String {
    let unit = ceiling.kind.unit();
    let name = ceiling.kind.name().replace('_', " ");
    let name = match (ceiling.kind, ceiling.dtype) {
        (CeilingKind::Compute | CeilingKind::ComputeSustained, Some(dtype)) => format!("{name} {dtype}"),
        _ => name,
    };
    let source = match (ceiling.source, ceiling.low) {
        (CeilingSource::Datasheet, _) => "datasheet".to_string(),
        (CeilingSource::Measured, None) => "measured".to_string(),
        (CeilingSource::Measured, Some(low)) => format!("measured, lower quartile {}", si(low, unit)),
    };
    format!("{name} {} ({source})", si(ceiling.rate, unit))
}

/// Whether the table shows this point: all steps, the stages of prefill and of the smallest decode batch at the first
/// context.
fn shown(point: &Point, smallest: Option<(u32, u32)>) -> bool {
    let pass = Some((point.batch, point.context));
    point.stage.is_none()
        || point.is_plain(Phase::Prefill)
        || (pass == smallest && point.is_plain(Phase::Decode))
}

/// Batch and context of the decode step whose stages are shown.
fn smallest_batch(run: &Run) -> Option<(u32, u32)> {
    let decode = |p: &&Point| p.is_plain(Phase::Decode);
    run.points.iter().filter(decode).map(|p| (p.batch, p.context)).min()
}

/// Whether steps of the run differ in this.
fn differ<T: PartialEq>(run: &Run, phase: Option<Phase>, of: impl Fn(&Point) -> T) -> bool {
    let mut all = run.points.iter().filter(|p| phase.is_none_or(|phase| p.phase == phase)).map(of);
    all.next().is_some_and(|first| all.any(|other| other != first))
}

/// What a pass is called beside its batch, in the table and in notes.
fn pass_name(point: &Point) -> String {
    let pages = point.kv_page.map_or(String::new(), |page| format!(" /{page}"));
    let pass = match point.phase {
        Phase::Decode if point.is_verifying() => format!("decode x {}", point.tokens),
        Phase::Mixed => format!("mixed + {}", point.riding()),
        Phase::Prefill if point.context > point.tokens => format!("chunk of {}", point.tokens),
        phase => phase.to_string(),
    };
    pass + &pages
}

fn grid(run: &Run) -> Grid {
    let measured = run.status != RunStatus::Predicted;
    let energy = run.points.iter().any(|p| p.joules_per_token.is_some());
    let believed = run.points.iter().filter(|p| !p.is_invalid());
    let fastest = believed.map(|p| p.flops_per_second).fold(0.0, f64::max);
    let (flops_unit, per_flop) = if fastest >= 1e13 { ("TFLOP/s", 1e-12) } else { ("GFLOP/s", 1e-9) };

    let mut grid = Grid::default();
    grid.column("phase", false);
    let (types, contexts) =
        (differ(run, None, |p| p.weights), differ(run, Some(Phase::Decode), |p| p.context));
    if types {
        grid.column("weights", false);
    }
    if contexts {
        grid.column("context", true);
        grid.column("KV", true);
    }
    let several_ranks = ranks::several(run);
    for title in ["batch"].into_iter().chain(several_ranks.then_some("ranks")).chain(["tok/s", "ms"]) {
        grid.column(title, true);
    }
    for title in ["share", "GB/s", flops_unit, "FLOP/B", "of roof"] {
        grid.column(title, true);
    }
    grid.column("bound", false);
    // With all of these columns there is no room for the number of samples.
    let counted = measured && !(several_ranks && (types || contexts));
    if measured {
        grid.column("±", true);
    }
    if counted {
        grid.column("samples", true);
    }
    if energy {
        grid.column("J/token", true);
    }

    let smallest = smallest_batch(run);
    for (at, point) in run.points.iter().enumerate().filter(|(_, point)| shown(point, smallest)) {
        let mut row = vec![point.stage.map_or_else(|| pass_name(point), |stage| format!("  {stage}"))];
        if types {
            row.push(point.weights.to_string());
        }
        if contexts {
            row.push(point.context.to_string());
            row.push(if point.stage.is_none() { percent(cache::share(run, point)) } else { String::new() });
        }
        let behind_name = row.len() - 1;
        row.push(point.batch.to_string());
        row.extend(several_ranks.then(|| point.ranks.to_string()));
        let key = row.len();
        row.extend([ranks::rate(point), milliseconds(point.seconds.median)]);
        row.extend([
            percent(point.share_of_step),
            figures(point.bytes_per_second * 1e-9),
            figures(point.flops_per_second * per_flop),
            figures(point.intensity),
            percent(point.fraction_of_roof),
            bound(point),
        ]);
        let ledger = row.len();
        if measured {
            row.push(percent(point.seconds.relative_interval()));
        }
        if counted {
            row.push(point.seconds.count.to_string());
        }
        if energy {
            row.push(point.joules_per_token.map_or("-".into(), figures));
        }
        if point.is_invalid() {
            // A rate that cannot be true would be quoted all the same, were it to be read here.
            let figures = (key..row.len()).filter(|&at| at != ledger - 1);
            figures.for_each(|at| row[at] = "-".into());
        }
        let columns = row.len();
        grid.rows.push(row);
        let last_of_step = run.points.get(at + 1).is_none_or(|next| next.stage.is_none());
        if point.stage.is_some() && last_of_step {
            grid.rows.extend(bubble(run, point).map(|cells| fill(cells, behind_name, columns)));
        }
    }
    grid
}

/// The row of the time that no stage accounts for, below the stages of a measured step; none where one of the times it
/// is a difference of is invalid.
fn bubble(run: &Run, stage: &Point) -> Option<Vec<String>> {
    let mut parts = run.points.iter().filter(|p| p.shares_pass_with(stage));
    if parts.clone().any(Point::is_invalid) {
        return None;
    }
    let step = parts.find(|p| p.stage.is_none())?;
    let seconds = step.bubble_seconds?;
    let several_ranks = ranks::several(run);
    let mut cells = vec!["  (bubble)".into(), step.batch.to_string()];
    cells.extend(several_ranks.then(|| step.ranks.to_string()));
    cells.extend([String::new(), milliseconds(seconds)]);
    cells.push(percent(seconds / step.seconds.median));
    Some(cells)
}

/// Milliseconds; a bubble of overlapping stages may be negative.
fn milliseconds(seconds: f64) -> String {
    if seconds.abs() < 1e-6 { "<0.001".into() } else { figures(seconds * 1e3) }
}

/// The row with so many empty cells behind its name, and as many at its end as it lacks.
fn fill(mut cells: Vec<String>, behind_name: usize, columns: usize) -> Vec<String> {
    cells.splice(1..1, std::iter::repeat_n(String::new(), behind_name));
    cells.resize(columns, String::new());
    cells
}

/// What a point is bound by, unless its figures are not to be believed.
fn bound(point: &Point) -> String {
    match point.status {
        Status::Ok | Status::Predicted => point.bound.name().into(),
        Status::Partial => format!("{} *", point.bound.name()),
        Status::Invalid => "INVALID".into(),
    }
}

fn below(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(r) = &run.request {
        lines.push(format!(
            "request of {} prompt and {} generated tokens, batch 1{}{}: first token after {}, then {} per token; {} \
             in all, {} prefill and {} decode",
            r.prompt,
            r.generate,
            if run.status == RunStatus::Predicted { " (predicted, at 100% of the roofs)" } else { "" },
            match run.all_reduces_from(r.ranks) {
                Some(from) => format!(" on {} ranks (all-reduces {from})", r.ranks),
                None => String::new(),
            },
            Seconds(r.time_to_first_token_seconds).human(),
            Seconds(r.time_per_output_token_seconds).human(),
            Seconds(r.total_seconds).human(),
            percent(r.prefill_share),
            percent(r.decode_share),
        ));
    }
    let context = run.points.iter().find(|p| p.phase == Phase::Decode).map(|p| p.context);
    if let Some(context) = context.filter(|_| !differ(run, Some(Phase::Decode), |p| p.context)) {
        lines.push(format!("decode attends {context} positions"));
    }
    lines.extend(cache::lines(run));
    let smallest = smallest_batch(run);
    if let Some((batch, context)) = smallest.filter(|_| run.points.iter().any(|p| !shown(p, smallest))) {
        lines.push(format!(
            "stages of decode are shown at batch {batch} and context {context}; -o json and -o csv hold all of them"
        ));
    }
    if run.points.iter().any(|p| p.status == Status::Partial) {
        lines.push("* fewer samples than the stopping rule asks for".into());
    }
    lines.extend(ranks::below(run));
    lines.extend(gpu::seen(run));
    lines.extend(run.notes.iter().map(|note| format!("note: {note}")));
    for point in &run.points {
        let stage = point.stage.map_or("step", |stage| stage.name());
        let notes = point.notes.iter();
        lines.extend(notes.map(|n| {
            format!("note: {} batch {}{} {stage}: {n}", pass_name(point), point.batch, point.of_ranks())
        }));
    }
    lines
}
