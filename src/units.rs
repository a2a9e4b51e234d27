//! Quantities with their units, and how people read them.
//!
//! Values are `f64` in base SI units: exact for integers up to 2^53, and absurd inputs overflow to
//! infinity instead of panicking.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// The unit's symbol.
            pub const UNIT: &'static str = $unit;

            /// Three significant figures with an SI prefix: `15.0 GB`.
            pub fn human(self) -> String {
                si(self.0, $unit)
            }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                $name(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                $name(self.0 - other.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                $name(self.0 * factor)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                $name(items.map(|x| x.0).sum())
            }
        }
    };
}

quantity!(
    /// An amount of memory traffic or of memory, in bytes.
    Bytes, "B");
quantity!(
    /// Floating-point (or integer) operations; a multiply-add counts two.
    Flops, "FLOP");
quantity!(
    /// A duration in seconds.
    Seconds, "s");
quantity!(
    /// A bandwidth in bytes per second.
    BytesPerSec, "B/s");
quantity!(
    /// An arithmetic rate in operations per second.
    FlopsPerSec, "FLOP/s");
quantity!(
    /// Arithmetic intensity in FLOP per byte.
    Intensity, "FLOP/B");

impl Div<Seconds> for Bytes {
    type Output = BytesPerSec;
    fn div(self, time: Seconds) -> BytesPerSec {
        BytesPerSec(self.0 / time.0)
    }
}
impl Div<Seconds> for Flops {
    type Output = FlopsPerSec;
    fn div(self, time: Seconds) -> FlopsPerSec {
        FlopsPerSec(self.0 / time.0)
    }
}
impl Div<Bytes> for Flops {
    type Output = Intensity;
    fn div(self, bytes: Bytes) -> Intensity {
        Intensity(self.0 / bytes.0)
    }
}
impl Div<BytesPerSec> for Bytes {
    type Output = Seconds;
    fn div(self, rate: BytesPerSec) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}
impl Div<FlopsPerSec> for Flops {
    type Output = Seconds;
    fn div(self, rate: FlopsPerSec) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}
impl Div<BytesPerSec> for FlopsPerSec {
    type Output = Intensity;
    fn div(self, rate: BytesPerSec) -> Intensity {
        Intensity(self.0 / rate.0)
    }
}
impl Mul<BytesPerSec> for Intensity {
    type Output = FlopsPerSec;
    fn mul(self, rate: BytesPerSec) -> FlopsPerSec {
        FlopsPerSec(self.0 * rate.0)
    }
}

/// `value` with three significant figures, an SI prefix and the unit: `2.04 TB/s`, `850 us`.
pub fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [(f64, &str); 9] = [
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "u"),
    ];
    if value == 0.0 || !value.is_finite() {
        return format!("{value} {unit}");
    }
    let size = value.abs();
    // Compare against what rounding to three figures would give, so 999.96 becomes 1.00 k.
    let (factor, prefix) =
        PREFIXES.into_iter().find(|(factor, _)| size >= factor * 0.9995).unwrap_or((1e-9, "n"));
    format!("{} {prefix}{unit}", figures(value / factor))
}

/// A number with three significant figures, without exponent: `0.0123`, `1.23`, `12.3`, `123`.
pub fn figures(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (value.abs() * 1.0005).log10().floor() as i32;
    let decimals = (2 - digits).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

/// A share as a percentage: `0.934` is `93.4%`.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
