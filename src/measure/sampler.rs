//! Takes samples of one pass until they are enough, each between two looks at the roofs.

use std::time::{Duration, Instant};

use super::ceilings::Ceilings;
use super::plan::Allotment;
use super::points::{LEAST_SAMPLES, Measured, Sample};
use super::{Clock, Observer, pass};
use crate::backend::Session;
use crate::error::Result;
use crate::roofline::Roofline;
use crate::run::{StoppedBy, Timing};
use crate::telemetry::EnergyMeter;
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
    pub clock: &'a Clock,
    pub energy: Option<&'a mut Box<dyn EnergyMeter>>,
}

impl Sampler<'_> {
    /// Adds one trial's samples to `measured`: at least ten and half a second, then until the interval of the
    /// median is narrow or the allotment is used up.
    pub fn sample(
        mut self,
        measured: &mut Measured,
        allotment: Allotment,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs_f64(allotment.seconds.min(86_400.0));
        observer.doing(&allotment.label, self.clock.left());
        self.session.prepare(&pass(&measured.work))?;
        // The first execution faults pages in and fills the instruction caches.
        let warm_up = self.session.run(1)?;
        let mut one = warm_up.first().map_or(allotment.one, |execution| execution.seconds);

        let began = Instant::now();
        let mut samples: Vec<Sample> = Vec::new();
        let mut before = self.ceilings.beside(self.session)?;
        let stopped_by = loop {
            let n = ((ROUND / one.max(1e-7)).round() as usize).clamp(1, 64);
            let joules = self.joules();
            let executions = self.session.run(n)?;
            if let (Some(start), Some(end)) = (joules, self.joules()) {
                measured.energy(end - start, executions.iter().map(|e| e.seconds).sum());
            }
            let after = self.ceilings.beside(self.session)?;
            let roof = between(before, after);
            one = executions.iter().map(|e| e.seconds).fold(f64::INFINITY, f64::min);
            samples.extend(executions.into_iter().map(|execution| Sample { execution, roof }));
            before = after;

            let times: Vec<f64> = samples.iter().map(|sample| sample.execution.seconds).collect();
            let interval = Timing::of(&[times]).map_or(f64::INFINITY, |timing| timing.relative_interval());
            observer.doing(
                &format!("{}: {} samples, +/-{:.1}%", allotment.label, samples.len(), interval * 100.0),
                self.clock.left(),
            );
            let enough = samples.len() >= LEAST_SAMPLES && began.elapsed().as_secs_f64() >= LEAST_SECONDS;
            if observer.interrupted().is_some() {
                break StoppedBy::Interrupt;
            }
            if enough && interval < NARROW {
                break StoppedBy::Interval;
            }
            if samples.len() >= MOST_SAMPLES {
                break StoppedBy::Samples;
            }
            let next = Duration::from_secs_f64((one * n as f64).min(86_400.0));
            if Instant::now() + next > deadline {
                break StoppedBy::Budget;
            }
        };
        measured.add(samples, stopped_by);
        Ok(())
    }

    fn joules(&mut self) -> Option<f64> {
        self.energy.as_mut()?.joules()
    }
}

/// The roofs of what ran between two probes.
fn between(before: Roofline, after: Roofline) -> Roofline {
    Roofline {
        bandwidth: BytesPerSec((before.bandwidth.0 + after.bandwidth.0) / 2.0),
        peak: FlopsPerSec((before.peak.0 + after.peak.0) / 2.0),
    }
}
