//! Where the time comes from, and the time that is left.

use std::time::{Duration, Instant};

/// The host's clock. The stopping rule, the budget and the energy windows ask nothing else what time it is, so that a test
/// may give them one that runs as fast as its scripted device works.
pub trait Time: Sync {
    /// What time it is.
    fn now(&self) -> Instant;
}

/// The machine's own.
#[derive(Debug, Clone, Copy)]
pub struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Time spent and left.
#[derive(Clone, Copy)]
pub(crate) struct Clock<'a> {
    /// When the first of it was spent.
    pub start: Instant,
    /// All there is.
    pub budget: Duration,
    /// Where it is read.
    pub time: &'a dyn Time,
}

impl Clock<'_> {
    /// What time it is.
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// Gone since the start.
    pub fn spent(&self) -> Duration {
        self.since(self.start)
    }

    /// What remains.
    pub fn left(&self) -> Duration {
        self.budget.saturating_sub(self.spent())
    }

    /// Gone since a moment.
    pub fn since(&self, moment: Instant) -> Duration {
        self.now().saturating_duration_since(moment)
    }
}
