//! A parsed module: variables, and kernels as lists of instructions.

use std::collections::HashMap;

use crate::registers::Class;

/// Where a variable lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Global,
    Shared,
    Local,
    Param,
    Generic,
}

/// A `.global` variable of the module with its first contents.
#[derive(Debug, Clone)]
pub struct Global {
    pub name: String,
    pub contents: Vec<u8>,
}

/// A declared variable: where it lies in its space; for `.global` the index among the module's variables.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub space: Space,
    pub offset: u64,
}

/// A shared variable's place. There are gaps between variables, so that reaching beyond one shows.
#[derive(Debug, Clone)]
pub struct Room {
    pub name: String,
    pub start: u64,
    pub bytes: u64,
}

/// A register of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    pub id: usize,
    pub class: Class,
}

/// Base of an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    Register(Register),
    Name(String),
    Absolute,
}

/// One operand.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Register(Register),
    /// `!p`
    Not(Register),
    /// `a|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Sink,
    Integer(i128),
    Single(u32),
    Double(u64),
    /// `1.0`: of the type that the instruction takes.
    Decimal(f64),
    /// `%tid.x` and the like.
    Special(String),
    /// A variable, with an offset, or a label.
    Name(String, i64),
    Vector(Vec<Operand>),
    Address(Base, i64),
}

/// One instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    pub line: usize,
    /// Predicate, and whether it is negated.
    pub guard: Option<(Register, bool)>,
    pub opcode: String,
    pub operands: Vec<Operand>,
    /// Innermost scope, for labels.
    pub scope: usize,
}

/// An entry point.
#[derive(Debug, Default)]
pub struct Entry {
    pub name: String,
    pub line: usize,
    pub parameter_bytes: u64,
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`: the block must have exactly this shape.
    pub exact_threads: bool,
    pub instructions: Vec<Instruction>,
    pub registers: usize,
    /// Parent of every scope.
    pub scopes: Vec<usize>,
    /// Scope and name to the index of the instruction that follows.
    pub labels: HashMap<(usize, String), usize>,
    /// Lists of `.branchtargets`.
    pub tables: HashMap<(usize, String), Vec<String>>,
    pub variables: HashMap<String, Variable>,
    /// Static shared memory as it counts, without the gaps.
    pub shared_bytes: u64,
    pub shared_align: u64,
    /// Shared variables, the dynamic one last.
    pub shared_rooms: Vec<Room>,
    pub local_bytes: u64,
    /// See [`File::warpgroups`].
    pub warpgroups: bool,
}

impl Entry {
    /// Instruction that a label names, seen from a scope.
    pub fn label(&self, mut scope: usize, name: &str) -> Option<usize> {
        loop {
            if let Some(&at) = self.labels.get(&(scope, name.to_string())) {
                return Some(at);
            }
            if scope == 0 {
                return None;
            }
            scope = self.scopes[scope];
        }
    }

    /// List of branch targets, seen from a scope.
    pub fn table(&self, mut scope: usize, name: &str) -> Option<&[String]> {
        loop {
            if let Some(list) = self.tables.get(&(scope, name.to_string())) {
                return Some(list);
            }
            if scope == 0 {
                return None;
            }
            scope = self.scopes[scope];
        }
    }
}

/// A whole file.
#[derive(Debug, Default)]
pub struct File {
    /// Of `.target sm_80`: 80.
    pub target: u32,
    /// Whether the target is sm_90a, which has instructions of warpgroups.
    pub warpgroups: bool,
    pub globals: Vec<Global>,
    pub entries: Vec<Entry>,
}
