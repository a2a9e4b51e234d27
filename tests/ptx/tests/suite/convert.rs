//! Conversions: every rounding, saturation, NaN, and narrow integers.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::half::{BF16, F16};
use crate::lab::{Plain, eval, eval_on};

/// Floats around every edge: halves, the ends of the integer types, powers of two, subnormals, all with neighbours.
fn edges() -> Vec<[f32; 1]> {
    let mut of =
        vec![0.0, 0.5, 1.0, 1.5, 2.5, 0.49999997, 127.5, 128.5, 255.5, 256.5, 32767.5, 65535.5, 1e-40, 1e30];
    of.extend((-26..64).map(|e| 2f32.powi(e)));
    of.extend([65504.0, 65519.0, 65520.0, 65536.0, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE]);
    let near: Vec<f32> = of.iter().flat_map(|x| [x.next_down(), *x, x.next_up()]).collect();
    near.iter().flat_map(|x| [[*x], [-x]]).collect()
}

#[track_caller]
fn check<I: Plain + std::fmt::Debug, O: Plain + PartialEq + std::fmt::Debug>(
    body: &str,
    rows: &[[I; 1]],
    expected: impl Fn(I) -> O,
) {
    let got: Vec<O> = eval(body, rows);
    for ([x], got) in rows.iter().zip(got) {
        let expected = expected(*x);
        assert!(got == expected, "{body} of {x:?} gave {got:?}, not {expected:?}");
    }
}

/// What a rounding mode does.
type Rounds = fn(f32) -> f32;

#[test]
fn floats_to_integers_round_and_saturate() {
    let ways: [(&str, Rounds); 4] =
        [("rni", f32::round_ties_even), ("rzi", f32::trunc), ("rmi", f32::floor), ("rpi", f32::ceil)];
    for (way, round) in ways {
        // Rust's `as` clamps, and PTX does.
        check(&format!("cvt.{way}.s32.f32 %d, %a;"), &edges(), |x| round(x) as i32);
        check(&format!("cvt.{way}.u32.f32 %d, %a;"), &edges(), |x| round(x) as u32);
        check(&format!("cvt.{way}.s64.f32 %d, %a;"), &edges(), |x| round(x) as i64);
        check(&format!("cvt.{way}.u64.f32 %d, %a;"), &edges(), |x| round(x) as u64);
        check(&format!("cvt.{way}.s16.f32 %d, %a;"), &edges(), |x| round(x) as i16);
        check(&format!("cvt.{way}.u16.f32 %d, %a;"), &edges(), |x| round(x) as u16);
        // Narrower than its register, a result is extended.
        check(&format!("cvt.{way}.s8.f32 %d, %a;"), &edges(), |x| i32::from(round(x) as i8));
        check(&format!("cvt.{way}.u8.f32 %d, %a;"), &edges(), |x| u32::from(round(x) as u8));
        check(&format!("cvt.{way}.f32.f32 %d, %a;"), &edges(), |x| round(x).to_bits());
    }
    let nan = [[f32::NAN]];
    check("cvt.rni.s32.f32 %d, %a;", &nan, |_| 0i32);
    check("cvt.rzi.u32.f32 %d, %a;", &nan, |_| 0u32);
    // A subnormal rounds up to 1, unless it is flushed.
    check("cvt.rpi.s32.f32 %d, %a;", &[[1e-40f32]], |_| 1i32);
    check("cvt.rpi.ftz.s32.f32 %d, %a;", &[[1e-40f32]], |_| 0i32);
}

#[test]
fn doubles_to_integers() {
    let rows: Vec<[f64; 1]> =
        edges().iter().map(|r| [f64::from(r[0])]).chain([[2147483647.5], [-0.75]]).collect();
    check("cvt.rni.s32.f64 %d, %a;", &rows, |x| x.round_ties_even() as i32);
    check("cvt.rzi.u32.f64 %d, %a;", &rows, |x| x as u32);
    check("cvt.rmi.s64.f64 %d, %a;", &rows, |x| x.floor() as i64);
    check("cvt.rpi.u64.f64 %d, %a;", &rows, |x| x.ceil() as u64);
    check("cvt.rni.f64.f64 %d, %a;", &rows, |x| x.round_ties_even().to_bits());
}

/// The neighbour of `near` that lies on the asked side of the exact value.
fn directed(near: f32, exact: i128, up: bool) -> f32 {
    match (near as i128).cmp(&exact) {
        std::cmp::Ordering::Less if up => near.next_up(),
        std::cmp::Ordering::Greater if !up => near.next_down(),
        _ => near,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integers_to_floats(short in vec([any::<u32>()], 64), long in vec([any::<u64>()], 64)) {
        check("cvt.rn.f32.u32 %d, %a;", &short, |x| x as f32);
        check("cvt.rn.f32.s32 %d, %a;", &short, |x| x as i32 as f32);
        check("cvt.rz.f32.u32 %d, %a;", &short, |x| directed(x as f32, x.into(), false));
        check("cvt.rm.f32.s32 %d, %a;", &short, |x| directed(x as i32 as f32, (x as i32).into(), false));
        check("cvt.rp.f32.s32 %d, %a;", &short, |x| directed(x as i32 as f32, (x as i32).into(), true));
        check("cvt.rn.f64.s32 %d, %a;", &short, |x| f64::from(x as i32));
        check("cvt.rn.f64.u32 %d, %a;", &short, f64::from);
        check("cvt.rn.f32.u64 %d, %a;", &long, |x| x as f32);
        check("cvt.rn.f32.s64 %d, %a;", &long, |x| x as i64 as f32);
        check("cvt.rn.f64.u64 %d, %a;", &long, |x| x as f64);
        check("cvt.rn.f64.s64 %d, %a;", &long, |x| x as i64 as f64);
        check("cvt.rn.f32.u16 %d, %a;", &[[7u16], [65535]], f32::from);
        check("cvt.rn.f32.s16 %d, %a;", &[[7i16], [-32768]], f32::from);
        check("cvt.rn.f32.s8 %d, %a;", &short, |x| f32::from(x as i8));
        check("cvt.rn.f32.u8 %d, %a;", &short, |x| f32::from(x as u8));
    }

    #[test]
    fn between_integers(rows in vec([any::<u32>()], 64), long in vec([any::<u64>()], 64)) {
        // Only the low bits of a wider register count.
        check("cvt.s32.s8 %d, %a;", &rows, |x| i32::from(x as i8));
        check("cvt.u32.u8 %d, %a;", &rows, |x| u32::from(x as u8));
        check("cvt.s32.s16 %d, %a;", &rows, |x| i32::from(x as i16));
        check("cvt.u32.u16 %d, %a;", &rows, |x| u32::from(x as u16));
        check("cvt.u8.u32 %d, %a;", &rows, |x| u32::from(x as u8));
        check("cvt.s8.s32 %d, %a;", &rows, |x| i32::from(x as i8));
        check("cvt.u16.u32 %d, %a;", &rows, |x| x as u16);
        check("cvt.s16.s8 %d, %a;", &rows, |x| i16::from(x as i8));
        check("cvt.s64.s32 %d, %a;", &rows, |x| i64::from(x as i32));
        check("cvt.u64.u32 %d, %a;", &rows, u64::from);
        check("cvt.s64.s8 %d, %a;", &rows, |x| i64::from(x as i8));
        check("cvt.u32.u64 %d, %a;", &long, |x| x as u32);
        check("cvt.s32.s64 %d, %a;", &long, |x| x as i32);
        check("cvt.u16.u64 %d, %a;", &long, |x| x as u16);
        check("cvt.sat.s8.s32 %d, %a;", &rows, |x| (x as i32).clamp(-128, 127));
        check("cvt.sat.u8.s32 %d, %a;", &rows, |x| (x as i32).clamp(0, 255));
        check("cvt.sat.u8.u32 %d, %a;", &rows, |x| x.min(255));
        check("cvt.sat.s16.s32 %d, %a;", &rows, |x| (x as i32).clamp(-32768, 32767) as i16);
        check("cvt.sat.s32.s64 %d, %a;", &long, |x| (x as i64).clamp(i32::MIN.into(), i32::MAX.into()) as i32);
        check("cvt.sat.u32.s64 %d, %a;", &long, |x| (x as i64).clamp(0, u32::MAX.into()) as u32);
        check("cvt.sat.u32.u64 %d, %a;", &long, |x| x.min(u32::MAX.into()) as u32);
    }

    #[test]
    fn any_float_to_halves(bits in vec([any::<u32>()], 200), scaled in vec([-1e5..1e5f32], 50)) {
        let rows: Vec<[f32; 1]> = bits.iter().map(|b| [f32::from_bits(b[0])]).chain(scaled).collect();
        to_halves(&rows);
    }

    #[test]
    fn doubles_to_singles(rows in vec([any::<f64>()], 100), near in vec([-1e30..1e30f64], 100)) {
        let rows: Vec<_> = rows.into_iter().chain(near).collect();
        check("cvt.rn.f32.f64 %d, %a;", &rows, |x| (x as f32).to_bits());
        let up = |x: f64, up: bool| {
            let near = x as f32;
            if up && f64::from(near) < x { near.next_up() } else if !up && f64::from(near) > x { near.next_down() } else { near }
        };
        check("cvt.rp.f32.f64 %d, %a;", &rows, |x| up(x, true).to_bits());
        check("cvt.rm.f32.f64 %d, %a;", &rows, |x| up(x, false).to_bits());
        check("cvt.rz.f32.f64 %d, %a;", &rows, |x| up(x, x < 0.0).to_bits());
    }
}

/// Ties to even, infinity where it is too large, subnormals, NaN.
fn to_halves(rows: &[[f32; 1]]) {
    let to_bf16: Vec<u16> = eval("cvt.rn.bf16.f32 %d, %a;", rows);
    let to_f16: Vec<u16> = eval("cvt.rn.f16.f32 %d, %a;", rows);
    let bf16_pair: Vec<u32> = eval("neg.f32 %b, %a; cvt.rn.bf16x2.f32 %d, %b, %a;", rows);
    let f16_pair: Vec<u32> = eval("neg.f32 %b, %a; cvt.rn.f16x2.f32 %d, %b, %a;", rows);
    for (n, [x]) in rows.iter().enumerate() {
        let x = f64::from(*x);
        assert!(BF16.is_nearest(to_bf16[n], x), "{x:e} as bf16 gave {:#x}", to_bf16[n]);
        assert!(F16.is_nearest(to_f16[n], x), "{x:e} as f16 gave {:#x}", to_f16[n]);
        // The first operand is the upper half.
        assert!(
            BF16.is_nearest(bf16_pair[n] as u16, x) && BF16.is_nearest((bf16_pair[n] >> 16) as u16, -x),
            "{x:e}"
        );
        assert!(
            F16.is_nearest(f16_pair[n] as u16, x) && F16.is_nearest((f16_pair[n] >> 16) as u16, -x),
            "{x:e}"
        );
    }
}

#[test]
fn floats_to_halves_at_the_edges() {
    to_halves(&edges());
    to_halves(&[[f32::NAN], [f32::from_bits(0x7f80_0001)], [f32::from_bits(0xffff_ffff)]]);
    // Every middle between two subnormal f16, and its neighbours.
    let middles: Vec<[f32; 1]> = (0..1100)
        .map(|n| (n as f32 + 0.5) * 2f32.powi(-24))
        .flat_map(|x| [[x.next_down()], [-x], [x.next_up()]])
        .collect();
    to_halves(&middles);
    // Every middle between two bf16 of one power of two.
    let middles: Vec<[f32; 1]> = (0..128)
        .map(|n| f32::from_bits(0x3f80_8000 + (n << 16)))
        .flat_map(|x| [[x.next_down()], [-x], [x.next_up()]])
        .collect();
    to_halves(&middles);
    // Subnormal bf16 as well.
    let tiny: Vec<[f32; 1]> = (1..600).map(|n| [f32::from_bits(n << 13)]).collect();
    to_halves(&tiny);
}

#[test]
fn floats_to_halves_towards_zero() {
    let rows: Vec<[f32; 1]> = edges().into_iter().filter(|r| r[0].is_finite()).collect();
    let got: Vec<u16> = eval("cvt.rz.bf16.f32 %d, %a;", &rows);
    let expected: Vec<_> = rows.iter().map(|r| BF16.truncated(r[0].into())).collect();
    assert_eq!(got, expected);
    let got: Vec<u16> = eval("cvt.rz.f16.f32 %d, %a;", &rows);
    let expected: Vec<_> = rows.iter().map(|r| F16.truncated(r[0].into())).collect();
    assert_eq!(got, expected);
}

#[test]
fn negative_values_to_zero() {
    let rows = [[2.5f32], [-2.5], [-0.0], [-1e-30], [f32::NEG_INFINITY], [70000.0]];
    for (body, format) in [("cvt.rn.relu.bf16.f32 %d, %a;", &BF16), ("cvt.rn.relu.f16.f32 %d, %a;", &F16)] {
        let got: Vec<u16> = eval(body, &rows);
        let values: Vec<f64> = got.into_iter().map(|bits| format.value(bits)).collect();
        let expected: Vec<f64> =
            rows.iter().map(|r| format.value(format.nearest(f64::from(r[0]).max(0.0)).unwrap())).collect();
        assert_eq!(values, expected, "{body}");
    }
}

/// All of them: widening is exact.
#[test]
fn every_half_to_float() {
    let rows: Vec<[u16; 1]> = (0..=u16::MAX).map(|bits| [bits]).collect();
    let from_f16: Vec<f32> = eval("cvt.f32.f16 %d, %a;", &rows);
    let from_bf16: Vec<f32> = eval_on("sm_90", "cvt.f32.bf16 %d, %a;", &rows);
    for ([bits], (f16, bf16)) in rows.iter().zip(from_f16.into_iter().zip(from_bf16)) {
        for (got, expected) in [(f16, F16.value(*bits)), (bf16, BF16.value(*bits))] {
            let same = got.is_nan() && expected.is_nan() || f64::from(got).to_bits() == expected.to_bits();
            assert!(same, "{bits:#x} gave {got:e}, not {expected:e}");
        }
    }
}

#[test]
fn singles_to_doubles_and_flushing() {
    let rows = edges();
    check("cvt.f64.f32 %d, %a;", &rows, f64::from);
    check("cvt.ftz.f64.f32 %d, %a;", &[[1e-40f32], [-1e-40], [1.0]], |x: f32| {
        (if x.is_subnormal() { 0f64.copysign(x.into()) } else { x.into() }).to_bits()
    });
    check("cvt.rn.f32.f64 %d, %a;", &[[1e-40f64]], |_| 1e-40f32.to_bits());
    check("cvt.rn.ftz.f32.f64 %d, %a;", &[[-1e-40f64]], |_| (-0f32).to_bits());
}

#[test]
fn halves_to_integers_and_back() {
    let rows: Vec<[u16; 1]> =
        [0.0, 0.5, 1.5, -2.5, 300.25, -40000.0].map(|x| [F16.nearest(x).unwrap()]).to_vec();
    check("cvt.rni.s32.f16 %d, %a;", &rows, |b| F16.value(b).round_ties_even() as i32);
    check("cvt.rzi.u32.f16 %d, %a;", &rows, |b| F16.value(b) as u32);
    check("cvt.rn.f16.s32 %d, %a;", &[[2049i32], [2051], [-7], [70000]], |x| {
        F16.nearest(f64::from(x)).unwrap()
    });
    check("cvt.rn.f16.u16 %d, %a;", &[[2049u16], [65535]], |x| F16.nearest(f64::from(x)).unwrap());
}
