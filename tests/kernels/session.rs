//! The suite on the interpreter as a session, so that the checks of `llmroof verify` run on it.

use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::WeightSource;
use llmroof::backend::{DeviceInfo, Execution, Probe, Probed, Residency, Session, Setup, StageOutput, Work};
use llmroof::error::{Failure, Result};
use llmroof::model::{DType, ModelSpec};
use llmroof::units::Bytes;

use crate::gpu::InterpretedGpu;

/// A session whose kernels are interpreted. It computes, but has no clock.
pub struct InterpretedSession {
    info: DeviceInfo,
    pub suite: Suite<InterpretedGpu>,
}

impl InterpretedSession {
    pub fn open(gpu: Gpu) -> Self {
        let info = DeviceInfo {
            kind: "cuda",
            name: gpu.name.clone(),
            id: None,
            memory: Bytes(gpu.memory as f64),
            cache: Some(Bytes(gpu.l2 as f64)),
            detail: String::new(),
        };
        InterpretedSession { info, suite: Suite::new(InterpretedGpu::new(gpu)) }
    }
}

fn no_clock() -> Failure {
    Failure::input("the interpreter has no clock")
}

impl Session for InterpretedSession {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn setup(&self) -> Setup {
        Setup {
            instruction_set: "ptx".into(),
            threads: 1,
            pinned_cpus: Vec::new(),
            huge_page_share: None,
            product_dtype: DType::Bf16,
        }
    }

    fn supports(&self, model: &ModelSpec, activations: DType) -> Result<()> {
        Suite::<InterpretedGpu>::supports(model, activations)
    }

    fn available_memory(&self) -> Bytes {
        self.info.memory
    }

    fn needed_memory(&self, _: &Residency, _: &[Work]) -> Bytes {
        Bytes(0.0)
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        self.suite.load(residency, weights)
    }

    fn probe(&mut self, _: Probe, _: f64) -> Result<Probed> {
        Err(no_clock())
    }

    fn prepare(&mut self, _: &Work) -> Result<()> {
        Err(no_clock())
    }

    fn run(&mut self, _: usize) -> Result<Vec<Execution>> {
        Err(no_clock())
    }

    fn begin(&mut self, batch: u32, capacity: u32) -> Result<()> {
        self.suite.begin(batch, capacity)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.suite.driver_mut().profiles.clear();
        self.suite.forward(tokens, trace)
    }
}
