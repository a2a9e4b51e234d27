//! NVIDIA GPUs, with nothing but their driver.
//!
//! From the machine to one step:
//! - `library`: the driver, found before cudarc could panic; `describe`: its GPUs; `status`: its answers.
//! - `gpu`: an opened GPU as a [`driver::Driver`], made of `stream`, `kernels` and `graph`.
//! - `cublaslt`: the machine's library for products of many rows, if it has one.
//! - `memory`, `step`, `suite`: weights and buffers, a pass as launches, a loaded model. The launches of each family
//!   of kernels are in the file of its name.
//! - `prepared`: a pass as graphs, and its times; `probes`: the ceilings; `session`: all of it for the measurement.

pub mod args;
pub mod attention;
pub mod ceilings;
pub mod cublaslt;
mod describe;
pub mod driver;
pub mod elementwise;
pub mod fill;
pub mod gemm;
pub mod gemv;
pub mod gpu;
mod graph;
pub mod image;
mod kernels;
pub mod launch;
mod library;
pub mod memory;
mod prepared;
mod probes;
pub mod reference;
mod session;
pub mod skinny;
mod status;
pub mod step;
mod stream;
pub mod suite;
pub mod workspace;

use self::gpu::CudaGpu;
use self::library::Library;
use self::session::CudaSession;
use super::{Backend, DeviceInfo, OpenOptions, Session};
use crate::error::Result;

/// The NVIDIA GPUs of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CudaBackend;

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        devices()
    }

    fn open(&self, options: &OpenOptions) -> Result<Box<dyn Session>> {
        Ok(Box::new(CudaSession::new(CudaGpu::open(options)?, options.gemm)?))
    }
}

/// The GPUs that the driver shows, those that the kernels do not run on included.
///
/// # Errors
/// In one line why there is none: the library was not found, the driver does not start, or it has no device.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let library = Library::open()?;
    (0..library.devices as u32).map(|ordinal| Ok(describe::describe(library, ordinal)?.info)).collect()
}
