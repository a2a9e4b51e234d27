//! What leaves its trace in a run: a clock that moves, others at work, times that cannot be.

use std::time::Duration;

use llmroof::error::Code;
use llmroof::measure::Layers;
use llmroof::run::{Run, RunStatus, Status, StoppedBy};
use llmroof::workload::Stage;

use crate::scripted::{Scripted, Watching, options, run, sensed};
use crate::sensors::Script;
use crate::stopping::normals;

fn noted(notes: &[String], words: &[&str]) -> bool {
    notes.iter().any(|note| words.iter().all(|word| note.contains(word)))
}

fn with_load(load: Option<f64>) -> Run {
    let mut session = Scripted { load, ..Scripted::reaching(0.8) };
    run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap().run
}

#[test]
fn work_of_others_is_in_the_conditions_and_noted_from_a_tenth_of_a_core_on() {
    for (load, said) in [(Some(0.4), true), (Some(0.1), true), (Some(0.09), false), (None, false)] {
        let run = with_load(load);
        assert_eq!(run.conditions.as_ref().unwrap().foreign_load, load);
        assert_eq!(
            noted(&run.notes, &["other processes used", "CPU cores"]),
            said,
            "{load:?} {:?}",
            run.notes
        );
        assert_eq!(run.status, RunStatus::Complete);
    }
}

/// Noise enough for a point to use its budget up, in rounds that the sensors have time to see.
fn long_point(sliding: f64) -> Run {
    let mut normal = normals(5);
    let mut session = Scripted { pause: Duration::from_millis(40), ..Scripted::gpu(0.8) };
    session.noise = Box::new(move |_| (0.3 * normal()).exp());
    let script = Script { sliding, ..Script::of(&session) };
    let mut options = options(Layers::All);
    options.sweeps.batches = vec![1];
    options.sweeps.phases.remove(0);
    sensed(&mut session, &options, script.shared(), &mut Watching::default()).unwrap().run
}

#[test]
fn a_clock_that_moves_between_the_thirds_of_the_samples_is_noted_with_its_figures() {
    let run = long_point(0.05);
    let step = &run.points[0];
    assert_eq!(step.seconds.stopped_by, Some(StoppedBy::Budget));
    assert!(noted(&step.notes, &["the GPU's clock went from 1", "MHz"]), "{:?}", step.notes);
    assert!(run.points[1..].iter().all(|stage| stage.notes.is_empty()));
    let steady = long_point(0.0);
    assert!(steady.points[0].notes.is_empty(), "{:?}", steady.points[0].notes);
}

#[test]
fn a_stage_that_the_clock_does_not_resolve_has_no_figures() {
    let mut session = Scripted::reaching(0.8);
    session.silent_stage = Some((Stage::Embed, 1e-7));
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.points[0].notes);
    assert!(run.points.iter().all(|point| point.stage != Some(Stage::Embed)));
    for step in run.points.iter().filter(|point| point.stage.is_none()) {
        assert!(
            noted(&step.notes, &["too short for the device's clock, left out: embed"]),
            "{:?}",
            step.notes
        );
        assert_eq!(step.status, Status::Ok);
    }
}

#[test]
fn a_stage_that_cannot_have_taken_no_time_spoils_the_step() {
    let mut session = Scripted::reaching(0.8);
    session.silent_stage = Some((Stage::GateUp, 1.0));
    // A thousand times slower, as a large model would be: no clock overlooks that.
    session.roof.bandwidth.0 /= 1000.0;
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Invalid);
    let step = run.points.iter().find(|point| point.stage.is_none()).unwrap();
    assert!(noted(&step.notes, &["gate_up took no time, where the roofs allow"]), "{:?}", step.notes);
    assert!(run.request.is_none());
}

#[test]
fn an_impossible_time_midway_takes_the_trust_from_what_came_before() {
    let mut session = Scripted::reaching(0.8);
    session.noise = Box::new(|number| if number > 1500 { f64::NAN } else { 1.0 });
    let mut watching = Watching::default();
    let ended = run(&mut session, &options(Layers::All), &mut watching).unwrap();
    let failure = ended.failure.unwrap();
    assert_eq!(failure.code, Code::Invalid);
    assert!(failure.what.contains("decode batch 4: a step took NaN s"), "{failure}");
    assert_eq!(ended.run.status, RunStatus::Invalid);
    assert!(!ended.run.points.is_empty() && ended.run.points.iter().all(|p| p.status == Status::Invalid));
    ended.run.to_json().unwrap();
}
