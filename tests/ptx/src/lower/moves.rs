//! `mov`, packing and unpacking, special registers.

use super::Lower;
use crate::Fault;
use crate::op::{Code, Slot, Special};
use crate::parse::ast::Operand;
use crate::registers::{Class, Map, map};

/// Copies a register.
pub fn copy(class: Class) -> Map {
    match class {
        Class::Pred => map!(|a: bool| -> bool { a }),
        Class::Half => map!(|a: u16| -> u16 { a }),
        Class::Word => map!(|a: u32| -> u32 { a }),
        Class::Wide => map!(|a: u64| -> u64 { a }),
    }
}

/// Negates a predicate.
pub fn not() -> Map {
    map!(|a: bool| -> bool { !a })
}

/// The special register of this name.
pub fn special(name: &str) -> Option<Special> {
    Some(match name {
        "%tid.x" => Special::ThreadX,
        "%tid.y" => Special::ThreadY,
        "%tid.z" => Special::ThreadZ,
        "%ntid.x" => Special::ThreadsX,
        "%ntid.y" => Special::ThreadsY,
        "%ntid.z" => Special::ThreadsZ,
        "%ctaid.x" => Special::BlockX,
        "%ctaid.y" => Special::BlockY,
        "%ctaid.z" => Special::BlockZ,
        "%nctaid.x" => Special::BlocksX,
        "%nctaid.y" => Special::BlocksY,
        "%nctaid.z" => Special::BlocksZ,
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%smid" => Special::Multiprocessor,
        "%nsmid" => Special::Multiprocessors,
        "%lanemask_eq" => Special::LanesEqual,
        "%lanemask_lt" => Special::LanesBelow,
        "%lanemask_le" => Special::LanesUpTo,
        "%lanemask_gt" => Special::LanesAbove,
        "%lanemask_ge" => Special::LanesFrom,
        "%dynamic_smem_size" => Special::SharedDynamic,
        "%total_smem_size" => Special::SharedTotal,
        _ => return None,
    })
}

impl Lower<'_> {
    pub(super) fn mov(&mut self, opcode: &str) -> Result<(), Fault> {
        let class = match opcode {
            "mov.pred" => Class::Pred,
            "mov.b16" | "mov.u16" | "mov.s16" | "mov.f16" | "mov.bf16" => Class::Half,
            "mov.b32" | "mov.u32" | "mov.s32" | "mov.f32" => Class::Word,
            "mov.b64" | "mov.u64" | "mov.s64" | "mov.f64" => Class::Wide,
            _ => return Err(self.unknown("not implemented")),
        };
        let operands = self.operands(2..=2)?;
        match (&operands[0], &operands[1]) {
            (to, Operand::Vector(parts)) => self.pack(to, parts, class),
            (Operand::Vector(parts), from) => self.unpack(parts, from, class),
            (to, Operand::Special(name))
                if matches!(&name[..], "%clock" | "%clock64" | "%clock_hi" | "%globaltimer") =>
            {
                let wide = matches!(&name[..], "%clock64" | "%globaltimer");
                if wide != (class == Class::Wide) {
                    return Err(self.unknown(name));
                }
                let slot = self.destination(to, class)?;
                self.emit(Code::Clock { to: Slot { class, slot } });
                Ok(())
            }
            (to, from) => {
                let from = self.source(from, class)?;
                let to = self.destination(to, class)?;
                self.emit_with(copy(class), to, [from, 0, 0, 0], 0, true);
                Ok(())
            }
        }
    }

    fn pack(&mut self, to: &Operand, parts: &[Operand], class: Class) -> Result<(), Fault> {
        let (map, part) = match (class, parts.len()) {
            (Class::Word, 2) => {
                (map!(|a: u16, b: u16| -> u32 { u32::from(a) | u32::from(b) << 16 }), Class::Half)
            }
            (Class::Wide, 2) => {
                (map!(|a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 }), Class::Word)
            }
            (Class::Wide, 4) => (
                map!(|a: u16, b: u16, c: u16, d: u16| -> u64 {
                    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
                }),
                Class::Half,
            ),
            _ => return Err(self.unknown("vector")),
        };
        let mut from = [0; 4];
        for (slot, operand) in from.iter_mut().zip(parts) {
            *slot = self.source(operand, part)?;
        }
        let to = self.destination(to, class)?;
        self.emit_with(map, to, from, 0, true);
        Ok(())
    }

    fn unpack(&mut self, parts: &[Operand], from: &Operand, class: Class) -> Result<(), Fault> {
        let (maps, part) = match (class, parts.len()) {
            (Class::Word, 2) => (
                vec![map!(|a: u32| -> u16 { a as u16 }), map!(|a: u32| -> u16 { (a >> 16) as u16 })],
                Class::Half,
            ),
            (Class::Wide, 2) => (
                vec![map!(|a: u64| -> u32 { a as u32 }), map!(|a: u64| -> u32 { (a >> 32) as u32 })],
                Class::Word,
            ),
            (Class::Wide, 4) => (
                vec![
                    map!(|a: u64| -> u16 { a as u16 }),
                    map!(|a: u64| -> u16 { (a >> 16) as u16 }),
                    map!(|a: u64| -> u16 { (a >> 32) as u16 }),
                    map!(|a: u64| -> u16 { (a >> 48) as u16 }),
                ],
                Class::Half,
            ),
            _ => return Err(self.unknown("vector")),
        };
        let from = self.source(from, class)?;
        for (map, operand) in maps.into_iter().zip(parts) {
            let to = self.destination(operand, part)?;
            self.emit_with(map, to, [from, 0, 0, 0], 0, true);
        }
        Ok(())
    }
}
