//! Approximate functions stay within the errors that the PTX ISA states.

use std::f32::consts::PI;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::lab::eval;

const ULP: f64 = 1.0 / (1 << 23) as f64;

/// Largest error of `body` over these values: what it gave against the exact result.
fn largest(
    body: &str,
    rows: &[[f32; 2]],
    exact: impl Fn(f64, f64) -> f64,
    error: fn(f64, f64) -> f64,
) -> f64 {
    let got: Vec<f32> = eval(body, rows);
    let errors = rows.iter().zip(got).map(|([a, b], got)| error(got.into(), exact((*a).into(), (*b).into())));
    errors.map(|e| if e.is_nan() { f64::INFINITY } else { e }).fold(0.0, f64::max)
}

fn relative(body: &str, rows: &[[f32; 2]], exact: impl Fn(f64, f64) -> f64) -> f64 {
    largest(
        body,
        rows,
        exact,
        |got, exact| if got == exact { 0.0 } else { (got - exact).abs() / exact.abs() },
    )
}

fn absolute(body: &str, rows: &[[f32; 2]], exact: impl Fn(f64) -> f64) -> f64 {
    largest(body, rows, |a, _| exact(a), |got, exact| (got - exact).abs())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn within_the_documented_error(
        positive in vec([1e-30..1e30f32, 0.1..10.0f32], 64),
        exponents in vec([-120.0..120.0f32, 0.0..1.0f32], 64),
        angles in vec([-PI..PI, 0.0..1.0f32], 64),
        near_one in vec([0.5..2.0f32, 0.0..1.0f32], 64),
    ) {
        prop_assert!(relative("ex2.approx.f32 %d, %a;", &exponents, |a, _| a.exp2()) <= 2.0 * ULP);
        prop_assert!(relative("ex2.approx.ftz.f32 %d, %a;", &exponents, |a, _| a.exp2()) <= 2.0 * ULP);
        prop_assert!(relative("lg2.approx.f32 %d, %a;", &positive, |a, _| a.log2()) <= 2f64.powi(-22));
        prop_assert!(absolute("lg2.approx.f32 %d, %a;", &near_one, f64::log2) <= 2f64.powi(-22));
        prop_assert!(relative("rcp.approx.f32 %d, %a;", &positive, |a, _| 1.0 / a) <= ULP);
        prop_assert!(relative("rcp.approx.ftz.f32 %d, %a;", &positive, |a, _| 1.0 / a) <= ULP);
        prop_assert!(relative("sqrt.approx.f32 %d, %a;", &positive, |a, _| a.sqrt()) <= ULP);
        prop_assert!(relative("rsqrt.approx.f32 %d, %a;", &positive, |a, _| 1.0 / a.sqrt()) <= 2f64.powf(-22.4));
        prop_assert!(relative("div.approx.f32 %d, %a, %b;", &positive, |a, b| a / b) <= 2.0 * ULP);
        prop_assert!(relative("div.full.f32 %d, %a, %b;", &positive, |a, b| a / b) <= 2.0 * ULP);
        prop_assert!(absolute("sin.approx.f32 %d, %a;", &angles, f64::sin) <= 2f64.powf(-20.5));
        prop_assert!(absolute("cos.approx.f32 %d, %a;", &angles, f64::cos) <= 2f64.powf(-20.5));
        prop_assert!(relative("tanh.approx.f32 %d, %a;", &exponents, |a, _| a.tanh()) <= 2f64.powi(-11));
    }
}

#[track_caller]
fn check(body: &str, of: f32, expected: f32) {
    let got: Vec<f32> = eval(body, &[[of]]);
    let same = got[0].to_bits() == expected.to_bits() || got[0].is_nan() && expected.is_nan();
    assert!(same, "{body} of {of:e} gave {:e}, not {expected:e}", got[0]);
}

#[test]
fn special_values() {
    let (infinity, tiny) = (f32::INFINITY, 1e-40);
    for (body, of, expected) in [
        ("ex2.approx.f32 %d, %a;", -infinity, 0.0),
        ("ex2.approx.f32 %d, %a;", infinity, infinity),
        ("ex2.approx.f32 %d, %a;", 0.0, 1.0),
        ("ex2.approx.f32 %d, %a;", -140.0, 2f32.powi(-140)),
        ("ex2.approx.ftz.f32 %d, %a;", -140.0, 0.0),
        ("ex2.approx.f32 %d, %a;", f32::NAN, f32::NAN),
        ("lg2.approx.f32 %d, %a;", 0.0, -infinity),
        ("lg2.approx.f32 %d, %a;", -1.0, f32::NAN),
        ("lg2.approx.f32 %d, %a;", infinity, infinity),
        ("lg2.approx.ftz.f32 %d, %a;", tiny, -infinity),
        ("rcp.approx.ftz.f32 %d, %a;", tiny, infinity),
        ("rcp.approx.ftz.f32 %d, %a;", -tiny, -infinity),
        ("rcp.approx.f32 %d, %a;", -0.0, -infinity),
        ("rcp.approx.f32 %d, %a;", infinity, 0.0),
        ("rsqrt.approx.f32 %d, %a;", 0.0, infinity),
        ("rsqrt.approx.f32 %d, %a;", -1.0, f32::NAN),
        ("rsqrt.approx.f32 %d, %a;", infinity, 0.0),
        ("rsqrt.approx.ftz.f32 %d, %a;", tiny, infinity),
        ("sqrt.approx.f32 %d, %a;", -0.0, -0.0),
        ("sqrt.approx.ftz.f32 %d, %a;", tiny, 0.0),
        ("sin.approx.f32 %d, %a;", infinity, f32::NAN),
        ("cos.approx.f32 %d, %a;", 0.0, 1.0),
        ("tanh.approx.f32 %d, %a;", infinity, 1.0),
        ("tanh.approx.f32 %d, %a;", -infinity, -1.0),
    ] {
        check(body, of, expected);
    }
}
