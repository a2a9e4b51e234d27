//! Opens the device that `--device` names.

use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, OpenOptions, Session, cuda};
use crate::error::{Failure, Result};

/// Opens `auto` or `cpu`. `auto` says on stderr why it is not a GPU.
///
/// # Errors
/// A name that is no device, or a device that cannot be opened.
pub fn open_device(device: &str, options: &OpenOptions) -> Result<Box<dyn Session>> {
    match device {
        "cpu" => {}
        "auto" => match cuda::devices() {
            Err(reason) => eprintln!("no GPU: {reason}; using the CPU"),
            Ok(found) => {
                let names: Vec<&str> = found.iter().map(|gpu| gpu.name.as_str()).collect();
                eprintln!(
                    "{} is here, but this version runs on the CPU only; using the CPU",
                    names.join(", ")
                );
            }
        },
        other => {
            return Err(Failure::input(format!("there is no device \"{}\"", other.escape_debug()))
                .hint("give --device auto or cpu; `llmroof devices` lists what is here"));
        }
    }
    CpuBackend.open(options)
}

/// How `--threads` and `--isa` ask for the device to be opened.
pub fn open_options(threads: Option<u32>, isa: &str) -> OpenOptions {
    OpenOptions {
        threads: threads.map(|n| n as usize),
        instruction_set: (isa != "auto").then(|| isa.to_string()),
    }
}
