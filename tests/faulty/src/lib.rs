//! A session around a real one that goes wrong on demand: README.md says how.
//!
//! - `faults`: what is to go wrong, read from the variables.
//! - `session`: the session around the real one.
//! - `outputs`: what a pass is said to have put out.
//! - `weights`: a model that is not the one that was asked for.
//! - `times`: seconds and rates that no device has.
//! - `slow`: a stage that takes longer, by work that was really done.

mod faults;
mod outputs;
mod session;
mod slow;
mod times;
mod weights;

pub use faults::Faults;
pub use session::FaultySession;

use llmroof::backend::Session;
use llmroof::command::machine::Machine;

/// A machine all of whose devices have these faults.
#[derive(Debug, Clone)]
pub struct FaultyMachine(pub Faults);

impl Machine for FaultyMachine {
    fn opened(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        Box::new(FaultySession::new(session, self.0.clone()))
    }
}
