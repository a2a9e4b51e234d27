//! Instructions in which the lanes of a warp exchange values.

use super::Lower;
use crate::Fault;
use crate::op::{Code, Redux, Shuffle, Vote};
use crate::parse::ast::Operand;
use crate::registers::Class;

impl Lower<'_> {
    pub(super) fn warp(&mut self, opcode: &str) -> Result<(), Fault> {
        if let Some(how) = opcode.strip_prefix("shfl.sync.") {
            return self.shuffle(how);
        }
        if let Some(how) = opcode.strip_prefix("vote.sync.") {
            return self.vote(how);
        }
        if let Some(how) = opcode.strip_prefix("redux.sync.") {
            let how = match how {
                "add.u32" | "add.s32" => Redux::Add,
                "min.u32" => Redux::MinU,
                "max.u32" => Redux::MaxU,
                "min.s32" => Redux::MinS,
                "max.s32" => Redux::MaxS,
                "and.b32" => Redux::And,
                "or.b32" => Redux::Or,
                "xor.b32" => Redux::Xor,
                _ => return Err(self.unknown("not implemented")),
            };
            let operands = self.operands(3..=3)?;
            let from = self.source(&operands[1], Class::Word)?;
            let members = self.source(&operands[2], Class::Word)?;
            let to = self.destination(&operands[0], Class::Word)?;
            self.emit(Code::Redux { how, to, from, members });
            return Ok(());
        }
        if opcode == "activemask.b32" {
            let to = self.operands(1..=1)?;
            let to = self.destination(&to[0], Class::Word)?;
            self.emit(Code::ActiveMask { to });
            return Ok(());
        }
        Err(self.unknown("not implemented"))
    }

    fn shuffle(&mut self, how: &str) -> Result<(), Fault> {
        let how = match how {
            "up.b32" => Shuffle::Up,
            "down.b32" => Shuffle::Down,
            "bfly.b32" => Shuffle::Butterfly,
            "idx.b32" => Shuffle::Index,
            _ => return Err(self.unknown("not implemented")),
        };
        let operands = self.operands(5..=5)?;
        let mut sources = [0; 4];
        for (slot, operand) in sources.iter_mut().zip(&operands[1..]) {
            *slot = self.source(operand, Class::Word)?;
        }
        let [from, lane, clamp, members] = sources;
        let (to, found) = match &operands[0] {
            Operand::Pair(to, found) => {
                (self.destination(to, Class::Word)?, Some(self.destination(found, Class::Pred)?))
            }
            to => (self.destination(to, Class::Word)?, None),
        };
        self.emit(Code::Shuffle { how, to, found, from, lane, clamp, members });
        Ok(())
    }

    fn vote(&mut self, how: &str) -> Result<(), Fault> {
        let (how, class) = match how {
            "all.pred" => (Vote::All, Class::Pred),
            "any.pred" => (Vote::Any, Class::Pred),
            "uni.pred" => (Vote::Uniform, Class::Pred),
            "ballot.b32" => (Vote::Ballot, Class::Word),
            _ => return Err(self.unknown("not implemented")),
        };
        let operands = self.operands(3..=3)?;
        let (from, flip) = match &operands[1] {
            Operand::Not(register) => (self.slot(*register), !0),
            other => (self.source(other, Class::Pred)?, 0),
        };
        let members = self.source(&operands[2], Class::Word)?;
        let to = self.destination(&operands[0], class)?;
        self.emit(Code::Vote { how, to, from, flip, members });
        Ok(())
    }
}
