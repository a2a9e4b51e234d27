//! Instructions to operations: registers get slots, constants and special registers become registers, opcodes
//! become functions.

mod compare;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod matrix;
mod memory;
mod moves;
mod warp;
mod wgmma;

use std::collections::HashMap;

use crate::layout::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::op::{Address, Code, Guard, Kernel, Op, Slot, Special};
use crate::parse::ast::{Base, Entry, Instruction, Operand, Register, Space, Variable};
use crate::parse::unknown;
use crate::registers::{Class, Map};
use crate::{Fault, control::Flow};

/// Marks of a file: by line, and the list of their texts.
#[derive(Debug, Default)]
pub struct Marks {
    pub by_line: HashMap<usize, usize>,
    pub texts: Vec<String>,
}

/// Slot of the predicate that is always true.
const ALWAYS: u32 = 0;
/// Slot of the hidden carry of add.cc.
const CARRY: u32 = 1;
/// Slot of the predicate that is never true.
const NEVER: u32 = 2;

/// An operation of the instruction in hand.
struct Pending {
    code: Code,
    flops: u8,
    renames: bool,
    uses: Vec<Slot>,
}

struct Lower<'a> {
    entry: &'a Entry,
    marks: &'a Marks,
    kernel: Kernel,
    slots: Vec<Option<u32>>,
    constants: HashMap<(Class, u64), u32>,
    specials: HashMap<Special, u32>,
    globals: HashMap<(usize, i64), u32>,
    /// Operations of the instruction in hand.
    pending: Vec<Pending>,
    instruction: &'a Instruction,
}

/// Lowers one kernel.
pub fn lower(entry: &Entry, marks: &Marks) -> Result<Kernel, Fault> {
    let Some(first) = entry.instructions.first() else {
        return Err(unknown(entry.line, "a kernel without instructions"));
    };
    let kernel = Kernel {
        name: entry.name.clone(),
        ops: Vec::new(),
        meets: Vec::new(),
        quits: Vec::new(),
        preds: 3,
        words: 0,
        wides: 0,
        word_constants: Vec::new(),
        wide_constants: Vec::new(),
        specials: Vec::new(),
        globals: Vec::new(),
        parameter_bytes: entry.parameter_bytes,
        max_threads: entry.max_threads,
        exact_threads: entry.exact_threads,
        shared_bytes: entry.shared_bytes,
        shared_rooms: entry.shared_rooms.clone(),
        local_bytes: entry.local_bytes,
        warpgroups: false,
        uses: Vec::new(),
    };
    let mut lower = Lower {
        entry,
        marks,
        kernel,
        slots: vec![None; entry.registers],
        constants: HashMap::new(),
        specials: HashMap::new(),
        globals: HashMap::new(),
        pending: Vec::new(),
        instruction: first,
    };
    // Branches name instructions; instructions may become several operations.
    let mut starts = Vec::with_capacity(entry.instructions.len() + 1);
    for instruction in &entry.instructions {
        starts.push(lower.kernel.ops.len() as u32);
        lower.instruction = instruction;
        lower.instruction()?;
    }
    starts.push(lower.kernel.ops.len() as u32);
    let mut kernel = lower.kernel;
    for op in &mut kernel.ops {
        match &mut op.code {
            Code::Branch { target } => *target = starts[*target as usize],
            Code::BranchIndexed { targets, .. } => {
                targets.iter_mut().for_each(|at| *at = starts[*at as usize])
            }
            _ => {}
        }
    }
    let flow = Flow::of(&kernel.ops);
    kernel.meets = flow.meets;
    kernel.quits = flow.quits;
    Ok(kernel)
}

impl<'a> Lower<'a> {
    fn unknown(&self, what: &str) -> Fault {
        let Instruction { line, opcode, .. } = self.instruction;
        unknown(*line, &format!("`{opcode}`: {what}"))
    }

    fn operands(&self, counts: std::ops::RangeInclusive<usize>) -> Result<&'a [Operand], Fault> {
        let operands = &self.instruction.operands;
        if counts.contains(&operands.len()) { Ok(operands) } else { Err(self.unknown("number of operands")) }
    }

    fn emit(&mut self, code: Code) {
        let uses = code.uses();
        self.pending.push(Pending { code, flops: 0, renames: false, uses });
    }

    fn instruction(&mut self) -> Result<(), Fault> {
        self.dispatch()?;
        let mut guard = Guard { slot: ALWAYS, flip: 0 };
        if let Some((register, negated)) = self.instruction.guard {
            guard = Guard { slot: self.slot(register), flip: if negated { !0 } else { 0 } };
        }
        let line = self.instruction.line as u32;
        let mut pending = std::mem::take(&mut self.pending);
        let count = pending.len();
        if count > 1 && guard.slot != ALWAYS {
            // One of the operations may write the predicate that guards them all.
            let copy = self.scratch(Class::Pred);
            let keep = Code::Map { run: moves::copy(Class::Pred).run, to: copy, from: [guard.slot; 4] };
            let always = Guard { slot: ALWAYS, flip: 0 };
            self.kernel.ops.push(Op {
                code: keep,
                guard: always,
                line,
                weight: 0,
                flops: 0,
                renames: false,
                uses: (0, 0),
            });
            guard.slot = copy;
        }
        for (index, Pending { code, flops, renames, uses }) in pending.drain(..).enumerate() {
            let weight = u8::from(index + 1 == count);
            let first = self.kernel.uses.len() as u32;
            self.kernel.uses.extend(uses.iter().filter(|slot| slot.class != Class::Pred));
            let uses = (first, self.kernel.uses.len() as u32);
            self.kernel.ops.push(Op { code, guard, line, weight, flops, renames, uses });
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Result<(), Fault> {
        let opcode: &'a str = &self.instruction.opcode;
        let root = opcode.split('.').next().unwrap_or(opcode);
        match root {
            "mov" => self.mov(opcode),
            "cvt" => self.cvt(opcode),
            "cvta" => self.cvta(opcode),
            "setp" => self.setp(opcode),
            "set" => self.set(opcode),
            "ld" | "st" => self.load_or_store(opcode),
            "atom" | "red" => self.atomic(opcode),
            "cp" => self.async_copy(opcode),
            "mma" | "ldmatrix" | "stmatrix" | "movmatrix" => self.matrix(opcode),
            "wgmma" => self.wgmma(opcode),
            "shfl" | "vote" | "redux" | "activemask" => self.warp(opcode),
            "bra" | "brx" | "ret" | "exit" | "trap" | "bar" | "barrier" | "membar" | "fence"
            | "griddepcontrol" | "nanosleep" | "prefetch" | "prefetchu" | "createpolicy" | "isspacep"
            | "discard" | "applypriority" => self.control(opcode),
            _ => self.arithmetic(opcode),
        }
    }

    /// Everything that computes lane by lane.
    fn arithmetic(&mut self, opcode: &str) -> Result<(), Fault> {
        if self.carrying(opcode)? {
            return Ok(());
        }
        let (map, flops) = match integer::map_of(opcode) {
            Some(map) => (map, 0),
            None => float::map_of(opcode)
                .or_else(|| half::map_of(opcode))
                .ok_or_else(|| self.unknown("not implemented"))?,
        };
        let float = [".f32", ".f64", "f16", "f16x2"].iter().any(|kind| opcode.ends_with(kind));
        if float && self.instruction.operands.iter().any(|operand| matches!(operand, Operand::Integer(_))) {
            return Err(self.unknown("an integer where a float belongs"));
        }
        let table = self.instruction.operands.get(4);
        if opcode == "lop3.b32" && !matches!(table, Some(Operand::Integer(table)) if (0..256).contains(table))
        {
            return Err(self.unknown("table"));
        }
        self.map(map, flops)
    }

    /// The instruction in hand as one map of its operands.
    fn map(&mut self, map: Map, flops: u8) -> Result<(), Fault> {
        let operands = self.operands(map.from.len() + 1..=map.from.len() + 1)?;
        let mut from = [0; 4];
        for (slot, (operand, class)) in from.iter_mut().zip(operands[1..].iter().zip(map.from)) {
            *slot = self.source(operand, *class)?;
        }
        let to = self.destination(&operands[0], map.to)?;
        self.emit_with(map, to, from, flops, false);
        Ok(())
    }

    fn emit_map(&mut self, map: Map, to: u32, sources: &[u32]) {
        let mut from = [0; 4];
        from[..sources.len()].copy_from_slice(sources);
        self.emit_with(map, to, from, 0, false);
    }

    fn emit_with(&mut self, map: Map, to: u32, from: [u32; 4], flops: u8, renames: bool) {
        let sources = map.from.iter().zip(from).map(|(&class, slot)| Slot { class, slot });
        let uses = std::iter::once(Slot { class: map.to, slot: to }).chain(sources).collect();
        self.pending.push(Pending { code: Code::Map { run: map.run, to, from }, flops, renames, uses });
    }

    fn slot(&mut self, register: Register) -> u32 {
        if let Some(slot) = self.slots[register.id] {
            return slot;
        }
        let slot = self.scratch(register.class);
        self.slots[register.id] = Some(slot);
        slot
    }

    /// A register of its own.
    fn scratch(&mut self, class: Class) -> u32 {
        let count = match class {
            Class::Pred => &mut self.kernel.preds,
            Class::Half | Class::Word => &mut self.kernel.words,
            Class::Wide => &mut self.kernel.wides,
        };
        *count += 1;
        *count - 1
    }

    fn constant(&mut self, class: Class, value: u64) -> u32 {
        let key = (if class == Class::Half { Class::Word } else { class }, value);
        if let Some(&slot) = self.constants.get(&key) {
            return slot;
        }
        let slot = self.scratch(class);
        self.constants.insert(key, slot);
        match class {
            Class::Wide => self.kernel.wide_constants.push((slot, value)),
            _ => self.kernel.word_constants.push((slot, value as u32)),
        }
        slot
    }

    fn special(&mut self, special: Special) -> u32 {
        if let Some(&slot) = self.specials.get(&special) {
            return slot;
        }
        let slot = self.scratch(Class::Word);
        self.specials.insert(special, slot);
        self.kernel.specials.push((slot, special));
        slot
    }

    /// Slot of what is read as a value of this class.
    fn source(&mut self, operand: &Operand, class: Class) -> Result<u32, Fault> {
        match operand {
            Operand::Register(register) if register.class == class => Ok(self.slot(*register)),
            Operand::Not(register) if class == Class::Pred => {
                let (from, to) = (self.slot(*register), self.scratch(Class::Pred));
                self.emit_map(moves::not(), to, &[from]);
                Ok(to)
            }
            Operand::Integer(value) => {
                let bits = match class {
                    Class::Half => 16,
                    Class::Word => 32,
                    Class::Wide => 64,
                    Class::Pred => return Ok(if *value == 0 { NEVER } else { ALWAYS }),
                };
                if *value < -(1i128 << (bits - 1)) || *value >= 1i128 << bits {
                    return Err(self.unknown(&format!("the number {value} does not fit")));
                }
                Ok(self.constant(class, *value as u64 & (!0 >> (64 - bits))))
            }
            Operand::Single(bits) if class == Class::Word => Ok(self.constant(class, u64::from(*bits))),
            Operand::Double(bits) if class == Class::Wide => Ok(self.constant(class, *bits)),
            Operand::Decimal(value) if class == Class::Word && self.instruction.opcode.ends_with(".f32") => {
                Ok(self.constant(class, u64::from((*value as f32).to_bits())))
            }
            Operand::Decimal(value) if class == Class::Wide && self.instruction.opcode.ends_with(".f64") => {
                Ok(self.constant(class, value.to_bits()))
            }
            Operand::Special(name) if class == Class::Word => {
                let special = moves::special(name).ok_or_else(|| self.unknown(name))?;
                Ok(self.special(special))
            }
            Operand::Name(name, offset) if class == Class::Word || class == Class::Wide => {
                self.address_of(name, *offset, class)
            }
            other => Err(self.unknown(&format!("operand {other:?}"))),
        }
    }

    fn destination(&mut self, operand: &Operand, class: Class) -> Result<u32, Fault> {
        match operand {
            Operand::Register(register) if register.class == class => Ok(self.slot(*register)),
            Operand::Sink => Ok(self.scratch(class)),
            other => Err(self.unknown(&format!("destination {other:?}"))),
        }
    }

    /// A register of any class, or a constant of the given one.
    fn any_source(&mut self, operand: &Operand, class: Class) -> Result<Slot, Fault> {
        let class = if let Operand::Register(register) = operand { register.class } else { class };
        Ok(Slot { class, slot: self.source(operand, class)? })
    }

    fn variable(&self, name: &str) -> Result<Variable, Fault> {
        self.entry.variables.get(name).copied().ok_or_else(|| self.unknown(name))
    }

    /// Slot with the address of a variable in its own space; parameters have generic addresses.
    fn address_of(&mut self, name: &str, offset: i64, class: Class) -> Result<u32, Fault> {
        let variable = self.variable(name)?;
        match variable.space {
            Space::Global => {
                let key = (variable.offset as usize, offset);
                if class != Class::Wide {
                    return Err(self.unknown("a global address in 32 bits"));
                }
                if let Some(&slot) = self.globals.get(&key) {
                    return Ok(slot);
                }
                let slot = self.scratch(class);
                self.globals.insert(key, slot);
                self.kernel.globals.push((slot, key.0, offset));
                Ok(slot)
            }
            Space::Param => {
                Ok(self
                    .constant(class, PARAM_WINDOW.wrapping_add(variable.offset).wrapping_add_signed(offset)))
            }
            _ => Ok(self.constant(class, variable.offset.wrapping_add_signed(offset))),
        }
    }

    fn address(&mut self, operand: &Operand) -> Result<Address, Fault> {
        let Operand::Address(base, offset) = operand else {
            return Err(self.unknown("no address"));
        };
        let (slot, class, offset) = match base {
            Base::Register(register) if matches!(register.class, Class::Word | Class::Wide) => {
                (self.slot(*register), register.class, *offset)
            }
            Base::Name(name) => (self.address_of(name, *offset, Class::Wide)?, Class::Wide, 0),
            Base::Absolute => (self.constant(Class::Wide, *offset as u64), Class::Wide, 0),
            Base::Register(_) => return Err(self.unknown("base of an address")),
        };
        Ok(Address { base: Slot { class, slot }, offset })
    }

    fn cvta(&mut self, opcode: &str) -> Result<(), Fault> {
        let operands = self.operands(2..=2)?;
        let to = self.destination(&operands[0], Class::Wide)?;
        let from = self.source(&operands[1], Class::Wide)?;
        let window = match opcode {
            "cvta.global.u64" | "cvta.to.global.u64" | "cvta.param.u64" | "cvta.to.param.u64" => 0,
            "cvta.shared.u64" => SHARED_WINDOW,
            "cvta.local.u64" => LOCAL_WINDOW,
            "cvta.to.shared.u64" => SHARED_WINDOW.wrapping_neg(),
            "cvta.to.local.u64" => LOCAL_WINDOW.wrapping_neg(),
            _ => return Err(self.unknown("not implemented")),
        };
        let window = self.constant(Class::Wide, window);
        self.emit_map(integer::add_wide(), to, &[from, window]);
        Ok(())
    }
}
