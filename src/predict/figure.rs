//! Numbers as explanations write them.

use crate::units::si;

/// An integer with its thousands set apart: `7,504,658,432`.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Four significant figures with an SI prefix: `15.01 GB`.
pub fn four(value: f64, unit: &str) -> String {
    if value == 0.0 || !value.is_finite() {
        return si(value, unit);
    }
    // `si` picks the prefix; its own three figures are replaced.
    let three = si(value, unit);
    let Some((_, prefixed)) = three.split_once(' ') else { return three };
    let factor = match prefixed.strip_suffix(unit).unwrap_or_default() {
        "P" => 1e15,
        "T" => 1e12,
        "G" => 1e9,
        "M" => 1e6,
        "k" => 1e3,
        "m" => 1e-3,
        "u" => 1e-6,
        "" => 1.0,
        _ => return three,
    };
    let scaled = value / factor;
    // As rounding to four figures would have it, so 0.99999 counts as 1.000.
    let decimals = (3 - (scaled.abs() * 1.00005).log10().floor() as i32).clamp(0, 9) as usize;
    format!("{scaled:.decimals$} {prefixed}").trim_end().to_string()
}

/// Tokens per second, without prefix: `135.8 tok/s`, `8,630 tok/s`.
pub fn tokens(rate: f64) -> String {
    if rate < 1e3 { four(rate, "tok/s") } else { format!("{} tok/s", whole(rate)) }
}

/// The value rounded to two significant figures, as people quote it: 2.039e12 is 2.0e12.
pub fn rounded(value: f64) -> f64 {
    let scale = 10f64.powf(value.abs().log10().floor() - 1.0);
    (value / scale).round() * scale
}

/// A share in percent with two decimals.
pub fn percent2(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(whole(7_504_658_432.0), "7,504,658,432");
        assert_eq!(whole(999.0), "999");
        assert_eq!(whole(1000.0), "1,000");
    }

    #[test]
    fn four_figures() {
        assert_eq!(four(15_009_849_344.0, "B"), "15.01 GB");
        assert_eq!(four(2.039e12, "B/s"), "2.039 TB/s");
        assert_eq!(four(135.84, ""), "135.8");
        assert_eq!(four(0.0, "B"), "0 B");
        assert_eq!(four(0.99999e12, "B"), "1.000 TB");
        assert_eq!(tokens(8630.4), "8,630 tok/s");
    }

    #[test]
    fn two_figures() {
        assert_eq!(rounded(2.039e12), 2.0e12);
        assert_eq!(rounded(1.555e12), 1.6e12);
    }
}
