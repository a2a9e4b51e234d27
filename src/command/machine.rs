//! The machine that the commands run on, as far as a test may put another in its place.

use std::sync::Arc;

use crate::backend::Session;

/// What is between the commands and the devices they open. The program gives [`ThisMachine`]; `tests/faulty` gives one
/// whose devices go wrong on demand.
pub trait Machine: Send + Sync {
    /// The session of a device that has just been opened.
    fn opened(&self, session: Box<dyn Session>) -> Box<dyn Session>;
}

/// The real one: every session as it is.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn opened(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        session
    }
}

/// A machine for threads that may outlive whoever started them.
pub fn shared(machine: impl Machine + 'static) -> Arc<dyn Machine> {
    Arc::new(machine)
}
