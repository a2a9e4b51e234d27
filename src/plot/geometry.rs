//! Places on the canvas, and whether shapes meet.

/// A place on the canvas; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At {
    /// Rightwards.
    pub x: f64,
    /// Downwards.
    pub y: f64,
}

/// A place.
pub const fn at(x: f64, y: f64) -> At {
    At { x, y }
}

impl At {
    /// Distance to another place.
    pub fn distance(self, other: At) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// The place `length` from here on the way to `other`.
    pub fn towards(self, other: At, length: f64) -> At {
        let whole = self.distance(other);
        if whole == 0.0 {
            return self;
        }
        at(self.x + (other.x - self.x) * length / whole, self.y + (other.y - self.y) * length / whole)
    }

    /// Turned around `centre` by `degrees`, clockwise as SVG does.
    pub fn turned(self, centre: At, degrees: f64) -> At {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (dx, dy) = (self.x - centre.x, self.y - centre.y);
        at(centre.x + dx * cos - dy * sin, centre.y + dx * sin + dy * cos)
    }
}

/// A convex outline: a box, turned or not, or with two corners a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    corners: Vec<At>,
    low: At,
    high: At,
}

impl Outline {
    /// The outline with these corners, in order.
    pub fn new(corners: Vec<At>) -> Self {
        let fold = |pick: fn(&At) -> f64, best: fn(f64, f64) -> f64, start: f64| {
            corners.iter().map(pick).fold(start, best)
        };
        let low = at(fold(|c| c.x, f64::min, f64::INFINITY), fold(|c| c.y, f64::min, f64::INFINITY));
        let high = at(fold(|c| c.x, f64::max, f64::NEG_INFINITY), fold(|c| c.y, f64::max, f64::NEG_INFINITY));
        Outline { corners, low, high }
    }

    /// An upright box.
    pub fn rectangle(low: At, high: At) -> Self {
        Self::new(vec![low, at(high.x, low.y), high, at(low.x, high.y)])
    }

    /// A straight line.
    pub fn line(from: At, to: At) -> Self {
        Self::new(vec![from, to])
    }

    /// The upright box around a mark, with a little air.
    pub fn around(centre: At, radius: f64) -> Self {
        Self::rectangle(at(centre.x - radius, centre.y - radius), at(centre.x + radius, centre.y + radius))
    }

    /// The corners in order.
    pub fn corners(&self) -> &[At] {
        &self.corners
    }

    /// The same turned around `centre` by `degrees`.
    pub fn turned(&self, centre: At, degrees: f64) -> Self {
        Self::new(self.corners.iter().map(|c| c.turned(centre, degrees)).collect())
    }

    /// Whether all of it lies within `low` to `high`.
    pub fn within(&self, low: At, high: At) -> bool {
        self.low.x >= low.x && self.low.y >= low.y && self.high.x <= high.x && self.high.y <= high.y
    }

    /// Whether the upright box around it holds this place.
    pub fn holds(&self, place: At) -> bool {
        self.nearest(place) == place
    }

    /// The place in the upright box around it that is nearest to `from`.
    pub fn nearest(&self, from: At) -> At {
        at(from.x.clamp(self.low.x, self.high.x), from.y.clamp(self.low.y, self.high.y))
    }

    /// Whether the two share a place: they do unless a line parallel to one of their sides parts them.
    pub fn meets(&self, other: &Outline) -> bool {
        let apart = self.high.x <= other.low.x
            || other.high.x <= self.low.x
            || self.high.y <= other.low.y
            || other.high.y <= self.low.y;
        // Level and upright lines have no width, so their box may only touch: look closer at those.
        let flat = |o: &Outline| o.low.x == o.high.x || o.low.y == o.high.y;
        if apart && !flat(self) && !flat(other) {
            return false;
        }
        !self.parted_by_a_side_of(self, other) && !self.parted_by_a_side_of(other, other)
    }

    fn parted_by_a_side_of(&self, sides: &Outline, other: &Outline) -> bool {
        (0..sides.corners.len()).any(|i| {
            let (a, b) = (sides.corners[i], sides.corners[(i + 1) % sides.corners.len()]);
            let normal = at(b.y - a.y, a.x - b.x);
            let reach = |outline: &Outline| {
                outline
                    .corners
                    .iter()
                    .map(|c| c.x * normal.x + c.y * normal.y)
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
            };
            let ((low, high), (other_low, other_high)) = (reach(self), reach(other));
            high <= other_low || other_high <= low
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_boxes_that_only_their_upright_boxes_share_do_not_meet() {
        let diagonal = Outline::rectangle(at(0.0, 0.0), at(100.0, 10.0)).turned(at(0.0, 0.0), 45.0);
        assert!(!diagonal.meets(&Outline::rectangle(at(50.0, 0.0), at(70.0, 20.0))));
        assert!(diagonal.meets(&Outline::rectangle(at(30.0, 25.0), at(50.0, 45.0))));
    }

    #[test]
    fn lines_cross_or_pass() {
        let line = Outline::line(at(0.0, 0.0), at(10.0, 10.0));
        assert!(line.meets(&Outline::line(at(0.0, 10.0), at(10.0, 0.0))));
        assert!(!line.meets(&Outline::line(at(0.0, 10.0), at(4.0, 6.0))));
        let upright = Outline::line(at(5.0, -5.0), at(5.0, 50.0));
        assert!(upright.meets(&Outline::rectangle(at(0.0, 0.0), at(10.0, 10.0))));
        assert!(!upright.meets(&Outline::rectangle(at(6.0, 0.0), at(10.0, 10.0))));
    }
}
