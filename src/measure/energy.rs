//! Energy, and what a GPU's own counters saw.
//!
//! A CPU's counter ticks every millisecond: each round of samples is metered. A GPU's ticks about every 100 ms: the
//! pass is repeated for seconds, without probes or stages in between, and the memory traffic is counted meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Clock, Observer, plausible};
use crate::backend::{Repeated, Session};
use crate::error::Result;
use crate::telemetry::{self, EnergyMeter, Sensors};

/// Length of a window where the budget allows it.
const WANTED: f64 = 3.0;
/// A shorter window has no figure: the ends of it would be off by several percent.
const LEAST: f64 = 2.0;
/// Share of the budget that one window may take.
const SHARE: f64 = 0.12;
/// Seconds of executions between two looks at whether to stop.
const CHUNK: f64 = 0.5;
/// How often the counter is looked at to see it tick.
const LOOK: Duration = Duration::from_millis(10);

/// How energy is metered.
pub(super) enum Meter {
    /// Around each round.
    Rounds(Box<dyn EnergyMeter>),
    /// In windows of seconds.
    Windows {
        /// The GPU's.
        sensors: Arc<dyn Sensors>,
        /// Whether the counter of energy works; that of memory traffic may without it.
        energy: bool,
        /// Theoretical bandwidth, which the counter of memory traffic gives a share of.
        bandwidth: Option<f64>,
    },
    /// Not at all, and why.
    None(String),
}

impl Meter {
    /// The CPU's.
    pub fn of_cpu() -> Meter {
        telemetry::cpu_energy().map_or_else(Meter::None, Meter::Rounds)
    }

    /// A GPU's.
    pub fn of_gpu(sensors: &std::result::Result<Arc<dyn Sensors>, String>, bandwidth: Option<f64>) -> Meter {
        match sensors {
            Ok(sensors) => {
                Meter::Windows { sensors: Arc::clone(sensors), energy: sensors.joules().is_ok(), bandwidth }
            }
            Err(reason) => Meter::None(reason.clone()),
        }
    }

    /// What counts energy in a run of this budget.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn source(&self, budget: Duration) -> std::result::Result<String, String> {
        match self {
            Meter::Rounds(meter) => Ok(meter.name().to_owned()),
            Meter::Windows { sensors, .. } => {
                sensors.joules()?;
                let enough = LEAST / SHARE;
                self.window_seconds(budget).ok_or_else(|| {
                    format!("its counter ticks slowly, a figure takes a budget of {enough:.0} s (--budget)")
                })?;
                Ok("the GPU's energy counter".into())
            }
            Meter::None(reason) => Err(reason.clone()),
        }
    }

    /// Joules until now where rounds are metered.
    pub fn joules(&mut self) -> Option<f64> {
        match self {
            Meter::Rounds(meter) => meter.joules(),
            _ => None,
        }
    }

    /// Seconds of one window within this budget; `None` where there are no windows or it is too short for one.
    pub fn window_seconds(&self, budget: Duration) -> Option<f64> {
        let seconds = WANTED.min(SHARE * budget.as_secs_f64());
        (matches!(self, Meter::Windows { .. }) && seconds >= LEAST).then_some(seconds)
    }
}

/// What one window found, of one execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    /// Energy, idle power included.
    pub joules: Option<f64>,
    /// Bytes between memory and chip.
    pub witnessed_bytes: Option<f64>,
    /// Share of the time that the matrix units were busy.
    pub tensor_activity: Option<f64>,
    /// Device seconds, without a pause.
    pub seconds: f64,
    /// Why there is no energy where the counter works otherwise.
    pub no_energy: Option<String>,
    /// Why there are no witnessed bytes.
    pub no_witness: Option<String>,
}

/// Repeats the prepared pass, which is called `pass`, for about `seconds` under the counters.
///
/// # Errors
/// The device failed, or its clock.
pub(super) fn window(
    pass: &str,
    session: &mut dyn Session,
    meter: &Meter,
    seconds: f64,
    clock: &Clock,
    observer: &mut dyn Observer,
) -> Result<Option<Window>> {
    let Meter::Windows { sensors, energy, bandwidth } = meter else { return Ok(None) };
    let sensors = sensors.as_ref();
    let stop = AtomicBool::new(false);
    let counting = sensors.count();
    let (began, before) = (clock.now(), sensors.joules());
    let (repeated, worked, ticks) = thread::scope(|scope| {
        let looking = thread::Builder::new().spawn_scoped(scope, || ticks(sensors, clock, &stop));
        let repeated = repeat(session, seconds, clock, observer);
        // Waiting for the thread and asking the counters are no work.
        let worked = clock.since(began).as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        // Without a thread, or if it panicked, the counter's two ends have to do.
        (repeated, worked, looking.ok().and_then(|thread| thread.join().ok()).unwrap_or_default())
    });
    let activity = counting.and_then(|counting| counting.end());
    let (host, after) = (clock.since(began).as_secs_f64(), sensors.joules());

    let repeated = repeated?;
    plausible::repeated(pass, &repeated)?;
    let executions = repeated.executions.max(1) as f64;
    let lasted = repeated.seconds.max(host);
    let mut found = Window { seconds: repeated.seconds / executions, ..Window::default() };
    if lasted < LEAST {
        let short = format!("the window lasted {lasted:.1} s, less than {LEAST:.0} s");
        (found.no_energy, found.no_witness) = (Some(short.clone()), Some(short));
        return Ok(Some(found));
    }
    match before.and_then(|before| Ok(after? - before)) {
        Ok(between) => {
            let joules = steady(&ticks, worked).unwrap_or(between);
            found.joules = (joules.is_finite() && joules > 0.0).then_some(joules / executions);
            found.no_energy = match joules {
                _ if found.joules.is_some() => None,
                backwards if backwards < 0.0 => Some("the counter ran backwards".into()),
                _ => Some("the counter did not move".into()),
            };
        }
        Err(reason) => found.no_energy = Some(reason),
    }
    // Said once, for the whole run.
    found.no_energy = found.no_energy.filter(|_| *energy);
    match activity {
        Ok(activity) => {
            found.tensor_activity = activity.tensor;
            // The share is of the whole time that was counted, its ends included.
            found.witnessed_bytes =
                bandwidth.map(|bandwidth| activity.memory * bandwidth * lasted / executions);
            found.no_witness = bandwidth.is_none().then(|| "memory clock or bus width are not known".into());
        }
        Err(reason) => found.no_witness = Some(reason),
    }
    Ok(Some(found))
}

/// Runs for about this long, or until it is to stop.
fn repeat(
    session: &mut dyn Session,
    seconds: f64,
    clock: &Clock,
    observer: &mut dyn Observer,
) -> Result<Repeated> {
    let (start, mut all) = (clock.now(), Repeated::default());
    loop {
        let done = clock.since(start).as_secs_f64().max(all.seconds);
        if all.executions > 0 && (done >= seconds || observer.interrupted().is_some()) {
            return Ok(all);
        }
        let some = session.repeat(CHUNK.min(seconds - done))?;
        all.executions += some.executions;
        all.seconds += some.seconds;
    }
}

/// When the counter moved, and what it then said.
fn ticks(sensors: &dyn Sensors, clock: &Clock, stop: &AtomicBool) -> Vec<(Instant, f64)> {
    let mut last = sensors.joules().ok();
    let mut ticks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let now = sensors.joules().ok();
        if let Some(joules) = now.filter(|_| last.is_some() && now != last) {
            ticks.push((clock.now(), joules));
        }
        last = now;
    }
    ticks
}

/// Joules of the whole window, from the power between the first and the last tick inside it. What the counter says
/// at an end is up to one tick old; at a tick it is right.
fn steady(ticks: &[(Instant, f64)], window: f64) -> Option<f64> {
    let ((first, from), (last, to)) = (*ticks.first()?, *ticks.last()?);
    let between = last.saturating_duration_since(first).as_secs_f64();
    // Few ticks, or only over a part of it: not better than the ends.
    (ticks.len() >= 5 && between >= window / 2.0).then(|| (to - from) / between * window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_charged_with_the_power_between_two_ticks() {
        let start = Instant::now();
        // 500 W, ticking every 100 ms, in a window that begins and ends between ticks.
        let ticks: Vec<(Instant, f64)> =
            (0..29).map(|i| (start + Duration::from_millis(40 + 100 * i), 50.0 * i as f64)).collect();
        let joules = steady(&ticks, 2.9).unwrap();
        assert!((joules - 1450.0).abs() < 1e-6, "{joules}");
        assert_eq!(steady(&ticks[..4], 2.9), None, "too few ticks");
        assert_eq!(steady(&ticks[..10], 2.9), None, "a part of the window");
        assert_eq!(steady(&[], 2.9), None);
    }
}
