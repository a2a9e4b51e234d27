//! Loads, stores, atomics and asynchronous copies.

use super::Lower;
use crate::Fault;
use crate::op::{Access, AsyncCopy, Atomic, AtomicOp, Code, Slot};
use crate::parse::ast::{Operand, Space};
use crate::parse::unknown;
use crate::registers::Class;

/// Modifiers that only say how caches are used.
fn is_cache_hint(part: &str) -> bool {
    matches!(
        part,
        "ca" | "cg"
            | "cs"
            | "lu"
            | "cv"
            | "wb"
            | "wt"
            | "L1::evict_normal"
            | "L1::evict_unchanged"
            | "L1::evict_first"
            | "L1::evict_last"
            | "L1::no_allocate"
            | "L2::evict_normal"
            | "L2::evict_first"
            | "L2::evict_last"
            | "L2::64B"
            | "L2::128B"
            | "L2::256B"
    )
}

fn space_of(part: &str) -> Option<Space> {
    Some(match part {
        "global" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        "param" => Space::Param,
        _ => return None,
    })
}

/// Class of the registers that hold a value of this many bytes.
fn class_of(bytes: u32) -> Class {
    match bytes {
        1 | 2 => Class::Half,
        4 => Class::Word,
        _ => Class::Wide,
    }
}

fn bytes_of(part: &str) -> Option<u32> {
    Some(match part {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" => 2,
        "b32" | "u32" | "s32" | "f32" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        _ => return None,
    })
}

impl Lower<'_> {
    pub(super) fn load_or_store(&mut self, opcode: &str) -> Result<(), Fault> {
        let load = opcode.starts_with("ld.");
        let mut access = Access {
            space: Space::Generic,
            address: crate::op::Address { base: Slot { class: Class::Wide, slot: 0 }, offset: 0 },
            bytes: 0,
            signed: false,
            registers: Vec::new(),
            strong: false,
            read_only: false,
        };
        let (mut count, mut hinted) = (1, false);
        for part in opcode.split('.').skip(1) {
            match part {
                "v2" => count = 2,
                "v4" => count = 4,
                "relaxed" | "acquire" | "release" => access.strong = true,
                // Volatile only keeps the compiler from moving it: it orders nothing between threads.
                "volatile" | "weak" | "cta" | "gpu" | "sys" => {}
                "L2::cache_hint" => hinted = true,
                "nc" if load => access.read_only = true,
                _ if is_cache_hint(part) => {}
                _ => {
                    if let Some(space) = space_of(part) {
                        access.space = space;
                    } else if let (Some(bytes), 0) = (bytes_of(part), access.bytes) {
                        access.bytes = bytes;
                        access.signed = part.starts_with('s');
                    } else {
                        return Err(self.unknown(part));
                    }
                }
            }
        }
        if access.bytes == 0 || (access.read_only && access.space != Space::Global) {
            return Err(self.unknown("not implemented"));
        }
        if access.bytes * count as u32 > 16 {
            return Err(self.unknown("more than 16 bytes"));
        }
        let operands = self.operands(if hinted { 3..=3 } else { 2..=2 })?;
        let (data, address) = if load { (&operands[0], &operands[1]) } else { (&operands[1], &operands[0]) };
        access.address = self.address(address)?;
        let single = std::slice::from_ref(data);
        let parts: &[Operand] = if let Operand::Vector(parts) = data { parts } else { single };
        if parts.len() != count {
            return Err(self.unknown("number of registers"));
        }
        let least = class_of(access.bytes);
        for part in parts {
            let slot = match part {
                Operand::Sink if load => Slot { class: least, slot: self.scratch(least) },
                Operand::Register(_) | Operand::Integer(_) | Operand::Single(_) | Operand::Double(_)
                    if !load =>
                {
                    self.any_source(part, least)?
                }
                Operand::Register(register) if load => {
                    Slot { class: register.class, slot: self.slot(*register) }
                }
                _ => return Err(self.unknown("operand")),
            };
            if slot.class < least || slot.class == Class::Pred {
                return Err(self.unknown("width of a register"));
            }
            access.registers.push(slot);
        }
        self.emit(if load { Code::Load(Box::new(access)) } else { Code::Store(Box::new(access)) });
        Ok(())
    }

    pub(super) fn atomic(&mut self, opcode: &str) -> Result<(), Fault> {
        let returns = opcode.starts_with("atom.");
        let (mut space, mut name, mut kind, mut hinted) = (Space::Generic, None, None, false);
        for part in opcode.split('.').skip(1) {
            match part {
                "relaxed" | "acquire" | "release" | "acq_rel" | "cta" | "gpu" | "sys" => {}
                "L2::cache_hint" => hinted = true,
                "global" => space = Space::Global,
                "shared" | "shared::cta" => space = Space::Shared,
                "add" | "and" | "or" | "xor" | "min" | "max" | "inc" | "dec" | "exch" | "cas"
                    if name.is_none() =>
                {
                    name = Some(part)
                }
                "u32" | "s32" | "b32" | "f32" | "u64" | "s64" | "b64" | "f64" if kind.is_none() => {
                    kind = Some(part)
                }
                other => return Err(self.unknown(other)),
            }
        }
        let (Some(name), Some(kind)) = (name, kind) else {
            return Err(self.unknown("not implemented"));
        };
        let op = match (name, kind) {
            ("add", "u32" | "s32" | "u64") => AtomicOp::Add,
            ("add", "f32") => AtomicOp::AddF32,
            ("add", "f64") => AtomicOp::AddF64,
            ("and", "b32" | "b64") => AtomicOp::And,
            ("or", "b32" | "b64") => AtomicOp::Or,
            ("xor", "b32" | "b64") => AtomicOp::Xor,
            ("min", "u32" | "u64") => AtomicOp::MinU,
            ("max", "u32" | "u64") => AtomicOp::MaxU,
            ("min", "s32" | "s64") => AtomicOp::MinS,
            ("max", "s32" | "s64") => AtomicOp::MaxS,
            ("inc", "u32") => AtomicOp::Inc,
            ("dec", "u32") => AtomicOp::Dec,
            ("exch", "b32" | "b64") => AtomicOp::Exchange,
            ("cas", "b32" | "b64") => AtomicOp::CompareSwap,
            _ => return Err(self.unknown("not implemented")),
        };
        let bytes = bytes_of(kind).unwrap_or(4);
        let class = class_of(bytes);
        let swaps = op == AtomicOp::CompareSwap;
        let first = usize::from(returns);
        let count = first + 2 + usize::from(swaps) + usize::from(hinted);
        let operands = self.operands(count..=count)?;
        if swaps && !returns {
            return Err(self.unknown("not implemented"));
        }
        let address = self.address(&operands[first])?;
        let value = Slot { class, slot: self.source(&operands[first + 1], class)? };
        let swap =
            if swaps { Some(Slot { class, slot: self.source(&operands[first + 2], class)? }) } else { None };
        let to =
            if returns { Some(Slot { class, slot: self.destination(&operands[0], class)? }) } else { None };
        self.emit(Code::Atomic(Box::new(Atomic { space, op, bytes, to, address, value, swap })));
        Ok(())
    }

    pub(super) fn async_copy(&mut self, opcode: &str) -> Result<(), Fault> {
        let parts: Vec<&str> = opcode.split('.').collect();
        match parts[..] {
            ["cp", "async", "commit_group"] => {
                self.operands(0..=0)?;
                self.emit(Code::Commit);
                return Ok(());
            }
            ["cp", "async", "wait_all"] => {
                self.operands(0..=0)?;
                self.emit(Code::WaitCopies(None));
                return Ok(());
            }
            ["cp", "async", "wait_group"] => {
                let operands = self.operands(1..=1)?;
                let Operand::Integer(groups) = operands[0] else {
                    return Err(self.unknown("number of groups"));
                };
                self.emit(Code::WaitCopies(Some(groups as u32)));
                return Ok(());
            }
            ["cp", "async", cache @ ("ca" | "cg"), "shared" | "shared::cta", "global", ref hints @ ..] => {
                let hinted = hints.contains(&"L2::cache_hint");
                if let Some(other) =
                    hints.iter().find(|hint| !is_cache_hint(hint) && **hint != "L2::cache_hint")
                {
                    return Err(self.unknown(other));
                }
                let operands = self.operands(3 + usize::from(hinted)..=4 + usize::from(hinted))?;
                let bytes = match operands[2] {
                    Operand::Integer(16) => 16,
                    Operand::Integer(bytes @ (4 | 8)) if cache == "ca" => bytes as u32,
                    _ => return Err(self.unknown("size")),
                };
                let to = self.address(&operands[0])?;
                let from = self.address(&operands[1])?;
                let has_size = operands.len() == 4 + usize::from(hinted);
                let source_bytes =
                    if has_size { Some(self.source(&operands[3], Class::Word)?) } else { None };
                self.emit(Code::AsyncCopy(Box::new(AsyncCopy { to, from, bytes, source_bytes })));
                return Ok(());
            }
            _ => {}
        }
        Err(unknown(self.instruction.line, &format!("`{opcode}`: not implemented")))
    }
}
