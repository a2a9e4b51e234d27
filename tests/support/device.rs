//! The GPU of this machine as the suite's driver, for the tests that need one.

use llmroof::backend::OpenOptions;
use llmroof::backend::cuda::driver::gpu::CudaGpu;
use llmroof::error::Result;

/// Opens the first GPU; says why there is none.
pub fn open() -> Result<CudaGpu> {
    CudaGpu::open(&OpenOptions::default())
}
