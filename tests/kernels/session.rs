//! The suite on the interpreter, or on a GPU, as a session, so that the checks of `llmroof verify` run on it.

use llmroof::backend::cuda::driver::Driver;
use llmroof::backend::cuda::step::Products;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::WeightSource;
use llmroof::backend::{
    DeviceInfo, Execution, Multiplier, Probe, Probed, Residency, Session, Setup, StageOutput, Work,
};
use llmroof::error::{Failure, Result};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::units::Bytes;

/// A session that computes, but has no clock.
pub struct SuiteSession<D: Driver> {
    info: DeviceInfo,
    suite: Suite<D>,
}

impl<D: Driver> SuiteSession<D> {
    pub fn open(driver: D) -> Self {
        let gpu = driver.gpu();
        let info = DeviceInfo {
            kind: "cuda",
            name: gpu.name.clone(),
            id: None,
            memory: Bytes(gpu.memory as f64),
            cache: Some(Bytes(gpu.l2 as f64)),
            detail: String::new(),
            gpu: None,
        };
        SuiteSession { info, suite: Suite::new(driver) }
    }

    /// The GPU underneath.
    pub fn driver(&self) -> &D {
        self.suite.driver()
    }

    /// With products of many rows by these.
    pub fn multiplying(mut self, products: Products) -> Self {
        self.suite.set_products(products);
        self
    }
}

fn no_clock() -> Failure {
    Failure::input("this session has no clock")
}

impl<D: Driver> Session for SuiteSession<D> {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn setup(&self) -> Setup {
        Setup {
            instruction_set: "ptx".into(),
            threads: None,
            pinned_cpus: Vec::new(),
            huge_page_share: None,
            product: Multiplier::of(DType::Bf16),
            fill_rate: 1e9,
            memory_share: 1.0,
        }
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        Suite::<D>::supports(model, precision)
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

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.suite.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.suite.forward(tokens, trace)
    }
}
