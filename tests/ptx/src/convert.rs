//! `cvt` between any two types, one value at a time.

use crate::numbers::{Rounding, bf16, f16, to_bf16, to_f16, to_f32};

/// A scalar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Integer of this many bits.
    Unsigned(u32),
    Signed(u32),
    F16,
    Bf16,
    F32,
    F64,
}

impl Type {
    /// The type of this name.
    pub fn of(name: &str) -> Option<Type> {
        Some(match name {
            "u8" => Type::Unsigned(8),
            "u16" => Type::Unsigned(16),
            "u32" => Type::Unsigned(32),
            "u64" => Type::Unsigned(64),
            "s8" => Type::Signed(8),
            "s16" => Type::Signed(16),
            "s32" => Type::Signed(32),
            "s64" => Type::Signed(64),
            "f16" => Type::F16,
            "bf16" => Type::Bf16,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Its width.
    pub fn bits(self) -> u32 {
        match self {
            Type::Unsigned(bits) | Type::Signed(bits) => bits,
            Type::F16 | Type::Bf16 => 16,
            Type::F32 => 32,
            Type::F64 => 64,
        }
    }

    /// Whether it is an integer.
    pub fn is_integer(self) -> bool {
        matches!(self, Type::Unsigned(_) | Type::Signed(_))
    }
}

/// A conversion.
#[derive(Debug, Clone, Copy)]
pub struct Convert {
    pub to: Type,
    pub from: Type,
    /// Of the float result.
    pub rounding: Rounding,
    /// To an integral value first.
    pub integral: Option<Rounding>,
    pub saturate: bool,
    pub relu: bool,
    pub flush: bool,
}

fn limits(to: Type) -> (i128, i128) {
    match to {
        Type::Signed(bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        Type::Unsigned(bits) => (0, (1 << bits) - 1),
        _ => (0, 0),
    }
}

impl Convert {
    /// Converts the bits of a value; integers come out extended to 64 bits by their sign.
    pub fn apply(&self, raw: u64) -> u64 {
        match self.from {
            Type::Unsigned(bits) => self.of_integer(i128::from(raw & (!0 >> (64 - bits)))),
            Type::Signed(bits) => self.of_integer(i128::from((raw << (64 - bits)) as i64 >> (64 - bits))),
            Type::F16 => self.of_float(f64::from(f16(raw as u16))),
            Type::Bf16 => self.of_float(f64::from(bf16(raw as u16))),
            Type::F32 => {
                let x = f32::from_bits(raw as u32);
                self.of_float(f64::from(if self.flush { crate::numbers::flush(x) } else { x }))
            }
            Type::F64 => self.of_float(f64::from_bits(raw)),
        }
    }

    fn of_integer(&self, value: i128) -> u64 {
        let (least, most) = limits(self.to);
        match self.to {
            Type::Signed(bits) => {
                let value = if self.saturate { value.clamp(least, most) } else { value };
                (((value as u64) << (64 - bits)) as i64 >> (64 - bits)) as u64
            }
            Type::Unsigned(bits) => {
                let value = if self.saturate { value.clamp(least, most) } else { value };
                value as u64 & (!0 >> (64 - bits))
            }
            _ => {
                // Up to 64 bits do not fit a float64: the rest goes into its last bit.
                let near = value as f64;
                let sum = crate::numbers::sticky_sum(near, (value - near as i128) as f64);
                if self.to == Type::F64 && self.rounding == Rounding::Nearest {
                    return near.to_bits();
                }
                self.finish(sum)
            }
        }
    }

    fn of_float(&self, x: f64) -> u64 {
        let whole = match self.integral {
            Some(Rounding::Nearest) => x.round_ties_even(),
            Some(Rounding::Zero) => x.trunc(),
            Some(Rounding::Down) => x.floor(),
            Some(Rounding::Up) => x.ceil(),
            None => x,
        };
        if self.to.is_integer() {
            let (least, most) = limits(self.to);
            let value = if whole.is_nan() { 0 } else { (whole as i128).clamp(least, most) };
            return value as u64;
        }
        self.finish(whole)
    }

    fn finish(&self, x: f64) -> u64 {
        let x = if self.saturate { if x > 0.0 { x.min(1.0) } else { 0.0 } } else { x };
        let x = if self.relu && !x.is_nan() && x < 0.0 { 0.0 } else { x };
        match self.to {
            Type::F16 => u64::from(to_f16(x, self.rounding)),
            Type::Bf16 => u64::from(to_bf16(x, self.rounding)),
            Type::F32 => {
                let narrow = to_f32(x, self.rounding);
                u64::from((if self.flush { crate::numbers::flush(narrow) } else { narrow }).to_bits())
            }
            _ => x.to_bits(),
        }
    }
}
