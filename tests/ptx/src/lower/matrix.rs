//! Matrix instructions.

use super::Lower;
use crate::Fault;
use crate::op::{Code, Element, MatrixAccess, Mma};
use crate::parse::ast::Operand;
use crate::registers::Class;

impl Lower<'_> {
    pub(super) fn words(&mut self, operand: &Operand, count: usize, write: bool) -> Result<Vec<u32>, Fault> {
        let single = std::slice::from_ref(operand);
        let parts: &[Operand] = if let Operand::Vector(parts) = operand { parts } else { single };
        if parts.len() != count {
            return Err(self.unknown("number of registers"));
        }
        let mut slots = Vec::with_capacity(count);
        for part in parts {
            slots.push(if write {
                self.destination(part, Class::Word)?
            } else {
                self.source(part, Class::Word)?
            });
        }
        Ok(slots)
    }

    pub(super) fn matrix(&mut self, opcode: &str) -> Result<(), Fault> {
        let parts: Vec<&str> = opcode.split('.').collect();
        match parts[..] {
            ["mma", "sync", "aligned", shape, "row", "col", d, a, b, c] => self.mma(shape, [d, a, b, c]),
            ["movmatrix", "sync", "aligned", "m8n8", "trans", "b16"] => {
                let operands = self.operands(2..=2)?;
                let from = self.source(&operands[1], Class::Word)?;
                let to = self.destination(&operands[0], Class::Word)?;
                self.emit(Code::MoveMatrix { to, from });
                Ok(())
            }
            [root @ ("ldmatrix" | "stmatrix"), "sync", "aligned", "m8n8", count, ref rest @ ..] => {
                let store = root == "stmatrix";
                let transposed = match rest {
                    ["trans", "shared" | "shared::cta", "b16"] => true,
                    ["shared" | "shared::cta", "b16"] => false,
                    _ => return Err(self.unknown("not implemented")),
                };
                let count = match count {
                    "x1" => 1,
                    "x2" => 2,
                    "x4" => 4,
                    _ => return Err(self.unknown("not implemented")),
                };
                let operands = self.operands(2..=2)?;
                let (data, address) = if store { (1, 0) } else { (0, 1) };
                let address = self.address(&operands[address])?;
                let registers = self.words(&operands[data], count, !store)?;
                self.emit(Code::MatrixAccess(Box::new(MatrixAccess {
                    address,
                    registers,
                    transposed,
                    store,
                })));
                Ok(())
            }
            _ => Err(self.unknown("not implemented")),
        }
    }

    fn mma(&mut self, shape: &str, types: [&str; 4]) -> Result<(), Fault> {
        let element = |name: &str| match name {
            "bf16" => Some(Element::Bf16),
            "f16" => Some(Element::F16),
            "s8" => Some(Element::S8),
            "u8" => Some(Element::U8),
            _ => None,
        };
        let [d, a, b, c] = types;
        let (Some(a_type), Some(b_type)) = (element(a), element(b)) else {
            return Err(self.unknown("not implemented"));
        };
        let bytes = matches!(a_type, Element::S8 | Element::U8);
        let k = match (shape, bytes) {
            ("m16n8k8", false) => 8,
            ("m16n8k16", _) => 16,
            ("m16n8k32", true) => 32,
            _ => return Err(self.unknown("not implemented")),
        };
        let half = match (d, c, a_type) {
            ("f32", "f32", Element::Bf16 | Element::F16) | ("s32", "s32", Element::S8 | Element::U8) => false,
            ("f16", "f16", Element::F16) => true,
            _ => return Err(self.unknown("not implemented")),
        };
        if !bytes && a_type != b_type || bytes != matches!(b_type, Element::S8 | Element::U8) {
            return Err(self.unknown("not implemented"));
        }
        let operands = self.operands(4..=4)?;
        let columns = k / if bytes { 16 } else { 8 };
        let accumulators = if half { 2 } else { 4 };
        let a = self.words(&operands[1], 2 * columns, false)?;
        let b = self.words(&operands[2], columns, false)?;
        let c = self.words(&operands[3], accumulators, false)?;
        let d = self.words(&operands[0], accumulators, true)?;
        let mark = self.marks.by_line.get(&self.instruction.line).copied();
        self.emit(Code::Mma(Box::new(Mma { k, a_type, b_type, half, d, a, b, c, mark })));
        Ok(())
    }
}
