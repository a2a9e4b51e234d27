//! f16 and bf16 by their definition: every value there is, and the nearest one.

use std::sync::LazyLock;

/// A 16-bit format.
pub struct Format {
    /// Every finite value that is not negative, ascending; the place is the bit pattern.
    values: Vec<f64>,
    /// Exact value of the first number that is too large, for rounding to infinity.
    beyond: f64,
}

/// 1 sign, 5 exponent and 10 fraction bits.
pub static F16: LazyLock<Format> = LazyLock::new(|| Format::new(5, 10));
/// 1 sign, 8 exponent and 7 fraction bits.
pub static BF16: LazyLock<Format> = LazyLock::new(|| Format::new(8, 7));

impl Format {
    fn new(exponent_bits: u32, fraction_bits: u32) -> Format {
        let bias = (1 << (exponent_bits - 1)) - 1;
        let scale = f64::from(1 << fraction_bits);
        let value = |bits: u32| {
            let (exponent, fraction) =
                ((bits >> fraction_bits) as i32, f64::from(bits % (1 << fraction_bits)));
            if exponent == 0 {
                fraction / scale * 2f64.powi(1 - bias)
            } else {
                (1.0 + fraction / scale) * 2f64.powi(exponent - bias)
            }
        };
        let infinity = ((1 << exponent_bits) - 1) << fraction_bits;
        Format { values: (0..infinity).map(value).collect(), beyond: value(infinity) }
    }

    /// Bits of infinity.
    pub fn infinity(&self) -> u16 {
        self.values.len() as u16
    }

    /// The value of these bits.
    pub fn value(&self, bits: u16) -> f64 {
        let magnitude = bits & 0x7fff;
        let value = if magnitude < self.infinity() {
            self.values[usize::from(magnitude)]
        } else if magnitude == self.infinity() {
            f64::INFINITY
        } else {
            f64::NAN
        };
        if bits >> 15 == 1 { -value } else { value }
    }

    /// The nearest value, of two equally near the one whose last bit is 0; NaN gives `None`.
    pub fn nearest(&self, x: f64) -> Option<u16> {
        if x.is_nan() {
            return None;
        }
        let sign = u16::from(x.is_sign_negative()) << 15;
        let x = x.abs();
        // Values at and above x.
        let above = self.values.partition_point(|v| *v < x);
        let at = |place: usize| self.values.get(place).copied().unwrap_or(self.beyond);
        let place = if above == 0 {
            0
        } else if above > self.values.len() - 1 && x >= self.beyond {
            self.values.len()
        } else {
            let (down, up) = (x - at(above - 1), at(above) - x);
            if down < up || down == up && above % 2 == 1 { above - 1 } else { above }
        };
        Some(sign | place as u16)
    }

    /// The value next to it towards zero.
    pub fn truncated(&self, x: f64) -> u16 {
        let sign = u16::from(x.is_sign_negative()) << 15;
        sign | (self.values.partition_point(|v| *v <= x.abs()) - 1) as u16
    }

    /// Whether `bits` are the value nearest to x, or any NaN for NaN.
    pub fn is_nearest(&self, bits: u16, x: f64) -> bool {
        self.nearest(x).map_or(bits & 0x7fff > self.infinity(), |n| n == bits)
    }
}

#[test]
fn known_values() {
    assert_eq!(F16.value(0x3c00), 1.0);
    assert_eq!(F16.value(0x7bff), 65504.0);
    assert_eq!(F16.value(0x0001), 2f64.powi(-24));
    assert_eq!(F16.nearest(65520.0), Some(0x7c00));
    assert_eq!(F16.nearest(65519.9), Some(0x7bff));
    assert_eq!(BF16.value(0xc040), -3.0);
    assert_eq!(BF16.nearest(1.0 + 1.0 / 256.0), Some(0x3f80));
    assert_eq!(BF16.nearest(1.0 + 3.0 / 256.0), Some(0x3f82));
}
