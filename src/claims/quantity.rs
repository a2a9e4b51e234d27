//! The quantities that claims are about, and how they are written.

use serde::Serialize;

use crate::predict::figure::{four, percent2, tokens};
use crate::units::figures;

/// What a figure counts; values are in base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Quantity {
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Operations.
    #[serde(rename = "FLOP")]
    Flops,
    /// Operations per second.
    #[serde(rename = "FLOP/s")]
    FlopsPerSec,
    /// Operations per byte.
    #[serde(rename = "FLOP/B")]
    Intensity,
    /// Tokens per second.
    #[serde(rename = "tok/s")]
    TokensPerSec,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// A share of one.
    #[serde(rename = "share")]
    Share,
    /// A ratio.
    #[serde(rename = "x")]
    Times,
}

impl Quantity {
    /// The unit's symbol, as in files.
    pub fn unit(self) -> &'static str {
        match self {
            Quantity::Bytes => "B",
            Quantity::Flops => "FLOP",
            Quantity::FlopsPerSec => "FLOP/s",
            Quantity::Intensity => "FLOP/B",
            Quantity::TokensPerSec => "tok/s",
            Quantity::Seconds => "s",
            Quantity::Share => "share",
            Quantity::Times => "x",
        }
    }

    /// The value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Quantity::TokensPerSec => tokens(value),
            // Around 1 the third figure says nothing.
            Quantity::Intensity if value < 2.0 => format!("{value:.4} FLOP/B"),
            Quantity::Intensity => format!("{} FLOP/B", figures(value)),
            // Below a tenth of a percent two decimals say nothing.
            Quantity::Share if value != 0.0 && value < 1e-3 => format!("{}%", trimmed(value * 100.0)),
            Quantity::Share => percent2(value),
            Quantity::Times => format!("{value:.2}x"),
            _ => four(value, self.unit()),
        }
    }

    /// A claimed value, with no more digits than it was claimed with: `2 TB/s`, `94%`.
    pub fn claimed(self, value: f64) -> String {
        match self {
            Quantity::Share => format!("{}%", trimmed(value * 100.0)),
            Quantity::Times => format!("{}x", trimmed(value)),
            Quantity::Intensity => format!("{} FLOP/B", trimmed(value)),
            _ => {
                let text = crate::units::si(value, self.unit());
                match text.split_once(' ') {
                    Some((number, unit)) => format!("{} {unit}", without_zeros(number)),
                    None => text,
                }
            }
        }
    }
}

fn trimmed(value: f64) -> String {
    without_zeros(&figures(value)).to_string()
}

/// `16.0` as `16`.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_have_their_own_digits_and_figures_four() {
        for (quantity, value, claimed, shown) in [
            (Quantity::Bytes, 16e9, "16 GB", "16.00 GB"),
            (Quantity::Bytes, 1.6e12, "1.6 TB", "1.600 TB"),
            (Quantity::Share, 0.000_05, "0.005%", "0.005%"),
            (Quantity::Share, 0.94, "94%", "94.00%"),
            (Quantity::Share, 0.0, "0%", "0.00%"),
            (Quantity::TokensPerSec, 125.0, "125 tok/s", "125.0 tok/s"),
            (Quantity::Seconds, 0.05, "50 ms", "50.00 ms"),
            (Quantity::Times, 4.0, "4x", "4.00x"),
            (Quantity::Intensity, 1000.0, "1000 FLOP/B", "1000 FLOP/B"),
        ] {
            assert_eq!((quantity.claimed(value), quantity.show(value)), (claimed.into(), shown.into()));
        }
    }
}
