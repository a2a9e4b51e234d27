//! Arithmetic in f16 and bf16, single and in pairs. Every result is rounded once.

use crate::numbers::{Rounding, bf16, f16, least, most, sticky_sum, to_bf16, to_f16};
use crate::registers::{Map, map};

/// Maps for the four types from one expression of float64 values.
macro_rules! halves {
    ($kind:expr, $flops:expr, |$($x:ident),+| $body:expr) => {
        match $kind {
            "bf16" => Some((map!(|$($x: u16),+| -> u16 {
                $(let $x = f64::from(bf16($x));)+
                to_bf16($body, Rounding::Nearest)
            }), $flops)),
            "f16" => Some((map!(|$($x: u16),+| -> u16 {
                $(let $x = f64::from(f16($x));)+
                to_f16($body, Rounding::Nearest)
            }), $flops)),
            "bf16x2" => Some((map!(|$($x: u32),+| -> u32 {
                let one = |$($x: u32),+| {
                    $(let $x = f64::from(bf16($x as u16));)+
                    u32::from(to_bf16($body, Rounding::Nearest))
                };
                one($($x),+) | one($($x >> 16),+) << 16
            }), 2 * $flops)),
            "f16x2" => Some((map!(|$($x: u32),+| -> u32 {
                let one = |$($x: u32),+| {
                    $(let $x = f64::from(f16($x as u16));)+
                    u32::from(to_f16($body, Rounding::Nearest))
                };
                one($($x),+) | one($($x >> 16),+) << 16
            }), 2 * $flops)),
            _ => None,
        }
    };
}

fn either_nan(a: f64, b: f64, other: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { other }
}

/// The map of an opcode and its floating-point operations.
pub fn map_of(opcode: &str) -> Option<(Map, u8)> {
    let (name, kind) = opcode.rsplit_once('.')?;
    match name {
        "add" | "add.rn" => halves!(kind, 1, |a, b| sticky_sum(a, b)),
        "sub" | "sub.rn" => halves!(kind, 1, |a, b| sticky_sum(a, -b)),
        "mul" | "mul.rn" => halves!(kind, 1, |a, b| a * b),
        "fma.rn" => halves!(kind, 2, |a, b, c| sticky_sum(a * b, c)),
        "fma.rn.relu" => halves!(kind, 2, |a, b, c| {
            let sum = sticky_sum(a * b, c);
            if sum < 0.0 { 0.0 } else { sum }
        }),
        "min" => halves!(kind, 0, |a, b| least(a, b)),
        "max" => halves!(kind, 0, |a, b| most(a, b)),
        "min.NaN" => halves!(kind, 0, |a, b| either_nan(a, b, least(a, b))),
        "max.NaN" => halves!(kind, 0, |a, b| either_nan(a, b, most(a, b))),
        "tanh.approx" => halves!(kind, 0, |a| a.tanh()),
        "ex2.approx" if kind.starts_with('f') => halves!(kind, 0, |a| a.exp2()),
        "ex2.approx.ftz" if kind.starts_with('b') => halves!(kind, 0, |a| a.exp2()),
        "neg" => match kind {
            "bf16" | "f16" => Some((map!(|a: u16| -> u16 { a ^ 0x8000 }), 0)),
            "bf16x2" | "f16x2" => Some((map!(|a: u32| -> u32 { a ^ 0x8000_8000 }), 0)),
            _ => None,
        },
        "abs" => match kind {
            "bf16" | "f16" => Some((map!(|a: u16| -> u16 { a & 0x7fff }), 0)),
            "bf16x2" | "f16x2" => Some((map!(|a: u32| -> u32 { a & 0x7fff_7fff }), 0)),
            _ => None,
        },
        _ => None,
    }
}
