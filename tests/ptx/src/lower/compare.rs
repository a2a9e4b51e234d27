//! `setp` and `set`.

#![allow(clippy::double_comparisons, clippy::neg_cmp_op_on_partial_ord, clippy::redundant_locals)]

use super::{Lower, moves};
use crate::Fault;
use crate::numbers::{bf16, f16, flush};
use crate::parse::ast::Operand;
use crate::registers::{Class, Map, map};

macro_rules! ordered {
    ($how:expr, $type:ty, |$x:ident| $value:expr) => {{
        macro_rules! test {
            (|$a:ident, $b:ident| $test:expr) => {
                Some(map!(|a: $type, b: $type| -> bool {
                    let $a = {
                        let $x = a;
                        $value
                    };
                    let $b = {
                        let $x = b;
                        $value
                    };
                    $test
                }))
            };
        }
        match $how {
            "eq" => test!(|a, b| a == b),
            "ne" => test!(|a, b| a < b || a > b),
            "lt" => test!(|a, b| a < b),
            "le" => test!(|a, b| a <= b),
            "gt" => test!(|a, b| a > b),
            "ge" => test!(|a, b| a >= b),
            _ => None,
        }
    }};
}

/// True too where one of the two is NaN.
macro_rules! unordered {
    ($how:expr, $type:ty, |$x:ident| $value:expr) => {{
        macro_rules! test {
            (|$a:ident, $b:ident| $test:expr) => {
                Some(map!(|a: $type, b: $type| -> bool {
                    let $a = {
                        let $x = a;
                        $value
                    };
                    let $b = {
                        let $x = b;
                        $value
                    };
                    $test
                }))
            };
        }
        match $how {
            "equ" => test!(|a, b| !(a < b || a > b)),
            "neu" => test!(|a, b| a != b),
            "ltu" => test!(|a, b| !(a >= b)),
            "leu" => test!(|a, b| !(a > b)),
            "gtu" => test!(|a, b| !(a <= b)),
            "geu" => test!(|a, b| !(a < b)),
            "num" => test!(|a, b| a.partial_cmp(&b).is_some()),
            "nan" => test!(|a, b| a.partial_cmp(&b).is_none()),
            _ => None,
        }
    }};
}

macro_rules! float {
    ($how:expr, $type:ty, |$x:ident| $value:expr) => {
        ordered!($how, $type, |$x| $value).or_else(|| unordered!($how, $type, |$x| $value))
    };
}

fn comparison(how: &str, kind: &str, ftz: bool) -> Option<Map> {
    if ftz {
        return if kind == "f32" { float!(how, f32, |x| flush(x)) } else { None };
    }
    let unsigned = match how {
        "lo" => "lt",
        "ls" => "le",
        "hi" => "gt",
        "hs" => "ge",
        other => other,
    };
    let equality = matches!(how, "eq" | "ne");
    match kind {
        "u16" => ordered!(unsigned, u16, |x| x),
        "u32" => ordered!(unsigned, u32, |x| x),
        "u64" => ordered!(unsigned, u64, |x| x),
        "b16" if equality => ordered!(how, u16, |x| x),
        "b32" if equality => ordered!(how, u32, |x| x),
        "b64" if equality => ordered!(how, u64, |x| x),
        "s16" => ordered!(how, i16, |x| x),
        "s32" => ordered!(how, i32, |x| x),
        "s64" => ordered!(how, i64, |x| x),
        "f32" => float!(how, f32, |x| x),
        "f64" => float!(how, f64, |x| x),
        "f16" => float!(how, u16, |x| f16(x)),
        "bf16" => float!(how, u16, |x| bf16(x)),
        _ => None,
    }
}

fn combination(name: &str) -> Option<Map> {
    Some(match name {
        "and" => map!(|a: bool, b: bool| -> bool { a & b }),
        "or" => map!(|a: bool, b: bool| -> bool { a | b }),
        "xor" => map!(|a: bool, b: bool| -> bool { a ^ b }),
        _ => return None,
    })
}

impl Lower<'_> {
    pub(super) fn setp(&mut self, opcode: &str) -> Result<(), Fault> {
        let mut parts: Vec<&str> = opcode.split('.').skip(1).collect();
        let ftz = parts.contains(&"ftz");
        parts.retain(|part| *part != "ftz");
        let (how, combine, kind) = match parts[..] {
            [how, kind] => (how, None, kind),
            [how, combine, kind] => (how, Some(combine), kind),
            _ => return Err(self.unknown("not implemented")),
        };
        let map = comparison(how, kind, ftz).ok_or_else(|| self.unknown("not implemented"))?;
        let combine = match combine {
            Some(name) => Some(combination(name).ok_or_else(|| self.unknown("not implemented"))?),
            None => None,
        };
        let count = if combine.is_some() { 4 } else { 3 };
        let operands = self.operands(count..=count)?;
        if kind.starts_with('f') && operands.iter().any(|operand| matches!(operand, Operand::Integer(_))) {
            return Err(self.unknown("an integer where a float belongs"));
        }
        let a = self.source(&operands[1], map.from[0])?;
        let b = self.source(&operands[2], map.from[0])?;
        let (first, second) = match &operands[0] {
            Operand::Pair(first, second) => (&**first, Some(&**second)),
            only => (only, None),
        };
        let to = self.destination(first, Class::Pred)?;
        if combine.is_none() && second.is_none() {
            self.emit_map(map, to, &[a, b]);
            return Ok(());
        }
        // Everything is computed before a destination is written: it may be a source.
        let (yes, no) = (self.scratch(Class::Pred), self.scratch(Class::Pred));
        self.emit_map(map, yes, &[a, b]);
        self.emit_map(moves::not(), no, &[yes]);
        if let Some(combine) = combine {
            let with = self.source(&operands[3], Class::Pred)?;
            self.emit_map(combine, yes, &[yes, with]);
            self.emit_map(combine, no, &[no, with]);
        }
        self.emit_map(moves::copy(Class::Pred), to, &[yes]);
        if let Some(second) = second {
            let to = self.destination(second, Class::Pred)?;
            self.emit_map(moves::copy(Class::Pred), to, &[no]);
        }
        Ok(())
    }

    /// `set.lt.u32.f32`: all ones, or 1.0, where the comparison holds.
    pub(super) fn set(&mut self, opcode: &str) -> Result<(), Fault> {
        let mut parts: Vec<&str> = opcode.split('.').skip(1).collect();
        let ftz = parts.contains(&"ftz");
        parts.retain(|part| *part != "ftz");
        let [how, to_kind, kind] = parts[..] else {
            return Err(self.unknown("not implemented"));
        };
        let map = comparison(how, kind, ftz).ok_or_else(|| self.unknown("not implemented"))?;
        let result = match to_kind {
            "u32" | "s32" => map!(|p: bool| -> u32 { if p { !0 } else { 0 } }),
            "f32" => map!(|p: bool| -> f32 { if p { 1.0 } else { 0.0 } }),
            _ => return Err(self.unknown("not implemented")),
        };
        let operands = self.operands(3..=3)?;
        let a = self.source(&operands[1], map.from[0])?;
        let b = self.source(&operands[2], map.from[0])?;
        let to = self.destination(&operands[0], Class::Word)?;
        let yes = self.scratch(Class::Pred);
        self.emit_map(map, yes, &[a, b]);
        self.emit_map(result, to, &[yes]);
        Ok(())
    }
}
