//! Floating-point arithmetic: one rounding, NaN, zeros of either sign, subnormals.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::half::{BF16, F16, Format};
use crate::lab::{eval, eval_on};

const TINY: f32 = 1e-40;
const SMALLEST: f32 = f32::MIN_POSITIVE;

/// Floats as their bits; every kind of NaN is the same.
fn same(got: f32, expected: f32) -> bool {
    got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan()
}

#[track_caller]
fn check<const N: usize>(body: &str, rows: &[[f32; N]], expected: impl Fn([f32; N]) -> f32) {
    let got: Vec<f32> = eval(body, rows);
    for (row, got) in rows.iter().zip(got) {
        let expected = expected(*row);
        assert!(same(got, expected), "{body} of {row:?} gave {got:e}, not {expected:e}");
    }
}

#[track_caller]
fn check64<const N: usize>(body: &str, rows: &[[f64; N]], expected: impl Fn([f64; N]) -> f64) {
    let got: Vec<f64> = eval(body, rows);
    for (row, got) in rows.iter().zip(got) {
        let expected = expected(*row);
        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
        assert!(same, "{body} of {row:?} gave {got:e}, not {expected:e}");
    }
}

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -4.0..4.0f32,
        proptest::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            TINY,
            -TINY,
            SMALLEST,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ]),
    ]
}

/// A subnormal is zero of its sign.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// PTX orders zeros: -0 is less than +0. A NaN gives the other operand.
fn least(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

fn greatest(a: f32, b: f32) -> f32 {
    -least(-a, -b)
}

fn clamped(x: f32) -> f32 {
    if x.is_nan() || x <= 0.0 { 0.0 } else { x.min(1.0) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn single_precision(rows in vec([any_f32(), any_f32(), any_f32()], 100)) {
        check("add.f32 %d, %a, %b;", &rows, |[a, b, _]| a + b);
        check("add.rn.f32 %d, %a, %b;", &rows, |[a, b, _]| a + b);
        check("sub.rn.f32 %d, %a, %b;", &rows, |[a, b, _]| a - b);
        check("mul.rn.f32 %d, %a, %b;", &rows, |[a, b, _]| a * b);
        check("fma.rn.f32 %d, %a, %b, %c;", &rows, |[a, b, c]| a.mul_add(b, c));
        check("mad.rn.f32 %d, %a, %b, %c;", &rows, |[a, b, c]| a.mul_add(b, c));
        check("div.rn.f32 %d, %a, %b;", &rows, |[a, b, _]| a / b);
        check("rcp.rn.f32 %d, %a;", &rows, |[a, ..]| 1.0 / a);
        check("sqrt.rn.f32 %d, %a;", &rows, |[a, ..]| a.sqrt());
        check("abs.f32 %d, %a;", &rows, |[a, ..]| a.abs());
        check("neg.f32 %d, %a;", &rows, |[a, ..]| -a);
        check("copysign.f32 %d, %a, %b;", &rows, |[a, b, _]| b.copysign(a));
        check("min.f32 %d, %a, %b;", &rows, |[a, b, _]| least(a, b));
        check("max.f32 %d, %a, %b;", &rows, |[a, b, _]| greatest(a, b));
        check("min.NaN.f32 %d, %a, %b;", &rows, |[a, b, _]| if a.is_nan() { a } else if b.is_nan() { b } else { least(a, b) });
        check("max.NaN.f32 %d, %a, %b;", &rows, |[a, b, _]| if a.is_nan() { a } else if b.is_nan() { b } else { greatest(a, b) });
    }

    #[test]
    fn single_precision_with_subnormals_flushed(rows in vec([any_f32(), any_f32(), any_f32()], 100)) {
        let f = flushed;
        check("add.ftz.f32 %d, %a, %b;", &rows, |[a, b, _]| f(f(a) + f(b)));
        check("sub.ftz.f32 %d, %a, %b;", &rows, |[a, b, _]| f(f(a) - f(b)));
        check("mul.ftz.f32 %d, %a, %b;", &rows, |[a, b, _]| f(f(a) * f(b)));
        check("fma.rn.ftz.f32 %d, %a, %b, %c;", &rows, |[a, b, c]| f(f(a).mul_add(f(b), f(c))));
        check("min.ftz.f32 %d, %a, %b;", &rows, |[a, b, _]| f(least(f(a), f(b))));
        check("max.ftz.f32 %d, %a, %b;", &rows, |[a, b, _]| f(greatest(f(a), f(b))));
        check("abs.ftz.f32 %d, %a;", &rows, |[a, ..]| f(a).abs());
        check("neg.ftz.f32 %d, %a;", &rows, |[a, ..]| -f(a));
    }

    #[test]
    fn single_precision_saturated(rows in vec([any_f32(), any_f32(), any_f32()], 100)) {
        check("add.sat.f32 %d, %a, %b;", &rows, |[a, b, _]| clamped(a + b));
        check("mul.sat.f32 %d, %a, %b;", &rows, |[a, b, _]| clamped(a * b));
        check("fma.rn.sat.f32 %d, %a, %b, %c;", &rows, |[a, b, c]| clamped(a.mul_add(b, c)));
        check("fma.rn.ftz.sat.f32 %d, %a, %b, %c;", &rows,
            |[a, b, c]| clamped(flushed(flushed(a).mul_add(flushed(b), flushed(c)))));
        check("cvt.sat.f32.f32 %d, %a;", &rows, |[a, ..]| clamped(a));
    }

    /// The exact result is known in f64; a directed rounding is its neighbour on the right side.
    #[test]
    fn directed_rounding(rows in vec([1.0..1e6f32, -1e6..-1.0f32], 100)) {
        let toward = |exact: f64, up: bool| {
            let near = exact as f32;
            match (f64::from(near) < exact, f64::from(near) > exact) {
                (true, _) if up => near.next_up(),
                (_, true) if !up => near.next_down(),
                _ => near,
            }
        };
        let product = |[a, b]: [f32; 2]| f64::from(a) * f64::from(b);
        let sum = |[a, b]: [f32; 2]| f64::from(a) + f64::from(b);
        check("mul.rz.f32 %d, %a, %b;", &rows, |r| toward(product(r), product(r) < 0.0));
        check("mul.rm.f32 %d, %a, %b;", &rows, |r| toward(product(r), false));
        check("mul.rp.f32 %d, %a, %b;", &rows, |r| toward(product(r), true));
        // Of whole numbers below 2^20 a float64 holds the product and the sum.
        let whole: Vec<[f32; 2]> = rows.iter().map(|r| r.map(f32::trunc)).collect();
        let fused = |[a, b]: [f32; 2]| f64::from(a) * f64::from(b) + f64::from(a);
        check("fma.rz.f32 %d, %a, %b, %a;", &whole, |r| toward(fused(r), fused(r) < 0.0));
        check("fma.rm.f32 %d, %a, %b, %a;", &whole, |r| toward(fused(r), false));
        check("fma.rp.f32 %d, %a, %b, %a;", &whole, |r| toward(fused(r), true));
        check("sub.rm.f32 %d, %b, %a;", &rows, |[a, b]| toward(f64::from(b) - f64::from(a), false));
        check("add.rz.f32 %d, %a, %b;", &rows, |r| toward(sum(r), sum(r) < 0.0));
        check("add.rm.f32 %d, %a, %b;", &rows, |r| toward(sum(r), false));
        check("add.rp.f32 %d, %a, %b;", &rows, |r| toward(sum(r), true));
    }

    #[test]
    fn double_precision(rows in vec((any::<f64>(), any::<f64>(), -9.0..9.0f64).prop_map(|(a, b, c)| [a, b, c]), 60)) {
        check64("add.f64 %d, %a, %b;", &rows, |[a, b, _]| a + b);
        check64("sub.f64 %d, %a, %c;", &rows, |[a, _, c]| a - c);
        check64("mul.f64 %d, %a, %b;", &rows, |[a, b, _]| a * b);
        check64("fma.rn.f64 %d, %a, %b, %c;", &rows, |[a, b, c]| a.mul_add(b, c));
        check64("div.rn.f64 %d, %a, %b;", &rows, |[a, b, _]| a / b);
        check64("sqrt.rn.f64 %d, %a;", &rows, |[a, ..]| a.sqrt());
        check64("rcp.rn.f64 %d, %c;", &rows, |[_, _, c]| 1.0 / c);
        check64("min.f64 %d, %a, %c;", &rows, |[a, _, c]| a.min(c));
        check64("max.f64 %d, %a, %c;", &rows, |[a, _, c]| a.max(c));
        check64("abs.f64 %d, %a;", &rows, |[a, ..]| a.abs());
        check64("neg.f64 %d, %a;", &rows, |[a, ..]| -a);
    }
}

/// 2^24 + 1 has no f32, the product of these two is 2^24 + 2^13 + 1 exactly: rounded before the addition, the 1 is lost.
#[test]
fn fma_rounds_once() {
    let rows = [[4097.0f32, 4097.0, -(4097.0 * 4097.0)]];
    let fused: Vec<f32> = eval("fma.rn.f32 %d, %a, %b, %c;", &rows);
    let apart: Vec<f32> = eval("mul.rn.f32 %d, %a, %b; add.rn.f32 %d, %d, %c;", &rows);
    assert_eq!((fused, apart), (vec![1.0], vec![0.0]));
    // Rounding to f64 first and to f32 then would round twice: 1 + 2^-24 + 2^-54 lies above the middle.
    let rows = [[2f32.powi(-27), 2f32.powi(-27), 1.0 + 2f32.powi(-23)]];
    let above: Vec<f32> = eval("add.f32 %f1, %c, 0f33800000; fma.rn.f32 %d, %a, %b, %c;", &rows);
    assert_eq!(above, [1.0 + 2f32.powi(-23)]);
    let (x, y) = (1.0 + 2f32.powi(-12), 1.0 + 2f32.powi(-12));
    let middle = [[x, y, 2f32.powi(-60)]];
    // x y = 1 + 2^-11 + 2^-24: exactly between two f32; the smallest addition decides.
    let up: Vec<f32> = eval("fma.rn.f32 %d, %a, %b, %c;", &middle);
    let down: Vec<f32> = eval("neg.f32 %c, %c; fma.rn.f32 %d, %a, %b, %c;", &middle);
    assert_eq!((up[0], down[0]), (1.0 + 2f32.powi(-11) + 2f32.powi(-23), 1.0 + 2f32.powi(-11)));
}

/// Each comparison with the outcomes where it holds: less, equal, greater, and `?` for a NaN.
#[test]
fn comparisons_with_nan_are_ordered_or_not() {
    let compare = [
        ("eq", "="),
        ("ne", "<>"),
        ("lt", "<"),
        ("le", "<="),
        ("gt", ">"),
        ("ge", ">="),
        ("equ", "=?"),
        ("neu", "<>?"),
        ("ltu", "<?"),
        ("leu", "<=?"),
        ("gtu", ">?"),
        ("geu", ">=?"),
        ("num", "<=>"),
        ("nan", "?"),
    ];
    let outcome = |[a, b]: &[f32; 2]| match a.partial_cmp(b) {
        Some(Ordering::Less) => '<',
        Some(Ordering::Equal) => '=',
        Some(Ordering::Greater) => '>',
        None => '?',
    };
    let edges = [0.0f32, -0.0, 1.5, -2.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let rows: Vec<[f32; 2]> = edges.iter().flat_map(|a| edges.iter().map(move |b| [*a, *b])).collect();
    for (name, holds) in compare {
        let expected: Vec<_> = rows.iter().map(|r| u32::from(holds.contains(outcome(r)))).collect();
        let got: Vec<u32> = eval(&format!("setp.{name}.f32 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"), &rows);
        assert_eq!(got, expected, "{name}.f32");
        let wide: Vec<[f64; 2]> = rows.iter().map(|r| r.map(f64::from)).collect();
        let got: Vec<u32> = eval(&format!("setp.{name}.f64 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"), &wide);
        assert_eq!(got, expected, "{name}.f64");
        // The second predicate is the complement, so for NaN too.
        let got: Vec<u32> = eval(
            &format!(
                "setp.eq.u32 %p3, %t, %t; setp.{name}.and.f32 %p1|%p2, %a, %b, %p3; selp.u32 %d, 1, 0, %p2;"
            ),
            &rows,
        );
        let complement: Vec<_> = expected.iter().map(|e| 1 - e).collect();
        assert_eq!(got, complement, "{name}, second predicate");
    }
    // Subnormals are equal to zero only with ftz.
    let rows = [[TINY, 0.0]];
    let kept: Vec<u32> = eval("setp.eq.f32 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;", &rows);
    let flushed: Vec<u32> = eval("setp.eq.ftz.f32 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;", &rows);
    assert_eq!((kept, flushed), (vec![0], vec![1]));
}

#[test]
fn selp_of_floats() {
    let got: Vec<f32> =
        eval("setp.gt.f32 %p1, %a, 0f00000000; selp.f32 %d, %a, %b, %p1;", &[[1.0f32, 7.0], [-1.0, 7.0]]);
    assert_eq!(got, [1.0, 7.0]);
    let got: Vec<f64> = eval(
        "setp.gt.f64 %p1, %a, 0d0000000000000000; selp.f64 %d, 0d3FF0000000000000, %b, %p1;",
        &[[2.0f64, 7.0], [-1.0, 7.0]],
    );
    assert_eq!(got, [1.0, 7.0]);
}

/// The exact result of an instruction.
type Exact = fn(f64, f64, f64) -> f64;

/// Bits of 16-bit floats of moderate size, so that f64 holds every result exactly.
fn moderate(format: &'static Format) -> impl Strategy<Value = u16> {
    (-64.0..64.0f64).prop_map(|x| format.nearest(x).unwrap())
}

fn both(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn half_precision(rows in vec([moderate(&F16), moderate(&F16), moderate(&F16)], 60)) {
        let bodies: [(&str, Exact); 8] = [
            ("fma.rn.relu.f16 %d, %a, %b, %c;", |a, b, c| (a * b + c).max(0.0)),
            ("add.f16 %d, %a, %b;", |a, b, _| a + b),
            ("sub.f16 %d, %a, %b;", |a, b, _| a - b),
            ("mul.f16 %d, %a, %b;", |a, b, _| a * b),
            ("fma.rn.f16 %d, %a, %b, %c;", |a, b, c| a * b + c),
            ("min.f16 %d, %a, %b;", |a, b, _| a.min(b)),
            ("neg.f16 %d, %a;", |a, _, _| -a),
            ("abs.f16 %d, %a;", |a, _, _| a.abs()),
        ];
        for (body, exact) in bodies {
            let got: Vec<u16> = eval(body, &rows);
            for (row, got) in rows.iter().zip(got) {
                let [a, b, c] = row.map(|x| F16.value(x));
                prop_assert!(F16.value(got) == F16.value(F16.nearest(exact(a, b, c)).unwrap()), "{} of {:?}", body, [a, b, c]);
            }
        }
    }

    #[test]
    fn pairs_of_halves(rows in vec([moderate(&F16), moderate(&F16), moderate(&F16)], 60)) {
        let pairs: Vec<[u32; 3]> =
            rows.windows(2).map(|w| [both(w[0][0], w[1][0]), both(w[0][1], w[1][1]), both(w[0][2], w[1][2])]).collect();
        let bodies: [(&str, Exact); 4] = [
            ("add.f16x2 %d, %a, %b;", |a, b, _| a + b),
            ("mul.f16x2 %d, %a, %b;", |a, b, _| a * b),
            ("fma.rn.f16x2 %d, %a, %b, %c;", |a, b, c| a * b + c),
            ("max.f16x2 %d, %a, %b;", |a, b, _| a.max(b)),
        ];
        for (body, exact) in bodies {
            let got: Vec<u32> = eval(body, &pairs);
            for (row, got) in pairs.iter().zip(got) {
                for half in [0, 16] {
                    let [a, b, c] = row.map(|x| F16.value((x >> half) as u16));
                    let expected = F16.value(F16.nearest(exact(a, b, c)).unwrap());
                    prop_assert!(F16.value((got >> half) as u16) == expected, "{} of {:?}", body, [a, b, c]);
                }
            }
        }
    }

    #[test]
    fn pairs_of_bf16(rows in vec([moderate(&BF16), moderate(&BF16), moderate(&BF16)], 60)) {
        let pairs: Vec<[u32; 3]> =
            rows.windows(2).map(|w| [both(w[0][0], w[1][0]), both(w[0][1], w[1][1]), both(w[0][2], w[1][2])]).collect();
        let bodies: [(&str, &str, Exact); 6] = [
            ("sm_80", "fma.rn.bf16x2 %d, %a, %b, %c;", |a, b, c| a * b + c),
            ("sm_80", "min.bf16x2 %d, %a, %b;", |a, b, _| a.min(b)),
            ("sm_80", "max.bf16x2 %d, %a, %b;", |a, b, _| a.max(b)),
            ("sm_80", "neg.bf16x2 %d, %a;", |a, _, _| -a),
            ("sm_90", "add.rn.bf16x2 %d, %a, %b;", |a, b, _| a + b),
            ("sm_90", "mul.rn.bf16x2 %d, %a, %b;", |a, b, _| a * b),
        ];
        for (target, body, exact) in bodies {
            let got: Vec<u32> = eval_on(target, body, &pairs);
            for (row, got) in pairs.iter().zip(got) {
                for half in [0, 16] {
                    let [a, b, c] = row.map(|x| BF16.value((x >> half) as u16));
                    let expected = BF16.value(BF16.nearest(exact(a, b, c)).unwrap());
                    prop_assert!(BF16.value((got >> half) as u16) == expected, "{} of {:?}", body, [a, b, c]);
                }
            }
        }
        // A product by adding -0: exact products keep their sign even where they are zero.
        let zeros = [[both(0x8000, 0x0000), 0x3f80_3f80, 0x8000_8000]];
        let got: Vec<u32> = eval("fma.rn.bf16x2 %d, %a, %b, %c;", &zeros);
        prop_assert_eq!(got, vec![both(0x8000, 0x0000)]);
    }
}
