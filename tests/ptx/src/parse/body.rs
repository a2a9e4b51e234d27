//! The body of a kernel: registers, scopes, labels and instructions.

use std::collections::{HashMap, HashSet};

use super::ast::{Base, Entry, Instruction, Operand, Register, Room, Space, Variable};
use super::tokens::Kind;
use super::variable::Declared;
use super::{Parser, unknown};
use crate::Fault;
use crate::registers::Class;

/// Place of dynamic shared memory until the size of what is static is known.
const DYNAMIC: u64 = u64::MAX;
/// Between shared variables; a multiple of this keeps banks and alignment as they are.
const GAP: u64 = 1024;

/// A `.reg` declaration: first register, how many (`None`: the name itself).
struct Range {
    first: usize,
    count: Option<usize>,
    class: Class,
}

/// Names of one scope.
#[derive(Default)]
struct Scope {
    id: usize,
    registers: HashMap<String, Range>,
}

/// Open scopes, innermost last.
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// The register of this name.
    pub fn register(&self, name: &str) -> Option<Register> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        self.0.iter().rev().find_map(|scope| {
            if let Some(Range { first, count: None, class }) = scope.registers.get(name) {
                return Some(Register { id: *first, class: *class });
            }
            // `%r12`, and of `.reg .b32 a1<3>` the register a12.
            (0..digits).rev().find_map(|length| {
                let (stem, index) = name.split_at(name.len() - length - 1);
                let range = scope.registers.get(stem)?;
                let index: usize = index.parse().ok()?;
                (index < range.count?).then_some(Register { id: range.first + index, class: range.class })
            })
        })
    }
}

fn class_of(name: &str) -> Option<Class> {
    Some(match name {
        ".pred" => Class::Pred,
        ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => Class::Half,
        ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" | ".bf16x2" => Class::Word,
        ".b64" | ".u64" | ".s64" | ".f64" => Class::Wide,
        _ => return None,
    })
}

/// Gives a shared variable its place.
fn place_shared(entry: &mut Entry, declared: &Declared) {
    let offset = if declared.bytes == 0 {
        entry.shared_align = entry.shared_align.max(declared.align);
        DYNAMIC
    } else {
        let offset = entry.shared_bytes.next_multiple_of(declared.align);
        entry.shared_bytes = offset + declared.bytes;
        let start = offset + GAP * entry.shared_rooms.len() as u64;
        entry.shared_rooms.push(Room { name: declared.name.clone(), start, bytes: declared.bytes });
        start
    };
    entry.variables.insert(declared.name.clone(), Variable { space: Space::Shared, offset });
}

/// Names that instructions use.
fn names(entry: &Entry) -> HashSet<&str> {
    fn of(operand: &Operand) -> Option<&str> {
        match operand {
            Operand::Name(name, _) | Operand::Address(Base::Name(name), _) => Some(name),
            _ => None,
        }
    }
    entry.instructions.iter().flat_map(|instruction| &instruction.operands).filter_map(of).collect()
}

/// Gives the shared variables of the module that the kernel uses their places, then dynamic shared memory, which
/// begins behind all others.
pub fn finish_shared(entry: &mut Entry, shared: &[Declared]) {
    let used: Vec<&Declared> = {
        let names = names(entry);
        shared.iter().filter(|declared| names.contains(&declared.name[..])).collect()
    };
    used.into_iter().for_each(|declared| place_shared(entry, declared));
    entry.shared_bytes = entry.shared_bytes.next_multiple_of(entry.shared_align);
    let start = entry.shared_bytes + GAP * entry.shared_rooms.len() as u64;
    entry.shared_rooms.push(Room { name: "dynamic shared memory".to_string(), start, bytes: 0 });
    for variable in entry.variables.values_mut() {
        if variable.space == Space::Shared && variable.offset == DYNAMIC {
            variable.offset = start;
        }
    }
}

impl<'a> Parser<'a> {
    /// Everything up to the brace that closes the body.
    pub(super) fn body(&mut self, entry: &mut Entry) -> Result<(), Fault> {
        let mut scopes = Scopes(vec![Scope::default()]);
        loop {
            let token = self.next()?;
            match token.text {
                "{" => {
                    let parent = scopes.0.last().map_or(0, |scope| scope.id);
                    scopes.0.push(Scope { id: entry.scopes.len(), ..Scope::default() });
                    entry.scopes.push(parent);
                }
                "}" => {
                    scopes.0.pop();
                    if scopes.0.is_empty() {
                        return Ok(());
                    }
                }
                ";" => {}
                ".reg" => self.declare_registers(entry, &mut scopes)?,
                ".shared" | ".local" | ".extern" => {
                    self.at -= usize::from(token.text != ".extern");
                    let declared = self.variable()?;
                    match declared.space {
                        Space::Shared => place_shared(entry, &declared),
                        Space::Local => {
                            let offset = entry.local_bytes.next_multiple_of(declared.align);
                            entry.local_bytes = offset + declared.bytes;
                            entry.variables.insert(declared.name, Variable { space: Space::Local, offset });
                        }
                        _ => return Err(unknown(token.line, token.text)),
                    }
                }
                ".loc" | ".pragma" | ".file" => self.skip_line(token.line),
                _ if token.kind == Kind::Word && self.take(":") => self.label(entry, &scopes, token.text)?,
                _ => {
                    self.at -= 1;
                    let instruction = self.instruction(&scopes)?;
                    entry.instructions.push(instruction);
                }
            }
        }
    }

    fn label(&mut self, entry: &mut Entry, scopes: &Scopes, name: &str) -> Result<(), Fault> {
        let key = (scopes.0.last().map_or(0, |scope| scope.id), name.to_string());
        if self.take_word(".branchtargets") {
            let mut list = Vec::new();
            loop {
                list.push(self.word()?.to_string());
                if !self.take(",") {
                    break;
                }
            }
            self.expect(";")?;
            entry.tables.insert(key, list);
        } else if entry.labels.insert(key, entry.instructions.len()).is_some() {
            return Err(unknown(self.line(), &format!("a second label {name}")));
        }
        Ok(())
    }

    fn declare_registers(&mut self, entry: &mut Entry, scopes: &mut Scopes) -> Result<(), Fault> {
        let line = self.line();
        let kind = self.word()?;
        let class = class_of(kind).ok_or_else(|| unknown(line, kind))?;
        loop {
            let name = self.word()?.to_string();
            let mut count = None;
            if self.take("<") {
                count = Some(self.number::<usize>()?);
                self.expect(">")?;
            }
            let range = Range { first: entry.registers, count, class };
            entry.registers += count.unwrap_or(1);
            if let Some(scope) = scopes.0.last_mut() {
                scope.registers.insert(name, range);
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(";")
    }

    fn instruction(&mut self, scopes: &Scopes) -> Result<Instruction, Fault> {
        let line = self.line();
        let mut guard = None;
        if self.take("@") {
            let negated = self.take("!");
            let name = self.word()?;
            let register = scopes.register(name).filter(|register| register.class == Class::Pred);
            guard = Some((register.ok_or_else(|| unknown(line, &format!("predicate {name}")))?, negated));
        }
        let line = self.line();
        let opcode = self.word()?.to_string();
        if opcode.starts_with(['.', '%', '$']) || opcode.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(unknown(line, &opcode));
        }
        let mut operands: Vec<Operand> = Vec::new();
        while !self.take(";") {
            if !operands.is_empty() {
                self.expect(",")?;
            }
            operands.push(self.operand(scopes)?);
        }
        let scope = scopes.0.last().map_or(0, |scope| scope.id);
        Ok(Instruction { line, guard, opcode, operands, scope })
    }
}
