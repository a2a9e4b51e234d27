//! A session that executes nothing, so that a run is mostly the writing of its file.

use llmroof::backend::weights::WeightSource;
use llmroof::backend::{DeviceInfo, Execution, Probe, Probed, Residency, Session, Setup, StageOutput, Work};
use llmroof::error::Result;
use llmroof::model::{ModelSpec, Precision};
use llmroof::units::Bytes;

use crate::crash::{Moment, passed};

/// So long that a pass gets one sample: the next would not fit any budget.
const SECONDS: f64 = 1000.0;
/// Bytes or operations a second: high enough for every pass to fit the budget beforehand.
const RATE: f64 = 1e15;

/// Checks the kernels of the real session, and has its device; what it says of times is made up.
pub struct IdleSession {
    real: Box<dyn Session>,
    /// Asked for once: finding the share of huge pages takes longer than all else here.
    setup: Setup,
}

impl IdleSession {
    /// In the place of an opened session.
    pub fn new(real: Box<dyn Session>) -> IdleSession {
        IdleSession { setup: real.setup(), real }
    }
}

impl Session for IdleSession {
    fn device(&self) -> &DeviceInfo {
        self.real.device()
    }

    fn setup(&self) -> Setup {
        self.setup.clone()
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        self.real.supports(model, precision)
    }

    fn available_memory(&self) -> Bytes {
        self.real.available_memory()
    }

    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes {
        self.real.needed_memory(residency, works)
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        // Small models that are to be timed are held in many copies, those of the check in one.
        if residency.copies == 1 {
            return self.real.load(residency, weights);
        }
        let _ = passed(Moment::Load);
        Ok(())
    }

    fn probes(&self) -> Vec<Probe> {
        self.real.probes()
    }

    fn probe(&mut self, _probe: Probe, seconds: f64) -> Result<Probed> {
        Ok(Probed { amount: RATE * seconds, seconds })
    }

    fn prepare(&mut self, _work: &Work) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        let _ = passed(Moment::Sample);
        let stages = [SECONDS / 8.0; 7];
        Ok(vec![Execution { seconds: SECONDS, stages, repeats: 1, wall_seconds: None }; n])
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.real.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.real.forward(tokens, trace)
    }
}
