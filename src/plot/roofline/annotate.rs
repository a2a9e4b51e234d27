//! The labels in the plot area: of roofs, ridges, zones and marks.

use super::marks::Mark;
use super::roofs::{self, Roofs};
use super::{Layer, drop_line, plateaus, sustained};
use crate::plot::geometry::{At, Outline, at};
use crate::plot::labels::{self, Label, Obstacles, Spot};
use crate::plot::scale::Scale;
use crate::plot::svg::{Anchor, Canvas, Text};
use crate::plot::text;
use crate::plot::theme::{self, Colour};
use crate::units::{BytesPerSec, FlopsPerSec};

/// Cost of a label over a roof, over the batch path, and over a drop line.
const OVER_ROOF: f64 = 250.0;
const OVER_PATH: f64 = 45.0;
const OVER_DROP: f64 = 10.0;
/// Cost of a label where it would be taken for that of another mark.
const NEAR_MARK: f64 = 14.0;
/// Stages closer than this share a column of labels.
const CLOSE: f64 = 19.0;
/// Cost of labelling only the first of a group.
const ALONE: f64 = 700.0;
/// Cost of a shorter name of a roof.
const SHORTER: f64 = 150.0;
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
    let first = labels.len();
    let mut names: Vec<Vec<&Mark>> = Vec::new();
    for layer in layers {
        for group in groups(scale, &layer.marks) {
            labels.push(mark_label(scale, &group, overlay));
            names.push(group);
        }
    }
    let placed = labels::place(&labels, &obstacles(scale, layers));
    canvas.group("labels");
    labels::draw(canvas, &labels, &placed);
    canvas.end();
    let missing = names.into_iter().zip(&placed[first..]).flat_map(|(group, placed)| {
        let named = placed.as_ref().map_or(0, |p| p.texts.len());
        group.into_iter().skip(named)
    });
    missing
        .map(|mark| match mark.point.stage {
            Some(stage) => format!("{} {stage}", mark.point.phase),
            None => mark.label.clone().unwrap_or_default(),
        })
        .collect()
}

/// Marks that share a label: stages of a phase that lie close together, with their step where it is close too.
fn groups<'m, 'a>(scale: &Scale, marks: &'m [Mark<'a>]) -> Vec<Vec<&'m Mark<'a>>> {
    let mut groups: Vec<Vec<&Mark>> = Vec::new();
    for mark in marks.iter().filter(|m| m.label.is_some()) {
        let centre = place_of(scale, mark);
        let close = |group: &Vec<&Mark>| {
            group.iter().any(|other| {
                other.point.phase == mark.point.phase
                    && other.point.batch == mark.point.batch
                    && place_of(scale, other).distance(centre) < CLOSE
            })
        };
        match groups.iter_mut().find(|g| !mark.is_step() && close(g)) {
            Some(group) => group.push(mark),
            None => groups.push(vec![mark]),
        }
    }
    groups
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
            all.solid.push(Outline::around(centre, mark.reach() + 0.5));
            let drop = drop_line(scale, mark);
            all.soft.extend(drop.map(|(from, to)| (Outline::line(from, to), OVER_DROP)));
            if mark.is_step() {
                all.near.push((centre, Outline::around(centre, mark.radius() + 16.0), NEAR_MARK));
            }
        }
        for sweep in &layer.sweeps {
            let places: Vec<At> =
                sweep.iter().map(|(_, p)| scale.at(p.intensity, p.flops_per_second)).collect();
            all.soft.extend(places.windows(2).map(|w| (Outline::line(w[0], w[1]), OVER_PATH)));
        }
        for roofs in layer.measured.iter().chain(&layer.datasheet) {
            let memory = roofs.memory.map(|m| m.rate);
            for bandwidth in memory.into_iter().chain(roofs.cache) {
                let line = roofs::slope(scale, bandwidth, roofs.top());
                all.soft.extend(line.map(|(from, to)| (Outline::line(from, to), OVER_ROOF)));
            }
            for plateau in plateaus(roofs, overlay).map(|(_, p)| p).chain(sustained(roofs, overlay)) {
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

fn words(text: String, size: f64, colour: Colour) -> Text {
    let text = text::fit(&text, size, false, WIDEST);
    Text { text, at: at(0.0, 0.0), anchor: Anchor::Start, angle: 0.0, size, bold: false, colour }
}

/// Spots along a roof for its name, and for ever shorter ones where that has no room.
fn along(from: At, to: At, preferred: f64, names: [String; 3], size: f64, colour: Colour) -> Vec<Spot> {
    let spots = names.into_iter().zip([0.0, SHORTER, 2.0 * SHORTER]).flat_map(|(name, extra)| {
        let spots = labels::along(from, to, preferred, &words(name, size, colour));
        spots.into_iter().map(move |spot| Spot { cost: spot.cost + extra, ..spot })
    });
    spots.collect()
}

fn roof_labels(labels: &mut Vec<Label>, scale: &Scale, layer: &Layer, overlay: bool) {
    let colour = layer.hue.text;
    let mut add = |spots: Vec<Spot>, importance| {
        labels.push(Label { spots, importance, most: f64::INFINITY, colour, of: Vec::new() });
    };
    for roofs in layer.measured.iter().chain(&layer.datasheet) {
        let source = roofs.source_name();
        let main = roofs.main_plateau().map(|p| p.height.rate);
        if let Some(memory) = roofs.memory
            && let Some((from, to)) = roofs::slope(scale, memory.rate, main.or(roofs.top()))
        {
            let rate = BytesPerSec(memory.rate).human();
            let names = [format!("DRAM {rate} {source}"), format!("{rate} {source}"), rate];
            add(along(from, to, 0.55, names, theme::LABEL, colour), 300.0);
        }
        if let (Some(cache), false) = (roofs.cache, overlay)
            && let Some((from, to)) = roofs::slope(scale, cache, roofs.top())
        {
            let rate = BytesPerSec(cache).human();
            let names = [format!("last-level cache {rate} {source}"), format!("cache {rate}"), rate];
            add(along(from, to, 0.5, names, theme::SMALL, theme::QUIET), 190.0);
        }
        for (_, plateau) in plateaus(roofs, overlay) {
            let bandwidth = roofs.memory.map(|m| m.rate);
            if let Some((from, to)) = roofs::level(scale, bandwidth, plateau.height.rate) {
                let (types, rate) = (plateau.names(), FlopsPerSec(plateau.height.rate).human());
                let names = [format!("{types} {rate} {source}"), format!("{types} {rate}"), rate];
                add(along(from, at(to.x - 6.0, to.y), 1.0, names, theme::LABEL, colour), 290.0);
            }
        }
    }
    for roofs in layer.measured.iter().chain(&layer.datasheet) {
        for plateau in sustained(roofs, overlay) {
            if let Some((from, to)) = roofs::level(scale, roofs.memory.map(|m| m.rate), plateau.height.rate) {
                let rate = FlopsPerSec(plateau.height.rate).human();
                let name = format!("{} sustained {rate} {}", plateau.names(), roofs.source_name());
                add(
                    labels::along(from, at(to.x - 6.0, to.y), 1.0, &words(name, theme::SMALL, colour)),
                    200.0,
                );
            }
        }
    }
    if let (Some(corner), Some((x, _))) = (ridge_corner(scale, layer), layer.roofs().and_then(Roofs::ridge)) {
        let text = words(format!("ridge {}", x.human()), theme::LABEL, colour);
        let mut spots = Vec::new();
        for row in 0..12 {
            let y = scale.high.y - 8.0 - 16.0 * f64::from(row);
            for (anchor, x, cost) in
                [(Anchor::Start, corner.x + 6.0, 0.0), (Anchor::End, corner.x - 6.0, 5.0)]
            {
                let text = Text { at: at(x, y), anchor, ..text.clone() };
                spots.push(Spot {
                    texts: vec![text],
                    names: vec![0],
                    cost: cost + 12.0 * f64::from(row),
                    leaders: Vec::new(),
                });
            }
        }
        add(spots, 280.0);
    }
}

/// `memory-bound` and `compute-bound` beside the foot of the ridge, where there is room.
fn zone_labels(labels: &mut Vec<Label>, scale: &Scale, layer: &Layer) {
    let Some(corner) = ridge_corner(scale, layer) else { return };
    let zones = [
        ("← memory-bound", Anchor::End, corner.x - 8.0, theme::BLUE.text),
        ("compute-bound →", Anchor::Start, corner.x + 8.0, theme::VERMILLION.text),
    ];
    for (name, anchor, x, colour) in zones {
        let y = scale.high.y - 26.0;
        let text = Text { at: at(x, y), anchor, ..words(name.to_string(), theme::SMALL, colour) };
        let spots = vec![Spot { texts: vec![text], names: vec![0], cost: 0.0, leaders: Vec::new() }];
        labels.push(Label { spots, importance: 285.0, most: OVER_PATH, colour, of: Vec::new() });
    }
}

fn mark_label(scale: &Scale, group: &[&Mark], overlay: bool) -> Label {
    let text = |mark: &Mark| {
        let size = if mark.is_step() { theme::LABEL } else { theme::SMALL };
        let bold = mark.is_step() && mark.importance >= 80.0;
        Text { bold, ..words(mark.label.clone().unwrap_or_default(), size, mark.hue.text) }
    };
    let visible = || group.iter().filter(|m| scale.shows(m.point.intensity, m.point.flops_per_second));
    let shown: Vec<(At, f64, Text)> = visible().map(|m| (place_of(scale, m), m.radius(), text(m))).collect();
    let mut spots = match shown.as_slice() {
        [] | [_] => Vec::new(),
        several => labels::column(several),
    };
    if let [(centre, radius, text), others @ ..] = shown.as_slice() {
        // Rather the first alone than none; all of the group is worth a long way.
        let alone = if others.is_empty() { 0.0 } else { ALONE };
        spots.extend(
            labels::around(*centre, *radius, text).into_iter().map(|s| Spot { cost: s.cost + alone, ..s }),
        );
    }
    let of = visible().map(|m| m.id.clone()).collect();
    // In an overlay the stages and batch sizes of one run must not litter the others.
    let most = match (overlay, group[0].is_step(), group[0].importance >= 80.0) {
        (true, false, _) => 90.0,
        (true, true, false) => 60.0,
        _ => f64::INFINITY,
    };
    Label { spots, importance: group[0].importance, most, colour: group[0].hue.main, of }
}
