//! The compute peak after working at it for a while: what heat and the power limit leave of it.

use std::time::Duration;

use super::{Clock, Observer, plausible};
use crate::backend::{Probe, Session};
use crate::error::Result;
use crate::roofline::{Ceiling, CeilingKind};

/// Longest window, in seconds.
const WINDOW: f64 = 0.1;
/// Fewest windows.
const WINDOWS: f64 = 30.0;
/// The part of the time, its end, that counts.
const LAST: f64 = 1.0 / 3.0;

/// Computes for `soak` and takes the windows of the last third. `None` if it was interrupted before those.
///
/// # Errors
/// The device failed.
pub(super) fn soak(
    session: &mut dyn Session,
    soak: Duration,
    clock: &Clock,
    observer: &mut dyn Observer,
) -> Result<Option<Ceiling>> {
    let dtype = session.setup().product.dtype;
    let probe = Probe::Compute(dtype);
    let seconds = soak.as_secs_f64();
    let window = WINDOW.min(seconds / WINDOWS);
    let (start, mut device, mut rates) = (clock.now(), 0.0f64, Vec::new());
    loop {
        let done = clock.since(start).as_secs_f64().max(device);
        if done >= seconds {
            break;
        }
        if observer.interrupted().is_some() {
            return Ok(None);
        }
        observer.doing(&format!("soak: {:.0} s more of computing", seconds - done), clock.left());
        let probed = session.probe(probe, window)?;
        let rate = plausible::rate(probe, probed)?;
        device += probed.seconds;
        if done >= seconds * (1.0 - LAST) {
            rates.push(rate);
        }
    }
    let how = session.describe_probe(probe);
    let citation = format!("{how}, the last third of {seconds} s of the same");
    Ok(Ceiling::measured(CeilingKind::ComputeSustained, Some(dtype), citation, rates))
}
