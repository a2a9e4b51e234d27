//! A session over the fake driver, by itself: what `measure` relies on and its tables do not show. The library must
//! be in the loader's path from a process's start, so every test runs itself once more with it there.

use std::env;

use crate::fake::FakeDriver;
use llmroof::backend::cuda::CudaBackend;
use llmroof::backend::weights::RandomWeights;
use llmroof::backend::{Backend, OpenOptions, Probe, Residency, Session, Work};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::workload::{Chunk, Phase};

/// Runs the rest of this test in a process that finds the fake driver with a small GPU. True there.
fn on_the_fake(test: &str) -> bool {
    const INSIDE: &str = "LLMROOF_TEST_INSIDE";
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    // Every graph computes twice; after that it only takes its time, of which there is enough for few executions.
    let fake = FakeDriver::new().gpus("mig").set("FAKE_DRIVER_EXECUTE", 2).set("FAKE_DRIVER_SLOWDOWN", 10);
    let mut command = fake.command(env::current_exe().unwrap());
    let output = command
        .args(["--exact", &format!("session::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn model() -> ModelSpec {
    ModelSpec {
        name: "tiny".into(),
        hidden: 256,
        ffn: 448,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocab: 500,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 4096,
        source: "made up".into(),
    }
}

fn residency(copies: u32) -> Residency {
    Residency { model: model(), layers: 2, precision: Precision::BF16, copies }
}

fn open() -> Box<dyn Session> {
    CudaBackend.open(&OpenOptions::default()).unwrap()
}

const DECODE: Work =
    Work { phase: Phase::Decode, batch: 3, tokens: 1, context: 40, chunk: None, kv_page: None };
const PREFILL: Work =
    Work { phase: Phase::Prefill, batch: 1, tokens: 70, context: 70, chunk: None, kv_page: None };

const MIXED: Work = Work {
    phase: Phase::Mixed,
    batch: 3,
    tokens: 1,
    context: 40,
    chunk: Some(Chunk { tokens: 66, context: 90 }),
    kv_page: None,
};

#[test]
fn a_pass_runs_and_its_stages_make_up_the_step() {
    if !on_the_fake("a_pass_runs_and_its_stages_make_up_the_step") {
        return;
    }
    let mut session = open();
    assert!(session.run(1).is_err() && session.prepare(&DECODE).is_err(), "nothing is loaded");
    session.load(&residency(3), &RandomWeights::new(1, &model())).unwrap();
    for work in [DECODE, PREFILL, MIXED] {
        session.prepare(&work).unwrap();
        let executions = session.run(11).unwrap();
        assert_eq!(executions.len(), 11);
        for execution in &executions {
            assert!(execution.seconds > 0.0 && execution.stages.iter().all(|&stage| stage > 0.0));
            assert!(execution.repeats > 1, "a step this short is the mean of several");
            assert!(execution.wall_seconds.unwrap() > 0.0);
            // On the fake's clock nothing overlaps, and starting a kernel costs the same everywhere.
            let share = execution.stages.iter().sum::<f64>() / execution.seconds;
            assert!((0.8..1.2).contains(&share), "{share}: {execution:?}");
        }
        let repeated = session.repeat(0.01).unwrap();
        let one = repeated.seconds / repeated.executions as f64;
        assert!((0.9..1.1).contains(&(one / executions[5].seconds)), "{one}");
    }
    let software = session.software().unwrap();
    for kernel in
        ["embed", "gemv_qkv_8", "attention_decode_64_8", "attention_prefill_64_rows_64", "fill_normals"]
    {
        let image = software.kernels.iter().find(|image| image.kernel == kernel).unwrap();
        assert_eq!(image.target, session.setup().instruction_set);
        assert!(image.registers > 0);
    }
    assert!(software.graph_node_seconds.unwrap() > 0.0 && software.graph_launch_seconds.unwrap() > 0.0);
}

#[test]
fn every_ceiling_has_a_rate() {
    if !on_the_fake("every_ceiling_has_a_rate") {
        return;
    }
    let mut session = open();
    session.load(&residency(1), &RandomWeights::new(1, &model())).unwrap();
    let probes = session.probes();
    assert!(probes.contains(&Probe::Compute(session.setup().product.dtype)));
    let rates: Vec<f64> = probes
        .iter()
        .map(|&probe| {
            assert!(!session.describe_probe(probe).is_empty());
            let (first, again) = (session.probe(probe, 0.002).unwrap(), session.probe(probe, 0.002).unwrap());
            assert!((0.0015..0.003).contains(&again.seconds), "{probe:?} took {} s", again.seconds);
            assert!((0.95..1.05).contains(&(first.rate() / again.rate())), "{probe:?}");
            again.rate()
        })
        .collect();
    let rate = |probe| rates[probes.iter().position(|&p| p == probe).unwrap()];
    assert!(rate(Probe::CacheRead) > rate(Probe::MemoryRead));
    assert!(rate(Probe::Compute(DType::Bf16)) > rate(Probe::Compute(DType::F32)));
}

#[test]
fn what_is_taken_is_what_was_said_to_be_needed_and_comes_back() {
    if !on_the_fake("what_is_taken_is_what_was_said_to_be_needed_and_comes_back") {
        return;
    }
    let mut session = open();
    let weights = RandomWeights::new(1, &model());
    let untouched = session.available_memory().0;
    let before_probes = session.needed_memory(&residency(2), &[DECODE, PREFILL, MIXED]).0;
    for probe in session.probes() {
        session.probe(probe, 0.001).unwrap();
    }
    let available = session.available_memory().0;
    let needed = session.needed_memory(&residency(2), &[DECODE, PREFILL, MIXED]).0;
    assert!((before_probes - needed - (untouched - available)).abs() < 4e6, "the probes' own");
    for work in [DECODE, PREFILL, MIXED] {
        session.load(&residency(2), &weights).unwrap();
        session.prepare(&work).unwrap();
        let taken = available - session.available_memory().0;
        let needed = session.needed_memory(&residency(2), &[work]).0;
        // The driver gives the weights whole pages of 2 MiB, the fake does not.
        assert!(taken <= needed && needed - taken < 2.2e6, "{needed} needed, {taken} taken");
    }
    drop(session);
    assert_eq!(open().available_memory().0, untouched);
}

#[test]
fn timed_passes_leave_verified_ones_as_they_were() {
    if !on_the_fake("timed_passes_leave_verified_ones_as_they_were") {
        return;
    }
    let mut session = open();
    session.load(&residency(2), &RandomWeights::new(1, &model())).unwrap();
    let fed = vec![(1..9).collect::<Vec<u32>>(); 2];
    let mut logits = || {
        session.begin(2, 16, None).unwrap();
        assert!(session.run(1).is_err(), "the prepared pass is gone");
        let outputs = session.forward(&fed, false).unwrap();
        for work in [DECODE, MIXED] {
            session.prepare(&work).unwrap();
            session.run(2).unwrap();
        }
        outputs
    };
    let first = logits();
    assert!(first[0].values.iter().any(|&value| value != 0.0));
    assert_eq!(first, logits());
}
