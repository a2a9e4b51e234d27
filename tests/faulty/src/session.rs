//! The session around the real one.

use llmroof::backend::weights::WeightSource;
use llmroof::backend::{
    AllReduced, DeviceInfo, Execution, Gemm, GpuSoftware, Probe, Probed, Reduce, Repeated, Residency,
    Session, Setup, StageOutput, Work,
};
use llmroof::error::Result;
use llmroof::model::{ModelSpec, Precision};
use llmroof::units::Bytes;

use crate::faults::Faults;
use crate::outputs::Buffers;

/// Passes everything on to the real session, and spoils what comes back.
pub struct FaultySession {
    real: Box<dyn Session>,
    faults: Faults,
    /// What was asked for, whatever was loaded.
    model: Option<ModelSpec>,
    buffers: Buffers,
    runs: u64,
}

impl FaultySession {
    /// Around an opened session.
    pub fn new(real: Box<dyn Session>, faults: Faults) -> FaultySession {
        FaultySession { real, faults, model: None, buffers: Buffers::default(), runs: 0 }
    }
}

impl Session for FaultySession {
    fn device(&self) -> &DeviceInfo {
        self.real.device()
    }

    fn setup(&self) -> Setup {
        self.real.setup()
    }

    fn reopen(&mut self) -> Result<()> {
        self.model = None;
        self.buffers = Buffers::default();
        self.real.reopen()
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
        self.model = Some(residency.model.clone());
        match self.faults.model {
            None => self.real.load(residency, weights),
            Some(model) => {
                self.real.load(&model.residency(residency), &model.weights(weights, &residency.model))
            }
        }
    }

    fn probes(&self) -> Vec<Probe> {
        self.real.probes()
    }

    fn describe_probe(&self, probe: Probe) -> String {
        self.real.describe_probe(probe)
    }

    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed> {
        let probed = self.real.probe(probe, seconds)?;
        Ok(self.faults.probes.map_or(probed, |strange| strange.probe(probed)))
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        self.real.prepare(work)
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        let mut executions = self.real.run(n)?;
        if let Some(slow) = self.faults.slow {
            for (execution, other) in executions.iter_mut().zip(self.real.run(n)?) {
                slow.charge(execution, &other);
            }
        }
        if let Some(times) = self.faults.times {
            executions.iter_mut().for_each(|execution| times.spoil(self.runs, execution));
        }
        self.runs += 1;
        Ok(executions)
    }

    fn repeat(&mut self, seconds: f64) -> Result<Repeated> {
        let repeated = self.real.repeat(seconds)?;
        Ok(self.faults.times.map_or(repeated, |times| times.spoil_repeated(repeated)))
    }

    fn software(&self) -> Option<GpuSoftware> {
        self.real.software()
    }

    fn all_reduces(&mut self, ranks: u32, reduces: &[Reduce]) -> Result<AllReduced> {
        self.real.all_reduces(ranks, reduces)
    }

    fn gemms(&self, rows: u32) -> Vec<Gemm> {
        self.real.gemms(rows)
    }

    fn use_gemm(&mut self, gemm: Gemm) -> Result<()> {
        self.real.use_gemm(gemm)
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.real.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        let mut outputs = self.real.forward(tokens, trace)?;
        if let (Some(faults), Some(model)) = (&self.faults.outputs, &self.model) {
            self.buffers.spoil(faults, model, &mut outputs);
        }
        Ok(outputs)
    }
}
