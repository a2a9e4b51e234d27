//! Which entries the key needs for what was drawn.

use super::{Layer, interval, marks, roof_style};
use crate::plot::caption;
use crate::plot::legend::Sign;
use crate::plot::scale::Scale;
use crate::plot::theme::{self, Hue};
use crate::roofline::CeilingSource;
use crate::workload::Phase;

/// The entries, in the order of reading.
pub(super) fn entries(scale: &Scale, layers: &[Layer]) -> Vec<(Sign, String)> {
    let overlay = layers.len() > 1;
    let mut out: Vec<(Sign, String)> = Vec::new();
    if overlay {
        for (i, layer) in layers.iter().enumerate() {
            out.push((Sign::Swatch(layer.hue.main), caption::lettered(i, layer.run)));
        }
    }
    let hue_of = |phase| -> Hue {
        match phase {
            _ if overlay => theme::INK,
            Phase::Decode => theme::BLUE,
            Phase::Prefill => theme::VERMILLION,
            Phase::Mixed => theme::GREEN,
        }
    };
    let all = || layers.iter().flat_map(|l| &l.marks);
    for phase in [Phase::Decode, Phase::Mixed, Phase::Prefill] {
        let hue = hue_of(phase);
        let sign = |radius, fill, stroke, width| match phase {
            Phase::Decode => Sign::Circle(radius, fill, stroke, width),
            Phase::Prefill => Sign::Diamond(radius, fill, stroke, width),
            Phase::Mixed => Sign::Square(radius, fill, stroke, width),
        };
        let of = || all().filter(move |m| m.point.phase == phase);
        if of().any(|m| m.is_step() && m.is_solid()) {
            let with = if phase == Phase::Mixed { ": decode with a part of a prompt" } else { "" };
            out.push((sign(6.5, hue.main, theme::GROUND, 1.0), format!("{phase} step{with}")));
        }
        if of().any(|m| !m.is_step() && m.is_solid()) {
            let batch = match phase {
                Phase::Decode => {
                    of().map(|m| m.point.batch).min().map_or(String::new(), |b| format!(" (batch {b})"))
                }
                Phase::Prefill | Phase::Mixed => String::new(),
            };
            out.push((sign(4.5, hue.soft, hue.main, 0.9), format!("{phase} stage{batch}")));
        }
        if let Some(what) = marks::hollow_name(of().map(|m| m.point)) {
            out.push((sign(5.5, theme::GROUND, hue.main, 1.6), format!("{phase}, {what}")));
        }
    }
    if layers.iter().flat_map(|l| &l.sweeps).any(|s| s.len() > 1) {
        out.push((Sign::Path(hue_of(path_phase(layers))), path_name(layers).into()));
    }
    if all().any(|m| super::drop_line(scale, m).is_some()) {
        let hue = if overlay { theme::INK } else { theme::BLUE };
        out.push((Sign::Drop(hue.main), "up to what its own roofs allow".into()));
    }
    if all().any(|m| !m.is_step()) {
        out.push((Sign::Sizes, "area: share of the step's time".into()));
    }
    if all().any(|m| interval(scale, m).is_some()) {
        out.push((Sign::Bar(hue_of(Phase::Decode).main), "95% interval".into()));
    }
    let line = |source, main| Sign::Line(roof_style(source, main, theme::INK));
    if layers.iter().any(|l| l.measured.is_some()) {
        if overlay {
            out.push((line(CeilingSource::Measured, true), "measured roof".into()));
        } else {
            out.push((Sign::Band, "measured roof: best, and down to its first quartile".into()));
        }
    }
    if layers.iter().any(|l| l.datasheet.is_some()) {
        out.push((line(CeilingSource::Datasheet, true), "datasheet roof".into()));
    }
    out
}

fn paths<'l>(layers: &'l [Layer]) -> impl Iterator<Item = Phase> + 'l {
    layers.iter().flat_map(|l| &l.sweeps).filter(|s| s.len() > 1).map(|s| s[0].1.phase)
}

fn path_phase(layers: &[Layer]) -> Phase {
    paths(layers).next().unwrap_or(Phase::Decode)
}

fn path_name(layers: &[Layer]) -> &'static str {
    match (paths(layers).any(|p| p == Phase::Decode), paths(layers).any(|p| p == Phase::Prefill)) {
        (true, true) => "by batch size, by prompt length",
        (_, false) => "decode by batch size",
        (false, true) => "prefill by prompt length",
    }
}
