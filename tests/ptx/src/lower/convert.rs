//! `cvt`: common ones as maps, all others value by value.

use super::Lower;
use crate::Fault;
use crate::convert::{Convert, Type};
use crate::numbers::{Rounding, bf16_of, to_f16};
use crate::op::{Code, Conversion, Slot};
use crate::parse::ast::Operand;
use crate::registers::{Class, Map, map};

fn quick(opcode: &str) -> Option<Map> {
    Some(match opcode {
        "cvt.u64.u32" => map!(|a: u32| -> u64 { u64::from(a) }),
        "cvt.s64.s32" => map!(|a: i32| -> i64 { i64::from(a) }),
        "cvt.u32.u64" | "cvt.s32.s64" | "cvt.s32.u64" | "cvt.u32.s64" => map!(|a: u64| -> u32 { a as u32 }),
        "cvt.u32.u16" => map!(|a: u16| -> u32 { u32::from(a) }),
        "cvt.s32.s16" => map!(|a: i16| -> i32 { i32::from(a) }),
        "cvt.u16.u32" | "cvt.u16.s32" | "cvt.s16.s32" => map!(|a: u32| -> u16 { a as u16 }),
        "cvt.rn.f32.s32" => map!(|a: i32| -> f32 { a as f32 }),
        "cvt.rn.f32.u32" => map!(|a: u32| -> f32 { a as f32 }),
        "cvt.rzi.s32.f32" => map!(|a: f32| -> i32 { a as i32 }),
        "cvt.rzi.u32.f32" => map!(|a: f32| -> u32 { a as u32 }),
        "cvt.f64.f32" => map!(|a: f32| -> f64 { f64::from(a) }),
        "cvt.rn.f32.f64" => map!(|a: f64| -> f32 { a as f32 }),
        "cvt.rn.bf16.f32" => map!(|a: f32| -> u16 { bf16_of(a) }),
        "cvt.f32.bf16" => map!(|a: u16| -> u32 { u32::from(a) << 16 }),
        "cvt.f32.f16" => map!(|a: u16| -> f32 { crate::numbers::f16(a) }),
        // The first source goes into the upper half.
        "cvt.rn.bf16x2.f32" => {
            map!(|a: f32, b: f32| -> u32 { u32::from(bf16_of(a)) << 16 | u32::from(bf16_of(b)) })
        }
        "cvt.rn.f16x2.f32" => map!(|a: f32, b: f32| -> u32 {
            u32::from(to_f16(f64::from(a), Rounding::Nearest)) << 16
                | u32::from(to_f16(f64::from(b), Rounding::Nearest))
        }),
        _ => return None,
    })
}

impl Lower<'_> {
    pub(super) fn cvt(&mut self, opcode: &str) -> Result<(), Fault> {
        if let Some(map) = quick(opcode) {
            let fits = self.instruction.operands.iter().zip(std::iter::once(&map.to).chain(map.from)).all(
                |(operand, class)| matches!(operand, Operand::Register(register) if register.class == *class),
            );
            if fits || map.from.len() == 2 {
                return self.map(map, 0);
            }
        }
        let mut how = Convert {
            to: Type::F32,
            from: Type::F32,
            rounding: Rounding::Nearest,
            integral: None,
            saturate: false,
            relu: false,
            flush: false,
        };
        let mut types = Vec::new();
        let mut rounded = false;
        for part in opcode.split('.').skip(1) {
            let rounding = match part.as_bytes() {
                [b'r', b'n', ..] => Rounding::Nearest,
                [b'r', b'z', ..] => Rounding::Zero,
                [b'r', b'm', ..] => Rounding::Down,
                _ => Rounding::Up,
            };
            match part {
                "rn" | "rz" | "rm" | "rp" => (how.rounding, rounded) = (rounding, true),
                "rni" | "rzi" | "rmi" | "rpi" => how.integral = Some(rounding),
                "sat" => how.saturate = true,
                "relu" => how.relu = true,
                "ftz" => how.flush = true,
                other => types.push(Type::of(other).ok_or_else(|| self.unknown("not implemented"))?),
            }
        }
        let [to_type, from_type] = types[..] else {
            return Err(self.unknown("not implemented"));
        };
        (how.to, how.from) = (to_type, from_type);
        let same_float = to_type == from_type && !to_type.is_integer();
        let narrows = !to_type.is_integer()
            && (from_type.is_integer()
                || from_type.bits() > to_type.bits()
                || (from_type.bits() == to_type.bits() && !same_float));
        let to_integer = to_type.is_integer() && !from_type.is_integer();
        let relu_fits = !how.relu || matches!(to_type, Type::F16 | Type::Bf16);
        // The ISA demands a rounding exactly where one can happen.
        if narrows != rounded
            || (to_integer && how.integral.is_none())
            || (how.integral.is_some() && !to_integer && !same_float)
            || !relu_fits
        {
            return Err(self.unknown("rounding"));
        }
        let operands = self.operands(2..=2)?;
        let class = |kind: Type| match kind.bits() {
            8 | 16 => Class::Half,
            32 => Class::Word,
            _ => Class::Wide,
        };
        let from = self.any_source(&operands[1], class(from_type))?;
        let Operand::Register(to) = &operands[0] else {
            return Err(self.unknown("destination"));
        };
        let to = Slot { class: to.class, slot: self.slot(*to) };
        let fits = |slot: Slot, kind: Type| {
            let need = class(kind);
            slot.class == need || (kind.is_integer() && slot.class > need)
        };
        if !fits(from, from_type) || !fits(to, to_type) {
            return Err(self.unknown("width of a register"));
        }
        self.emit(Code::Convert(Box::new(Conversion { how, to, from })));
        Ok(())
    }
}
