//! Floors and judgements: a run of a real machine, slowed down and hurried on, against what it must reach.

#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use llmroof::check::{Basis, Figure, Floors, Verdict, decode, judge, line, reason};
use llmroof::error::Code;
use llmroof::model::DType;
use llmroof::profiles::Catalog;
use llmroof::roofline::{CeilingKind, CeilingSource};
use llmroof::run::{Gpu, Reading, Run, RunStatus, Status};
use proptest::prelude::*;

/// A run of llama-8b on two cores, as `measure` wrote it.
fn measured() -> Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    let text = include_str!("../reports/amd-epyc-2-cores/20261123T151520Z-llama-8b-amd-epyc.json");
    RUN.get_or_init(|| Run::from_json(text).unwrap()).clone()
}

/// The same at this many times the speed: every ceiling, and decode's share of them.
fn at_speed(factor: f64) -> Run {
    let mut run = measured();
    for ceiling in &mut run.ceilings {
        ceiling.rate *= factor;
        ceiling.low = ceiling.low.map(|low| low * factor);
        ceiling.median = ceiling.median.map(|median| median * factor);
    }
    for point in &mut run.points {
        point.fraction_of_roof *= factor;
    }
    run
}

fn floors(tolerance: f64) -> Floors {
    Floors::of_run(&measured(), tolerance).unwrap()
}

/// The run with a GPU's readings: how many name each reason.
fn with_readings(mut run: Run, reasons: &[(&str, usize)], of: usize) -> Run {
    let readings = (0..of).map(|at| Reading {
        seconds: at as f64 / 10.0,
        temperature_celsius: Some(70.0 + at as f64),
        throttle_reasons: Some(
            reasons.iter().filter(|(_, count)| at < *count).map(|(name, _)| (*name).into()).collect(),
        ),
        ..Reading::default()
    });
    let gpu = Gpu {
        power_limit_watts: Some(500.0),
        power_limit_default_watts: Some(700.0),
        readings: readings.collect(),
        ..Gpu::default()
    };
    run.conditions.as_mut().unwrap().gpu = Some(gpu);
    run
}

#[test]
fn a_run_passes_its_own_floors_and_a_slow_one_misses_all_of_them() {
    let same = judge(&measured(), &floors(0.05), 0);
    assert_eq!(same.verdict, Verdict::Ok, "{}", reason(&same));
    let figures: Vec<String> = same.findings.iter().map(|finding| finding.floor.figure.name()).collect();
    assert_eq!(figures, ["memory_read", "compute_bf16", "decode"]);
    let said = line("this", &same);
    assert!(said.starts_with("ok: this: read ") && said.contains("of the run, floor 95.0%)"), "{said}");

    let slow = judge(&at_speed(0.4), &floors(0.05), 0);
    assert_eq!(slow.verdict, Verdict::Failed);
    let said = line("this", &slow);
    for word in ["failed: this: read ", "; bf16 ", "; decode ", "of the run, floor 95.0%"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_runs_floor_is_below_what_the_run_could_always_do() {
    let run = measured();
    let read = run.ceiling(CeilingKind::MemoryRead, None, CeilingSource::Measured).unwrap();
    let floors = floors(0.05);
    let floor = &floors.list[0];
    assert_eq!((floor.reference, floors.basis), (read.low.unwrap(), Basis::Run));
    assert!(floor.reference < read.rate, "the machine's bandwidth swings: its best is no floor");
    let fraction = decode(&run).unwrap().fraction_of_roof;
    assert_eq!(floors.list[2].reference, fraction);
}

#[test]
fn heat_and_the_power_supply_fail_a_device_that_is_fast_enough() {
    for name in ["sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"] {
        let hot = judge(&with_readings(measured(), &[(name, 3)], 20), &floors(0.05), 0);
        assert_eq!(hot.verdict, Verdict::Failed, "{name}");
        let said = line("this", &hot);
        assert!(said.contains(&format!("throttled: {name} in 3 of 20 readings, up to 89 C")), "{said}");
    }
    // Every healthy card is at its power limit under load, and drivers name the last while clocks change.
    for name in ["sw_power_cap", "hw_slowdown", "sync_boost", "0x200"] {
        let warm = judge(&with_readings(measured(), &[(name, 20)], 20), &floors(0.05), 0);
        assert_eq!((warm.verdict, warm.remarks.len()), (Verdict::Ok, 0), "{name}");
    }
}

#[test]
fn a_low_power_limit_is_told_with_the_floor_that_was_missed() {
    let slow = judge(&with_readings(at_speed(0.4), &[("sw_power_cap", 18)], 20), &floors(0.05), 0);
    let said = reason(&slow);
    assert!(said.starts_with("read "), "{said}");
    assert!(
        said.ends_with("its power limit is 500 W, by default 700 W; sw_power_cap in 18 of 20 readings"),
        "{said}"
    );
}

#[test]
fn what_was_not_measured_is_no_pass() {
    let mut run = measured();
    run.points.clear();
    let floors = floors(0.05);
    let without = judge(&run, &floors, 0);
    assert_eq!(without.verdict, Verdict::Inconclusive);
    assert_eq!(reason(&without), "not measured within the budget: decode");
    assert_eq!(without.findings[2].passed(), None);
    // A floor that was missed is missed whatever else is not known.
    let mut slow = at_speed(0.4);
    slow.points.clear();
    assert_eq!(judge(&slow, &floors, 0).verdict, Verdict::Failed);
}

#[test]
fn what_others_took_is_no_fault_of_the_device() {
    let slow = judge(&at_speed(0.4), &floors(0.05), 2);
    assert_eq!(slow.verdict, Verdict::Inconclusive);
    assert!(
        reason(&slow).starts_with("2 other processes came while it was measured; read "),
        "{}",
        reason(&slow)
    );
    assert_eq!(judge(&measured(), &floors(0.05), 2).verdict, Verdict::Ok, "fast in spite of them");
    let hot = with_readings(measured(), &[("hw_thermal_slowdown", 3)], 20);
    assert_eq!(judge(&hot, &floors(0.05), 2).verdict, Verdict::Failed, "heat is heat");
}

#[test]
fn a_profile_without_floors_and_runs_that_measured_nothing_are_refused() {
    let catalog = Catalog::load(None).unwrap();
    let refused = |failure: llmroof::error::Failure, word: &str| {
        assert_eq!(failure.code, Code::BadInput);
        assert!(failure.to_string().contains(word) && failure.hint.is_some(), "{failure}");
    };
    refused(Floors::of_profile(catalog.device("l4").unwrap()).unwrap_err(), "l4 has no floors");

    let mut predicted = measured();
    predicted.status = RunStatus::Predicted;
    refused(Floors::of_run(&predicted, 0.05).unwrap_err(), "no measured ceilings");
    let mut datasheet = measured();
    datasheet.points.clear();
    datasheet.ceilings.retain(|ceiling| ceiling.source == CeilingSource::Datasheet);
    refused(Floors::of_run(&datasheet, 0.05).unwrap_err(), "no measured ceilings");
    let mut impossible = measured();
    let step = impossible.points.iter_mut().find(|point| point.stage.is_none()).unwrap();
    step.status = Status::Invalid;
    refused(Floors::of_run(&impossible, 0.05).unwrap_err(), "above its measured roof");
}

#[test]
fn a_run_without_a_decode_step_has_the_floors_of_its_ceilings() {
    let mut prefill = measured();
    prefill.points.retain(|point| point.batch != 1);
    let floors = Floors::of_run(&prefill, 0.1).unwrap();
    let figures: Vec<Figure> = floors.list.iter().map(|floor| floor.figure).collect();
    assert_eq!(figures, [Figure::MemoryRead, Figure::Compute(DType::Bf16)]);
    assert!(floors.list.iter().all(|floor| floor.share == 0.9));
}

#[test]
fn a_profiles_floors_are_shares_of_its_datasheet() {
    let catalog = Catalog::load(None).unwrap();
    let card = catalog.device("h100-sxm5").unwrap();
    let floors = Floors::of_profile(card).unwrap();
    let references: Vec<f64> = floors.list.iter().map(|floor| floor.reference).collect();
    assert_eq!(references, [card.memory_bandwidth.value, card.peak[&DType::Bf16].value, 1.0]);
    // Two cores against an H100: both ceilings are missed, and decode, a share of what there is, is not.
    let judged = judge(&measured(), &floors, 0);
    let passed: Vec<Option<bool>> = judged.findings.iter().map(|finding| finding.passed()).collect();
    assert_eq!(passed, [Some(false), Some(false), Some(true)]);
    assert!(reason(&judged).contains("of datasheet, floor 82.0%"), "{}", reason(&judged));
}

proptest! {
    /// A faster device never fares worse, and neither does a laxer tolerance.
    #[test]
    fn more_speed_and_more_tolerance_never_hurt(
        slow in 0.01..2.0f64, more in 1.0..3.0f64, tolerance in 0.0..0.5f64, lax in 0.0..0.4f64,
    ) {
        let passes = |speed, tolerance| judge(&at_speed(speed), &floors(tolerance), 0).verdict == Verdict::Ok;
        prop_assert!(!passes(slow, tolerance) || passes(slow * more, tolerance));
        prop_assert!(!passes(slow, tolerance) || passes(slow, tolerance + lax));
        prop_assert!(passes(1.0, tolerance));
    }

    /// Each floor is missed exactly where the figure is below its share of the reference.
    #[test]
    fn a_floor_is_missed_below_it(speed in 0.01..2.0f64, tolerance in 0.0..0.9f64) {
        for finding in judge(&at_speed(speed), &floors(tolerance), 0).findings {
            let least = finding.floor.reference * finding.floor.share;
            let distance = finding.measured.unwrap() / least - 1.0;
            // At the floor itself rounding decides.
            prop_assert!(distance.abs() < 1e-12 || finding.passed() == Some(distance > 0.0));
        }
    }

    /// Whatever was measured: one line that begins with its verdict, and no pass for what is no number.
    #[test]
    fn a_judgement_is_one_line(
        odd in prop::sample::select(&[f64::NAN, f64::INFINITY, 0.0, -1.0, 1e-300, 1e300, 5e9][..]),
        at in 0..3_usize, others in 0..3_u32, throttled in 0..3_usize,
    ) {
        let mut run = with_readings(measured(), &[("hw_thermal_slowdown", throttled)], 2);
        match at {
            2 => run.points.iter_mut().for_each(|point| point.fraction_of_roof = odd),
            at => run.ceilings[at].rate = odd,
        }
        let judged = judge(&run, &floors(0.05), others);
        let said = line("a device", &judged);
        prop_assert!(said.starts_with(judged.verdict.name()) && !said.contains('\n'), "{said}");
        prop_assert!(judged.verdict != Verdict::Ok || !said.contains("NaN"), "{said}");
        prop_assert!(judged.verdict == Verdict::Ok || !reason(&judged).is_empty());
    }
}
