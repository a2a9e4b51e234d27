//! NVIDIA GPUs, with nothing but their driver.
//!
//! From the machine to one step:
//! - `driver`: what is needed of a GPU, and a real one under NVIDIA's driver.
//! - `launch`: the launches of each family of kernels, in the file of its name; `image`: the kernels' PTX.
//! - `cublaslt`: the machine's library for products of many rows, if it has one; `nccl`: the one that reduces among several
//!   GPUs; `functions`: how both are looked up.
//! - `memory`, `cache`, `pass`, `step`, `suite`: weights and buffers, keys and values, what a pass feeds, its launches, a
//!   loaded model.
//! - `prepared`: a pass as graphs, and its times; `probes`: the ceilings; `session`: all of it for the measurement.

pub mod buffers;
pub mod cache;
pub mod cublaslt;
pub mod driver;
mod functions;
pub mod image;
pub mod launch;
pub mod memory;
mod nccl;
pub mod pass;
mod prepared;
mod probes;
mod session;
pub mod step;
pub mod suite;

pub use self::nccl::serve as serve_all_reduces;

use self::driver::gpu::CudaGpu;
use self::driver::library::Library;
use self::session::CudaSession;
use super::reopen::Reopening;
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
        let options = options.clone();
        let open = move || {
            let session = CudaSession::new(CudaGpu::open(&options)?, options.gemm)?;
            Ok(Box::new(session) as Box<dyn Session>)
        };
        Ok(Box::new(Reopening::new(Box::new(open))?))
    }
}

/// The GPUs that the driver shows, those that the kernels do not run on included.
///
/// # Errors
/// In one line why there is none: the library was not found, the driver does not start, or it has no device.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let library = Library::open()?;
    (0..library.devices as u32)
        .map(|ordinal| Ok(driver::describe::describe(library, ordinal)?.info))
        .collect()
}
