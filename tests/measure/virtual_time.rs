//! A clock that moves by what the scripted device does, and a load that is told to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use llmroof::measure::Time;
use llmroof::telemetry::Load;

/// Shared by the device, its sensors and the measurement.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    zero: Instant,
    nanoseconds: Arc<AtomicU64>,
}

impl Default for VirtualTime {
    fn default() -> Self {
        VirtualTime { zero: Instant::now(), nanoseconds: Arc::default() }
    }
}

impl VirtualTime {
    /// Something took so long.
    pub fn pass(&self, seconds: f64) {
        self.nanoseconds.fetch_add((seconds * 1e9).round() as u64, Ordering::Relaxed);
    }

    /// Seconds since the clock was made.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9
    }
}

impl Time for VirtualTime {
    fn now(&self) -> Instant {
        self.zero + Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// What others use of the machine.
pub struct Cores(pub Option<f64>);

impl Load for Cores {
    fn cores(&self) -> Option<f64> {
        self.0
    }
}
