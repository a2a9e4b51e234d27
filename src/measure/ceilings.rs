//! The roofs of this device: surveyed before the work, probed again beside every sample of it.
//!
//! Memory bandwidth of shared machines swings by a factor of two within seconds. A share of the roof is only
//! meaningful against a roof measured in the same second.

use super::plausible;
use crate::backend::{Multiplier, Probe, Session};
use crate::error::{Failure, Result};
use crate::roofline::{BEST, Ceiling, CeilingKind, Roofline};
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

/// All probes and the rates they gave, in the order taken.
#[derive(Debug)]
pub(super) struct Ceilings {
    probes: Vec<(Probe, Vec<f64>)>,
    /// How each is measured.
    described: Vec<String>,
    product: Multiplier,
    /// The peak after a soak.
    pub sustained: Option<Ceiling>,
}

impl Ceilings {
    /// Those that this session's device has; nothing is measured yet.
    pub fn of(session: &dyn Session) -> Ceilings {
        let probes = session.probes();
        Ceilings {
            described: probes.iter().map(|&probe| session.describe_probe(probe)).collect(),
            probes: probes.into_iter().map(|probe| (probe, Vec::new())).collect(),
            product: session.setup().product,
            sustained: None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.probes.len()
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

    /// Measures the read bandwidth over what is loaded now; the peak is that of its products from now on.
    pub fn survey_memory(&mut self, session: &mut dyn Session, seconds: f64) -> Result<()> {
        self.product = session.setup().product;
        for _ in 0..WINDOWS {
            self.take(session, Probe::MemoryRead, seconds / WINDOWS as f64)?;
        }
        Ok(())
    }

    /// The roofs at this moment.
    pub fn beside(&mut self, session: &mut dyn Session) -> Result<Roofline> {
        let compute = Probe::Compute(self.product.dtype);
        let (mut bandwidths, mut peaks) = ([0.0; BESIDE_WINDOWS], [0.0; BESIDE_WINDOWS]);
        for (bandwidth, peak) in bandwidths.iter_mut().zip(&mut peaks) {
            *bandwidth = self.take(session, Probe::MemoryRead, BESIDE_MEMORY)?;
            *peak = self.take(session, compute, BESIDE_COMPUTE)? / self.product.operations;
        }
        let median = |rates: &[f64]| stats::median(rates).unwrap_or(f64::NAN);
        Ok(Roofline { bandwidth: BytesPerSec(median(&bandwidths)), peak: FlopsPerSec(median(&peaks)) })
    }

    fn take(&mut self, session: &mut dyn Session, probe: Probe, seconds: f64) -> Result<f64> {
        let rate = plausible::rate(probe, session.probe(probe, seconds)?)?;
        if let Some((_, rates)) = self.probes.iter_mut().find(|(known, _)| *known == probe) {
            rates.push(rate);
        }
        Ok(rate)
    }

    /// What products are made of now.
    pub fn product(&self) -> Multiplier {
        self.product
    }

    /// The best roofs seen so far: read bandwidth, and the peak of such products.
    pub fn roofline(&self, product: Multiplier) -> Result<Roofline> {
        self.best(Probe::MemoryRead, product)
    }

    /// Roofs to plan with before the weights are there: copying stands in for reading.
    pub fn estimate(&self) -> Result<Roofline> {
        self.best(Probe::MemoryCopy, self.product)
    }

    fn best(&self, memory: Probe, product: Multiplier) -> Result<Roofline> {
        let best = |probe| {
            let (_, rates) = self.probes.iter().find(|(known, _)| *known == probe)?;
            stats::quantile(rates, BEST)
        };
        let missing = || Failure::invalid("the ceilings have not been measured");
        Ok(Roofline {
            bandwidth: BytesPerSec(best(memory).ok_or_else(missing)?),
            peak: FlopsPerSec(best(Probe::Compute(product.dtype)).ok_or_else(missing)? / product.operations),
        })
    }

    /// The ceilings for the run file.
    pub fn list(&self) -> Vec<Ceiling> {
        let described = self.described.iter().cloned();
        let probed = self.probes.iter().zip(described);
        probed
            .filter_map(|((probe, rates), how)| ceiling(*probe, rates, how))
            .chain(self.sustained.clone())
            .collect()
    }
}

/// The ceiling of what a probe gave.
fn ceiling(probe: Probe, rates: &[f64], citation: String) -> Option<Ceiling> {
    let (kind, dtype) = match probe {
        Probe::MemoryRead => (CeilingKind::MemoryRead, None),
        Probe::MemoryCopy => (CeilingKind::MemoryCopy, None),
        Probe::CacheRead => (CeilingKind::CacheRead, None),
        Probe::Compute(dtype) => (CeilingKind::Compute, Some(dtype)),
    };
    Ceiling::measured(kind, dtype, citation, rates.to_vec())
}
