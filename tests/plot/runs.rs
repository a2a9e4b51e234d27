//! Runs to draw, made the way `measure` and `predict` make them.

use std::collections::BTreeMap;

use llmroof::device::{DeviceProfile, Fact};
use llmroof::model::{DType, ModelSpec};
use llmroof::roofline::{Ceiling, CeilingKind, CeilingSource, Roofline};
use llmroof::run::{Conditions, Device, Host, Placement, Point, Run, RunStatus, Status, Timing, Tool};
use llmroof::units::{BytesPerSec, FlopsPerSec, Seconds};
use llmroof::workload::{Stage, Workload};

pub fn llama_8b() -> ModelSpec {
    ModelSpec {
        name: "llama-8b".into(),
        hidden: 4096,
        ffn: 14336,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        tied_embeddings: false,
        rope_theta: 500_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 8192,
        source: "test".into(),
    }
}

/// A small generator, so that the runs are the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// Uniform in 0..1.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in low..high.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }
}

pub fn measured(kind: CeilingKind, dtype: Option<DType>, rate: f64) -> Ceiling {
    Ceiling {
        kind,
        dtype,
        rate,
        low: Some(rate * 0.93),
        median: Some(rate * 0.97),
        source: CeilingSource::Measured,
        citation: "best of 40 windows".into(),
        samples: vec![rate * 0.93, rate],
    }
}

/// The points of one pass: the step and its stages, each at some share of its roof.
pub fn pass(work: &Workload, roof: Roofline, status: Status, mut share: impl FnMut() -> f64) -> Vec<Point> {
    let times: Vec<(Stage, f64)> = Stage::ALL
        .into_iter()
        .map(|stage| {
            let cost = work.cost(stage);
            (stage, roof.shortest(cost.flops, cost.bytes()).0.0 / share())
        })
        .collect();
    let step: f64 = times.iter().map(|t| t.1).sum::<f64>() * if status == Status::Ok { 1.01 } else { 1.0 };
    let timing = |seconds: f64| match status {
        Status::Ok => Timing::of(&[vec![seconds * 0.995, seconds, seconds * 1.004]]).unwrap(),
        _ => Timing::computed(Seconds(seconds)),
    };
    let place = Placement { roof, threads: Some(2), layers_measured: 3, step_seconds: step, status };
    let mut points = vec![Point::new(work, None, timing(step), place)];
    points.extend(times.into_iter().map(|(stage, time)| Point::new(work, Some(stage), timing(time), place)));
    points
}

/// A run without ceilings and points.
pub fn empty(name: &str) -> Run {
    Run {
        schema_version: 1,
        tool: Tool { name: "llmroof".into(), version: "0.1.0".into() },
        argv: vec!["llmroof".into(), "measure".into()],
        created: "2026-11-23T12:52:07Z".into(),
        status: RunStatus::Complete,
        host: Host {
            os: "Linux 6.1".into(),
            arch: "x86_64".into(),
            cpu: name.into(),
            physical_cores: Some(2),
            logical_cores: 2,
            memory_bytes: 16e9,
        },
        device: Device {
            kind: "cpu".into(),
            name: name.into(),
            id: None,
            profile: None,
            memory_bytes: 16e9,
            cache_bytes: Some(32e6),
        },
        model: llama_8b(),
        conditions: Some(Conditions {
            gpu: None,
            instruction_set: "avx512-bf16".into(),
            threads: Some(2),
            pinned_cpus: vec![0, 1],
            huge_page_share: Some(0.98),
            foreign_load: Some(0.02),
            energy_source: None,
            seed: 1,
            weights_from: "random".into(),
            budget_seconds: 60.0,
            wall_seconds: 58.1,
        }),
        ceilings: Vec::new(),
        points: Vec::new(),
        collectives: Vec::new(),
        request: None,
        draft: None,
        ways: Vec::new(),
        verification: None,
        plan: None,
        processes: Vec::new(),
        trials: Vec::new(),
        notes: Vec::new(),
    }
}

/// Two cores of a server processor.
pub fn cpu() -> Run {
    scaled_cpu("AMD EPYC 9B14", 45e9, 470e9)
}

/// A processor with these roofs.
pub fn scaled_cpu(name: &str, bandwidth: f64, peak: f64) -> Run {
    let roof = Roofline { bandwidth: BytesPerSec(bandwidth), peak: FlopsPerSec(peak) };
    let mut random = Random(7);
    let mut run = empty(name);
    run.ceilings = vec![
        measured(CeilingKind::MemoryRead, None, bandwidth),
        measured(CeilingKind::MemoryCopy, None, bandwidth * 0.85),
        measured(CeilingKind::CacheRead, None, bandwidth * 3.9),
        measured(CeilingKind::Compute, Some(DType::Bf16), peak),
        measured(CeilingKind::Compute, Some(DType::F32), peak * 0.41),
    ];
    for batch in [1, 2, 4, 8, 16, 32] {
        let work = Workload::decode(&run.model, batch, 1050);
        let best = 0.97 - 0.05 * f64::from(batch).log2();
        run.points.extend(pass(&work, roof, Status::Ok, || random.between(best - 0.1, best)));
    }
    let work = Workload::prefill(&run.model, 1, 1000);
    run.points.extend(pass(&work, roof, Status::Ok, || random.between(0.55, 0.88)));
    run
}

/// A run with at least this many points: decode steps of many batches and contexts with their stages.
pub fn many(points: usize) -> Run {
    let roof = Roofline { bandwidth: BytesPerSec(45e9), peak: FlopsPerSec(470e9) };
    let mut random = Random(11);
    let mut run = cpu();
    run.points.clear();
    let mut work = 0;
    while run.points.len() < points {
        let (batch, context) = (1 + work % 251, 16 << (work / 251));
        let work_now = Workload::decode(&run.model, batch, context);
        run.points.extend(pass(&work_now, roof, Status::Ok, || random.between(0.3, 0.98)));
        work += 1;
    }
    run
}

fn fact(value: f64) -> Fact {
    Fact { value, source: "NVIDIA A100 Tensor Core GPU datasheet, June 2021".into() }
}

/// A prediction from the datasheet of an A100.
pub fn a100() -> Run {
    let profile = DeviceProfile {
        name: "a100-sxm4-80gb".into(),
        title: "NVIDIA A100 SXM4 80 GB".into(),
        driver_names: Vec::new(),
        memory_bandwidth: fact(2.039e12),
        memory: fact(80e9),
        cache: fact(40e6),
        units: fact(108.0),
        power: fact(400.0),
        peak: BTreeMap::from([
            (DType::F32, fact(19.5e12)),
            (DType::F16, fact(312e12)),
            (DType::Bf16, fact(312e12)),
            (DType::Int8, fact(624e12)),
        ]),
        floors: None,
        link: None,
    };
    let roof = profile.roofline(DType::Bf16).unwrap();
    let mut run = empty("AMD EPYC 9B14");
    run.status = RunStatus::Predicted;
    run.conditions = None;
    run.device = Device {
        kind: "profile".into(),
        name: profile.title.clone(),
        id: None,
        profile: Some(profile.name.clone()),
        memory_bytes: 80e9,
        cache_bytes: Some(40e6),
    };
    run.ceilings = profile.ceilings();
    for batch in [1, 2, 4, 8, 16, 32] {
        run.points.extend(pass(&Workload::decode(&run.model, batch, 1050), roof, Status::Predicted, || 1.0));
    }
    run.points.extend(pass(&Workload::prefill(&run.model, 1, 1000), roof, Status::Predicted, || 1.0));
    run
}
