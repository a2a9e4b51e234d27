//! A session around a real one that goes wrong on demand: README.md says how.
//!
//! - `faults`: what is to go wrong, read from the variables.
//! - `session`: the session around the real one.
//! - `outputs`: what a pass is said to have put out.
//! - `weights`: a model that is not the one that was asked for.
//! - `times`: seconds and rates that no device has.
//! - `slow`: a stage that takes longer, by work that was really done.
//! - `crash`: moments at which the process ends or a file cannot be written.
//! - `idle`: a session that executes nothing, so that a run is mostly writing.

mod crash;
mod faults;
mod idle;
mod outputs;
mod session;
mod slow;
mod times;
mod weights;

pub use crash::Crash;
pub use faults::Faults;
pub use idle::IdleSession;
pub use session::FaultySession;

use llmroof::backend::Session;
use llmroof::command::machine::Machine;

/// A machine all of whose devices have these faults; with `FAULTY_IDLE=yes` they execute nothing.
#[derive(Debug, Clone)]
pub struct FaultyMachine(pub Faults);

impl Machine for FaultyMachine {
    fn opened(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        match std::env::var("FAULTY_IDLE") {
            Ok(yes) if yes == "yes" => Box::new(IdleSession::new(session)),
            Ok(other) => panic!("FAULTY_IDLE={other} is not understood"),
            Err(_) => Box::new(FaultySession::new(session, self.0.clone())),
        }
    }
}
