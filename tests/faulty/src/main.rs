//! `llmroof` on devices that go wrong as the `FAULTY_*` variables say: README.md.

use std::process::ExitCode;

use faulty::{Faults, FaultyMachine};
use llmroof::command::program;

fn main() -> ExitCode {
    program::main(&FaultyMachine(Faults::of_environment()))
}
