//! One kernel launch, as data: what the driver is asked to run, and what the tests interpret. Each family of kernels
//! has a file that makes its launches, named after its source in `kernels/`; `args` are the parameters that several
//! share, `workspace` the scratch memory.

pub mod args;
pub mod attention;
pub mod ceilings;
pub mod elementwise;
pub mod fill;
pub mod format;
pub mod gemm;
pub mod gemv;
pub mod quantise;
pub mod reference;
pub mod skinny;
pub mod workspace;

use bytemuck::Pod;

/// One launch of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Source file of the kernel, without its ending: `gemv`.
    pub source: &'static str,
    /// Name of the entry point.
    pub kernel: &'static str,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared: u32,
    /// The kernel's only parameter, its struct by value.
    pub parameter: Vec<u8>,
    /// Whether it may start before the kernel before it has ended (programmatic dependent launch, sm_90): it
    /// waits for its inputs itself.
    pub early: bool,
}

impl Launch {
    /// A launch with this parameter; `early` is off.
    pub fn new<P: Pod>(
        source: &'static str,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        parameter: &P,
    ) -> Self {
        let parameter = bytemuck::bytes_of(parameter).to_vec();
        Launch { source, kernel, grid, threads, shared, parameter, early: false }
    }

    /// Lets it start early.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }
}
