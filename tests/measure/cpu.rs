//! Measuring a machine whose speed is known: what comes out must be what was put in.
//!
//! The device is scripted. It computes with the float64 reference, and says that a pass took exactly the time that
//! its roofs allow, divided by the share of the roof that it is told to reach.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use llmroof::backend::weights::{RandomWeights, WeightSource};
use llmroof::backend::{DeviceInfo, Execution, Probe, Probed, Residency, Session, Setup, StageOutput, Work};
use llmroof::error::{Code, Result};
use llmroof::measure::{Layers, Observer, Options, measure};
use llmroof::model::{DType, ModelSpec};
use llmroof::request::Sweeps;
use llmroof::roofline::{CeilingKind, CeilingSource, Roofline};
use llmroof::run::{Host, Origin, Run, RunStatus, Status, StoppedBy};
use llmroof::units::{Bytes, BytesPerSec, FlopsPerSec};
use llmroof::workload::{Phase, Stage, Workload};
use support::session::{Fault, ReferenceSession};

/// Seconds between the stages of a scripted pass, for each border.
const GAP: f64 = 1e-6;

struct Scripted {
    inner: ReferenceSession,
    residency: Option<Residency>,
    work: Option<Workload>,
    roof: Roofline,
    /// Share of the roof that passes reach.
    share: f64,
    /// What the bandwidth is multiplied by at every other pass that is prepared.
    swing: f64,
    prepared: usize,
}

impl Scripted {
    fn reaching(share: f64) -> Scripted {
        Scripted {
            inner: ReferenceSession::new(Fault::None),
            residency: None,
            work: None,
            roof: Roofline { bandwidth: BytesPerSec(50e9), peak: FlopsPerSec(400e9) },
            share,
            swing: 1.0,
            prepared: 0,
        }
    }

    fn now(&self) -> Roofline {
        let factor = if self.prepared % 2 == 1 { self.swing } else { 1.0 };
        Roofline { bandwidth: BytesPerSec(self.roof.bandwidth.0 * factor), ..self.roof }
    }
}

impl Session for Scripted {
    fn device(&self) -> &DeviceInfo {
        self.inner.device()
    }

    fn setup(&self) -> Setup {
        Setup { product_dtype: DType::Bf16, ..self.inner.setup() }
    }

    fn available_memory(&self) -> Bytes {
        self.inner.available_memory()
    }

    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes {
        self.inner.needed_memory(residency, works)
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        self.residency = Some(residency.clone());
        self.inner.load(residency, weights)
    }

    fn probes(&self) -> Vec<Probe> {
        vec![Probe::MemoryRead, Probe::MemoryCopy, Probe::CacheRead, Probe::Compute(DType::Bf16)]
    }

    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed> {
        // Before its own weights are there, a device holds those of the check: they say nothing of memory.
        let checking = self.residency.as_ref().is_none_or(|held| held.model.name != model().name);
        assert!(!(checking && probe == Probe::MemoryRead), "memory was probed over another model");
        let rate = match probe {
            Probe::Compute(_) => self.roof.peak.0,
            _ => self.now().bandwidth.0,
        };
        Ok(Probed { amount: rate * seconds, seconds })
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        let residency = self.residency.clone().unwrap();
        let held = ModelSpec { layers: residency.layers, ..residency.model };
        let mut workload = Workload::decode(&held, work.batch, work.context);
        (workload.phase, workload.tokens) = (work.phase, work.tokens);
        self.work = Some(workload);
        self.prepared += 1;
        Ok(())
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        let (work, roof) = (self.work.as_ref().unwrap(), self.now());
        let stages = Stage::ALL.map(|stage| {
            let cost = work.cost(stage);
            roof.shortest(cost.flops, cost.bytes()).0.0 / self.share
        });
        let borders = 5.0 * f64::from(work.model.layers) + 2.0;
        Ok(vec![
            Execution {
                seconds: stages.iter().sum::<f64>() + borders * GAP,
                stages,
                ..Execution::default()
            };
            n
        ])
    }

    fn begin(&mut self, batch: u32, capacity: u32) -> Result<()> {
        self.inner.begin(batch, capacity)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.inner.forward(tokens, trace)
    }
}

/// Keeps what it is told, and interrupts after some points.
#[derive(Default)]
struct Watching {
    kept: Vec<Run>,
    interrupt_after: Option<usize>,
}

impl Observer for Watching {
    fn doing(&mut self, _what: &str, _left: Duration) {}

    fn measured(&mut self, run: &Run) -> Result<()> {
        self.kept.push(run.clone());
        Ok(())
    }

    fn interrupted(&self) -> Option<Code> {
        self.interrupt_after.filter(|&n| self.kept.len() >= n).map(|_| Code::Interrupted)
    }
}

fn model() -> ModelSpec {
    ModelSpec {
        name: "eight-layers".into(),
        hidden: 64,
        ffn: 128,
        layers: 8,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 97,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 512,
        source: String::new(),
    }
}

fn options(layers: Layers) -> Options {
    Options {
        model: model(),
        weights_from: "random".into(),
        sweeps: Sweeps {
            phases: vec![Phase::Prefill, Phase::Decode],
            batches: vec![1, 4],
            prompt: 40,
            context: None,
            generate: 20,
        },
        layers,
        activations: DType::Bf16,
        budget: Duration::from_secs(5),
        repeat: 1,
        seed: 1,
        profile: None,
    }
}

fn run(session: &mut Scripted, options: &Options, watching: &mut Watching) -> Result<Run> {
    let origin = Origin {
        argv: vec!["llmroof".into()],
        created: "2026-01-01T00:00:00Z".into(),
        host: Host {
            os: "test".into(),
            arch: "test".into(),
            cpu: "test".into(),
            physical_cores: None,
            logical_cores: 1,
            memory_bytes: 1e12,
        },
    };
    let weights = RandomWeights::new(options.seed, &options.model);
    measure(session, &weights, options, origin, watching)
}

fn close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-6
}

#[test]
fn a_machine_gets_the_share_of_the_roof_that_it_reaches() {
    let mut session = Scripted::reaching(0.8);
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap();
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
    let all = run(&mut Scripted::reaching(0.8), &options(Layers::All), &mut Watching::default()).unwrap();
    let two =
        run(&mut Scripted::reaching(0.8), &options(Layers::Count(2)), &mut Watching::default()).unwrap();
    for (a, b) in all.points.iter().zip(&two.points) {
        assert_eq!((a.layers_measured, b.layers_measured, b.layers_total), (8, 2, 8));
        assert!(close(a.seconds.median, b.seconds.median), "{:?} {:?}", a.phase, a.stage);
        assert_eq!(a.bytes, b.bytes, "the ledger is the whole model's");
    }
}

#[test]
fn shares_hold_where_the_bandwidth_swings() {
    let mut session = Scripted { swing: 0.5, ..Scripted::reaching(0.9) };
    let run = run(&mut session, &options(Layers::All), &mut Watching::default()).unwrap();
    for point in run.points.iter().filter(|p| p.stage == Some(Stage::Down)) {
        assert!(close(point.fraction_of_roof, 0.9), "{:?} batch {}", point.phase, point.batch);
    }
    // The roof that is drawn is the best there was, and the band says how low it fell.
    let read = run.ceiling(CeilingKind::MemoryRead, None, CeilingSource::Measured).unwrap();
    assert!(close(read.rate, 50e9) && close(read.low.unwrap(), 25e9), "{:?}", (read.rate, read.low));
}

#[test]
fn a_point_above_its_roof_is_invalid() {
    let run = run(&mut Scripted::reaching(1.1), &options(Layers::All), &mut Watching::default()).unwrap();
    assert_eq!(run.status, RunStatus::Invalid);
    let down = run.points.iter().find(|p| p.stage == Some(Stage::Down)).unwrap();
    assert_eq!(down.status, Status::Invalid);
    assert!(down.notes[0].contains("of the best roof"), "{:?}", down.notes);
}

#[test]
fn trials_are_kept_apart() {
    let options = Options { repeat: 3, ..options(Layers::All) };
    let run = run(&mut Scripted::reaching(0.8), &options, &mut Watching::default()).unwrap();
    for point in &run.points {
        assert_eq!(point.seconds.trials.len(), 3);
        assert_eq!(point.seconds.trials.iter().sum::<u32>() as usize, point.seconds.samples.len());
    }
}

#[test]
fn every_point_is_handed_over_at_once_and_an_interrupt_keeps_them() {
    let mut watching = Watching { interrupt_after: Some(1), ..Watching::default() };
    let run = run(&mut Scripted::reaching(0.8), &options(Layers::All), &mut watching).unwrap();
    assert_eq!(watching.kept.len(), 1);
    assert_eq!(watching.kept[0].status, RunStatus::Partial);
    assert_eq!(run.status, RunStatus::Partial);
    // Decode of one sequence comes first: the request needs it.
    assert!(run.points.iter().all(|p| p.phase == Phase::Decode && p.batch == 1));
    assert!(run.notes.iter().any(|note| note.contains("not reached: prefill of 40 tokens, decode batch 4")));
    assert!(run.points.iter().all(|p| p.seconds.stopped_by == Some(StoppedBy::Samples)));
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
    asked.sweeps.context = Some(513);
    assert_eq!(asked.check().unwrap_err().code, Code::BadInput);
}
