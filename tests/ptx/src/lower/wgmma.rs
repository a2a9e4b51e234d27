//! Instructions of warpgroups, which only sm_90a has.

use super::Lower;
use crate::Fault;
use crate::op::{Code, Element, Wgmma};
use crate::parse::ast::Operand;
use crate::registers::Class;

impl Lower<'_> {
    pub(super) fn wgmma(&mut self, opcode: &str) -> Result<(), Fault> {
        if !self.entry.warpgroups {
            return Err(self.unknown("the target is not sm_90a"));
        }
        let parts: Vec<&str> = opcode.split('.').collect();
        let code = match parts[..] {
            ["wgmma", "fence", "sync", "aligned"] => {
                self.operands(0..=0)?;
                Code::WgmmaFence
            }
            ["wgmma", "commit_group", "sync", "aligned"] => {
                self.operands(0..=0)?;
                Code::WgmmaCommit
            }
            ["wgmma", "wait_group", "sync", "aligned"] => match self.operands(1..=1)? {
                [Operand::Integer(groups @ 0..=7)] => Code::WgmmaWait(*groups as u32),
                _ => return Err(self.unknown("number of groups")),
            },
            ["wgmma", "mma_async", "sync", "aligned", shape, d, a, b] => self.mma_async(shape, [d, a, b])?,
            _ => return Err(self.unknown("not implemented")),
        };
        self.kernel.warpgroups = true;
        self.emit(code);
        Ok(())
    }

    fn mma_async(&mut self, shape: &str, types: [&str; 3]) -> Result<Code, Fault> {
        let bytes = |name: &str| if name == "s8" { Element::S8 } else { Element::U8 };
        // Types, columns of a, how many immediates follow the predicate.
        let (a_type, b_type, k, immediates) = match types {
            ["f32", "bf16", "bf16"] => (Element::Bf16, Element::Bf16, 16, 4),
            ["f32", "f16", "f16"] => (Element::F16, Element::F16, 16, 4),
            ["f32", "e4m3", "e4m3"] => (Element::E4m3, Element::E4m3, 32, 2),
            ["s32", a @ ("s8" | "u8"), b @ ("s8" | "u8")] => (bytes(a), bytes(b), 32, 0),
            _ => return Err(self.unknown("not implemented")),
        };
        let n = shape.strip_prefix("m64n").and_then(|rest| rest.strip_suffix(&format!("k{k}")));
        let n: usize = n.and_then(|n| n.parse().ok()).ok_or_else(|| self.unknown("shape"))?;
        // Of integers, not every multiple of 8.
        let exists = n > 0 && n <= 256 && n.is_multiple_of(if immediates == 0 && n > 24 { 16 } else { 8 });
        if !exists {
            return Err(self.unknown("shape"));
        }
        let operands = self.operands(4 + immediates..=4 + immediates)?;
        let (scales, transposes) = operands[4..].split_at(immediates.min(2));
        let mut negative = false;
        for scale in scales {
            match scale {
                Operand::Integer(1) => {}
                Operand::Integer(-1) => negative = !negative,
                _ => return Err(self.unknown("scales are 1 or -1")),
            }
        }
        if transposes.iter().any(|transpose| *transpose != Operand::Integer(0)) {
            return Err(self.unknown("transposed matrices are not implemented"));
        }
        let d = self.words(&operands[0], n / 2, true)?;
        let a = self.source(&operands[1], Class::Wide)?;
        let b = self.source(&operands[2], Class::Wide)?;
        let adds = self.source(&operands[3], Class::Pred)?;
        let mark = self.marks.by_line.get(&self.instruction.line).copied();
        Ok(Code::Wgmma(Box::new(Wgmma { n, a_type, b_type, d, a, b, adds, negative, mark })))
    }
}
