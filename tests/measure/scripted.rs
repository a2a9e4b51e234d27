//! The device, and what it is measured with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmroof::backend::weights::{RandomWeights, WeightSource};
use llmroof::backend::*;
use llmroof::error::{Code, Failure, Result};
use llmroof::measure::{Ended, Instruments, Layers, Observer, Options, measure};
use llmroof::model::{DType, ModelSpec};
use llmroof::request::Sweeps;
use llmroof::roofline::Roofline;
use llmroof::run::{Host, Origin, Run};
use llmroof::telemetry::Sensors;
use llmroof::units::{Bytes, BytesPerSec, FlopsPerSec};
use llmroof::workload::{Phase, Stage, Workload};

use crate::sensors::World;
use crate::support::session::{Fault, ReferenceSession};
use crate::virtual_time::{Cores, VirtualTime};

/// Seconds between the stages of a scripted pass, for each border.
pub const GAP: f64 = 1e-6;
/// Host seconds that a scripted GPU's step takes longer than the device's.
pub const LAUNCH: f64 = 5e-6;
/// Seconds of nothing but computing after which it gets slower.
const TIRING: f64 = 3.0;

pub struct Scripted {
    pub inner: ReferenceSession,
    pub device: DeviceInfo,
    pub roof: Roofline,
    /// Share of the roof that passes reach.
    pub share: f64,
    /// What the bandwidth is multiplied by at every other pass that is prepared.
    pub swing: f64,
    /// What is left of the peak after a while of computing.
    pub tired: f64,
    /// Share of its stages' time that a step saves because they overlap; without, there are gaps.
    pub overlap: f64,
    /// What `Execution::repeats` says.
    pub repeats: u32,
    /// The run that fails, and all after it.
    pub fail_at: Option<usize>,
    /// Computing for long fails.
    pub fail_soak: bool,
    /// Real seconds that a run takes, for sensors that are read ten times a second.
    pub pause: Duration,
    /// Seconds of a step, its stages in proportion; as the roofs say without.
    pub step: Option<f64>,
    /// What an execution's time is multiplied by, by its number.
    pub noise: Box<dyn FnMut(usize) -> f64>,
    /// A stage that takes this share of its time, and none by the device's clock.
    pub silent_stage: Option<(Stage, f64)>,
    /// Executions so far.
    pub executions: usize,
    /// Moves by what the device does.
    pub time: VirtualTime,
    /// What others use of the machine.
    pub load: Option<f64>,
    /// What its sensors see.
    pub world: Arc<Mutex<World>>,
    pub residency: Option<Residency>,
    pub work: Option<Workload>,
    pub prepared: usize,
    pub runs: usize,
    pub computed: f64,
}

impl Scripted {
    pub fn reaching(share: f64) -> Scripted {
        let inner = ReferenceSession::new(Fault::None);
        Scripted {
            device: inner.device().clone(),
            inner,
            roof: Roofline { bandwidth: BytesPerSec(50e9), peak: FlopsPerSec(400e9) },
            share,
            swing: 1.0,
            tired: 1.0,
            overlap: 0.0,
            repeats: 1,
            fail_at: None,
            fail_soak: false,
            pause: Duration::ZERO,
            step: None,
            noise: Box::new(|_| 1.0),
            silent_stage: None,
            executions: 0,
            time: VirtualTime::default(),
            load: Some(0.0),
            world: Arc::default(),
            residency: None,
            work: None,
            prepared: 0,
            runs: 0,
            computed: 0.0,
        }
    }

    /// The same as a GPU, with a theoretical bandwidth of 64 GB/s.
    pub fn gpu(share: f64) -> Scripted {
        let mut session = Scripted::reaching(share);
        session.device.id = Some("GPU-01234567-89ab-cdef-0123-456789abcdef".into());
        session.device.cache = Some(Bytes(1e6));
        session.device.gpu = Some(GpuInfo {
            ordinal: 0,
            pci: "00000000:3b:00.0".into(),
            capability: (9, 0),
            multiprocessors: 132,
            cuda: "12.8".into(),
            memory_clock: Some(1e9),
            bus_width: Some(256),
        });
        session
    }

    fn now(&self) -> Roofline {
        let factor = if self.prepared % 2 == 1 { self.swing } else { 1.0 };
        Roofline { bandwidth: BytesPerSec(self.roof.bandwidth.0 * factor), ..self.roof }
    }

    fn noisy(&mut self) -> Execution {
        let Execution { seconds, stages, repeats, wall_seconds } = self.execution();
        let factor = (self.noise)(self.executions) * self.step.map_or(1.0, |step| step / seconds);
        self.executions += 1;
        let mut stages = stages.map(|stage| stage * factor);
        let mut seconds = seconds;
        if let Some((stage, share)) = self.silent_stage {
            seconds -= stages[stage.index()] * (1.0 - share);
            stages[stage.index()] = 0.0;
        }
        Execution { seconds: seconds * factor, stages, repeats, wall_seconds }
    }

    fn execution(&self) -> Execution {
        let (work, roof) = (self.work.as_ref().unwrap(), self.now());
        let stages = Stage::ALL.map(|stage| {
            let cost = work.cost(stage);
            roof.shortest(cost.flops, cost.bytes()).0.0 / self.share
        });
        let sum = stages.iter().sum::<f64>();
        let borders = 5.0 * f64::from(work.model.layers) + 2.0;
        let seconds = if self.overlap > 0.0 { sum * (1.0 - self.overlap) } else { sum + borders * GAP };
        let wall_seconds = self.device.gpu.is_some().then_some(seconds + LAUNCH);
        Execution { seconds, stages, repeats: self.repeats, wall_seconds }
    }
}

impl Session for Scripted {
    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn setup(&self) -> Setup {
        let threads = self.inner.setup().threads.filter(|_| self.device.gpu.is_none());
        Setup { product: Multiplier::of(DType::Bf16), threads, ..self.inner.setup() }
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
            Probe::Compute(_) => {
                self.computed += seconds;
                if self.fail_soak && self.computed > TIRING {
                    return Err(Failure::device("the GPU is lost"));
                }
                self.roof.peak.0 * if self.computed > TIRING { self.tired } else { 1.0 }
            }
            _ => {
                self.computed = 0.0;
                self.now().bandwidth.0
            }
        };
        self.time.pass(seconds);
        Ok(Probed { amount: rate * seconds, seconds })
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        let residency = self.residency.clone().unwrap();
        let held = ModelSpec { layers: residency.layers, ..residency.model };
        let mut workload = Workload::decode(&held, work.batch, work.context);
        (workload.phase, workload.tokens) = (work.phase, work.tokens);
        self.work = Some(workload);
        self.prepared += 1;
        self.world.lock().unwrap().prepared = self.prepared;
        Ok(())
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        self.computed = 0.0;
        self.runs += 1;
        if self.fail_at.is_some_and(|at| self.runs >= at) {
            return Err(Failure::device("the GPU took an illegal address (700)").hint("restart"));
        }
        std::thread::sleep(self.pause);
        self.time.pass(self.pause.as_secs_f64());
        let executions = (0..n).map(|_| self.noisy()).collect::<Vec<_>>();
        self.time.pass(executions.iter().map(|e| e.seconds * f64::from(e.repeats)).sum());
        Ok(executions)
    }

    fn repeat(&mut self, seconds: f64) -> Result<Repeated> {
        let one = self.execution().seconds;
        let executions = (seconds / one).ceil();
        let bytes = self.work.as_ref().unwrap().total().bytes().0 * executions;
        self.world.lock().unwrap().work(executions * one, bytes);
        self.time.pass(executions * one);
        Ok(Repeated { executions: executions as u64, seconds: executions * one })
    }

    fn software(&self) -> Option<GpuSoftware> {
        self.device.gpu.as_ref()?;
        let kernel = KernelImage {
            kernel: "decode_linear".into(),
            target: "sm_80".into(),
            registers: 96,
            local_bytes: 0,
            shared_bytes: 1024,
        };
        let prefill = self.work.as_ref().is_some_and(|work| work.phase == Phase::Prefill);
        Some(GpuSoftware {
            kernels: vec![kernel],
            gemm: prefill.then(|| "own".into()),
            graph_node_seconds: Some(1e-6),
            graph_launch_seconds: None,
        })
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.inner.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.inner.forward(tokens, trace)
    }
}

/// Keeps what it is told, and interrupts after some points.
#[derive(Default)]
pub struct Watching {
    pub kept: Vec<Run>,
    pub interrupt_after: Option<usize>,
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

pub fn model() -> ModelSpec {
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

pub fn options(layers: Layers) -> Options {
    Options {
        model: model(),
        weights_from: "random".into(),
        sweeps: Sweeps {
            phases: vec![Phase::Prefill, Phase::Decode],
            batches: vec![1, 4],
            prompts: vec![40],
            contexts: Vec::new(),
            speculate: vec![],
            mix: Vec::new(),
            kv_pages: Vec::new(),
            generate: 20,
            precisions: vec![llmroof::model::Precision::BF16],
            ranks: vec![1],
        },
        layers,
        budget: Duration::from_secs(5),
        spent: Duration::ZERO,
        soak: None,
        repeat: 1,
        before: None,
        gemm: None,
        seed: 1,
        profile: None,
        link: None,
        draft: None,
        show_ways: false,
        terms: llmroof::ways::Terms::default(),
    }
}

/// Measures without sensors.
pub fn run(session: &mut Scripted, options: &Options, watching: &mut Watching) -> Result<Ended> {
    sensed(session, options, Err("the library is not there".into()), watching)
}

/// Measures with these sensors.
pub fn sensed(
    session: &mut Scripted,
    options: &Options,
    sensors: std::result::Result<Arc<dyn Sensors>, String>,
    watching: &mut Watching,
) -> Result<Ended> {
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
    let time = session.time.clone();
    let instruments =
        Instruments { time: &time, sensors: Some(sensors), load: Box::new(Cores(session.load)) };
    measure(session, &weights, options, instruments, origin, watching)
}

pub fn close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-6
}
