//! The NVIDIA driver's libraries for tests: CUDA kernels run in the PTX interpreter, on a clock of their own.
//!
//! One shared library has the driver API (`cu*`) and NVML (`nvml*`); under the names `libcuda.so.1` and
//! `libnvidia-ml.so.1`, which are one file, both see one virtual clock. README.md says what is faked and what the
//! variables are.
//!
//! From a call to what it does: every function goes through `entry` (faults on demand, the lock), finds the device and
//! its state in `state`, and puts `work` on a stream. `costs` and `stages` read what a kernel does from its parameters,
//! `room` lets the clock run and keeps what NVML shows.

mod codes;
pub mod context;
mod costs;
pub mod cublaslt;
pub mod device;
mod entry;
pub mod event;
mod faults;
pub mod graph;
mod identity;
pub mod launch;
pub mod memory;
pub mod module;
pub mod nccl;
pub mod nvml;
mod resources;
mod room;
mod settings;
mod stages;
mod state;
pub mod stream;
mod work;

/// Begins anew with the variables of this look-up, as a process does with its environment's. For tests that link the
/// library instead of loading it.
///
/// # Errors
/// A variable that is not understood.
pub fn begin(variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    state::Fake::install(settings::Settings::read(variable)?);
    nccl::forget();
    Ok(())
}
