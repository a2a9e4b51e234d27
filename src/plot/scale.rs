//! The two logarithmic axes: which ranges they show, where a value lies on the canvas, and the ticks.

use plotters::coord::CoordTranslate;
use plotters::prelude::{Cartesian2d, IntoLogRange, LogCoord};

use super::geometry::{At, at};
use super::theme;
use crate::units::si;

/// plotters maps to whole units, so its canvas is this much finer than ours.
const FINE: f64 = 100.0;
/// Height of the plot area.
const HEIGHT: (f64, f64) = (380.0, 540.0);
/// An axis is stretched at most this much so that decades are equally long on both.
const STRETCH: f64 = 1.6;

/// From the least to the largest value of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Where the axis begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

impl Range {
    /// The range that holds all of the values with the given room (as factors) below and above.
    pub fn holding(values: impl Iterator<Item = f64>, below: f64, above: f64) -> Option<Range> {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        (low > 0.0 && high.is_finite() && low <= high)
            .then_some(Range { low: low / below, high: high * above })
    }

    /// Whether the value lies in it.
    pub fn holds(&self, value: f64) -> bool {
        value >= self.low && value <= self.high
    }

    fn decades(&self) -> f64 {
        (self.high / self.low).log10()
    }

    /// Longer by a number of decades, the given share of them below.
    fn stretched(self, decades: f64, below: f64) -> Range {
        Range {
            low: self.low * 10f64.powf(-decades * below),
            high: self.high * 10f64.powf(decades * (1.0 - below)),
        }
    }
}

/// The plot area and its axes.
pub struct Scale {
    /// Top left corner of the plot area.
    pub low: At,
    /// Bottom right corner of the plot area.
    pub high: At,
    /// Arithmetic intensity in FLOP/B.
    pub x: Range,
    /// Rate in FLOP/s.
    pub y: Range,
    plane: Cartesian2d<LogCoord<f64>, LogCoord<f64>>,
}

impl Scale {
    /// Axes that show at least these ranges, their top at `top`. Decades are equally long on both axes,
    /// so that a bandwidth is a line of 45 degrees, unless that would waste much of the area.
    pub fn new(x: Range, y: Range, top: f64) -> Scale {
        let width = theme::WIDTH - theme::LEFT - theme::RIGHT;
        let (mut x, mut y) = (x, y);
        let mut decade = width / x.decades();
        let mut height = y.decades() * decade;
        if height < HEIGHT.0 {
            y = y.stretched(HEIGHT.0 / decade - y.decades(), 0.6);
            height = HEIGHT.0;
        } else if height > HEIGHT.1 {
            decade = HEIGHT.1 / y.decades();
            height = HEIGHT.1;
            let missing = (width / decade).min(x.decades() * STRETCH) - x.decades();
            x = x.stretched(missing, 0.5);
        }
        Scale::over(x, y, at(theme::LEFT, top), at(theme::LEFT + width, (top + height).round()))
    }

    /// Where work of this intensity and rate lies.
    pub fn at(&self, intensity: f64, rate: f64) -> At {
        let (x, y) = self.plane.translate(&(intensity, rate));
        at(f64::from(x) / FINE, f64::from(y) / FINE)
    }

    /// Whether it lies in the plot area.
    pub fn shows(&self, intensity: f64, rate: f64) -> bool {
        self.x.holds(intensity) && self.y.holds(rate)
    }

    /// The same area for values that need not have equal decades.
    pub fn filling(x: Range, y: Range, top: f64, height: f64) -> Scale {
        let width = theme::WIDTH - theme::LEFT - theme::RIGHT;
        Scale::over(x, y, at(theme::LEFT, top), at(theme::LEFT + width, top + height))
    }

    fn over(x: Range, y: Range, low: At, high: At) -> Scale {
        let fine = |value: f64| (value * FINE).round() as i32;
        let plane = Cartesian2d::new(
            (x.low..x.high).log_scale(),
            (y.low..y.high).log_scale(),
            (fine(low.x)..fine(high.x), fine(high.y)..fine(low.y)),
        );
        Scale { low, high, x, y, plane }
    }

    /// Ticks of the horizontal axis, its labels written by `label`.
    pub fn x_ticks(&self, label: impl Fn(f64) -> String) -> Vec<Tick> {
        ticks(self.x, (self.high.x - self.low.x) / self.x.decades(), 46.0, label)
    }

    /// Ticks of the vertical axis, its labels written by `label`.
    pub fn y_ticks(&self, label: impl Fn(f64) -> String) -> Vec<Tick> {
        ticks(self.y, (self.high.y - self.low.y) / self.y.decades(), 26.0, label)
    }
}

/// A tick of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where it stands.
    pub value: f64,
    /// What is written there.
    pub label: Option<String>,
    /// Whether its grid line is one of the stronger ones.
    pub strong: bool,
}

/// One to nine times each power of ten in the range. Labelled: 1, 2 and 5 where a decade is long enough for
/// labels `apart`, else only whole decades, and not all of those if there are very many.
pub fn ticks(range: Range, decade: f64, apart: f64, label: impl Fn(f64) -> String) -> Vec<Tick> {
    let every = (apart / decade).ceil().max(1.0) as i32;
    let (first, last) = (range.low.log10().floor() as i32, range.high.log10().ceil() as i32);
    let mut out = Vec::new();
    for power in first..=last {
        for times in 1..=9 {
            // A quotient is exact where a product with 10^-n is not: 0.3, not 0.30000000000000004.
            let value = if power < 0 {
                f64::from(times) / 10f64.powi(-power)
            } else {
                f64::from(times) * 10f64.powi(power)
            };
            if !range.holds(value) || (times > 1 && every > 1) {
                continue;
            }
            // From 1 to 2 and from 5 to 10 are 0.30 of a decade.
            let fine = matches!(times, 2 | 5) && decade * 0.3 >= apart;
            let shown = (times == 1 && power.rem_euclid(every) == 0) || fine;
            out.push(Tick { value, label: shown.then(|| label(value)), strong: times == 1 });
        }
    }
    out
}

/// A number as it is written on an axis without a unit.
pub fn plain(value: f64) -> String {
    if (1e-4..1e6).contains(&value) { value.to_string() } else { format!("{value:e}") }
}

/// With an SI prefix and without needless decimals: `500 GFLOP/s`.
pub fn round_si(value: f64, unit: &str) -> String {
    let text = si(value, unit);
    match text.split_once(' ') {
        Some((figures, unit)) if figures.contains('.') => {
            format!("{} {unit}", figures.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_are_equally_long_on_both_axes() {
        let scale = Scale::new(Range { low: 0.5, high: 1000.0 }, Range { low: 2e10, high: 1e12 }, 0.0);
        let (origin, right, up) = (scale.at(1.0, 1e11), scale.at(10.0, 1e11), scale.at(1.0, 1e12));
        assert!((right.x - origin.x - (origin.y - up.y)).abs() < 0.5);
    }

    #[test]
    fn ticks_cover_the_range_and_are_labelled_in_si() {
        let scale = Scale::new(Range { low: 0.5, high: 1000.0 }, Range { low: 2e10, high: 1e12 }, 0.0);
        let labels = |ticks: Vec<Tick>| ticks.into_iter().filter_map(|t| t.label).collect::<Vec<_>>();
        assert_eq!(labels(scale.x_ticks(plain))[..5], ["0.5", "1", "2", "5", "10"]);
        let rates = labels(scale.y_ticks(|rate| round_si(rate, "FLOP/s")));
        assert!(
            rates.contains(&"500 GFLOP/s".to_string()) && rates.contains(&"1 TFLOP/s".to_string()),
            "{rates:?}"
        );
    }
}
