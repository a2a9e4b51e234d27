//! `llmroof` on devices that go wrong as the `FAULTY_*` variables say: README.md.

use std::process::ExitCode;

use faulty::{Crash, Faults, FaultyMachine};
use llmroof::command::machine::shared;
use llmroof::command::program;

fn main() -> ExitCode {
    Crash::of_environment().arm();
    program::main(&shared(FaultyMachine(Faults::of_environment())))
}
