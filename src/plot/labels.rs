//! Places labels so that none lies on another, on a mark, or outside the plot area.
//!
//! Each label brings the spots it could take, with what each costs in looks. The most important choose
//! first; then all choose again a few times, knowing where the others went. A label far from its mark is
//! tied to it by a leader line. A label without any free spot is left out and handed back.

use super::geometry::{At, Outline, at};
use super::svg::{Anchor, Canvas, Style, Text};
use super::text;
use super::theme::{self, Colour};

/// What labels must never cover, and what they had better not.
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
    /// The surroundings of marks, where a label would be taken for theirs: the mark, its surroundings, the cost.
    pub near: Vec<(At, Outline, f64)>,
}

/// A line that ties a text to what it names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leader {
    /// What is named.
    pub from: At,
    /// How far from there the line begins.
    pub radius: f64,
    /// Where it ends; at the nearest place of the text where not given.
    pub to: Option<At>,
}

/// A place that a label could take.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The lines of the label there.
    pub texts: Vec<Text>,
    /// For each of them which of the label's points it names.
    pub names: Vec<usize>,
    /// How much worse than the best spot it looks.
    pub cost: f64,
    /// One for each text, or none.
    pub leaders: Vec<Leader>,
}

/// A label and its spots.
#[derive(Debug, Clone)]
pub struct Label {
    /// Where it could go.
    pub spots: Vec<Spot>,
    /// Larger chooses first.
    pub importance: f64,
    /// Rather left out than at a higher cost.
    pub most: f64,
    /// Colour of its leader lines.
    pub colour: Colour,
    /// The points that it names, as `RUN.POINT`.
    pub of: Vec<String>,
}

/// A label in its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The label.
    pub texts: Vec<Text>,
    /// For each line which of the label's points it names.
    pub names: Vec<usize>,
    /// Its leader lines, each with the number of its text.
    pub leaders: Vec<(usize, (At, At))>,
    /// The box of each text, and whether a line that would disturb reading runs under it.
    pub boxes: Vec<(Outline, bool)>,
    lines: Vec<Outline>,
}

/// Shorter leader lines are only clutter.
const SHORTEST_LEADER: f64 = 7.0;
const CROSSED_LEADER: f64 = 70.0;
const TANGLE: f64 = 30.0;
const LEADER_OVER_MARK: f64 = 80.0;
const LEADER_OVER_LINE: f64 = 20.0;
/// Lines that cost this much under a text make it hard to read.
const DISTURBING: f64 = 40.0;
/// Between a leader line and its text.
const AIR: f64 = 1.5;
const ROUNDS: usize = 4;
/// More labels than this are not placed: the least important are left out.
const MOST: usize = 90;

/// The place of each label, `None` for those left out, in the order given.
pub fn place(labels: &[Label], obstacles: &Obstacles) -> Vec<Option<Placed>> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| labels[b].importance.total_cmp(&labels[a].importance));
    // Only so many find room, and to look for it takes time with the square of their number.
    order.truncate(MOST);
    let mut spots: Vec<Vec<(f64, Placed)>> = labels.iter().map(|_| Vec::new()).collect();
    for &i in &order {
        spots[i] = possible(&labels[i], obstacles);
    }
    let mut placed: Vec<Option<Placed>> = vec![None; labels.len()];
    for _ in 0..ROUNDS {
        for &i in &order {
            let others: Vec<&Placed> =
                placed.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, p)| p.as_ref()).collect();
            placed[i] = best(&spots[i], &others, labels[i].most);
        }
    }
    placed
}

/// Draws the placed labels, each line of text and its leader line in a group of the point that it names. All grounds
/// and lines come first, so that none lies over a text.
pub fn draw(canvas: &mut Canvas, labels: &[Label], placed: &[Option<Placed>]) {
    let each = || labels.iter().zip(placed).filter_map(|(label, placed)| Some((label, placed.as_ref()?)));
    for (label, placed) in each() {
        for (i, (outline, disturbed)) in placed.boxes.iter().enumerate() {
            let leader = placed.leaders.iter().find(|(of, _)| *of == i).map(|(_, line)| *line);
            if !disturbed && leader.is_none() {
                continue;
            }
            in_group(canvas, label, placed.names.get(i), |canvas| {
                if *disturbed {
                    canvas.polygon(outline.corners(), Style::filled(theme::GROUND));
                }
                canvas.lines(leader.as_slice(), Style::line(label.colour, 0.7));
            });
        }
    }
    for (label, placed) in each() {
        for (i, text) in placed.texts.iter().enumerate() {
            in_group(canvas, label, placed.names.get(i), |canvas| canvas.text(text));
        }
    }
}

/// Draws what belongs to a line of a label, in a group where it names a point.
fn in_group(canvas: &mut Canvas, label: &Label, name: Option<&usize>, inside: impl FnOnce(&mut Canvas)) {
    match name.and_then(|name| label.of.get(*name)) {
        None => inside(canvas),
        Some(point) => {
            canvas.group_of("label", std::slice::from_ref(point));
            inside(canvas);
            canvas.end();
        }
    }
}

/// The spots that the fixed obstacles allow, the cheapest first.
fn possible(label: &Label, obstacles: &Obstacles) -> Vec<(f64, Placed)> {
    let mut spots: Vec<(f64, Placed)> = label
        .spots
        .iter()
        .filter_map(|spot| allowed(spot, obstacles))
        .filter(|s| s.0 <= label.most)
        .collect();
    spots.sort_by(|a, b| a.0.total_cmp(&b.0));
    spots
}

fn allowed(spot: &Spot, obstacles: &Obstacles) -> Option<(f64, Placed)> {
    let boxes: Vec<Outline> = spot.texts.iter().map(Text::outline).collect();
    let meets = |o: &Outline| boxes.iter().any(|b| b.meets(o));
    let inside = match (obstacles.low, obstacles.high) {
        (Some(low), Some(high)) => boxes.iter().all(|b| b.within(low, high)),
        _ => true,
    };
    if !inside || obstacles.solid.iter().any(meets) {
        return None;
    }
    let covered: f64 = obstacles.soft.iter().filter(|(o, _)| meets(o)).map(|(_, cost)| cost).sum();
    let foreign = |mark: &At| !spot.leaders.iter().any(|l| l.from == *mark);
    let near: f64 =
        obstacles.near.iter().filter(|(mark, o, _)| foreign(mark) && meets(o)).map(|(_, _, cost)| cost).sum();
    let drawn: Vec<_> = spot
        .leaders
        .iter()
        .zip(&boxes)
        .enumerate()
        .filter_map(|(i, (leader, text))| {
            let to = leader.to.unwrap_or_else(|| text.nearest(leader.from));
            let length = leader.from.distance(to) - leader.radius;
            let line = (leader.from.towards(to, leader.radius), to.towards(leader.from, AIR));
            (length >= SHORTEST_LEADER).then_some((leader.from, (i, line)))
        })
        .collect();
    let (marks, leaders): (Vec<At>, Vec<_>) = drawn.into_iter().unzip();
    let lines: Vec<Outline> = leaders.iter().map(|&(_, (from, to))| Outline::line(from, to)).collect();
    // A column's own leaders had better neither run through its texts nor cross each other.
    let tangles: usize = lines
        .iter()
        .enumerate()
        .map(|(i, line)| {
            let through = if lines.len() > 1 { boxes.iter().filter(|b| b.meets(line)).count() } else { 0 };
            through + lines[i + 1..].iter().filter(|other| line.meets(other)).count()
        })
        .sum();
    let mut cost = spot.cost + covered + near + TANGLE * tangles as f64;
    for (line, mark) in lines.iter().zip(&marks) {
        // What lies over the mark itself cannot be avoided.
        let over = |o: &Outline| if o.meets(line) && !o.holds(*mark) { 1.0 } else { 0.0 };
        let share = 1.0 / lines.len() as f64;
        cost += share * LEADER_OVER_MARK * obstacles.solid.iter().map(over).sum::<f64>();
        cost += share * LEADER_OVER_LINE * obstacles.soft.iter().map(|(o, _)| over(o)).sum::<f64>();
    }
    let disturbed = |b: &Outline| obstacles.soft.iter().any(|(o, cost)| *cost >= DISTURBING && o.meets(b));
    let boxes = boxes.iter().map(|b| (b.clone(), disturbed(b))).collect();
    Some((cost, Placed { texts: spot.texts.clone(), names: spot.names.clone(), leaders, boxes, lines }))
}

fn best(spots: &[(f64, Placed)], others: &[&Placed], most: f64) -> Option<Placed> {
    let mut best: Option<(f64, &Placed)> = None;
    for (cost, spot) in spots {
        // They come in order of cost and others only add to it.
        if best.is_some_and(|(least, _)| least <= *cost) {
            break;
        }
        let blocked = others.iter().any(|other| {
            spot.boxes.iter().any(|(own, _)| {
                other.boxes.iter().any(|(b, _)| b.meets(own)) || other.lines.iter().any(|l| l.meets(own))
            }) || spot.lines.iter().any(|line| other.boxes.iter().any(|(b, _)| b.meets(line)))
        });
        if blocked {
            continue;
        }
        let crossed = others
            .iter()
            .flat_map(|other| &other.lines)
            .map(|line| spot.lines.iter().filter(|own| own.meets(line)).count())
            .sum::<usize>();
        let cost = cost + CROSSED_LEADER * crossed as f64;
        if cost <= most && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, spot));
        }
    }
    best.map(|(_, spot)| spot.clone())
}

const DIRECTIONS: u32 = 32;
const DISTANCES: [f64; 13] =
    [4.0, 9.0, 16.0, 26.0, 38.0, 52.0, 68.0, 86.0, 106.0, 128.0, 152.0, 180.0, 210.0];

/// Distances and directions (cosine and sine) around a mark, with what each costs.
fn surroundings() -> impl Iterator<Item = (f64, (f64, f64), f64)> {
    DISTANCES.into_iter().flat_map(|distance| {
        (0..DIRECTIONS).map(move |direction| {
            let angle = f64::from(direction) * std::f64::consts::TAU / f64::from(DIRECTIONS);
            let (sin, cos) = angle.sin_cos();
            // People look to the right of a mark and above it first.
            (distance, (cos, sin), distance + 4.0 * (1.0 - cos) + 3.0 * (1.0 + sin))
        })
    })
}

/// Spots around a mark, in all directions and ever further away.
pub fn around(centre: At, radius: f64, text: &Text) -> Vec<Spot> {
    surroundings()
        .map(|(distance, (cos, sin), cost)| {
            let reach = radius + distance;
            let (x, y) = (centre.x + reach * cos, centre.y + reach * sin);
            let anchor = match cos {
                c if c > 0.3 => Anchor::Start,
                c if c < -0.3 => Anchor::End,
                _ => Anchor::Middle,
            };
            // The text's side that faces the mark stands at the spot: its foot above, its head below.
            let baseline = y + text.size * (0.28 + 0.54 * sin);
            let text = Text { at: at(x, baseline), anchor, ..text.clone() };
            let leader = Leader { from: centre, radius: radius + 1.0, to: None };
            Spot { texts: vec![text], names: vec![0], cost, leaders: vec![leader] }
        })
        .collect()
}

/// Spots for the labels of marks that lie too close together to be labelled one by one: a column beside them,
/// in the order of their height, with a leader line to each.
pub fn column(marks: &[(At, f64, Text)]) -> Vec<Spot> {
    let count = marks.len() as f64;
    let centre = at(
        marks.iter().map(|m| m.0.x).sum::<f64>() / count,
        marks.iter().map(|m| m.0.y).sum::<f64>() / count,
    );
    let radius = marks.iter().map(|m| m.0.distance(centre) + m.1).fold(0.0, f64::max);
    // By height; where that does not tell them apart, one of the others may tangle less. A heading stays on top.
    let orders: [fn(&At) -> f64; 3] = [|at| at.y, |at| at.x, |at| -at.x];
    orders
        .iter()
        .enumerate()
        .flat_map(|(i, key)| {
            let mut sorted: Vec<(usize, &(At, f64, Text))> = marks.iter().enumerate().collect();
            sorted.sort_by(|(_, a), (_, b)| b.2.bold.cmp(&a.2.bold).then(key(&a.0).total_cmp(&key(&b.0))));
            stacked(&sorted, centre, radius, 35.0 * i as f64)
        })
        .collect()
}

/// Columns with their rows in this order.
fn stacked(rows: &[(usize, &(At, f64, Text))], centre: At, radius: f64, extra: f64) -> Vec<Spot> {
    let count = rows.len() as f64;
    surroundings()
        // Nearer there is no room for a fan of lines; straight above and below it would be too flat.
        .filter(|(distance, (cos, _), _)| *distance >= 16.0 && cos.abs() > 0.3)
        .map(|(distance, (cos, sin), cost)| {
            let (side, anchor) = if cos > 0.0 { (1.0, Anchor::Start) } else { (-1.0, Anchor::End) };
            let reach = radius + distance;
            let (x, y) = (centre.x + reach * cos, centre.y + reach * sin);
            let mut spot =
                Spot { texts: Vec::new(), names: Vec::new(), cost: cost + extra, leaders: Vec::new() };
            for (row, (name, (from, radius, text))) in rows.iter().enumerate() {
                spot.names.push(*name);
                let pitch = text.size * 1.2;
                // The end of the column that faces the marks stands at the spot.
                let top = y - pitch * (count / 2.0 - sin * (count - 1.0) / 2.0);
                let middle = top + pitch * (row as f64 + 0.5);
                spot.texts.push(Text { at: at(x, middle + 0.36 * text.size), anchor, ..text.clone() });
                let to = Some(at(x - 2.0 * side, middle));
                spot.leaders.push(Leader { from: *from, radius: *radius + 0.5, to });
            }
            spot
        })
        .collect()
}

/// Spots along a line, above it first and then below, as close to `preferred` (0 begins, 1 ends it) as there
/// is room.
pub fn along(from: At, to: At, preferred: f64, text: &Text) -> Vec<Spot> {
    let angle = (to.y - from.y).atan2(to.x - from.x).to_degrees();
    let length = from.distance(to);
    let width = text::width(&text.text, text.size, text.bold);
    let mut spots = Vec::new();
    for step in 0..=40 {
        let share = f64::from(step) / 40.0;
        let on = from.towards(to, share * length);
        for (side, away) in [(0.0, -6.0), (4.0, 6.0 + 0.78 * text.size), (16.0, -20.0)] {
            let place = at(on.x, on.y + away).turned(on, angle);
            for (anchor, off) in [(Anchor::Middle, 0.5), (Anchor::Start, 0.0), (Anchor::End, 1.0)] {
                // Beyond its ends the line would not carry the text, unless it is too short for it anyway.
                let begins = share * length - off * width;
                if width <= length && !(-1.0..=length - width + 1.0).contains(&begins) {
                    continue;
                }
                let cost = side + 80.0 * (share - preferred).abs() + 20.0 * (off - preferred).abs();
                let text = Text { at: place, anchor, angle, ..text.clone() };
                spots.push(Spot { texts: vec![text], names: vec![0], cost, leaders: Vec::new() });
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
            colour: theme::INK.text,
        };
        Label {
            spots: around(spot, 5.0, &text),
            importance: 1.0,
            most: f64::INFINITY,
            colour: theme::INK.text,
            of: Vec::new(),
        }
    }

    #[test]
    fn labels_of_marks_in_one_place_go_apart() {
        let labels: Vec<Label> = (0..8).map(|i| label(&format!("stage {i}"), at(300.0, 300.0))).collect();
        let obstacles = Obstacles {
            low: Some(at(0.0, 0.0)),
            high: Some(at(600.0, 600.0)),
            solid: vec![Outline::around(at(300.0, 300.0), 5.0)],
            ..Obstacles::default()
        };
        let placed: Vec<Placed> = place(&labels, &obstacles).into_iter().flatten().collect();
        assert_eq!(placed.len(), labels.len());
        for (i, a) in placed.iter().enumerate() {
            assert!(placed[i + 1..].iter().all(|b| !a.boxes[0].0.meets(&b.boxes[0].0)), "{:?}", a.texts);
        }
    }

    #[test]
    fn without_room_a_label_is_left_out() {
        let obstacles =
            Obstacles { low: Some(at(0.0, 0.0)), high: Some(at(60.0, 20.0)), ..Obstacles::default() };
        let labels = [label("first", at(5.0, 10.0)), label("a much longer second", at(5.0, 10.0))];
        let placed = place(&labels, &obstacles);
        assert!(placed[0].is_some() && placed[1].is_none());
    }
}
