//! Opens the device that `--device` names.

use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, OpenOptions, Session, cuda};
use crate::cli::DeviceArgs;
use crate::error::{Failure, Result};

/// Opens `auto` or `cpu` with these threads and this instruction set. `auto` says on stderr why it is not a GPU.
///
/// # Errors
/// A name that is no device, or a device that cannot be opened.
pub fn open_device(args: &DeviceArgs) -> Result<Box<dyn Session>> {
    let automatic = match args.name.as_str() {
        "cpu" => false,
        "auto" => true,
        other => {
            return Err(Failure::input(format!("there is no device \"{}\"", other.escape_debug()))
                .hint("give --device auto or cpu; `llmroof devices` lists what is here"));
        }
    };
    let session = CpuBackend.open(&OpenOptions {
        threads: args.threads.map(|n| n as usize),
        instruction_set: (args.isa != "auto").then(|| args.isa.clone()),
        ..OpenOptions::default()
    })?;
    if automatic {
        eprintln!("{}; using the CPU", why_no_gpu());
    }
    Ok(session)
}

/// Why the work does not run on a GPU, in one line.
fn why_no_gpu() -> String {
    match cuda::devices() {
        Err(reason) => format!("no GPU: {reason}"),
        Ok(found) => {
            let names: Vec<&str> = found.iter().map(|gpu| gpu.name.as_str()).collect();
            format!("{} is here, but this version runs on the CPU only", names.join(", "))
        }
    }
}
