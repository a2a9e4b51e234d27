//! A session that can be given back and opened afresh, as every trial of a measurement does.

use super::weights::WeightSource;
use super::{
    AllReduced, DeviceInfo, Execution, Gemm, GpuSoftware, Probe, Probed, Reduce, Repeated, Residency,
    Session, Setup, StageOutput, Work,
};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::units::Bytes;

/// Opens a device.
type Open = Box<dyn Fn() -> Result<Box<dyn Session>>>;

/// A session and how it was opened. Everything is the session's own; only `reopen` is more.
pub(super) struct Reopening {
    open: Open,
    /// `None` once it could not be opened again.
    session: Option<Box<dyn Session>>,
    device: DeviceInfo,
    setup: Setup,
}

impl Reopening {
    /// Opens it for the first time.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(open: Open) -> Result<Reopening> {
        let session = open()?;
        Ok(Reopening {
            device: session.device().clone(),
            setup: session.setup(),
            session: Some(session),
            open,
        })
    }

    fn live(&mut self) -> Result<&mut dyn Session> {
        match &mut self.session {
            Some(session) => Ok(session.as_mut()),
            None => Err(Failure::device("the device could not be opened again")
                .hint("see what was said when it failed, and measure again")),
        }
    }

    fn ask<T>(&self, of: impl FnOnce(&dyn Session) -> T) -> Option<T> {
        self.session.as_deref().map(of)
    }
}

impl Session for Reopening {
    fn device(&self) -> &DeviceInfo {
        self.session.as_deref().map_or(&self.device, |session| session.device())
    }

    fn setup(&self) -> Setup {
        self.ask(|session| session.setup()).unwrap_or_else(|| self.setup.clone())
    }

    fn reopen(&mut self) -> Result<()> {
        // All of the old one goes first: a GPU's context is only a new one if nobody holds the old.
        self.session = None;
        self.session = Some((self.open)()?);
        Ok(())
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        self.ask(|session| session.supports(model, precision)).unwrap_or(Ok(()))
    }

    fn available_memory(&self) -> Bytes {
        self.ask(|session| session.available_memory()).unwrap_or_default()
    }

    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes {
        self.ask(|session| session.needed_memory(residency, works)).unwrap_or_default()
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        self.live()?.load(residency, weights)
    }

    fn probes(&self) -> Vec<Probe> {
        self.ask(|session| session.probes()).unwrap_or_default()
    }

    fn describe_probe(&self, probe: Probe) -> String {
        self.ask(|session| session.describe_probe(probe)).unwrap_or_default()
    }

    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed> {
        self.live()?.probe(probe, seconds)
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        self.live()?.prepare(work)
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        self.live()?.run(n)
    }

    fn repeat(&mut self, seconds: f64) -> Result<Repeated> {
        self.live()?.repeat(seconds)
    }

    fn software(&self) -> Option<GpuSoftware> {
        self.ask(|session| session.software()).flatten()
    }

    fn all_reduces(&mut self, ranks: u32, reduces: &[Reduce]) -> Result<AllReduced> {
        self.live()?.all_reduces(ranks, reduces)
    }

    fn gemms(&self, rows: u32) -> Vec<Gemm> {
        self.ask(|session| session.gemms(rows)).unwrap_or_default()
    }

    fn use_gemm(&mut self, gemm: Gemm) -> Result<()> {
        self.live()?.use_gemm(gemm)
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.live()?.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.live()?.forward(tokens, trace)
    }
}
