//! A processor.

use std::time::Duration;

use llmroof::device::{Fact, Link, ProfileLink};
use llmroof::error::Code;
use llmroof::measure::{Layers, Options};
use llmroof::model::DType;
use llmroof::roofline::{CeilingKind, CeilingSource};
use llmroof::run::{RunStatus, Status, StoppedBy};
use llmroof::workload::{Phase, Stage};

use crate::scripted::{GAP, Scripted, Watching, close, options, run};
use crate::support::session::{Fault, ReferenceSession};

#[test]
fn a_machine_gets_the_share_of_the_roof_that_it_reaches() {
    let mut session = Scripted::reaching(0.8);
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    for point in run.points.iter().filter(|p| p.stage.is_some()) {
        assert!(close(point.fraction_of_roof, 0.8), "{:?}: {}", point.stage, point.fraction_of_roof);
        assert_eq!(point.status, Status::Ok);
    }
    let read = run.ceiling(CeilingKind::MemoryRead, None, CeilingSource::Measured).unwrap();
    assert!(close(read.rate, 50e9));
    for step in run.points.iter().filter(|p| p.stage.is_none()) {
        assert!(close(step.bubble_seconds.unwrap(), 42.0 * GAP));
        assert_eq!(step.seconds.relative_interval(), 0.0);
        assert!(step.seconds.count >= 10);
    }
}

#[test]
fn sampled_layers_are_scaled_to_all() {
    let all = run(&mut Scripted::reaching(0.8), &options(Layers::All), &mut Watching::default()).unwrap().run;
    let two =
        run(&mut Scripted::reaching(0.8), &options(Layers::Count(2)), &mut Watching::default()).unwrap().run;
    for (a, b) in all.points.iter().zip(&two.points) {
        assert_eq!((a.layers_measured, b.layers_measured, b.layers_total), (8, 2, 8));
        assert!(close(a.seconds.median, b.seconds.median), "{:?} {:?}", a.phase, a.stage);
        assert_eq!(a.bytes, b.bytes, "the ledger is the whole model's");
    }
}

#[test]
fn shares_hold_where_the_bandwidth_swings() {
    let mut session = Scripted { swing: 0.5, ..Scripted::reaching(0.9) };
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap().run;
    for point in run.points.iter().filter(|p| p.stage == Some(Stage::Down)) {
        assert!(close(point.fraction_of_roof, 0.9), "{:?} batch {}", point.phase, point.batch);
    }
    // The roof that is drawn is the best there was, and the band says how low it fell.
    let read = run.ceiling(CeilingKind::MemoryRead, None, CeilingSource::Measured).unwrap();
    assert!(close(read.rate, 50e9) && close(read.low.unwrap(), 25e9), "{:?}", (read.rate, read.low));
}

#[test]
fn a_point_above_its_roof_is_invalid() {
    let run = run(&mut Scripted::reaching(1.1), &options(Layers::All), &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Invalid);
    let down = run.points.iter().find(|p| p.stage == Some(Stage::Down)).unwrap();
    assert_eq!(down.status, Status::Invalid);
    assert!(down.notes[0].contains("of the best roof"), "{:?}", down.notes);
}

#[test]
fn trials_are_kept_apart() {
    let options = Options { repeat: 3, ..options(Layers::All) };
    let run = run(&mut Scripted::reaching(0.8), &options, &mut Watching::default()).unwrap().run;
    for point in &run.points {
        assert_eq!(point.seconds.trials.len(), 3);
        assert_eq!(point.seconds.trials.iter().sum::<u32>() as usize, point.seconds.samples.len());
    }
}

#[test]
fn every_point_is_handed_over_at_once_and_an_interrupt_keeps_them() {
    let mut watching = Watching { interrupt_after: Some(1), ..Watching::default() };
    let run = run(&mut Scripted::reaching(0.8), &options(Layers::All), &mut watching).unwrap().run;
    assert_eq!(watching.kept.len(), 1);
    assert_eq!(watching.kept[0].status, RunStatus::Partial);
    assert_eq!(run.status, RunStatus::Partial);
    // Decode of one sequence comes first: the request needs it.
    assert!(run.points.iter().all(|p| p.phase == Phase::Decode && p.batch == 1));
    assert!(run.notes.iter().any(|note| note.contains("not reached: prefill of 40 tokens, decode batch 4")));
    assert!(run.points.iter().all(|p| p.seconds.stopped_by == Some(StoppedBy::Interval)));
}

#[test]
fn a_device_that_computes_wrongly_is_not_timed() {
    let mut session = Scripted::reaching(0.8);
    session.inner = ReferenceSession::new(Fault::Model(|spec| spec.rope_theta *= 0.95));
    let mut watching = Watching::default();
    let failure = run(&mut session, &options(Layers::All), &mut watching).unwrap_err();
    assert_eq!(failure.code, Code::Invalid);
    assert!(failure.to_string().starts_with("verification failed"), "{failure}");
    assert!(watching.kept.is_empty());
}

#[test]
fn what_the_model_cannot_do_is_refused() {
    let mut asked = options(Layers::Count(9));
    let failure = asked.check().unwrap_err();
    assert_eq!((failure.code, failure.what.as_str()), (Code::BadInput, "--layers 9, but eight-layers has 8"));
    asked.layers = Layers::All;
    asked.sweeps.contexts = vec![513];
    assert_eq!(asked.check().unwrap_err().code, Code::BadInput);
}

#[test]
fn a_soak_leaves_the_sustained_peak_beside_the_burst() {
    let mut session = Scripted { tired: 0.7, ..Scripted::reaching(0.8) };
    let options = Options { soak: Some(Duration::from_secs(9)), ..options(Layers::All) };
    let run = run(&mut session, &options, &mut Watching::default()).unwrap().run;
    let burst = run.ceiling(CeilingKind::Compute, Some(DType::Bf16), CeilingSource::Measured).unwrap();
    let sustained =
        run.ceiling(CeilingKind::ComputeSustained, Some(DType::Bf16), CeilingSource::Measured).unwrap();
    assert!(close(burst.rate, 400e9), "{}", burst.rate);
    assert!(close(sustained.rate, 0.7 * 400e9), "{}", sustained.rate);
    assert!(sustained.citation.contains("9 s of the same"), "{}", sustained.citation);
    assert_eq!(run.status, RunStatus::Complete);
}

#[test]
fn of_each_number_of_ranks_ones_shard_is_measured_apart() {
    let fact = |value| Fact { value, source: "a test".into() };
    let facts = ProfileLink { bandwidth: fact(1e9), latency: Some(fact(1e-6)), joins: None };
    let mut asked = options(Layers::All);
    asked.model.vocab = 96;
    asked.sweeps.ranks = vec![1, 2];
    asked.link = Some(Link { profile: "some-card".into(), facts });
    let mut session = Scripted::reaching(0.8);
    let run = run(&mut session, &asked, &mut Watching::default()).unwrap().run;
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    assert_eq!(
        session.residency.as_ref().unwrap().model,
        asked.model.shard(2).unwrap(),
        "the last that was held"
    );
    let steps: Vec<_> = run.points.iter().filter(|p| p.stage.is_none()).collect();
    assert_eq!(steps.iter().map(|p| p.ranks).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2], "one after the other");
    for step in &steps[3..] {
        let stages = run.points.iter().filter(|p| p.stage.is_some() && p.shares_pass_with(step));
        assert!(stages.clone().count() > 0 && stages.into_iter().all(|p| close(p.fraction_of_roof, 0.8)));
        // Two a layer, and the argmax: 8 bytes a sequence.
        let rows = f64::from(step.batch * step.tokens);
        let all = 17.0 * 1e-6 + (16.0 * rows * 64.0 * 2.0 + f64::from(step.batch) * 8.0) / 1e9;
        assert!(close(step.all_reduce_seconds.unwrap(), all), "{step:?} for {all}");
        assert!(close(step.tokens_per_second.unwrap(), rows / (step.seconds.median + all)));
        assert!(
            step.trials.iter().all(|trial| trial.seconds < step.seconds.median + all),
            "trials are measured"
        );
    }
    assert_eq!(run.request.unwrap().ranks, 1, "that of the first");
    assert!(
        run.notes.iter().any(|note| note.contains("modelled over the link of some-card")),
        "{:?}",
        run.notes
    );
    asked.sweeps.ranks = vec![4];
    assert_eq!(asked.check().unwrap_err().code, Code::BadInput);
}
