//! Takes samples of one pass until they are enough, each between two looks at the roofs.

use std::time::Duration;

use super::ceilings::Ceilings;
use super::energy::{self, Meter};
use super::plan::Allotment;
use super::points::{LEAST_SAMPLES, Measured, Sample};
use super::readings::Round;
use super::{Clock, Observer, name, pass, plausible};
use crate::backend::{Execution, Session};
use crate::error::Result;
use crate::roofline::Roofline;
use crate::run::{StoppedBy, Timing};
use crate::units::{BytesPerSec, FlopsPerSec};

/// Fewest seconds of sampling.
const LEAST_SECONDS: f64 = 0.5;
/// Relative interval of the median at which sampling ends.
const NARROW: f64 = 0.005;
/// Seconds of executions between two probes: long enough for the probes not to dominate.
const ROUND: f64 = 0.04;
/// Most samples kept of one point and trial; the run file holds them all.
const MOST_SAMPLES: usize = 1000;

/// What a sampler works with.
pub(super) struct Sampler<'a> {
    pub session: &'a mut dyn Session,
    pub ceilings: &'a mut Ceilings,
    pub clock: &'a Clock<'a>,
    pub meter: &'a mut Meter,
}

impl Sampler<'_> {
    /// Adds one trial's samples to `measured`: at least ten and half a second, then until the interval of the
    /// median is narrow or the allotment is used up.
    ///
    /// # Errors
    /// The device failed; the samples until then are kept.
    pub fn sample(
        &mut self,
        measured: &mut Measured,
        trial: u32,
        allotment: &Allotment,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut samples = Vec::new();
        let ended = self.rounds(measured, &mut samples, allotment, observer);
        if ended.is_ok() || !samples.is_empty() {
            measured.add(trial, samples, *ended.as_ref().unwrap_or(&StoppedBy::Failure));
        }
        ended.map(|_| ())
    }

    /// Runs the pass that was sampled last for about this long under a GPU's counters.
    ///
    /// # Errors
    /// The device failed.
    pub fn window(
        &mut self,
        measured: &mut Measured,
        seconds: f64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let label = name(&measured.work);
        observer.doing(&format!("{label}: energy"), self.clock.left());
        measured.window = energy::window(&label, self.session, self.meter, seconds, self.clock, observer)?;
        Ok(())
    }

    /// Prepares the pass and takes rounds of samples until something ends it.
    fn rounds(
        &mut self,
        measured: &mut Measured,
        samples: &mut Vec<Sample>,
        allotment: &Allotment,
        observer: &mut dyn Observer,
    ) -> Result<StoppedBy> {
        let deadline = self.clock.now() + Duration::from_secs_f64(allotment.seconds.min(86_400.0));
        observer.doing(&allotment.label, self.clock.left());
        self.session.prepare(&pass(&measured.work))?;
        measured.product = Some(self.ceilings.product());
        measured.gemm = self.session.software().and_then(|software| software.gemm);
        // The first execution faults pages in and fills the instruction caches.
        let (warm_up, round) = self.run(&allotment.label, 1)?;
        let mut cost = cost(&warm_up, round).unwrap_or(allotment.one);

        let began = self.clock.now();
        let mut before = self.ceilings.beside(self.session)?;
        loop {
            let n = ((ROUND / cost.max(1e-7)).round() as usize).clamp(1, 64);
            let joules = self.meter.joules();
            let (executions, round) = self.run(&allotment.label, n)?;
            if let (Some(start), Some(end)) = (joules, self.meter.joules()) {
                let seconds = executions.iter().map(|e| e.seconds * f64::from(e.repeats.max(1))).sum();
                measured.energy(end - start, seconds);
            }
            let after = self.ceilings.beside(self.session)?;
            let roof = between(before, after);
            cost = self::cost(&executions, round).unwrap_or(cost);
            samples.extend(executions.into_iter().map(|execution| Sample { execution, roof, round }));
            before = after;

            let times: Vec<f64> = samples.iter().map(|sample| sample.execution.seconds).collect();
            let interval = Timing::of(&[times]).map_or(f64::INFINITY, |timing| timing.relative_interval());
            observer.doing(
                &format!("{}: {} samples, +/-{:.1}%", allotment.label, samples.len(), interval * 100.0),
                self.clock.left(),
            );
            let enough =
                samples.len() >= LEAST_SAMPLES && self.clock.since(began).as_secs_f64() >= LEAST_SECONDS;
            if observer.interrupted().is_some() {
                return Ok(StoppedBy::Interrupt);
            }
            if enough && interval < NARROW {
                return Ok(StoppedBy::Interval);
            }
            if samples.len() >= MOST_SAMPLES {
                return Ok(StoppedBy::Samples);
            }
            let next = Duration::from_secs_f64((cost * n as f64).min(86_400.0));
            if self.clock.now() + next > deadline {
                return Ok(StoppedBy::Budget);
            }
        }
    }

    /// Runs the pass of this name, and when that was.
    fn run(&mut self, pass: &str, n: usize) -> Result<(Vec<Execution>, Round)> {
        let from = self.clock.now();
        let executions = self.session.run(n)?;
        let to = self.clock.now();
        plausible::executions(pass, n, &executions)?;
        Ok((executions, Round { from, to }))
    }
}

/// Seconds that one more sample of such a round costs: the time of its executions, on the device's clock or the
/// host's, whichever is longer. A GPU replays its stages for each.
fn cost(executions: &[Execution], round: Round) -> Option<f64> {
    let device = executions
        .iter()
        .map(|execution| execution.seconds * f64::from(execution.repeats.max(1)))
        .min_by(f64::total_cmp)?;
    let host = round.to.saturating_duration_since(round.from).as_secs_f64() / executions.len() as f64;
    Some(device.max(host))
}

/// The roofs of what ran between two probes.
fn between(before: Roofline, after: Roofline) -> Roofline {
    Roofline {
        bandwidth: BytesPerSec((before.bandwidth.0 + after.bandwidth.0) / 2.0),
        peak: FlopsPerSec((before.peak.0 + after.peak.0) / 2.0),
    }
}
