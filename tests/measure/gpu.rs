//! A GPU with sensors.

use std::time::Duration;

use llmroof::backend::DeviceInfo;
use llmroof::error::Code;
use llmroof::measure::{Ended, Layers, Options};
use llmroof::run::{Point, Run, RunStatus, Status, StoppedBy};
use llmroof::units::Bytes;
use llmroof::workload::{Phase, Stage};

use crate::scripted::{LAUNCH, Scripted, Watching, close, options, run, sensed};
use crate::sensors::{Script, TRAFFIC, WATTS};

/// Host time of a run where the sensors must have time to see it.
const PAUSE: Duration = Duration::from_millis(40);

/// Time enough for windows of the energy counter; a scripted device needs little of it.
fn long(layers: Layers) -> Options {
    Options { budget: Duration::from_secs(30), ..options(layers) }
}

fn measured(session: &mut Scripted, script: &Script, layers: Layers) -> Run {
    let Ended { run, failure } =
        sensed(session, &long(layers), script.shared(), &mut Watching::default()).unwrap();
    assert!(failure.is_none(), "{failure:?}");
    run.to_json().unwrap();
    run
}

fn steps(run: &Run) -> impl Iterator<Item = &Point> {
    run.points.iter().filter(|point| point.stage.is_none())
}

fn decode(run: &Run, batch: u32) -> &Point {
    steps(run).find(|point| point.phase == Phase::Decode && point.batch == batch).unwrap()
}

fn noted(notes: &[String], words: &[&str]) -> bool {
    notes.iter().any(|note| words.iter().all(|word| note.contains(word)))
}

#[test]
fn energy_and_traffic_are_what_the_counters_saw() {
    let mut session = Scripted { pause: PAUSE, ..Scripted::gpu(0.8) };
    let script = Script::of(&session);
    let run = measured(&mut session, &script, Layers::All);
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    for step in steps(&run) {
        let tokens = step.tokens_per_second.unwrap() * step.seconds.median;
        let joules = WATTS * step.seconds.median / tokens;
        assert!(close(step.joules_per_token.unwrap(), joules), "{:?}", step.joules_per_token);
        assert!(close(step.witnessed_bytes.unwrap(), TRAFFIC * step.bytes), "{:?}", step.witnessed_bytes);
        assert_eq!(step.tensor_activity, Some(0.25));
        assert!(close(step.wall_seconds.unwrap(), step.seconds.median + LAUNCH));
        assert_eq!(step.throttled_samples, Some(0));
        assert_eq!(step.sm_clock_hz, Some(1.98e9));
        assert!(step.notes.is_empty(), "{:?}", step.notes);
    }
    for stage in run.points.iter().filter(|point| point.stage.is_some()) {
        assert_eq!((stage.joules_per_token, stage.witnessed_bytes, stage.wall_seconds), (None, None, None));
        let products = stage.phase == Phase::Prefill
            && !matches!(stage.stage, Some(Stage::Embed | Stage::Attention | Stage::LmHead));
        assert_eq!(stage.gemm.as_deref(), products.then_some("own"), "{:?} {:?}", stage.phase, stage.stage);
    }
    let conditions = run.conditions.unwrap();
    assert!(conditions.energy_source.is_some() && conditions.threads.is_none());
    let gpu = conditions.gpu.unwrap();
    assert_eq!((gpu.driver.as_deref(), gpu.idle_watts), (Some("570.86.15"), Some(75.0)));
    assert_eq!((gpu.capability.as_str(), gpu.kernels.len()), ("9.0", 1));
    assert!(!gpu.readings.is_empty());
    assert_eq!(gpu.unavailable["mig"], "not supported by this GPU");
    assert!(gpu.unavailable.contains_key("graph_launch_seconds"));
    assert!(!gpu.unavailable.contains_key("driver") && !gpu.unavailable.contains_key("witnessed_bytes"));
}

#[test]
fn energy_of_sampled_layers_is_scaled_and_a_witness_is_not() {
    let run = |layers| {
        let mut session = Scripted::gpu(0.8);
        let script = Script::of(&session);
        measured(&mut session, &script, layers)
    };
    let (all, two) = (run(Layers::All), run(Layers::Count(2)));
    for (a, b) in steps(&all).zip(steps(&two)) {
        assert_eq!((a.layers_measured, b.layers_measured), (8, 2));
        assert!(close(a.joules_per_token.unwrap(), b.joules_per_token.unwrap()));
        assert!(close(a.wall_seconds.unwrap(), b.wall_seconds.unwrap()));
        assert_eq!(b.witnessed_bytes, None);
    }
    assert!(noted(&two.notes, &["no witnessed bytes", "not scaled"]), "{:?}", two.notes);
}

#[test]
fn all_layers_run_where_memory_allows_whatever_the_time() {
    let mut session = Scripted::gpu(0.8);
    // A second for a hundred parameters: no budget holds eight layers of those.
    session.inner.fill_rate = 100.0;
    let run = run(&mut session, &options(Layers::Auto), &mut Watching::default()).unwrap().run;
    assert!(run.points.iter().all(|point| point.layers_measured == 8));
}

#[test]
fn a_budget_too_short_for_windows_says_so() {
    let mut session = Scripted::gpu(0.8);
    let script = Script::of(&session);
    let options = options(Layers::All);
    let run = sensed(&mut session, &options, script.shared(), &mut Watching::default()).unwrap().run;
    assert!(steps(&run).all(|step| step.joules_per_token.is_none()));
    assert!(noted(&run.notes, &["no energy", "--budget"]), "{:?}", run.notes);
    assert!(run.conditions.unwrap().gpu.unwrap().unavailable.contains_key("joules_per_token"));
}

#[test]
fn a_gpu_without_counters_says_so_once() {
    let mut session = Scripted::gpu(0.8);
    let script = Script { no_counters: true, ..Script::of(&session) };
    let run = measured(&mut session, &script, Layers::All);
    assert!(steps(&run).all(|step| step.witnessed_bytes.is_none() && step.joules_per_token.is_some()));
    let said = run.notes.iter().filter(|note| note.contains("from Hopper on")).count();
    assert_eq!(said, 1, "{:?}", run.notes);
    let gpu = run.conditions.unwrap().gpu.unwrap();
    assert_eq!(gpu.unavailable["witnessed_bytes"], "counters are there from Hopper on");
}

#[test]
fn without_sensors_the_driver_still_says_what_it_is() {
    let run = run(&mut Scripted::gpu(0.8), &long(Layers::All), &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Complete);
    assert!(noted(&run.notes, &["no sensors: the library is not there"]), "{:?}", run.notes);
    assert!(!noted(&run.notes, &["no energy"]), "the reason is the same: {:?}", run.notes);
    let conditions = run.conditions.as_ref().unwrap();
    let gpu = conditions.gpu.as_ref().unwrap();
    assert_eq!((gpu.cuda.as_str(), gpu.pci.as_str()), ("12.8", "00000000:3b:00.0"));
    for field in ["driver", "ecc", "mig", "idle_watts", "readings", "joules_per_token", "witnessed_bytes"] {
        assert_eq!(gpu.unavailable[field], "the library is not there", "{field}");
    }
    assert!(run.points.iter().all(|point| point.throttled_samples.is_none()));
}

#[test]
fn throttling_from_the_start_is_reported_and_nothing_is_thrown_away() {
    let mut session = Scripted { pause: PAUSE, ..Scripted::gpu(0.8) };
    let script = Script { throttled_from: Some(0), ..Script::of(&session) };
    let run = measured(&mut session, &script, Layers::All);
    assert_eq!(run.status, RunStatus::Complete);
    assert!(noted(&run.notes, &["throttled from the start", "power_cap"]), "{:?}", run.notes);
    for step in steps(&run) {
        assert_eq!(step.throttled_samples, Some(step.seconds.samples.len() as u32));
        assert_eq!((step.status, step.sm_clock_hz), (Status::Ok, Some(1.2e9)));
        assert!(noted(&step.notes, &["held its clocks down", "power_cap"]), "{:?}", step.notes);
    }
}

#[test]
fn throttling_midway_marks_the_samples_from_then_on() {
    let mut session = Scripted { pause: PAUSE, ..Scripted::gpu(0.8) };
    let script = Script { throttled_from: Some(2), ..Script::of(&session) };
    let run = measured(&mut session, &script, Layers::All);
    assert!(noted(&run.notes, &["throttled midway", "power_cap"]), "{:?}", run.notes);
    let (first, last) = (decode(&run, 1), decode(&run, 4));
    // A reading may be a tenth of a second older than the sample beside it.
    assert!(first.throttled_samples.unwrap() < first.seconds.samples.len() as u32 / 2);
    assert!(last.throttled_samples.unwrap() > last.seconds.samples.len() as u32 / 2);
    assert_eq!((first.sm_clock_hz, last.sm_clock_hz), (Some(1.98e9), Some(1.2e9)));
    let gpu = run.conditions.unwrap().gpu.unwrap();
    assert_eq!(gpu.readings.first().unwrap().throttle_reasons, Some(Vec::new()));
    assert_eq!(gpu.readings.last().unwrap().throttle_reasons, Some(vec!["power_cap".into()]));
}

#[test]
fn sensors_that_die_midway_leave_what_they_said() {
    let mut session = Scripted { pause: PAUSE, ..Scripted::gpu(0.8) };
    let script = Script { silent_from: Some(2), ..Script::of(&session) };
    let run = measured(&mut session, &script, Layers::All);
    assert_eq!(run.status, RunStatus::Complete);
    assert!(noted(&run.notes, &["fell silent", "power_watts", "the GPU is lost"]), "{:?}", run.notes);
    let (first, last) = (decode(&run, 1), decode(&run, 4));
    assert!(first.joules_per_token.is_some());
    assert_eq!((last.joules_per_token, last.throttled_samples), (None, None));
    assert!(noted(&last.notes, &["no energy: the GPU is lost"]), "{:?}", last.notes);
    let gpu = run.conditions.unwrap().gpu.unwrap();
    assert_eq!(gpu.unavailable["readings.power_watts"], "the GPU is lost");
}

#[test]
fn other_processes_on_the_gpu_are_noted() {
    let mut session = Scripted::gpu(0.8);
    let script = Script { others: 2, ..Script::of(&session) };
    let run = measured(&mut session, &script, Layers::All);
    assert!(noted(&run.notes, &["2 other processes computed on this GPU"]), "{:?}", run.notes);
    assert_eq!(run.conditions.unwrap().gpu.unwrap().other_processes, Some(2));
}

#[test]
fn what_was_measured_before_the_device_failed_is_kept() {
    for (fail_at, samples) in [(20, true), (2, false), (3, true)] {
        let mut session =
            Scripted { pause: Duration::from_millis(10), fail_at: Some(fail_at), ..Scripted::gpu(0.8) };
        let script = Script::of(&session);
        let mut watching = Watching::default();
        let ended = sensed(&mut session, &long(Layers::All), script.shared(), &mut watching);
        if !samples {
            // The first pass had its warm-up only: there is nothing to keep.
            let failure = ended.unwrap_err();
            assert_eq!((failure.code, watching.kept.len()), (Code::Device, 0));
            continue;
        }
        let Ended { run, failure } = ended.unwrap();
        let failure = failure.unwrap();
        assert_eq!((failure.code, failure.hint.as_deref()), (Code::Device, Some("restart")));
        assert_eq!(run.status, RunStatus::Partial);
        assert!(noted(&run.notes, &["failed midway", "illegal address (700)"]), "{:?}", run.notes);
        assert!(noted(&run.notes, &["not reached", "decode batch 4"]), "{:?}", run.notes);
        let first = decode(&run, 1);
        assert!(!first.seconds.samples.is_empty());
        // The last pass that was begun ended with what it had.
        let cut = steps(&run).filter(|step| step.seconds.stopped_by == Some(StoppedBy::Failure)).count();
        assert_eq!(cut, 1, "run {fail_at}");
        assert!(!watching.kept.is_empty(), "the run file was written before the end");
        run.to_json().unwrap();
    }
}

#[test]
fn a_device_that_fails_in_its_soak_keeps_the_points() {
    let mut session = Scripted::gpu(0.8);
    session.fail_soak = true;
    let options = Options { soak: Some(Duration::from_secs(9)), ..options(Layers::All) };
    let Ended { run, failure } = run(&mut session, &options, &mut Watching::default()).unwrap();
    assert_eq!(failure.unwrap().code, Code::Device);
    assert_eq!((run.status, steps(&run).count()), (RunStatus::Partial, 3));
}

#[test]
fn samples_of_several_executions_say_so() {
    let mut session = Scripted { repeats: 14, ..Scripted::gpu(0.8) };
    let script = Script::of(&session);
    let run = measured(&mut session, &script, Layers::All);
    for step in steps(&run) {
        assert!(noted(&step.notes, &["mean of 14 executions"]), "{:?}", step.notes);
    }
    assert!(run.points.iter().filter(|point| point.stage.is_some()).all(|point| point.notes.is_empty()));
}

#[test]
fn stages_that_overlap_make_a_negative_bubble_in_all_layers_and_in_some() {
    let run = |layers| {
        let mut session = Scripted { overlap: 0.1, ..Scripted::gpu(0.8) };
        let script = Script::of(&session);
        measured(&mut session, &script, layers)
    };
    let (all, one) = (run(Layers::All), run(Layers::Count(1)));
    for (a, b) in steps(&all).zip(steps(&one)) {
        assert!(close(a.bubble_seconds.unwrap(), -a.seconds.median / 9.0), "{:?}", a.bubble_seconds);
        assert!(close(a.seconds.median, b.seconds.median));
        assert!(close(a.bubble_seconds.unwrap(), b.bubble_seconds.unwrap()));
        assert_eq!((a.status, b.status), (Status::Ok, Status::Ok));
    }
}

#[test]
fn weights_too_small_to_be_cold_are_noted_and_not_held_against_memory() {
    let mut session = Scripted::gpu(1.1);
    session.device = DeviceInfo { cache: Some(Bytes(50e6)), ..session.device };
    let script = Script::of(&session);
    let run = measured(&mut session, &script, Layers::All);
    assert!(noted(&run.notes, &["64 copies", "too little to be cold"]), "{:?}", run.notes);
    let batch = decode(&run, 1);
    assert_eq!(batch.status, Status::Ok, "{:?}", batch.notes);
}
