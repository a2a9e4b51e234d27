//! The labels in the plot area: of roofs, ridges, zones and marks.

use super::figure::{self, Layer};
use super::geometry::{At, Outline, at};
use super::labels::{self, Label, Obstacles, Spot};
use super::marks::Mark;
use super::roofs::{self, Roofs};
use super::scale::Scale;
use super::svg::{Anchor, Canvas, Style, Text};
use super::{text, theme};
use crate::units::{BytesPerSec, FlopsPerSec};

/// Cost of a label over a roof, over the batch path, and over a drop line.
const OVER_ROOF: f64 = 60.0;
const OVER_PATH: f64 = 45.0;
const OVER_DROP: f64 = 25.0;
/// Widest that a label may be.
const WIDEST: f64 = 260.0;

/// Places and draws all labels; returns those of marks that found no room.
pub(super) fn draw(canvas: &mut Canvas, scale: &Scale, layers: &[Layer]) -> Vec<String> {
    let overlay = layers.len() > 1;
    let mut labels: Vec<Label> = Vec::new();
    for layer in layers {
        roof_labels(&mut labels, scale, layer, overlay);
    }
    if let [layer] = layers {
        zone_labels(&mut labels, scale, layer);
    }
    let first_mark = labels.len();
    let marks: Vec<&Mark> = layers.iter().flat_map(|l| &l.marks).collect();
    for mark in &marks {
        labels.push(mark_label(scale, mark, overlay));
    }
    let placed = labels::place(&labels, &obstacles(scale, layers));
    canvas.group("labels");
    for (label, placed) in labels.iter().zip(&placed) {
        if let Some((from, to)) = placed.as_ref().and_then(|p| p.leader) {
            canvas.polyline(&[from, to], Style::line(label.colour, 0.7));
        }
    }
    for placed in placed.iter().flatten() {
        canvas.text(&placed.text);
    }
    canvas.end();
    let missing = marks.iter().zip(&placed[first_mark..]).filter(|(_, placed)| placed.is_none());
    missing
        .map(|(mark, _)| match mark.point.stage {
            Some(_) => format!("{} {}", mark.point.phase, mark.label),
            None => mark.label.clone(),
        })
        .collect()
}

fn obstacles(scale: &Scale, layers: &[Layer]) -> Obstacles {
    let inset = 3.0;
    let mut all = Obstacles {
        low: Some(at(scale.low.x + inset, scale.low.y + inset)),
        high: Some(at(scale.high.x - inset, scale.high.y - inset)),
        ..Obstacles::default()
    };
    let overlay = layers.len() > 1;
    for layer in layers {
        for mark in &layer.marks {
            let centre = place_of(scale, mark);
            all.solid.push(Outline::around(centre, mark.radius() + 0.5));
        }
        for sweep in &layer.sweeps {
            let places: Vec<At> = sweep.iter().map(|p| scale.at(p.intensity, p.flops_per_second)).collect();
            all.soft.extend(places.windows(2).map(|w| (Outline::line(w[0], w[1]), OVER_PATH)));
        }
        for roofs in layer.measured.iter().chain(&layer.datasheet) {
            let memory = roofs.memory.map(|m| m.rate);
            for bandwidth in memory.into_iter().chain(roofs.cache) {
                let line = roofs::slope(scale, bandwidth, roofs.top());
                all.soft.extend(line.map(|(from, to)| (Outline::line(from, to), OVER_ROOF)));
            }
            for (_, plateau) in figure::plateaus(roofs, overlay) {
                let line = roofs::level(scale, roofs.cache.or(memory), plateau.height.rate);
                all.soft.extend(line.map(|(from, to)| (Outline::line(from, to), OVER_ROOF)));
            }
        }
        if let Some(corner) = ridge_corner(scale, layer) {
            let foot = at(corner.x, scale.high.y);
            all.soft.push((Outline::line(corner, foot), OVER_DROP));
            all.solid.push(Outline::around(corner, 4.0));
        }
    }
    all
}

fn place_of(scale: &Scale, mark: &Mark) -> At {
    scale.at(mark.point.intensity, mark.point.flops_per_second)
}

fn ridge_corner(scale: &Scale, layer: &Layer) -> Option<At> {
    let (x, peak) = layer.roofs()?.ridge()?;
    scale.shows(x.0, peak.0).then(|| scale.at(x.0, peak.0))
}

fn words(text: String, size: f64, colour: &'static str) -> Text {
    let text = text::fit(&text, size, false, WIDEST);
    Text { text, at: at(0.0, 0.0), anchor: Anchor::Start, angle: 0.0, size, bold: false, colour }
}

fn roof_labels(labels: &mut Vec<Label>, scale: &Scale, layer: &Layer, overlay: bool) {
    let colour = layer.hue.dark;
    let mut add = |spots: Vec<Spot>, importance| labels.push(Label { spots, importance, colour });
    for roofs in layer.measured.iter().chain(&layer.datasheet) {
        let source = roofs.source_name();
        let main = roofs.main_plateau().map(|p| p.height.rate);
        if let Some(memory) = roofs.memory
            && let Some((from, to)) = roofs::slope(scale, memory.rate, main.or(roofs.top()))
        {
            let name = format!("memory {} {source}", BytesPerSec(memory.rate).human());
            add(labels::along(from, to, 0.55, &words(name, theme::LABEL, colour)), 300.0);
        }
        if let (Some(cache), false) = (roofs.cache, overlay)
            && let Some((from, to)) = roofs::slope(scale, cache, roofs.top())
        {
            let name = format!("last-level cache {} {source}", BytesPerSec(cache).human());
            add(labels::along(from, to, 0.5, &words(name, theme::SMALL, theme::QUIET)), 190.0);
        }
        for (_, plateau) in figure::plateaus(roofs, overlay) {
            let bandwidth = roofs.memory.map(|m| m.rate);
            if let Some((from, to)) = roofs::level(scale, bandwidth, plateau.height.rate) {
                let name =
                    format!("{} {} {source}", plateau.names(), FlopsPerSec(plateau.height.rate).human());
                let to = at(to.x - 6.0, to.y);
                add(labels::along(from, to, 1.0, &words(name, theme::LABEL, colour)), 290.0);
            }
        }
    }
    if let (Some(corner), Some((x, _))) = (ridge_corner(scale, layer), layer.roofs().and_then(Roofs::ridge)) {
        let text = words(format!("ridge {}", x.human()), theme::LABEL, colour);
        let mut spots = Vec::new();
        for row in 0..12 {
            let y = scale.high.y - 8.0 - 16.0 * f64::from(row);
            for (anchor, x, cost) in [(Anchor::Start, corner.x + 6.0, 0.0), (Anchor::End, corner.x - 6.0, 5.0)] {
                let text = Text { at: at(x, y), anchor, ..text.clone() };
                spots.push(Spot { text, cost: cost + 12.0 * f64::from(row), leader: None });
            }
        }
        add(spots, 280.0);
    }
}

/// `memory-bound` and `compute-bound` beside the foot of the ridge, where there is room.
fn zone_labels(labels: &mut Vec<Label>, scale: &Scale, layer: &Layer) {
    let Some(corner) = ridge_corner(scale, layer) else { return };
    let zones = [
        ("← memory-bound", Anchor::End, corner.x - 8.0, theme::BLUE.dark),
        ("compute-bound →", Anchor::Start, corner.x + 8.0, theme::VERMILLION.dark),
    ];
    for (name, anchor, x, colour) in zones {
        let y = scale.high.y - 26.0;
        let text = Text { at: at(x, y), anchor, ..words(name.to_string(), theme::SMALL, colour) };
        labels.push(Label { spots: vec![Spot { text, cost: 0.0, leader: None }], importance: 285.0, colour });
    }
}

fn mark_label(scale: &Scale, mark: &Mark, overlay: bool) -> Label {
    let size = if mark.is_step() { theme::LABEL } else { theme::SMALL };
    let text = Text { bold: mark.is_step() && mark.importance >= 80.0, ..words(mark.label.clone(), size, mark.hue.dark) };
    let farthest = if overlay && !mark.is_step() { 70.0 } else { 210.0 };
    let spots = match scale.shows(mark.point.intensity, mark.point.flops_per_second) {
        true => labels::around(place_of(scale, mark), mark.radius(), farthest, &text),
        false => Vec::new(),
    };
    Label { spots, importance: mark.importance, colour: mark.hue.main }
}
