//! When sampling ends: at least ten samples and half a second, then a narrow interval, or the end of the budget, or as many
//! samples as are kept. On a clock that only the device's work moves.

use std::time::Duration;

use llmroof::measure::{Layers, Options};
use llmroof::run::{Point, Run, StoppedBy, Timing};
use llmroof::workload::Phase;
use proptest::prelude::*;

use crate::scripted::{Scripted, Watching, options, run};

/// What ten probes beside a sample take: five of reading, five of computing.
const PROBES: f64 = 5.0 * (0.005 + 0.002);

/// One decode point.
fn one_point(budget: f64) -> Options {
    let mut options = options(Layers::All);
    options.sweeps.phases = vec![Phase::Decode];
    options.sweeps.batches = vec![1];
    Options { budget: Duration::from_secs_f64(budget), ..options }
}

/// Standard normals of a seed.
pub fn normals(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 + 0.5) / (1u64 << 31) as f64
    };
    move || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

/// A device whose steps take `seconds`, times `shape` of the execution's number.
fn device(seconds: f64, shape: impl FnMut(usize) -> f64 + 'static) -> Scripted {
    Scripted { step: Some(seconds), noise: Box::new(shape), ..Scripted::reaching(0.8) }
}

/// The same with log-normal noise.
fn noisy(seconds: f64, spread: f64, seed: u64) -> Scripted {
    let mut normal = normals(seed);
    device(seconds, move |_| (spread * normal()).exp())
}

fn measured(session: &mut Scripted, options: &Options) -> Run {
    let ended = run(session, options, &mut Watching::default()).unwrap();
    assert!(ended.failure.is_none());
    ended.run.to_json().unwrap();
    ended.run
}

fn step(run: &Run) -> &Point {
    run.points.iter().find(|point| point.stage.is_none()).unwrap()
}

fn drifted(point: &Point) -> bool {
    point.notes.iter().any(|note| note.contains("drifted"))
}

#[test]
fn ten_samples_are_the_least_however_long_they_take() {
    let run = measured(&mut device(0.3, |_| 1.0), &one_point(20.0));
    let seconds = &step(&run).seconds;
    assert_eq!((seconds.samples.len(), seconds.stopped_by), (10, Some(StoppedBy::Interval)));
}

#[test]
fn half_a_second_is_the_least_however_many_samples_it_holds() {
    let run = measured(&mut device(0.01, |_| 1.0), &one_point(20.0));
    let seconds = &step(&run).seconds;
    // Four executions a round, with the probes 75 ms: the seventh round ends after 0.525 s, and the first probe counts.
    let rounds = ((0.5 - PROBES) / (4.0 * 0.01 + PROBES)).ceil() as usize;
    assert_eq!((seconds.samples.len(), seconds.stopped_by), (4 * rounds, Some(StoppedBy::Interval)));
}

#[test]
fn as_many_samples_as_are_kept_end_it() {
    let run = measured(&mut noisy(0.001, 0.5, 3), &one_point(60.0));
    let seconds = &step(&run).seconds;
    assert_eq!(seconds.stopped_by, Some(StoppedBy::Samples));
    assert!((1000..1064).contains(&seconds.samples.len()), "{}", seconds.samples.len());
}

#[test]
fn a_device_that_gets_slower_is_noted() {
    let run = measured(&mut device(0.03, |number| 1.0 + number as f64 / 200.0), &one_point(12.0));
    let step = step(&run);
    assert!(drifted(step) && step.notes.iter().any(|note| note.contains("longer")), "{:?}", step.notes);
    let faster = measured(&mut device(0.03, |number| 1.0 / (1.0 + number as f64 / 200.0)), &one_point(12.0));
    assert!(self::step(&faster).notes.iter().any(|note| note.contains("% less")));
}

#[test]
fn more_slow_samples_than_a_tenth_are_no_interruptions() {
    let run =
        measured(&mut device(0.01, |number| if number % 5 == 4 { 10.0 } else { 1.0 }), &one_point(20.0));
    assert_eq!(step(&run).seconds.discarded, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_quiet_device_is_done_as_soon_as_the_interval_is_narrow(seed: u64, spread in 0.005..0.03) {
        let run = measured(&mut noisy(0.02, spread, seed), &one_point(60.0));
        let step = step(&run);
        let seconds = &step.seconds;
        prop_assert_eq!(seconds.stopped_by, Some(StoppedBy::Interval));
        prop_assert!(seconds.relative_interval() < 0.005);
        prop_assert!(seconds.samples.len() >= 10);
        // A round of two samples earlier it was not yet: too wide, or half a second was not over.
        let before = &seconds.samples[..seconds.samples.len() - 2];
        let lasted = before.iter().sum::<f64>() + PROBES * (before.len() as f64 / 2.0 + 1.0);
        let wide = Timing::of(&[before.to_vec()]).unwrap().relative_interval() >= 0.005;
        prop_assert!(wide || lasted < 0.5 || before.len() < 10, "{} samples", seconds.samples.len());
        prop_assert!(!drifted(step), "{:?}", step.notes);
    }

    #[test]
    fn a_noisy_device_ends_with_the_budget_and_exceeds_it_by_no_more_than_a_round(
        seed: u64,
        seconds in 0.02..0.2,
        spread in 0.2..0.6,
        budget in 5.0..12.0,
    ) {
        let mut session = noisy(seconds, spread, seed);
        let run = measured(&mut session, &one_point(budget));
        let step = step(&run);
        prop_assert_eq!(step.seconds.stopped_by, Some(StoppedBy::Budget));
        let longest = step.seconds.samples.iter().copied().fold(0.0, f64::max);
        let round = (0.04 / seconds).max(1.0).ceil() * 4.0 * longest + PROBES;
        let spent = run.conditions.as_ref().unwrap().wall_seconds;
        prop_assert!(spent <= budget * 0.97 + round, "{} s of {} s, a round of {} s", spent, budget, round);
        prop_assert!(spent >= budget * 0.97 - round, "{} s of {} s were left unused", budget - spent, budget);
        prop_assert!(step.seconds.relative_interval() >= 0.005);
    }

    #[test]
    fn interruptions_are_counted_kept_and_left_out(seed: u64, every in 12usize..40) {
        let mut normal = normals(seed);
        let shape = move |number: usize| {
            (0.001 * normal()).exp() * if number % every == every - 1 { 10.0 } else { 1.0 }
        };
        let run = measured(&mut device(0.01, shape), &one_point(20.0));
        let step = step(&run);
        let slow = step.seconds.samples.iter().filter(|&&sample| sample > 0.05).count();
        prop_assert_eq!(step.seconds.discarded as usize, slow);
        prop_assert_eq!(step.seconds.count as usize + slow, step.seconds.samples.len());
        prop_assert!((step.seconds.median / 0.01 - 1.0).abs() < 0.002);
        prop_assert!(!drifted(step), "{:?}", step.notes);
    }
}
