//! Opens the device that `--device` names.

use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, OpenOptions, Session};
use crate::error::{Failure, Result};

/// Opens `auto` or `cpu`.
///
/// # Errors
/// A name that is no device, or a device that cannot be opened.
pub fn open_device(device: &str, options: &OpenOptions) -> Result<Box<dyn Session>> {
    match device {
        "auto" | "cpu" => CpuBackend.open(options),
        other => Err(Failure::input(format!("there is no device \"{}\"", other.escape_debug()))
            .hint("give --device auto or cpu; `llmroof devices` lists what is here")),
    }
}

/// How `--threads` and `--isa` ask for the device to be opened.
pub fn open_options(threads: Option<u32>, isa: &str) -> OpenOptions {
    OpenOptions {
        threads: threads.map(|n| n as usize),
        instruction_set: (isa != "auto").then(|| isa.to_string()),
    }
}
