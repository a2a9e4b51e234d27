//! Branches, barriers, fences and hints.

use super::Lower;
use crate::Fault;
use crate::op::Code;
use crate::parse::ast::{Operand, Space};
use crate::registers::Class;

impl Lower<'_> {
    fn label(&self, operand: &Operand) -> Result<u32, Fault> {
        let Operand::Name(name, 0) = operand else {
            return Err(self.unknown("target"));
        };
        self.target(name)
    }

    fn target(&self, name: &str) -> Result<u32, Fault> {
        let at = self.entry.label(self.instruction.scope, name);
        at.map(|at| at as u32).ok_or_else(|| self.unknown(&format!("label {name}")))
    }

    pub(super) fn control(&mut self, opcode: &str) -> Result<(), Fault> {
        let code = match opcode {
            "bra" | "bra.uni" => {
                let target = self.operands(1..=1)?;
                Code::Branch { target: self.label(&target[0])? }
            }
            "brx.idx" | "brx.idx.uni" => {
                let operands = self.operands(2..=2)?;
                let Operand::Name(table, 0) = &operands[1] else {
                    return Err(self.unknown("targets"));
                };
                let names = self.entry.table(self.instruction.scope, table);
                let names = names.ok_or_else(|| self.unknown(&format!("targets {table}")))?;
                let targets =
                    names.iter().map(|name| self.target(name)).collect::<Result<Box<[u32]>, Fault>>()?;
                Code::BranchIndexed { index: self.source(&operands[0], Class::Word)?, targets }
            }
            "ret" | "ret.uni" | "exit" => {
                self.operands(0..=0)?;
                Code::Exit
            }
            "trap" => Code::Trap,
            "bar.warp.sync" => {
                let operands = self.operands(1..=1)?;
                Code::WarpBarrier { members: self.source(&operands[0], Class::Word)? }
            }
            "bar.sync"
            | "bar.cta.sync"
            | "barrier.sync"
            | "barrier.cta.sync"
            | "barrier.sync.aligned"
            | "barrier.cta.sync.aligned" => self.barrier(false)?,
            "bar.arrive"
            | "bar.cta.arrive"
            | "barrier.arrive"
            | "barrier.cta.arrive"
            | "barrier.arrive.aligned"
            | "barrier.cta.arrive.aligned" => self.barrier(true)?,
            "membar.cta" | "membar.gl" | "membar.sys" | "fence.sc.cta" | "fence.sc.gpu" | "fence.sc.sys"
            | "fence.acq_rel.cta" | "fence.acq_rel.gpu" | "fence.acq_rel.sys" => {
                self.operands(0..=0)?;
                Code::Fence
            }
            "fence.proxy.async" | "fence.proxy.async.shared::cta" if self.entry.warpgroups => {
                self.operands(0..=0)?;
                Code::ProxyFence
            }
            "griddepcontrol.wait" => Code::WaitForEarlier,
            "griddepcontrol.launch_dependents" => Code::Nothing,
            "nanosleep.u32" => {
                let operands = self.operands(1..=1)?;
                self.source(&operands[0], Class::Word)?;
                Code::Nothing
            }
            "prefetch.global.L1"
            | "prefetch.global.L2"
            | "prefetch.L1"
            | "prefetch.L2"
            | "prefetchu.L1"
            | "prefetch.global.L2::evict_last"
            | "prefetch.global.L2::evict_normal" => {
                let operands = self.operands(1..=1)?;
                self.address(&operands[0])?;
                Code::Nothing
            }
            "isspacep.global" | "isspacep.shared" | "isspacep.local" | "isspacep.param" => {
                let space = match opcode {
                    "isspacep.global" => Space::Global,
                    "isspacep.shared" => Space::Shared,
                    "isspacep.local" => Space::Local,
                    _ => Space::Param,
                };
                let operands = self.operands(2..=2)?;
                let from = self.source(&operands[1], Class::Wide)?;
                Code::IsSpace { to: self.destination(&operands[0], Class::Pred)?, from, space }
            }
            _ if opcode.starts_with("createpolicy.fractional.L2::evict_") && opcode.ends_with(".b64") => {
                // The policy is an operand of hints, and those do nothing.
                let operands = self.operands(1..=2)?;
                let to = self.destination(&operands[0], Class::Wide)?;
                let zero = self.constant(Class::Wide, 0);
                self.emit_map(super::moves::copy(Class::Wide), to, &[zero]);
                return Ok(());
            }
            _ => return Err(self.unknown("not implemented")),
        };
        self.emit(code);
        Ok(())
    }

    fn barrier(&mut self, arrive: bool) -> Result<Code, Fault> {
        let operands = self.operands(if arrive { 2..=2 } else { 1..=2 })?;
        if matches!(operands[0], Operand::Integer(id) if !(0..16).contains(&id)) {
            return Err(self.unknown("barriers are 0 to 15"));
        }
        let id = self.source(&operands[0], Class::Word)?;
        let count = match operands.get(1) {
            Some(operand) => Some(self.source(operand, Class::Word)?),
            None => None,
        };
        Ok(Code::Barrier { id, count, arrive })
    }
}
