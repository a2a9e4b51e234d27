//! Integer instructions against Rust's own arithmetic.

use std::fmt::{Debug, LowerHex};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::lab::{Plain, eval};

/// An instruction and what it must give for each row.
type Case<I, O, const N: usize> = (&'static str, fn([I; N]) -> O);

#[track_caller]
fn check<I, O, const N: usize>(rows: &[[I; N]], cases: &[Case<I, O, N>])
where
    I: Plain + Debug + LowerHex,
    O: Plain + LowerHex + PartialEq,
{
    for (body, expected) in cases {
        let got: Vec<O> = eval(body, rows);
        for (row, got) in rows.iter().zip(got) {
            let expected = expected(*row);
            assert!(got == expected, "{body} of {row:#x?} gave {got:#x}, not {expected:#x}");
        }
    }
}

/// Any value, the edges of the signed and unsigned ranges often.
fn word32() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0u32..70,
        (0u32..70).prop_map(|n| n.wrapping_neg()),
        Just(1 << 31),
        Just(!(1 << 31))
    ]
}

fn word64() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..70,
        (0u64..70).prop_map(|n| n.wrapping_neg()),
        Just(1 << 63),
        Just(!(1 << 63))
    ]
}

fn word16() -> impl Strategy<Value = u16> {
    prop_oneof![
        any::<u16>(),
        0u16..40,
        (0u16..40).prop_map(|n| n.wrapping_neg()),
        Just(1 << 15),
        Just(!(1 << 15))
    ]
}

fn bit(word: u64, at: u32) -> u64 {
    if at < 64 { word >> at & 1 } else { 0 }
}

/// The bit field of `len` bits from `pos` of a word of `width` bits, as PTX defines it bit by bit.
fn field(a: u64, pos: u32, len: u32, width: u32, signed: bool) -> u64 {
    let (pos, len, msb) = (pos & 0xff, len & 0xff, width - 1);
    let fill = if signed && len > 0 { bit(a, (pos + len - 1).min(msb)) } else { 0 };
    (0..width).map(|i| if i < len && pos + i <= msb { bit(a, pos + i) << i } else { fill << i }).sum()
}

/// `b` with the low `len` bits of `a` at `pos`.
fn insert(a: u64, b: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    (0..width).map(|i| (if i >= pos && i < pos + len { bit(a, i - pos) } else { bit(b, i) }) << i).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arithmetic_of_32_bits(rows in vec([word32(), word32(), word32()], 100)) {
        check(&rows, &[
            ("add.u32 %d, %a, %b;", |[a, b, _]| a.wrapping_add(b)),
            ("add.s32 %d, %a, -7;", |[a, ..]| a.wrapping_sub(7)),
            ("add.sat.s32 %d, %a, %b;", |[a, b, _]| (a as i32).saturating_add(b as i32) as u32),
            ("sub.sat.s32 %d, %a, %b;", |[a, b, _]| (a as i32).saturating_sub(b as i32) as u32),
            ("sub.s32 %d, %a, %b;", |[a, b, _]| a.wrapping_sub(b)),
            ("mul.lo.u32 %d, %a, %b;", |[a, b, _]| a.wrapping_mul(b)),
            ("mul.lo.s32 %d, %a, %b;", |[a, b, _]| (a as i32).wrapping_mul(b as i32) as u32),
            ("mul.hi.u32 %d, %a, %b;", |[a, b, _]| ((u64::from(a) * u64::from(b)) >> 32) as u32),
            ("mul.hi.s32 %d, %a, %b;", |[a, b, _]| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
            ("mad.lo.s32 %d, %a, %b, %c;", |[a, b, c]| a.wrapping_mul(b).wrapping_add(c)),
            ("mad.hi.u32 %d, %a, %b, %c;", |[a, b, c]| (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)),
            ("mad.hi.s32 %d, %a, %b, %c;",
                |[a, b, c]| (((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32).wrapping_add(c)),
            ("mul24.lo.u32 %d, %a, %b;", |[a, b, _]| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)),
            ("mul24.lo.s32 %d, %a, %b;",
                |[a, b, _]| ((a as i32) << 8 >> 8).wrapping_mul((b as i32) << 8 >> 8) as u32),
            ("or.b32 %b, %b, 1; div.u32 %d, %a, %b;", |[a, b, _]| a / (b | 1)),
            ("or.b32 %b, %b, 1; rem.u32 %d, %a, %b;", |[a, b, _]| a % (b | 1)),
            ("abs.s32 %d, %a;", |[a, ..]| (a as i32).wrapping_abs() as u32),
            ("neg.s32 %d, %a;", |[a, ..]| a.wrapping_neg()),
            ("min.s32 %d, %a, %b;", |[a, b, _]| (a as i32).min(b as i32) as u32),
            ("max.s32 %d, %a, %b;", |[a, b, _]| (a as i32).max(b as i32) as u32),
            ("min.u32 %d, %a, %b;", |[a, b, _]| a.min(b)),
            ("max.u32 %d, %a, %b;", |[a, b, _]| a.max(b)),
            ("sad.u32 %d, %a, %b, %c;", |[a, b, c]| a.abs_diff(b).wrapping_add(c)),
            ("sad.s32 %d, %a, %b, %c;", |[a, b, c]| (a as i32).abs_diff(b as i32).wrapping_add(c)),
            ("slct.u32.s32 %d, %a, %b, %c;", |[a, b, c]| if c as i32 >= 0 { a } else { b }),
            ("set.lt.u32.s32 %d, %a, %b;", |[a, b, _]| if (a as i32) < b as i32 { u32::MAX } else { 0 }),
            ("set.hi.f32.u32 %d, %a, %b;", |[a, b, _]| if a > b { 1f32.to_bits() } else { 0 }),
        ]);
        // Signed division without the quotient that does not fit.
        let fits: Vec<_> = rows.iter().map(|[a, b, c]| [a & !(u32::from(b | 1 == u32::MAX) << 31), b | 1, *c]).collect();
        check(&fits, &[
            ("div.s32 %d, %a, %b;", |[a, b, _]| (a as i32 / b as i32) as u32),
            ("rem.s32 %d, %a, %b;", |[a, b, _]| (a as i32 % b as i32) as u32),
        ]);
    }

    #[test]
    fn bits_of_32(rows in vec([word32(), word32(), word32()], 100)) {
        check(&rows, &[
            ("and.b32 %d, %a, %b;", |[a, b, _]| a & b),
            ("or.b32 %d, %a, 0xF0F0;", |[a, ..]| a | 0xf0f0),
            ("xor.b32 %d, %a, %b;", |[a, b, _]| a ^ b),
            ("not.b32 %d, %a;", |[a, ..]| !a),
            ("cnot.b32 %d, %a;", |[a, ..]| u32::from(a == 0)),
            // Shifts by the width and more give zeros, or the sign.
            ("shl.b32 %d, %a, %b;", |[a, b, _]| if b > 31 { 0 } else { a << b }),
            ("shr.u32 %d, %a, %b;", |[a, b, _]| if b > 31 { 0 } else { a >> b }),
            ("shr.b32 %d, %a, %b;", |[a, b, _]| if b > 31 { 0 } else { a >> b }),
            ("shr.s32 %d, %a, %b;", |[a, b, _]| (a as i32 >> b.min(31)) as u32),
            ("shl.b32 %d, %a, 32;", |_| 0),
            ("shf.l.wrap.b32 %d, %a, %b, %c;",
                |[a, b, c]| ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32),
            ("shf.l.clamp.b32 %d, %a, %b, %c;",
                |[a, b, c]| ((u64::from(b) << 32 | u64::from(a)) << c.min(32) >> 32) as u32),
            ("shf.r.wrap.b32 %d, %a, %b, %c;", |[a, b, c]| ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32),
            ("shf.r.clamp.b32 %d, %a, %b, %c;", |[a, b, c]| ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32),
            ("brev.b32 %d, %a;", |[a, ..]| a.reverse_bits()),
            ("clz.b32 %d, %a;", |[a, ..]| a.leading_zeros()),
            ("popc.b32 %d, %a;", |[a, ..]| a.count_ones()),
            ("bfind.u32 %d, %a;", |[a, ..]| a.checked_ilog2().unwrap_or(u32::MAX)),
            ("bfind.s32 %d, %a;",
                |[a, ..]| (if a >> 31 == 1 { !a } else { a }).checked_ilog2().unwrap_or(u32::MAX)),
            ("bfind.shiftamt.u32 %d, %a;", |[a, ..]| a.checked_ilog2().map_or(u32::MAX, |at| 31 - at)),
            ("bfe.u32 %d, %a, %b, %c;", |[a, b, c]| field(a.into(), b, c, 32, false) as u32),
            ("bfe.s32 %d, %a, %b, %c;", |[a, b, c]| field(a.into(), b, c, 32, true) as u32),
            ("bfe.s32 %d, %a, 8, 8;", |[a, ..]| i32::from((a >> 8) as u8 as i8) as u32),
            ("bfi.b32 %d, %a, %b, 5, %c;", |[a, b, c]| insert(a.into(), b.into(), 5, c, 32) as u32),
            ("bfi.b32 %d, %a, %b, %c, 9;", |[a, b, c]| insert(a.into(), b.into(), c, 9, 32) as u32),
        ]);
    }

    /// The table of a function is the function of 0xF0, 0xCC, 0xAA.
    #[test]
    fn lop3(rows in vec([any::<u32>(), any::<u32>(), any::<u32>()], 50)) {
        let functions: [fn(u32, u32, u32) -> u32; 7] = [
            |a, b, c| a ^ b ^ c,
            |a, b, c| a & b | c,
            |a, b, c| a & b | !a & c,
            |a, b, c| a & b | a & c | b & c,
            |a, b, c| (a | !b) ^ c & a,
            |_, b, _| b,
            |a, b, c| !(a | b | c),
        ];
        for f in functions {
            let table = f(0xf0, 0xcc, 0xaa) & 0xff;
            let got: Vec<u32> = eval(&format!("lop3.b32 %d, %a, %b, %c, {table:#x};"), &rows);
            let expected: Vec<_> = rows.iter().map(|&[a, b, c]| f(a, b, c)).collect();
            prop_assert_eq!(got, expected, "table {:#x}", table);
        }
    }

    #[test]
    fn arithmetic_of_64_bits(rows in vec([word64(), word64(), word64()], 100)) {
        check(&rows, &[
            ("add.s64 %d, %a, %b;", |[a, b, _]| a.wrapping_add(b)),
            ("sub.s64 %d, %a, %b;", |[a, b, _]| a.wrapping_sub(b)),
            ("mul.lo.s64 %d, %a, %b;", |[a, b, _]| a.wrapping_mul(b)),
            ("mul.hi.u64 %d, %a, %b;", |[a, b, _]| ((u128::from(a) * u128::from(b)) >> 64) as u64),
            ("mul.hi.s64 %d, %a, %b;", |[a, b, _]| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64),
            ("mad.lo.s64 %d, %a, %b, %c;", |[a, b, c]| a.wrapping_mul(b).wrapping_add(c)),
            ("or.b64 %b, %b, 1; div.u64 %d, %a, %b;", |[a, b, _]| a / (b | 1)),
            ("or.b64 %b, %b, 1; rem.u64 %d, %a, %b;", |[a, b, _]| a % (b | 1)),
            ("or.b64 %b, %b, 1; shr.u64 %a, %a, 1; div.s64 %d, %a, %b;", |[a, b, _]| ((a >> 1) as i64 / (b | 1) as i64) as u64),
            ("or.b64 %b, %b, 1; shr.u64 %a, %a, 1; rem.s64 %d, %a, %b;", |[a, b, _]| ((a >> 1) as i64 % (b | 1) as i64) as u64),
            ("abs.s64 %d, %a;", |[a, ..]| (a as i64).wrapping_abs() as u64),
            ("neg.s64 %d, %a;", |[a, ..]| a.wrapping_neg()),
            ("min.s64 %d, %a, %b;", |[a, b, _]| (a as i64).min(b as i64) as u64),
            ("max.u64 %d, %a, %b;", |[a, b, _]| a.max(b)),
            ("and.b64 %d, %a, %b;", |[a, b, _]| a & b),
            ("xor.b64 %d, %a, %b;", |[a, b, _]| a ^ b),
            ("not.b64 %d, %a;", |[a, ..]| !a),
            ("cvt.u32.u64 %r1, %b; shl.b64 %d, %a, %r1;",
                |[a, b, _]| a.checked_shl(b as u32).unwrap_or(0)),
            ("cvt.u32.u64 %r1, %b; shr.u64 %d, %a, %r1;",
                |[a, b, _]| a.checked_shr(b as u32).unwrap_or(0)),
            ("cvt.u32.u64 %r1, %b; shr.s64 %d, %a, %r1;", |[a, b, _]| (a as i64 >> (b as u32).min(63)) as u64),
            ("brev.b64 %d, %a;", |[a, ..]| a.reverse_bits()),
            ("clz.b64 %r1, %a; cvt.u64.u32 %d, %r1;", |[a, ..]| a.leading_zeros().into()),
            ("popc.b64 %r1, %a; cvt.u64.u32 %d, %r1;", |[a, ..]| a.count_ones().into()),
            ("bfind.u64 %r1, %a; cvt.u64.u32 %d, %r1;", |[a, ..]| a.checked_ilog2().unwrap_or(u32::MAX).into()),
            ("cvt.u32.u64 %r1, %b; cvt.u32.u64 %r2, %c; bfe.u64 %d, %a, %r1, %r2;",
                |[a, b, c]| field(a, b as u32, c as u32, 64, false)),
            ("cvt.u32.u64 %r1, %b; cvt.u32.u64 %r2, %c; bfe.s64 %d, %a, %r1, %r2;",
                |[a, b, c]| field(a, b as u32, c as u32, 64, true)),
            ("cvt.u32.u64 %r1, %c; bfi.b64 %d, %a, %b, %r1, 13;", |[a, b, c]| insert(a, b, c as u32, 13, 64)),
        ]);
    }

    #[test]
    fn products_twice_as_wide(rows in vec([word32(), word32()], 100), halves in vec([word16(), word16()], 100)) {
        check(&rows, &[
            ("mul.wide.u32 %d, %a, %b;", |[a, b]| u64::from(a) * u64::from(b)),
            ("mul.wide.s32 %d, %a, %b;", |[a, b]| (i64::from(a as i32) * i64::from(b as i32)) as u64),
            ("mov.u64 %l5, 0xFFFFFFFFFFFFFFF0; mad.wide.u32 %d, %a, %b, %l5;",
                |[a, b]| (u64::from(a) * u64::from(b)).wrapping_sub(16)),
            ("mov.u64 %l5, -3; mad.wide.s32 %d, %a, %b, %l5;",
                |[a, b]| (i64::from(a as i32) * i64::from(b as i32)).wrapping_sub(3) as u64),
            ("mul.wide.s32 %d, %a, -8;", |[a, _]| (i64::from(a as i32) * -8) as u64),
        ]);
        check(&halves, &[
            ("mul.wide.u16 %d, %a, %b;", |[a, b]| u32::from(a) * u32::from(b)),
            ("mul.wide.s16 %d, %a, %b;", |[a, b]| (i32::from(a as i16) * i32::from(b as i16)) as u32),
        ]);
    }

    #[test]
    fn arithmetic_of_16_bits(rows in vec([word16(), word16(), word16()], 100)) {
        check(&rows, &[
            ("add.s16 %d, %a, %b;", |[a, b, _]| a.wrapping_add(b)),
            ("sub.s16 %d, %a, %b;", |[a, b, _]| a.wrapping_sub(b)),
            ("mul.lo.s16 %d, %a, %b;", |[a, b, _]| a.wrapping_mul(b)),
            ("mul.hi.s16 %d, %a, %b;", |[a, b, _]| ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16),
            ("mad.lo.s16 %d, %a, %b, %c;", |[a, b, c]| a.wrapping_mul(b).wrapping_add(c)),
            ("or.b16 %b, %b, 1; div.u16 %d, %a, %b;", |[a, b, _]| a / (b | 1)),
            ("or.b16 %b, %b, 1; rem.u16 %d, %a, %b;", |[a, b, _]| a % (b | 1)),
            ("min.s16 %d, %a, %b;", |[a, b, _]| (a as i16).min(b as i16) as u16),
            ("max.u16 %d, %a, %b;", |[a, b, _]| a.max(b)),
            ("and.b16 %d, %a, %b;", |[a, b, _]| a & b),
            ("not.b16 %d, %a;", |[a, ..]| !a),
            ("neg.s16 %d, %a;", |[a, ..]| a.wrapping_neg()),
            ("cvt.u32.u16 %r1, %b; shl.b16 %d, %a, %r1;", |[a, b, _]| if b > 15 { 0 } else { a << b }),
            ("cvt.u32.u16 %r1, %b; shr.u16 %d, %a, %r1;", |[a, b, _]| if b > 15 { 0 } else { a >> b }),
            ("cvt.u32.u16 %r1, %b; shr.s16 %d, %a, %r1;", |[a, b, _]| (a as i16 >> b.min(15)) as u16),
        ]);
    }

    /// A sum of 128 bits in four words.
    #[test]
    fn carries(a in any::<u128>(), b in any::<u128>(), ones in 0u32..128) {
        // A run of ones makes the carry go through whole words.
        let a = a | (u128::MAX >> ones);
        let words = |x: u128| [x as u32, (x >> 32) as u32, (x >> 64) as u32, (x >> 96) as u32];
        for word in 0..4 {
            let rows: Vec<[u32; 1]> = words(a).into_iter().chain(words(b)).map(|w| [w]).collect();
            let body = format!(
                "ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%in]; ld.global.v4.u32 {{%r5, %r6, %r7, %r8}}, [%in+16];
                 add.cc.u32 %r1, %r1, %r5; addc.cc.u32 %r2, %r2, %r6; addc.cc.u32 %r3, %r3, %r7; addc.u32 %r4, %r4, %r8;
                 mov.b32 %d, %r{};", word + 1);
            let got: Vec<u32> = eval(&body, &rows);
            prop_assert_eq!(got, vec![words(a.wrapping_add(b))[word]; 8]);
        }
    }
}

/// The byte that a selector names: of the eight bytes `b:a`, or its sign bit eight times.
fn chosen(a: u32, b: u32, selector: u32) -> u32 {
    let byte = ((u64::from(b) << 32 | u64::from(a)) >> (8 * (selector & 7)) & 0xff) as u32;
    if selector & 8 == 0 { byte } else { (byte >> 7) * 0xff }
}

#[test]
fn prmt_takes_any_four_of_eight_bytes() {
    let rows: Vec<[u32; 3]> = (0..0x10000u32)
        .step_by(37)
        .map(|selector| [0x8352_f10a, 0x0794_e6b5u32.rotate_left(selector), selector])
        .collect();
    check(
        &rows,
        &[("prmt.b32 %d, %a, %b, %c;", |[a, b, c]| {
            (0..4).map(|n| chosen(a, b, c >> (4 * n) & 15) << (8 * n)).sum::<u32>()
        })],
    );
}

#[test]
fn prmt_modes() {
    // Bytes of the result from the highest to the lowest, for each value of the selector's two low bits.
    let modes = [
        ("f4e", [0x3210u32, 0x4321, 0x5432, 0x6543]),
        ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
        ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
        ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
        ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
        ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
    ];
    let (a, b) = (0x8352_f10a, 0x0794_e6b5);
    for (mode, table) in modes {
        let rows = [0u32, 1, 2, 3, 7].map(|selector| [a, b, selector]);
        let got: Vec<u32> = eval(&format!("prmt.b32.{mode} %d, %a, %b, %c;"), &rows);
        for ([_, _, selector], got) in rows.into_iter().zip(got) {
            let bytes = table[selector as usize & 3];
            let expected = (0..4).map(|n| chosen(a, b, bytes >> (4 * n) & 7) << (8 * n)).sum::<u32>();
            assert_eq!(got, expected, "{mode} {selector}");
        }
    }
}

/// `%d` has bit 0 for the first predicate and bit 1 for the second.
const BOTH: &str = "selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 %d, %r1, %r2;";

type Compare = fn(u32, u32) -> bool;
type Combine = fn(bool, bool) -> bool;

#[test]
fn every_comparison_with_every_combination() {
    let compare: [(&str, Compare); 14] = [
        ("eq.s32", |a, b| a == b),
        ("ne.u32", |a, b| a != b),
        ("eq.b32", |a, b| a == b),
        ("ne.b32", |a, b| a != b),
        ("lt.s32", |a, b| (a as i32) < b as i32),
        ("le.s32", |a, b| a as i32 <= b as i32),
        ("gt.s32", |a, b| a as i32 > b as i32),
        ("ge.s32", |a, b| a as i32 >= b as i32),
        ("lt.u32", |a, b| a < b),
        ("le.u32", |a, b| a <= b),
        ("lo.u32", |a, b| a < b),
        ("ls.u32", |a, b| a <= b),
        ("hi.u32", |a, b| a > b),
        ("hs.u32", |a, b| a >= b),
    ];
    let combine: [(&str, Combine); 3] = [("and", |x, y| x & y), ("or", |x, y| x | y), ("xor", |x, y| x ^ y)];
    let edges = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let rows: Vec<[u32; 3]> =
        edges.into_iter().flat_map(|a| edges.into_iter().flat_map(move |b| [[a, b, 0], [a, b, 1]])).collect();
    for (name, holds) in compare {
        let (operator, kind) = name.split_once('.').unwrap();
        let plain: Vec<u32> = eval(&format!("setp.{name} %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"), &rows);
        let expected: Vec<_> = rows.iter().map(|r| u32::from(holds(r[0], r[1]))).collect();
        assert_eq!(plain, expected, "{name}");
        for (word, combined) in combine {
            for not in ["", "!"] {
                let got: Vec<u32> = eval(
                    &format!(
                        "setp.ne.u32 %p3, %c, 0; setp.{operator}.{word}.{kind} %p1|%p2, %a, %b, {not}%p3; {BOTH}"
                    ),
                    &rows,
                );
                for ([a, b, c], got) in rows.iter().zip(got) {
                    let third = (*c != 0) != (not == "!");
                    let first = combined(holds(*a, *b), third);
                    let second = combined(!holds(*a, *b), third);
                    assert_eq!(
                        got,
                        u32::from(first) + 2 * u32::from(second),
                        "{name} {word} {not} {a} {b} {c}"
                    );
                }
            }
        }
    }
}

#[test]
fn comparisons_of_other_widths() {
    let rows = [[0xffffu16, 1], [1, 0xffff], [5, 5]];
    let signed: Vec<u16> = eval("setp.lt.s16 %p1, %a, %b; selp.b16 %d, 1, 0, %p1;", &rows);
    let unsigned: Vec<u16> = eval("setp.lt.u16 %p1, %a, %b; selp.b16 %d, 1, 0, %p1;", &rows);
    assert_eq!((signed, unsigned), (vec![1, 0, 0], vec![0, 1, 0]));
    let rows = [[u64::MAX, 1], [1, u64::MAX], [1 << 32, 0]];
    let signed: Vec<u64> = eval("setp.gt.s64 %p1, %a, %b; selp.b64 %d, 1, 0, %p1;", &rows);
    let unsigned: Vec<u64> = eval("setp.gt.u64 %p1, %a, %b; selp.b64 %d, 1, 0, %p1;", &rows);
    assert_eq!((signed, unsigned), (vec![0, 1, 1], vec![1, 0, 1]));
}

/// PTX leaves the results open; the interpreter must not fall over them.
#[test]
fn divisions_without_a_result() {
    for body in ["div.u32 %d, %a, %b;", "rem.u32 %d, %a, %b;", "div.s32 %d, %a, %b;", "rem.s32 %d, %a, %b;"] {
        let got: Vec<u32> = eval(&format!("{body} mov.u32 %d, %a;"), &[[7u32, 0], [0x8000_0000, u32::MAX]]);
        assert_eq!(got, [7, 0x8000_0000], "{body}");
    }
    for body in ["div.u64 %d, %a, %b;", "rem.u64 %d, %a, %b;", "div.s64 %d, %a, %b;", "rem.s64 %d, %a, %b;"] {
        let got: Vec<u64> = eval(&format!("{body} mov.u64 %d, %a;"), &[[7u64, 0], [1 << 63, u64::MAX]]);
        assert_eq!(got, [7, 1 << 63], "{body}");
    }
}

#[test]
fn predicates_are_values() {
    let rows: Vec<[u32; 2]> = vec![[0, 0], [0, 1], [1, 0], [1, 1]];
    let with = |body: &str| -> Vec<u32> {
        eval(
            &format!("setp.ne.u32 %p1, %a, 0; setp.ne.u32 %p2, %b, 0; {body} selp.u32 %d, 1, 0, %p3;"),
            &rows,
        )
    };
    assert_eq!(with("and.pred %p3, %p1, %p2;"), [0, 0, 0, 1]);
    assert_eq!(with("or.pred %p3, %p1, %p2;"), [0, 1, 1, 1]);
    assert_eq!(with("xor.pred %p3, %p1, %p2;"), [0, 1, 1, 0]);
    assert_eq!(with("not.pred %p3, %p1;"), [1, 1, 0, 0]);
    assert_eq!(with("mov.pred %p3, %p2;"), [0, 1, 0, 1]);
}

#[test]
fn moves_pack_and_unpack() {
    let rows = [[0x1122_3344_5566_7788u64, 0x99aa_bbcc_ddee_ff00]];
    let swapped: Vec<u64> = eval("mov.b64 {%r1, %r2}, %a; mov.b64 %d, {%r2, %r1};", &rows);
    assert_eq!(swapped, [0x5566_7788_1122_3344]);
    let quarters: Vec<u64> =
        eval("mov.b64 {%h1, %h2, %h3, %h4}, %b; mov.b64 %d, {%h4, %h1, %h3, %h2};", &rows);
    assert_eq!(quarters, [0xddee_bbcc_ff00_99aa]);
    let halves: Vec<u32> = eval("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", &[[0x1234_5678u32]]);
    assert_eq!(halves, [0x5678_1234]);
}
