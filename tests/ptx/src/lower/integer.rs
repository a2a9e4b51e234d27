//! Integer arithmetic, logic and shifts.

use super::{CARRY, Lower, NEVER, moves};
use crate::Fault;
use crate::registers::{Class, Map, map};

/// 64-bit addition.
pub fn add_wide() -> Map {
    map!(|a: u64, b: u64| -> u64 { a.wrapping_add(b) })
}

/// A map of values of one type.
macro_rules! same {
    ($type:ty, ($($x:ident),+), $body:expr) => {
        map!(|$($x: $type),+| -> $type { $body })
    };
}
/// One map for each of the types that an opcode names.
macro_rules! by_type {
    ($kind:expr, [$($name:literal $type:ty),+], $arguments:tt $body:expr) => {
        match $kind {
            $($name => Some(same!($type, $arguments, $body)),)+
            _ => None,
        }
    };
}
macro_rules! signless {
    ($kind:expr, $arguments:tt $body:expr) => {
        by_type!($kind, ["u16" u16, "s16" u16, "u32" u32, "s32" u32, "u64" u64, "s64" u64], $arguments $body)
    };
}
macro_rules! signed_too {
    ($kind:expr, $arguments:tt $body:expr) => {
        by_type!($kind, ["u16" u16, "s16" i16, "u32" u32, "s32" i32, "u64" u64, "s64" i64], $arguments $body)
    };
}
macro_rules! bits {
    ($kind:expr, $arguments:tt $body:expr) => {
        by_type!($kind, ["pred" bool, "b16" u16, "b32" u32, "b64" u64], $arguments $body)
    };
}

/// The map of an opcode.
pub fn map_of(opcode: &str) -> Option<Map> {
    let (name, kind) = opcode.rsplit_once('.')?;
    match name {
        "add" => signless!(kind, (a, b) a.wrapping_add(b)),
        "sub" => signless!(kind, (a, b) a.wrapping_sub(b)),
        "mul.lo" => signless!(kind, (a, b) a.wrapping_mul(b)),
        "mad.lo" => signless!(kind, (a, b, c) a.wrapping_mul(b).wrapping_add(c)),
        "mul.hi" | "mad.hi" | "mul.wide" | "mad.wide" | "mul24.lo" | "mad24.lo" => widening(name, kind),
        "min" => signed_too!(kind, (a, b) a.min(b)),
        "max" => signed_too!(kind, (a, b) a.max(b)),
        // What a division by zero gives is not defined; the devices give all ones.
        "div" => signed_too!(kind, (a, b) if b == 0 { !0 } else { a.wrapping_div(b) }),
        "rem" => signed_too!(kind, (a, b) if b == 0 { a } else { a.wrapping_rem(b) }),
        "abs" => by_type!(kind, ["s16" i16, "s32" i32, "s64" i64], (a) a.wrapping_abs()),
        "neg" => by_type!(kind, ["s16" i16, "s32" i32, "s64" i64], (a) a.wrapping_neg()),
        "add.sat" => by_type!(kind, ["s32" i32], (a, b) a.saturating_add(b)),
        "sub.sat" => by_type!(kind, ["s32" i32], (a, b) a.saturating_sub(b)),
        "sad" => match kind {
            "u32" => Some(map!(|a: u32, b: u32, c: u32| -> u32 { c.wrapping_add(a.abs_diff(b)) })),
            "s32" => Some(map!(|a: i32, b: i32, c: u32| -> u32 { c.wrapping_add(a.abs_diff(b)) })),
            _ => None,
        },
        "and" => bits!(kind, (a, b) a & b),
        "or" => bits!(kind, (a, b) a | b),
        "xor" => bits!(kind, (a, b) a ^ b),
        "not" => bits!(kind, (a) !a),
        "cnot" => by_type!(kind, ["b16" u16, "b32" u32, "b64" u64], (a) if a == 0 { 1 } else { 0 }),
        "shl" | "shr" => shift(name, kind),
        _ => bitwise(opcode).or_else(|| select(name, kind)),
    }
}

fn widening(name: &str, kind: &str) -> Option<Map> {
    Some(match (name, kind) {
        ("mul.hi", "u16") => map!(|a: u16, b: u16| -> u16 { ((u32::from(a) * u32::from(b)) >> 16) as u16 }),
        ("mul.hi", "s16") => map!(|a: i16, b: i16| -> i16 { ((i32::from(a) * i32::from(b)) >> 16) as i16 }),
        ("mul.hi", "u32") => map!(|a: u32, b: u32| -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 }),
        ("mul.hi", "s32") => map!(|a: i32, b: i32| -> i32 { ((i64::from(a) * i64::from(b)) >> 32) as i32 }),
        ("mul.hi", "u64") => map!(|a: u64, b: u64| -> u64 { ((u128::from(a) * u128::from(b)) >> 64) as u64 }),
        ("mul.hi", "s64") => map!(|a: i64, b: i64| -> i64 { ((i128::from(a) * i128::from(b)) >> 64) as i64 }),
        ("mad.hi", "u32") => {
            map!(|a: u32, b: u32, c: u32| -> u32 {
                (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
            })
        }
        ("mad.hi", "s32") => {
            map!(|a: i32, b: i32, c: i32| -> i32 {
                (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
            })
        }
        ("mul.wide", "u16") => map!(|a: u16, b: u16| -> u32 { u32::from(a) * u32::from(b) }),
        ("mul.wide", "s16") => map!(|a: i16, b: i16| -> i32 { i32::from(a) * i32::from(b) }),
        ("mul.wide", "u32") => map!(|a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) }),
        ("mul.wide", "s32") => map!(|a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) }),
        ("mad.wide", "u16") => {
            map!(|a: u16, b: u16, c: u32| -> u32 { (u32::from(a) * u32::from(b)).wrapping_add(c) })
        }
        ("mad.wide", "s16") => {
            map!(|a: i16, b: i16, c: i32| -> i32 { (i32::from(a) * i32::from(b)).wrapping_add(c) })
        }
        ("mad.wide", "u32") => {
            map!(|a: u32, b: u32, c: u64| -> u64 { (u64::from(a) * u64::from(b)).wrapping_add(c) })
        }
        ("mad.wide", "s32") => {
            map!(|a: i32, b: i32, c: i64| -> i64 { (i64::from(a) * i64::from(b)).wrapping_add(c) })
        }
        ("mul24.lo", "u32") => map!(|a: u32, b: u32| -> u32 { (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff) }),
        ("mul24.lo", "s32") => map!(|a: i32, b: i32| -> i32 { (a << 8 >> 8).wrapping_mul(b << 8 >> 8) }),
        ("mad24.lo", "u32") => {
            map!(|a: u32, b: u32, c: u32| -> u32 {
                (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c)
            })
        }
        ("mad24.lo", "s32") => {
            map!(|a: i32, b: i32, c: i32| -> i32 { (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c) })
        }
        _ => return None,
    })
}

/// Shifts by more than the width give zero, or the sign.
fn shift(name: &str, kind: &str) -> Option<Map> {
    Some(match (name, kind) {
        ("shl", "b16") => map!(|a: u16, n: u32| -> u16 { if n > 15 { 0 } else { a << n } }),
        ("shl", "b32") => map!(|a: u32, n: u32| -> u32 { if n > 31 { 0 } else { a << (n & 31) } }),
        ("shl", "b64") => map!(|a: u64, n: u32| -> u64 { if n > 63 { 0 } else { a << (n & 63) } }),
        ("shr", "b16" | "u16") => map!(|a: u16, n: u32| -> u16 { if n > 15 { 0 } else { a >> n } }),
        ("shr", "b32" | "u32") => map!(|a: u32, n: u32| -> u32 { if n > 31 { 0 } else { a >> (n & 31) } }),
        ("shr", "b64" | "u64") => map!(|a: u64, n: u32| -> u64 { if n > 63 { 0 } else { a >> (n & 63) } }),
        ("shr", "s16") => map!(|a: i16, n: u32| -> i16 { a >> n.min(15) }),
        ("shr", "s32") => map!(|a: i32, n: u32| -> i32 { a >> n.min(31) }),
        ("shr", "s64") => map!(|a: i64, n: u32| -> i64 { a >> n.min(63) }),
        _ => return None,
    })
}

fn lop3(a: u32, b: u32, c: u32, table: u32) -> u32 {
    (0..8).filter(|row| table >> row & 1 != 0).fold(0, |out, row| {
        let pick = |x: u32, bit: u32| if row & bit != 0 { x } else { !x };
        out | pick(a, 4) & pick(b, 2) & pick(c, 1)
    })
}

fn prmt(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(a) | u64::from(b) << 32;
    (0..4).fold(0, |out, i| {
        let nibble = selector >> (4 * i) & 15;
        let byte = (bytes >> (8 * (nibble & 7))) as u8;
        let byte = if nibble & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out | u32::from(byte) << (8 * i)
    })
}

/// The selector of a `prmt` with a mode, for the lowest two bits of its last source.
fn mode(digits: [u32; 4], selector: u32) -> u32 {
    digits[selector as usize & 3]
}

/// Bits `start..start + count` as a number, with the sign of the highest of them if there is one to take.
fn extract(value: u64, start: u32, count: u32, bits: u32, signed: bool) -> u64 {
    let (start, count) = (start & 0xff, count & 0xff);
    if count == 0 {
        return 0;
    }
    let wide = if signed && bits == 32 {
        i128::from(value as u32 as i32)
    } else if signed {
        i128::from(value as i64)
    } else {
        i128::from(value)
    };
    let shifted = wide >> start.min(127);
    if count >= bits {
        return shifted as u64;
    }
    if signed {
        ((shifted << (128 - count)) >> (128 - count)) as u64
    } else {
        shifted as u64 & ((1 << count) - 1)
    }
}

fn insert(from: u64, into: u64, start: u32, count: u32, bits: u32) -> u64 {
    let (start, count) = (start & 0xff, count & 0xff);
    if start >= bits {
        return into;
    }
    let mask = if count >= 64 { !0 } else { (1u64 << count) - 1 } << start;
    into & !mask | from << start & mask
}

fn bitwise(opcode: &str) -> Option<Map> {
    Some(match opcode {
        "lop3.b32" => map!(|a: u32, b: u32, c: u32, table: u32| -> u32 { lop3(a, b, c, table) }),
        "prmt.b32" => map!(|a: u32, b: u32, selector: u32| -> u32 { prmt(a, b, selector) }),
        "prmt.b32.f4e" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0x3210, 0x4321, 0x5432, 0x6543], c)) })
        }
        "prmt.b32.b4e" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0x5670, 0x6701, 0x7012, 0x0123], c)) })
        }
        "prmt.b32.rc8" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0, 0x1111, 0x2222, 0x3333], c)) })
        }
        "prmt.b32.ecl" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0x3210, 0x3211, 0x3222, 0x3333], c)) })
        }
        "prmt.b32.ecr" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0, 0x1110, 0x2210, 0x3210], c)) })
        }
        "prmt.b32.rc16" => {
            map!(|a: u32, b: u32, c: u32| -> u32 { prmt(a, b, mode([0x1010, 0x3232, 0x1010, 0x3232], c)) })
        }
        "shf.l.wrap.b32" => map!(|a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(a) | u64::from(b) << 32) << (n & 31) >> 32) as u32
        }),
        "shf.r.wrap.b32" => {
            map!(|a: u32, b: u32, n: u32| -> u32 { ((u64::from(a) | u64::from(b) << 32) >> (n & 31)) as u32 })
        }
        "shf.l.clamp.b32" => map!(|a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(a) | u64::from(b) << 32) << n.min(32) >> 32) as u32
        }),
        "shf.r.clamp.b32" => map!(|a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(a) | u64::from(b) << 32) >> n.min(32)) as u32
        }),
        "brev.b32" => map!(|a: u32| -> u32 { a.reverse_bits() }),
        "brev.b64" => map!(|a: u64| -> u64 { a.reverse_bits() }),
        "clz.b32" => map!(|a: u32| -> u32 { a.leading_zeros() }),
        "clz.b64" => map!(|a: u64| -> u32 { a.leading_zeros() }),
        "popc.b32" => map!(|a: u32| -> u32 { a.count_ones() }),
        "popc.b64" => map!(|a: u64| -> u32 { a.count_ones() }),
        "bfind.u32" => map!(|a: u32| -> u32 { 31u32.wrapping_sub(a.leading_zeros()) }),
        "bfind.u64" => map!(|a: u64| -> u32 { 63u32.wrapping_sub(a.leading_zeros()) }),
        "bfind.s32" => map!(|a: i32| -> u32 { 31u32.wrapping_sub((a ^ a >> 31).leading_zeros()) }),
        "bfind.s64" => map!(|a: i64| -> u32 { 63u32.wrapping_sub((a ^ a >> 63).leading_zeros()) }),
        "bfind.shiftamt.u32" => map!(|a: u32| -> u32 { if a == 0 { !0 } else { a.leading_zeros() } }),
        "bfe.u32" => map!(|a: u32, start: u32, count: u32| -> u32 {
            extract(u64::from(a), start, count, 32, false) as u32
        }),
        "bfe.s32" => map!(|a: u32, start: u32, count: u32| -> u32 {
            extract(u64::from(a), start, count, 32, true) as u32
        }),
        "bfe.u64" => map!(|a: u64, start: u32, count: u32| -> u64 { extract(a, start, count, 64, false) }),
        "bfe.s64" => map!(|a: u64, start: u32, count: u32| -> u64 { extract(a, start, count, 64, true) }),
        "bfi.b32" => map!(|from: u32, into: u32, start: u32, count: u32| -> u32 {
            insert(u64::from(from), u64::from(into), start, count, 32) as u32
        }),
        "bfi.b64" => map!(|from: u64, into: u64, start: u32, count: u32| -> u64 {
            insert(from, into, start, count, 64)
        }),
        _ => return None,
    })
}

fn select(name: &str, kind: &str) -> Option<Map> {
    Some(match (name, kind) {
        ("selp", "b16" | "u16" | "s16") => map!(|a: u16, b: u16, p: bool| -> u16 { if p { a } else { b } }),
        ("selp", "b32" | "u32" | "s32" | "f32") => {
            map!(|a: u32, b: u32, p: bool| -> u32 { if p { a } else { b } })
        }
        ("selp", "b64" | "u64" | "s64" | "f64") => {
            map!(|a: u64, b: u64, p: bool| -> u64 { if p { a } else { b } })
        }
        ("slct.b32" | "slct.u32" | "slct.s32" | "slct.f32", "s32") => {
            map!(|a: u32, b: u32, c: i32| -> u32 { if c >= 0 { a } else { b } })
        }
        ("slct.b64" | "slct.u64" | "slct.s64" | "slct.f64", "s32") => {
            map!(|a: u64, b: u64, c: i32| -> u64 { if c >= 0 { a } else { b } })
        }
        ("slct.b32" | "slct.u32" | "slct.s32" | "slct.f32", "f32") => {
            map!(|a: u32, b: u32, c: f32| -> u32 { if c >= 0.0 { a } else { b } })
        }
        _ => return None,
    })
}

impl Lower<'_> {
    /// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.lo.cc`: true if it was one.
    pub(super) fn carrying(&mut self, opcode: &str) -> Result<bool, Fault> {
        let Some((name, kind)) = opcode.rsplit_once('.') else {
            return Ok(false);
        };
        let class = match kind {
            "u32" | "s32" | "b32" => Class::Word,
            "u64" | "s64" | "b64" => Class::Wide,
            _ => return Ok(false),
        };
        // The sum or difference, and whether it carries or borrows.
        let (value, carry) = match (name, class) {
            ("add.cc" | "addc" | "addc.cc", Class::Word) => (
                map!(|a: u32, b: u32, c: bool| -> u32 { a.wrapping_add(b).wrapping_add(u32::from(c)) }),
                map!(|a: u32, b: u32, c: bool| -> bool {
                    u64::from(a) + u64::from(b) + u64::from(c) > u64::from(!0u32)
                }),
            ),
            ("add.cc" | "addc" | "addc.cc", _) => (
                map!(|a: u64, b: u64, c: bool| -> u64 { a.wrapping_add(b).wrapping_add(u64::from(c)) }),
                map!(|a: u64, b: u64, c: bool| -> bool {
                    u128::from(a) + u128::from(b) + u128::from(c) > u128::from(!0u64)
                }),
            ),
            ("sub.cc" | "subc" | "subc.cc", Class::Word) => (
                map!(|a: u32, b: u32, c: bool| -> u32 { a.wrapping_sub(b).wrapping_sub(u32::from(c)) }),
                map!(|a: u32, b: u32, c: bool| -> bool { u64::from(a) < u64::from(b) + u64::from(c) }),
            ),
            ("sub.cc" | "subc" | "subc.cc", _) => (
                map!(|a: u64, b: u64, c: bool| -> u64 { a.wrapping_sub(b).wrapping_sub(u64::from(c)) }),
                map!(|a: u64, b: u64, c: bool| -> bool { u128::from(a) < u128::from(b) + u128::from(c) }),
            ),
            _ => return Ok(false),
        };
        let operands = self.operands(3..=3)?;
        let (a, b) = (self.source(&operands[1], class)?, self.source(&operands[2], class)?);
        let to = self.destination(&operands[0], class)?;
        let carries_in = name.starts_with("addc") || name.starts_with("subc");
        let mut old = NEVER;
        if carries_in {
            old = self.scratch(Class::Pred);
            self.emit_map(moves::copy(Class::Pred), old, &[CARRY]);
        }
        if name.ends_with(".cc") {
            self.emit_map(carry, CARRY, &[a, b, old]);
        }
        self.emit_map(value, to, &[a, b, old]);
        Ok(true)
    }
}
