//! Places labels so that none lies on another, on a mark, or outside the plot area.
//!
//! Each label brings the spots it could take, with what each costs in looks. The most important choose
//! first; then all choose again a few times, knowing where the others went. A label far from its mark is
//! tied to it by a leader line. A label without any free spot is left out and handed back.

use super::geometry::{At, Outline, at};
use super::svg::{Anchor, Text};

/// What a label must never cover, and what it had better not.
#[derive(Debug, Default)]
pub struct Obstacles {
    /// Top left corner of where labels may be.
    pub low: Option<At>,
    /// Bottom right corner of where labels may be.
    pub high: Option<At>,
    /// Never covered: marks.
    pub solid: Vec<Outline>,
    /// Covered at a cost: lines.
    pub soft: Vec<(Outline, f64)>,
}

/// A place that a label could take.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The label there.
    pub text: Text,
    /// How much worse than the best spot it looks.
    pub cost: f64,
    /// From where a leader line comes, and how far from there it begins.
    pub leader: Option<(At, f64)>,
}

/// A label and its spots.
#[derive(Debug, Clone)]
pub struct Label {
    /// Where it could go.
    pub spots: Vec<Spot>,
    /// Larger chooses first.
    pub importance: f64,
    /// Colour of its leader line.
    pub colour: &'static str,
}

/// A label in its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The label.
    pub text: Text,
    /// Its leader line.
    pub leader: Option<(At, At)>,
    outline: Outline,
    line: Option<Outline>,
}

/// Shorter leader lines are only clutter.
const SHORTEST_LEADER: f64 = 7.0;
const CROSSED_LEADER: f64 = 70.0;
const LEADER_OVER_MARK: f64 = 22.0;
const LEADER_OVER_LINE: f64 = 3.0;
/// Air around a text.
const AIR: f64 = 1.5;
const ROUNDS: usize = 4;

/// The place of each label, `None` for those left out, in the order given.
pub fn place(labels: &[Label], obstacles: &Obstacles) -> Vec<Option<Placed>> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| labels[b].importance.total_cmp(&labels[a].importance));
    let spots: Vec<Vec<(f64, Placed)>> = labels.iter().map(|l| possible(l, obstacles)).collect();
    let mut placed: Vec<Option<Placed>> = vec![None; labels.len()];
    for _ in 0..ROUNDS {
        for &i in &order {
            let others: Vec<&Placed> =
                placed.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, p)| p.as_ref()).collect();
            placed[i] = best(&spots[i], &others);
        }
    }
    placed
}

/// The spots that the fixed obstacles allow, the cheapest first.
fn possible(label: &Label, obstacles: &Obstacles) -> Vec<(f64, Placed)> {
    let mut spots: Vec<(f64, Placed)> = label
        .spots
        .iter()
        .filter_map(|spot| {
            let outline = spot.text.outline();
            let inside = match (obstacles.low, obstacles.high) {
                (Some(low), Some(high)) => outline.within(low, high),
                _ => true,
            };
            if !inside || obstacles.solid.iter().any(|o| o.meets(&outline)) {
                return None;
            }
            let mut cost = spot.cost;
            cost += obstacles.soft.iter().filter(|(o, _)| o.meets(&outline)).map(|(_, c)| c).sum::<f64>();
            let leader = spot.leader.and_then(|(from, radius)| {
                let to = outline.nearest(from);
                let length = from.distance(to) - radius;
                (length >= SHORTEST_LEADER).then(|| (from.towards(to, radius), to.towards(from, AIR)))
            });
            let line = leader.map(|(from, to)| Outline::line(from, to));
            if let Some(line) = &line {
                cost += LEADER_OVER_MARK * obstacles.solid.iter().filter(|o| o.meets(line)).count() as f64;
                cost += LEADER_OVER_LINE * obstacles.soft.iter().filter(|(o, _)| o.meets(line)).count() as f64;
            }
            Some((cost, Placed { text: spot.text.clone(), leader, outline, line }))
        })
        .collect();
    spots.sort_by(|a, b| a.0.total_cmp(&b.0));
    spots
}

fn best(spots: &[(f64, Placed)], others: &[&Placed]) -> Option<Placed> {
    let mut best: Option<(f64, &Placed)> = None;
    for (cost, spot) in spots {
        // They come in order of cost and others only add to it.
        if best.is_some_and(|(least, _)| least <= *cost) {
            break;
        }
        let blocked = others.iter().any(|other| {
            other.outline.meets(&spot.outline)
                || other.line.as_ref().is_some_and(|line| line.meets(&spot.outline))
                || spot.line.as_ref().is_some_and(|line| line.meets(&other.outline))
        });
        if blocked {
            continue;
        }
        let crossed = others
            .iter()
            .filter(|other| matches!((&other.line, &spot.line), (Some(a), Some(b)) if a.meets(b)))
            .count();
        let cost = cost + CROSSED_LEADER * crossed as f64;
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, spot));
        }
    }
    best.map(|(_, spot)| spot.clone())
}

/// Spots around a mark, in all directions and ever further away.
pub fn around(centre: At, radius: f64, farthest: f64, text: &Text) -> Vec<Spot> {
    const DIRECTIONS: u32 = 32;
    const DISTANCES: [f64; 13] =
        [4.0, 9.0, 16.0, 26.0, 38.0, 52.0, 68.0, 86.0, 106.0, 128.0, 152.0, 180.0, 210.0];
    let mut spots = Vec::new();
    for distance in DISTANCES.into_iter().filter(|d| *d <= farthest) {
        for direction in 0..DIRECTIONS {
            let angle = f64::from(direction) * std::f64::consts::TAU / f64::from(DIRECTIONS);
            let (sin, cos) = angle.sin_cos();
            let reach = radius + distance;
            let (x, y) = (centre.x + reach * cos, centre.y + reach * sin);
            let anchor = match cos {
                c if c > 0.3 => Anchor::Start,
                c if c < -0.3 => Anchor::End,
                _ => Anchor::Middle,
            };
            // The text's side that faces the mark stands at the spot: its foot above, its head below.
            let baseline = y + text.size * (0.28 + 0.54 * sin);
            // People look to the right of a mark and above it first.
            let cost = distance + 4.0 * (1.0 - cos) + 3.0 * (1.0 + sin);
            let text = Text { at: at(x, baseline), anchor, ..text.clone() };
            spots.push(Spot { text, cost, leader: Some((centre, radius + 1.0)) });
        }
    }
    spots
}

/// Spots along a line, above it first and then below, as close to `preferred` (0 begins, 1 ends it) as there
/// is room.
pub fn along(from: At, to: At, preferred: f64, text: &Text) -> Vec<Spot> {
    let angle = (to.y - from.y).atan2(to.x - from.x).to_degrees();
    let length = from.distance(to);
    let mut spots = Vec::new();
    for step in 0..=40 {
        let share = f64::from(step) / 40.0;
        let on = from.towards(to, share * length);
        for (side, away) in [(0.0, -6.0), (4.0, 6.0 + 0.78 * text.size), (16.0, -20.0)] {
            let place = at(on.x, on.y + away).turned(on, angle);
            for (anchor, off) in [(Anchor::Middle, 0.5), (Anchor::Start, 0.0), (Anchor::End, 1.0)] {
                let cost = side + 80.0 * (share - preferred).abs() + 20.0 * (off - preferred).abs();
                let text = Text { at: place, anchor, angle, ..text.clone() };
                spots.push(Spot { text, cost, leader: None });
            }
        }
    }
    spots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str, spot: At) -> Label {
        let text = Text {
            text: text.into(),
            at: spot,
            anchor: Anchor::Start,
            angle: 0.0,
            size: 11.0,
            bold: false,
            colour: "#000000",
        };
        Label { spots: around(spot, 5.0, 210.0, &text), importance: 1.0, colour: "#000000" }
    }

    #[test]
    fn labels_of_marks_in_one_place_go_apart() {
        let labels: Vec<Label> = (0..12).map(|i| label(&format!("stage {i}"), at(300.0, 300.0))).collect();
        let obstacles = Obstacles {
            low: Some(at(0.0, 0.0)),
            high: Some(at(600.0, 600.0)),
            solid: vec![Outline::around(at(300.0, 300.0), 5.0)],
            soft: Vec::new(),
        };
        let placed: Vec<Placed> = place(&labels, &obstacles).into_iter().flatten().collect();
        assert_eq!(placed.len(), labels.len());
        for (i, a) in placed.iter().enumerate() {
            assert!(placed[i + 1..].iter().all(|b| !a.outline.meets(&b.outline)), "{}", a.text.text);
        }
    }

    #[test]
    fn without_room_a_label_is_left_out() {
        let obstacles = Obstacles { low: Some(at(0.0, 0.0)), high: Some(at(60.0, 20.0)), ..Obstacles::default() };
        let labels = [label("first", at(5.0, 10.0)), label("a much longer second", at(5.0, 10.0))];
        let placed = place(&labels, &obstacles);
        assert!(placed[0].is_some() && placed[1].is_none());
    }
}
