//! Level of detail: a picture of thousands of points shows as many as can be told apart, and says so.

use std::collections::BTreeSet;

use super::Layer;
use crate::plot::scale::Scale;

/// More marks than this are thinned.
const MOST: usize = 600;
/// Side of the squares that hold one mark each, in pixels.
const CELL: f64 = 5.0;

/// Leaves out stages and then marks that lie on others until the picture can be read. Returns what it says about that.
pub(super) fn thin(scale: &Scale, layers: &mut [Layer]) -> Option<String> {
    let count = |layers: &[Layer]| layers.iter().map(|l| l.marks.len()).sum::<usize>();
    let all = count(layers);
    if all <= MOST {
        return None;
    }
    for layer in &mut *layers {
        if layer.marks.iter().any(super::Mark::is_step) {
            layer.marks.retain(super::Mark::is_step);
        }
    }
    let stages = all - count(layers);
    if count(layers) > MOST {
        for layer in &mut *layers {
            let mut taken = BTreeSet::new();
            // Marks come in the order of painting: what is kept is the lowest of a pile.
            layer.marks.retain(|mark| {
                let place = scale.at(mark.point.intensity, mark.point.flops_per_second);
                taken.insert(((place.x / CELL) as i64, (place.y / CELL) as i64, mark.point.phase))
            });
        }
    }
    let shown = count(layers);
    let piled = all - stages - shown;
    let parts = [(stages, "stages"), (piled, "steps that lie on others")];
    let left: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    Some(format!("{shown} of {all} points drawn; left out: {}.", left.join(" and ")))
}
