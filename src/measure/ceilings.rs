//! The roofs of this device: surveyed before the work, probed again beside every sample of it.
//!
//! Memory bandwidth of shared machines swings by a factor of two within seconds. A share of the roof is only
//! meaningful against a roof measured in the same second.

use crate::backend::{Probe, Session, Setup};
use crate::error::{Failure, Result};
use crate::model::DType;
use crate::roofline::{Ceiling, CeilingKind, CeilingSource, Roofline};
use crate::stats;
use crate::units::{BytesPerSec, FlopsPerSec};

/// Windows that a survey divides a probe's time into.
const WINDOWS: usize = 8;
/// Windows of a probe beside a sample; their median counts, so that one interruption does not.
const BESIDE_WINDOWS: usize = 5;
/// Seconds of such a window of reading: long against the barriers, short against the swings.
const BESIDE_MEMORY: f64 = 0.005;
/// Seconds of such a window of computing.
const BESIDE_COMPUTE: f64 = 0.002;
/// The quantile of all windows that is the ceiling: reached by a tenth of them, so no lucky single one.
const BEST: f64 = 0.9;

/// All probes and the rates they gave, in the order taken.
#[derive(Debug)]
pub(super) struct Ceilings {
    probes: Vec<(Probe, Vec<f64>)>,
    product: DType,
    instruction_set: String,
    threads: u32,
}

impl Ceilings {
    /// For a session set up like this; nothing is measured yet.
    pub fn of(setup: &Setup) -> Ceilings {
        let probes = [
            Probe::MemoryRead,
            Probe::MemoryCopy,
            Probe::CacheRead,
            Probe::Compute(DType::Bf16),
            Probe::Compute(DType::F32),
            Probe::Compute(DType::Int8),
        ];
        Ceilings {
            probes: probes.map(|probe| (probe, Vec::new())).into(),
            product: setup.product_dtype,
            instruction_set: setup.instruction_set.clone(),
            threads: setup.threads,
        }
    }

    /// Measures every ceiling but the read bandwidth for about `seconds` each. That one is read over the weights,
    /// which are not there yet: what is loaded now is a model of the kernels' check, small enough for the caches.
    pub fn survey(&mut self, session: &mut dyn Session, seconds: f64) -> Result<()> {
        // Round after round, so that a swing touches all of them and not one alone.
        for round in 0..WINDOWS {
            for at in 0..self.probes.len() {
                let probe = self.probes[at].0;
                if probe == Probe::MemoryRead {
                    continue;
                }
                if round == 0 {
                    // Allocation, page faults, clocks.
                    session.probe(probe, seconds / WINDOWS as f64)?;
                }
                self.take(session, probe, seconds / WINDOWS as f64)?;
            }
        }
        Ok(())
    }

    /// Measures the read bandwidth over what is loaded now.
    pub fn survey_memory(&mut self, session: &mut dyn Session, seconds: f64) -> Result<()> {
        for _ in 0..WINDOWS {
            self.take(session, Probe::MemoryRead, seconds / WINDOWS as f64)?;
        }
        Ok(())
    }

    /// The roofs at this moment.
    pub fn beside(&mut self, session: &mut dyn Session) -> Result<Roofline> {
        let compute = Probe::Compute(self.product);
        let (mut bandwidths, mut peaks) = ([0.0; BESIDE_WINDOWS], [0.0; BESIDE_WINDOWS]);
        for (bandwidth, peak) in bandwidths.iter_mut().zip(&mut peaks) {
            *bandwidth = self.take(session, Probe::MemoryRead, BESIDE_MEMORY)?;
            *peak = self.take(session, compute, BESIDE_COMPUTE)?;
        }
        let median = |rates: &[f64]| stats::median(rates).unwrap_or(f64::NAN);
        Ok(Roofline { bandwidth: BytesPerSec(median(&bandwidths)), peak: FlopsPerSec(median(&peaks)) })
    }

    fn take(&mut self, session: &mut dyn Session, probe: Probe, seconds: f64) -> Result<f64> {
        let rate = session.probe(probe, seconds)?.rate();
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Failure::invalid(format!("the probe {probe:?} gave {rate}")));
        }
        if let Some((_, rates)) = self.probes.iter_mut().find(|(known, _)| *known == probe) {
            rates.push(rate);
        }
        Ok(rate)
    }

    /// The best roofs seen so far: read bandwidth, and the peak of the products' type.
    pub fn roofline(&self) -> Result<Roofline> {
        self.best(Probe::MemoryRead)
    }

    /// Roofs to plan with before the weights are there: copying stands in for reading.
    pub fn estimate(&self) -> Result<Roofline> {
        self.best(Probe::MemoryCopy)
    }

    fn best(&self, memory: Probe) -> Result<Roofline> {
        let best = |probe| {
            let (_, rates) = self.probes.iter().find(|(known, _)| *known == probe)?;
            stats::quantile(rates, BEST)
        };
        let missing = || Failure::invalid("the ceilings have not been measured");
        Ok(Roofline {
            bandwidth: BytesPerSec(best(memory).ok_or_else(missing)?),
            peak: FlopsPerSec(best(Probe::Compute(self.product)).ok_or_else(missing)?),
        })
    }

    /// The ceilings for the run file.
    pub fn list(&self) -> Vec<Ceiling> {
        self.probes.iter().filter_map(|(probe, rates)| self.ceiling(*probe, rates)).collect()
    }

    fn ceiling(&self, probe: Probe, rates: &[f64]) -> Option<Ceiling> {
        let (set, threads) = (&self.instruction_set, self.threads);
        let (kind, dtype, how) = match probe {
            Probe::MemoryRead => {
                (CeilingKind::MemoryRead, None, format!("sequential read of the weights, {threads} threads"))
            }
            Probe::MemoryCopy => (
                CeilingKind::MemoryCopy,
                None,
                format!("copy between two buffers, bytes read and written, {threads} threads"),
            ),
            Probe::CacheRead => (
                CeilingKind::CacheRead,
                None,
                format!("repeated read of half the last-level cache, {threads} threads"),
            ),
            Probe::Compute(dtype) => {
                (CeilingKind::Compute, Some(dtype), format!("register-only loop, {set}, {threads} threads"))
            }
        };
        Some(Ceiling {
            kind,
            dtype,
            rate: stats::quantile(rates, BEST)?,
            low: stats::quantile(rates, 0.25),
            median: stats::median(rates),
            source: CeilingSource::Measured,
            citation: how,
            samples: rates.to_vec(),
        })
    }
}
