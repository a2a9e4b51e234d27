//! What the picture says in words: title, captions with device, conditions and date, and the description
//! with all numbers for those who cannot see it.

use super::roofline::marks;
use crate::model::DType;
use crate::roofline::CeilingSource;
use crate::run::{Point, Run, RunStatus, Status, of_pages};
use crate::units::{Bytes, FlopsPerSec, Intensity, percent, si};
use crate::workload::Phase;

/// The heading of a roofline.
pub fn title(runs: &[Run]) -> String {
    let plural = if runs.len() > 1 { "s" } else { "" };
    format!("Roofline{plural} of {}", subject(runs))
}

/// What the runs are of: the model and the device, or what they have in common.
pub fn subject(runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let same = |name: fn(&Run) -> &str| runs.iter().all(|r| name(r) == name(first));
    let (model, device) = (&first.model.name, &first.device.name);
    match (same(|r| &r.model.name), same(|r| &r.device.name), runs.len()) {
        (_, _, 1) => format!("{model} on {device}"),
        (true, true, n) => format!("{model} on {device}, {n} runs"),
        (true, false, n) => format!("{model}, {n} runs"),
        (false, true, n) => format!("{n} runs on {device}"),
        (false, false, n) => format!("{n} runs"),
    }
}

/// What a run of several is called in labels.
pub fn letter(run: usize) -> String {
    let letter = u8::try_from(run).ok().filter(|r| *r < 26).map(|r| char::from(b'A' + r).to_string());
    letter.unwrap_or_else(|| (run + 1).to_string())
}

/// What the key says of a run of several.
pub fn lettered(index: usize, run: &Run) -> String {
    format!("{}: {}, {}", letter(index), run.device.name, run.model.name)
}

/// More points than this are not described one by one.
pub const MOST_DESCRIBED: usize = 300;

/// The line under the heading: the work.
pub fn subtitle(runs: &[Run]) -> String {
    let mut parts = Vec::new();
    let steps = || runs.iter().flat_map(|r| &r.points).filter(|p| p.stage.is_none());
    let sorted = |mut values: Vec<u32>| {
        values.sort_unstable();
        values.dedup();
        values.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    };
    let decode = || steps().filter(|p| p.is_plain(Phase::Decode));
    if decode().next().is_some() {
        parts.push(format!(
            "decode of batch {} at context {}",
            sorted(decode().map(|p| p.batch).collect()),
            sorted(decode().map(|p| p.context).collect())
        ));
    }
    let prefill = || steps().filter(|p| p.is_plain(Phase::Prefill));
    if prefill().next().is_some() {
        parts.push(format!("prefill of {} tokens", sorted(prefill().map(|p| p.tokens).collect())));
    }
    let mixed = || steps().filter(|p| p.is_plain(Phase::Mixed));
    if mixed().next().is_some() {
        let riding = sorted(mixed().map(Point::riding).collect());
        parts.push(format!("decode with {riding} tokens of a prompt"));
    }
    let mut weights: Vec<&str> = steps().map(|p| p.weights.name()).collect();
    let mut seen = std::collections::BTreeSet::new();
    weights.retain(|name| seen.insert(*name));
    match (steps().next(), &weights[..]) {
        (Some(point), [_]) => parts.push(types(point)),
        (Some(_), several) => parts.push(format!("{} weights", several.join(", "))),
        (None, _) => {}
    }
    if steps().any(|p| p.ranks > 1) {
        parts.push(format!("one rank's shard of {}", sorted(steps().map(|p| p.ranks).collect())));
    }
    parts.join(" · ")
}

/// The data types of a point.
pub fn types(point: &Point) -> String {
    let all = [point.weights, point.activations, point.kv];
    if all.iter().all(|t| *t == all[0]) {
        return format!("all in {}", all[0]);
    }
    let [weights, activations, kv]: [DType; 3] = all;
    format!("weights {weights}, activations {activations}, KV cache {kv}")
}

/// Device, conditions and date of one run.
pub fn caption(run: &Run) -> String {
    let mut parts = vec![format!("{}, {}", run.model.name, run.device.name)];
    if run.device.name != run.host.cpu && run.status != RunStatus::Predicted {
        parts.push(format!("host {}", run.host.cpu));
    }
    if let Some(c) = &run.conditions {
        let threads = c.threads.map_or(String::new(), |threads| {
            let pinned = if c.pinned_cpus.is_empty() { "" } else { " pinned" };
            let plural = if threads == 1 { "" } else { "s" };
            format!("{threads} thread{plural}{pinned}, ")
        });
        parts.push(threads + &c.instruction_set);
        if let Some(share) = c.huge_page_share {
            parts.push(format!("{} of the weights in huge pages", percent(share)));
        }
        match c.foreign_load {
            Some(load) => parts.push(format!("other processes used {load:.2} cores")),
            None => parts.push("load of other processes unknown".into()),
        }
        parts.push(if c.weights_from == "random" {
            "random weights".into()
        } else {
            format!("weights from {}", c.weights_from)
        });
    }
    let layers = |p: &&Point| p.layers_measured < p.layers_total && p.status != Status::Predicted;
    if let Some(point) = run.points.iter().find(layers) {
        parts.push(format!(
            "{} of {} layers measured, scaled to all",
            point.layers_measured, point.layers_total
        ));
    }
    match &run.verification {
        Some(v) if v.passed => parts.push("kernels verified".into()),
        Some(_) => parts.push("verification FAILED".into()),
        None => {}
    }
    match run.status {
        RunStatus::Complete => {}
        RunStatus::Partial => parts.push("PARTIAL run".into()),
        RunStatus::Predicted => parts.push("predicted from the datasheet".into()),
        RunStatus::Invalid => parts.push("INVALID: something here cannot be true".into()),
    }
    parts.push(format!("{}, {} {}", date(&run.created), run.tool.name, run.tool.version));
    parts.join("; ") + "."
}

/// Where the datasheet's roofs come from, each document once.
pub fn sources(runs: &[Run]) -> Option<String> {
    let mut documents: Vec<&str> = Vec::new();
    for ceiling in runs.iter().flat_map(|r| &r.ceilings) {
        if ceiling.source == CeilingSource::Datasheet && !documents.contains(&ceiling.citation.as_str()) {
            documents.push(&ceiling.citation);
        }
    }
    (!documents.is_empty()).then(|| format!("Datasheet: {}.", documents.join("; ")))
}

/// `2026-11-23T12:52:07.123Z` as `2026-11-23 12:52 UTC`.
pub fn date(created: &str) -> String {
    match (created.get(..10), created.get(10..11), created.get(11..16)) {
        (Some(day), Some("T"), Some(time)) if created.ends_with('Z') => format!("{day} {time} UTC"),
        _ => created.to_string(),
    }
}

/// All numbers of the picture in words.
pub fn description(runs: &[Run]) -> String {
    let mut out = String::from(
        "Log-log roofline: rate in FLOP/s over arithmetic intensity in FLOP per compulsory byte.",
    );
    for run in runs {
        out += &format!(" {}", caption(run));
        for ceiling in &run.ceilings {
            let dtype = ceiling.dtype.map(|d| format!(" {d}")).unwrap_or_default();
            let source = match ceiling.source {
                CeilingSource::Measured => "measured",
                CeilingSource::Datasheet => "datasheet",
            };
            let rate = si(ceiling.rate, ceiling.kind.unit());
            out += &format!(" Roof {}{dtype}, {source}: {rate}.", ceiling.kind.name());
        }
        for point in run.points.iter().take(MOST_DESCRIBED) {
            out += &format!(" {}.", describe(point));
        }
        if let Some(more) = run.points.len().checked_sub(MOST_DESCRIBED).filter(|more| *more > 0) {
            out += &format!(" And {more} more points.");
        }
    }
    if let Some(sources) = sources(runs) {
        out += &format!(" {sources}");
    }
    out
}

/// One point in words.
pub fn describe(point: &Point) -> String {
    let name = match point.stage {
        Some(stage) => format!("{} {stage}", point.phase),
        None => format!("{} step", point.phase),
    };
    let tokens = match point.phase {
        Phase::Decode => String::new(),
        Phase::Prefill => format!(" {} tokens,", point.tokens),
        Phase::Mixed => format!(" with {} of a prompt,", point.riding()),
    };
    let pages = of_pages(point.kv_page);
    let ranks = point.of_ranks();
    let work = format!("{name}, batch {},{tokens} context {}{pages}{ranks}", point.batch, point.context);
    if !marks::drawable(point) {
        return format!(
            "{work}: {} at no intensity that an axis could show, not drawn",
            Bytes(point.bytes).human()
        );
    }
    if point.is_invalid() {
        return format!("{work}: {}, INVALID", Intensity(point.intensity).human());
    }
    let worth = match point.status {
        Status::Ok | Status::Invalid => "",
        Status::Partial => ", few samples",
        Status::Predicted => ", predicted",
    };
    format!(
        "{work}: {}, {}, {} of roof, bound by {}{worth}",
        Intensity(point.intensity).human(),
        FlopsPerSec(point.flops_per_second).human(),
        percent(point.fraction_of_roof),
        point.bound.name()
    )
}
