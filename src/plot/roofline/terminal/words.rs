//! What a console's roofline says in words: the line above, and the roofs and shares below.

use std::collections::BTreeSet;

use ratatui_core::style::Color;
use ratatui_core::text::Span;

use super::{colour, sign};
use crate::plot::roofline::marks::share;
use crate::plot::roofline::{Layer, caption};
use crate::plot::text;
use crate::roofline::CeilingSource;
use crate::run::{Point, Run, RunStatus, Status};
use crate::units::{BytesPerSec, FlopsPerSec, figures};
use crate::workload::Phase;

/// The lines below: what the signs mean, the roofs, and each phase with its shares of them.
pub(super) fn below(layers: &[Layer], width: usize) -> Vec<(String, Color)> {
    let overlay = layers.len() > 1;
    let mut lines = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let whose = if overlay { colour(i, Phase::Decode, true) } else { Color::Reset };
        let name = if overlay { caption::lettered(i, layer.run) + ": " } else { String::new() };
        lines.extend(wrap(&(name + &roof(layer, overlay)), width).into_iter().map(|line| (line, whose)));
        for phase in [Phase::Decode, Phase::Mixed, Phase::Prefill] {
            if let Some(steps) = said(layer, phase) {
                let line = format!("{} {steps}", sign(i, phase, overlay));
                lines.extend(wrap(&line, width).into_iter().map(|line| (line, colour(i, phase, overlay))));
            }
        }
    }
    lines
}

/// `measured roof: DRAM 45.0 GB/s, bf16 470 GFLOP/s, ridge 10.4 FLOP/B`; of several runs in fewer words.
fn roof(layer: &Layer, overlay: bool) -> String {
    let Some(roofs) = layer.roofs() else { return "no roof".into() };
    let from = match roofs.source {
        CeilingSource::Measured if overlay => "",
        CeilingSource::Measured => "measured roof: ",
        CeilingSource::Datasheet if overlay => "datasheet: ",
        CeilingSource::Datasheet => "datasheet roof: ",
    };
    let memory = roofs.memory.map(|m| format!("DRAM {}", BytesPerSec(m.rate).human()));
    let peak = roofs.main_plateau().map(|p| format!("{} {}", p.names(), FlopsPerSec(p.height.rate).human()));
    let ridge = roofs.ridge().map(|(x, _)| format!("ridge {}", x.human()));
    let parts: Vec<String> = memory.into_iter().chain(peak).chain(ridge).collect();
    format!("{from}{}", parts.join(", "))
}

/// `decode, of the roof: batch 1 96%, 2 103%`: the steps of a phase with their share of what the roof allows; of a
/// prediction, which is the roof, their tokens per second.
fn said(layer: &Layer, phase: Phase) -> Option<String> {
    let mut steps: Vec<&Point> = layer.marks.iter().map(|m| m.point).filter(|p| p.phase == phase).collect();
    steps.sort_by_key(|p| (p.ranks, p.batch, p.context, p.tokens));
    let first = *steps.first()?;
    let several = |of: fn(&Point) -> u32| steps.iter().any(|p| of(p) != of(first));
    let (contexts, batches) = (several(|p| p.context), several(|p| p.batch));
    let predicted = steps.iter().all(|p| p.status == Status::Predicted);
    let all = steps.iter().enumerate().map(|(i, p)| {
        let name = match phase {
            Phase::Decode if contexts => format!("{} at {}", p.batch, p.context),
            Phase::Decode => p.batch.to_string(),
            Phase::Prefill if batches => format!("{} × {}", p.batch, p.tokens),
            Phase::Prefill => p.tokens.to_string(),
            Phase::Mixed => format!("{} + {}", p.batch, p.riding()),
        };
        let name = match phase {
            Phase::Decode if i == 0 => format!("batch {name}"),
            Phase::Prefill if i == 0 => format!("{name} tokens"),
            Phase::Mixed if i == 0 => format!("batch {name} tokens of a prompt"),
            _ => name,
        };
        let name = name + &p.of_ranks();
        let value = if predicted { p.tokens_per_second.map(figures) } else { share(p) };
        format!("{name} {}", value.unwrap_or_else(|| "predicted".into()))
    });
    let unit = if predicted { "predicted tok/s" } else { "of the roof" };
    Some(format!("{phase}, {unit}: {}", all.collect::<Vec<_>>().join(", ")))
}

/// The text in lines of this many columns, those after the first indented; at most three.
fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        let last = lines.len() == 3;
        match lines.last_mut() {
            Some(line) if last || columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_string()),
        }
    }
    lines.iter().map(|line| fit(line, width)).collect()
}

/// The work of the runs, without what the lines below say.
pub(super) fn subtitle(runs: &[Run]) -> String {
    let steps = || runs.iter().flat_map(|r| &r.points).filter(|p| p.stage.is_none());
    let all = |phase, of: fn(&Point) -> u32| {
        let values: BTreeSet<u32> = steps().filter(|p| p.is_plain(phase)).map(of).collect();
        let words = values.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        Some(words).filter(|words| !words.is_empty())
    };
    let decode = all(Phase::Decode, |p| p.context).map(|contexts| format!("decode at context {contexts}"));
    let prefill = all(Phase::Prefill, |p| p.tokens).map(|tokens| format!("prefill of {tokens} tokens"));
    let types = steps().next().map(caption::types);
    let status = match runs {
        [run] if run.status == RunStatus::Predicted => Some("predicted".to_string()),
        [run] if run.status == RunStatus::Partial => Some("PARTIAL run".to_string()),
        [run] if run.status == RunStatus::Invalid => Some("INVALID run".to_string()),
        _ => None,
    };
    status.into_iter().chain(decode).chain(prefill).chain(types).collect::<Vec<_>>().join(" · ")
}

fn columns(words: &str) -> usize {
    Span::raw(words.to_string()).width()
}

/// The text cut to this many columns.
pub(super) fn fit(words: &str, width: usize) -> String {
    let clean = text::clean(words);
    if columns(&clean) <= width {
        return clean;
    }
    let mut kept = String::new();
    for c in clean.chars() {
        // Three for the ellipsis in ASCII.
        if columns(&kept) + columns(&c.to_string()) + 3 > width {
            break;
        }
        kept.push(c);
    }
    kept.trim_end().to_string() + "…"
}
