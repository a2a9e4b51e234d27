//! The devices that `--device` names.

use super::machine::Machine;
use super::output::say;
pub use super::selection::called;
use super::selection::{Selection, Wanted};
use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::CudaBackend;
use crate::backend::{Backend, DeviceInfo, Gemm, OpenOptions, Session};
use crate::cli::{DeviceArgs, GemmArg};
use crate::device::DeviceProfile;
use crate::error::{Failure, Result};
use crate::profiles::Catalog;

/// A device of this machine that was chosen, not yet opened.
#[derive(Debug, Clone)]
pub struct Chosen {
    info: DeviceInfo,
    options: OpenOptions,
    /// What to say on stderr once it is open.
    note: Option<String>,
}

impl Chosen {
    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Why it is this one, if that is not plain.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Opens it, and says on stderr why it is this one if that is not plain.
    ///
    /// # Errors
    /// It cannot be used, or an option does not fit it.
    pub fn open(&self, machine: &dyn Machine) -> Result<Box<dyn Session>> {
        let session = match self.info.gpu {
            Some(_) => CudaBackend.open(&self.options),
            None => CpuBackend.open(&self.options),
        }?;
        if let Some(note) = &self.note {
            say(note);
        }
        Ok(machine.opened(session))
    }
}

/// The devices that `--device` names: several for `cuda:all`, otherwise one. Asks for GPUs only where it needs to.
///
/// # Errors
/// A name that is no device, no such GPU, or options for the other kind of device.
pub fn choose(args: &DeviceArgs) -> Result<Vec<Chosen>> {
    let wanted = Wanted::parse(&args.name)?;
    let gpus = match wanted {
        Wanted::Cpu => Ok(Vec::new()),
        _ => CudaBackend.devices(),
    };
    let (places, mut note) = match wanted.choose(&gpus)? {
        Selection::Cpu(why) => return Ok(vec![cpu(args, why)?]),
        Selection::Gpus(places, note) => (places, note),
    };
    let gpus = gpus?;
    let chosen = places.iter().filter_map(|&at| gpus.get(at));
    chosen.map(|info| gpu(args, info, note.take())).collect()
}

/// The profile of a device: of a GPU by its name, memory and bandwidth, of a CPU by its name.
///
/// # Errors
/// Why there is none, in one line.
pub fn profile_of<'a>(
    catalog: &'a Catalog,
    info: &DeviceInfo,
) -> std::result::Result<&'a DeviceProfile, String> {
    match &info.gpu {
        Some(gpu) => catalog.device_for(&info.name, info.memory.0, gpu.theoretical_bandwidth()),
        None => catalog
            .device_of_driver(&info.name)
            .ok_or_else(|| format!("no profile has the driver name \"{}\"", info.name)),
    }
}

fn cpu(args: &DeviceArgs, why: Option<String>) -> Result<Chosen> {
    if args.gemm == GemmArg::Cublaslt {
        let reason = why.map_or(String::new(), |why| format!(" ({why})"));
        return Err(Failure::input(format!("--gemm cublaslt needs a GPU, and this is the CPU{reason}"))
            .hint("leave --gemm out, or give the --device of a GPU"));
    }
    let info = CpuBackend.devices()?.into_iter().next();
    Ok(Chosen {
        info: info.ok_or_else(|| Failure::device("the CPU is not listed"))?,
        options: OpenOptions {
            threads: args.threads.map(|n| n as usize),
            instruction_set: (args.isa != "auto").then(|| args.isa.clone()),
            ..OpenOptions::default()
        },
        note: why.map(|why| format!("{why}; using the CPU")),
    })
}

fn gpu(args: &DeviceArgs, info: &DeviceInfo, note: Option<String>) -> Result<Chosen> {
    let for_cpus = [("--threads", args.threads.is_some()), ("--isa", args.isa != "auto")];
    if let Some((option, _)) = for_cpus.iter().find(|(_, given)| *given) {
        return Err(Failure::input(format!(
            "{option} is for the CPU, and --device {} is {}",
            args.name, info.name
        ))
        .hint(format!("leave {option} out, or give --device cpu")));
    }
    Ok(Chosen {
        info: info.clone(),
        options: OpenOptions {
            ordinal: info.gpu.as_ref().map_or(0, |gpu| gpu.ordinal),
            gemm: match args.gemm {
                GemmArg::Auto => Gemm::Auto,
                GemmArg::Own => Gemm::Own,
                GemmArg::Cublaslt => Gemm::CublasLt,
            },
            patience: Some(args.timeout),
            ..OpenOptions::default()
        },
        note,
    })
}
