//! Arithmetic in float formats and rounding modes that the host does not have.

/// Rounding modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    Zero,
    Down,
    Up,
}

/// a + b such that rounding the result once more gives the sum rounded once: where a float64 cannot hold it, its
/// last bit is set (rounding to odd).
#[inline(always)]
pub fn sticky_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    let bits = sum.to_bits();
    let inexact = error != 0.0 && sum.is_finite() && bits & 1 == 0;
    let outwards = (error > 0.0) == (sum > 0.0);
    let odd = if outwards { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact { odd } else { bits })
}

/// Rounds a float64 that holds a value exactly, or to odd, to float32.
pub fn to_f32(x: f64, rounding: Rounding) -> f32 {
    let nearest = x as f32;
    let wide = f64::from(nearest);
    if wide == x || x.is_nan() || x.is_infinite() {
        return nearest;
    }
    let (below, above) = if wide < x { (nearest, nearest.next_up()) } else { (nearest.next_down(), nearest) };
    match rounding {
        Rounding::Nearest => nearest,
        Rounding::Down => below,
        Rounding::Up => above,
        Rounding::Zero if x > 0.0 => below,
        Rounding::Zero => above,
    }
}

/// Rounds to a float of 16 bits with this many bits of mantissa (without the leading one) and this exponent bias.
#[inline(always)]
fn to_small(x: f64, mantissa: i32, bias: i32, rounding: Rounding) -> u16 {
    let sign = u16::from(x.is_sign_negative()) << 15;
    let infinity = (2 * bias + 1) << mantissa;
    if x.is_nan() {
        return 0x7fff;
    }
    let size = x.abs();
    if size == 0.0 || size.is_infinite() {
        return sign | if size == 0.0 { 0 } else { infinity as u16 };
    }
    let own = (size.to_bits() >> 52) as i32 - 1023;
    let exponent = own.max(1 - bias);
    // Below the smallest normal number more is cut off; what is cut off whole is far from half a unit at 63 bits already.
    let cut = (52 - mantissa + exponent - own).min(63);
    let significand = size.to_bits() & ((1 << 52) - 1) | 1 << 52;
    let (down, rest, half) = (significand >> cut, significand & ((1 << cut) - 1), 1 << (cut - 1));
    let up = match rounding {
        Rounding::Nearest => rest > half || rest == half && down & 1 == 1,
        Rounding::Zero => false,
        Rounding::Down => rest > 0 && sign != 0,
        Rounding::Up => rest > 0 && sign == 0,
    };
    let units = down as i32 + i32::from(up);
    // The leading one of a normal number adds one to the exponent field, and so does a carry.
    let bits = ((exponent + bias - 1) << mantissa) + units;
    let most = infinity - i32::from(!up && rounding != Rounding::Nearest);
    sign | bits.min(most) as u16
}

/// Rounds to bf16.
pub fn to_bf16(x: f64, rounding: Rounding) -> u16 {
    to_small(x, 7, 127, rounding)
}

/// Rounds to f16.
pub fn to_f16(x: f64, rounding: Rounding) -> u16 {
    to_small(x, 10, 15, rounding)
}

/// Float32 to bf16, to nearest even; any NaN becomes 0x7fff.
#[inline(always)]
pub fn bf16_of(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if x.is_nan() { 0x7fff } else { rounded }
}

/// The value of bf16 bits.
#[inline(always)]
pub fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The value of f16 bits.
#[inline(always)]
pub fn f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let mantissa = u32::from(bits & 0x3ff);
    let value = match exponent {
        0 => mantissa as f32 * 2f32.powi(-24),
        31 => f32::from_bits(0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits((exponent + 112) << 23 | mantissa << 13),
    };
    f32::from_bits(value.to_bits() | sign)
}

/// The value of e4m3 bits, which have no infinities and one NaN of each sign.
#[inline(always)]
pub fn e4m3(bits: u8) -> f32 {
    let mantissa = u32::from(bits & 7);
    let magnitude = match u32::from(bits >> 3 & 15) {
        15 if mantissa == 7 => f32::NAN,
        0 => mantissa as f32 * 2f32.powi(-9),
        exponent => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if bits >> 7 == 1 { -magnitude } else { magnitude }
}

/// Subnormals to zero of the same sign.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// Into 0..=1, NaN to 0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// Minimum that prefers a number to NaN, and -0 to +0.
#[inline(always)]
pub fn least(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    }
}

/// Maximum that prefers a number to NaN, and +0 to -0.
#[inline(always)]
pub fn most(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    }
}
