//! Signals that ask to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Code, Failure, Result};

/// The last signal that came. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Catches Ctrl-C and SIGTERM from now on. A second one ends the process at once, as if none were caught.
    ///
    /// # Errors
    /// The system does not let them be caught.
    pub fn catch() -> Result<Signals> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            let caught = |e| Failure::device(format!("signal {number} cannot be caught: {e}"));
            flag::register_conditional_default(number, Arc::clone(&again))
                .and_then(|_| flag::register(number, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(number, Arc::clone(&signal), number as usize))
                .map_err(caught)?;
        }
        Ok(Signals(signal))
    }

    /// [`Code::Interrupted`] or [`Code::Terminated`] once one has come.
    pub fn caught(&self) -> Option<Code> {
        match self.0.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Code::Interrupted),
            SIGTERM => Some(Code::Terminated),
            _ => None,
        }
    }
}
