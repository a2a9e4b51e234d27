//! Arithmetic in float32 and float64. Approximate instructions are computed as exactly as the host can.

use crate::numbers::{Rounding, flush, least, most, saturate, sticky_sum, to_f32};
use crate::registers::{Map, map};

/// A map for f32 in its four variants: as it is, with subnormals flushed, saturated, both.
macro_rules! variants {
    ($ftz:expr, $sat:expr, |$($x:ident),+| $body:expr) => {
        match ($ftz, $sat) {
            (false, false) => map!(|$($x: f32),+| -> f32 { $body }),
            (true, false) => map!(|$($x: f32),+| -> f32 { $(let $x = flush($x);)+ flush($body) }),
            (false, true) => map!(|$($x: f32),+| -> f32 { saturate($body) }),
            (true, true) => map!(|$($x: f32),+| -> f32 { $(let $x = flush($x);)+ saturate(flush($body)) }),
        }
    };
}

/// A map for f32 in a rounding mode that the host lacks; `$body` is exact, or rounded to odd.
macro_rules! directed {
    ($rounding:expr, |$($x:ident),+| $body:expr) => {
        match $rounding {
            Rounding::Zero => map!(|$($x: f32),+| -> f32 { $(let $x = f64::from($x);)+ to_f32($body, Rounding::Zero) }),
            Rounding::Down => map!(|$($x: f32),+| -> f32 { $(let $x = f64::from($x);)+ to_f32($body, Rounding::Down) }),
            _ => map!(|$($x: f32),+| -> f32 { $(let $x = f64::from($x);)+ to_f32($body, Rounding::Up) }),
        }
    };
}

/// The map of an opcode and its floating-point operations.
pub fn map_of(opcode: &str) -> Option<(Map, u8)> {
    let (mut name, kind) = opcode.rsplit_once('.')?;
    let mut take = |modifier: &str| {
        let rest = name.strip_suffix(modifier);
        name = rest.unwrap_or(name);
        rest.is_some()
    };
    let sat = take(".sat");
    let ftz = take(".ftz");
    match kind {
        "f32" => single(name, ftz, sat),
        "f64" if !sat && !ftz => double(name),
        _ => None,
    }
}

fn single(name: &str, ftz: bool, sat: bool) -> Option<(Map, u8)> {
    let map = match name {
        "add" | "add.rn" => return Some((variants!(ftz, sat, |a, b| a + b), 1)),
        "sub" | "sub.rn" => return Some((variants!(ftz, sat, |a, b| a - b), 1)),
        "mul" | "mul.rn" => return Some((variants!(ftz, sat, |a, b| a * b), 1)),
        "fma.rn" | "mad.rn" => return Some((variants!(ftz, sat, |a, b, c| a.mul_add(b, c)), 2)),
        _ if sat => return None,
        "neg" => variants!(ftz, sat, |a| -a),
        "abs" => variants!(ftz, sat, |a| a.abs()),
        "min" => variants!(ftz, sat, |a, b| least(f64::from(a), f64::from(b)) as f32),
        "max" => variants!(ftz, sat, |a, b| most(f64::from(a), f64::from(b)) as f32),
        "min.NaN" => variants!(ftz, sat, |a, b| if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            least(f64::from(a), f64::from(b)) as f32
        }),
        "max.NaN" => variants!(ftz, sat, |a, b| if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            most(f64::from(a), f64::from(b)) as f32
        }),
        "div.rn" | "div.full" | "div.approx" => variants!(ftz, sat, |a, b| a / b),
        "rcp.rn" | "rcp.approx" => variants!(ftz, sat, |a| 1.0 / a),
        "sqrt.rn" | "sqrt.approx" => variants!(ftz, sat, |a| a.sqrt()),
        "rsqrt.approx" => variants!(ftz, sat, |a| (1.0 / f64::from(a).sqrt()) as f32),
        // Subnormal arguments give powers close to one: flushing changes nothing but the result.
        "ex2.approx" => variants!(ftz, sat, |a| a.exp2()),
        "lg2.approx" => variants!(ftz, sat, |a| a.log2()),
        "sin.approx" => variants!(ftz, sat, |a| a.sin()),
        "cos.approx" => variants!(ftz, sat, |a| a.cos()),
        "tanh.approx" => variants!(ftz, sat, |a| a.tanh()),
        "copysign" => map!(|a: f32, b: f32| -> f32 { b.copysign(a) }),
        _ if ftz => return None,
        _ => {
            let (root, suffix) = name.split_once('.')?;
            let rounding = match suffix {
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                "rp" => Rounding::Up,
                _ => return None,
            };
            return Some(match root {
                "add" => (directed!(rounding, |a, b| sticky_sum(a, b)), 1),
                "sub" => (directed!(rounding, |a, b| sticky_sum(a, -b)), 1),
                "mul" => (directed!(rounding, |a, b| a * b), 1),
                "fma" | "mad" => (directed!(rounding, |a, b, c| sticky_sum(a * b, c)), 2),
                _ => return None,
            });
        }
    };
    Some((map, 0))
}

fn double(name: &str) -> Option<(Map, u8)> {
    Some(match name {
        "add" | "add.rn" => (map!(|a: f64, b: f64| -> f64 { a + b }), 1),
        "sub" | "sub.rn" => (map!(|a: f64, b: f64| -> f64 { a - b }), 1),
        "mul" | "mul.rn" => (map!(|a: f64, b: f64| -> f64 { a * b }), 1),
        "fma.rn" | "mad.rn" => (map!(|a: f64, b: f64, c: f64| -> f64 { a.mul_add(b, c) }), 2),
        "neg" => (map!(|a: f64| -> f64 { -a }), 0),
        "abs" => (map!(|a: f64| -> f64 { a.abs() }), 0),
        "min" => (map!(|a: f64, b: f64| -> f64 { least(a, b) }), 0),
        "max" => (map!(|a: f64, b: f64| -> f64 { most(a, b) }), 0),
        "div.rn" => (map!(|a: f64, b: f64| -> f64 { a / b }), 0),
        "rcp.rn" => (map!(|a: f64| -> f64 { 1.0 / a }), 0),
        "sqrt.rn" => (map!(|a: f64| -> f64 { a.sqrt() }), 0),
        "copysign" => (map!(|a: f64, b: f64| -> f64 { b.copysign(a) }), 0),
        _ => return None,
    })
}
