//! The `llmroof` program on this machine, and the only place that ends the process.

use std::process::ExitCode;

use llmroof::command::machine::{ThisMachine, shared};
use llmroof::command::program;

fn main() -> ExitCode {
    program::main(&shared(ThisMachine))
}
