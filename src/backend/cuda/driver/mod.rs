//! What the suite needs of a GPU's driver: memory, copies and launches. The tests put the PTX interpreter here.
//!
//! A real one:
//! - `library`: the driver, found before cudarc could panic; `describe`: its GPUs; `status`: its answers.
//! - `gpu`: an opened GPU as a [`Driver`], made of `stream`, `kernels` and `graph`.

pub(super) mod describe;
pub mod gpu;
pub(super) mod graph;
mod kernels;
pub(super) mod library;
mod status;
pub(super) mod stream;

use crate::backend::cuda::launch::Launch;
use crate::error::Result;
use crate::units::Bytes;

/// An address in device memory; 0 is none.
pub type Address = u64;

/// What the kernels' launches depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// As the driver names it.
    pub name: String,
    /// Compute capability: (8, 0) for an A100.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that one block may have, in bytes.
    pub shared_per_block: u32,
    /// Shared memory of a multiprocessor in bytes.
    pub shared_per_multiprocessor: u32,
    /// L2 cache in bytes.
    pub l2: u64,
    /// Memory in bytes.
    pub memory: u64,
}

/// A GPU under a driver. Every address handed in was given by [`Driver::allocate`].
pub trait Driver {
    /// The GPU.
    fn gpu(&self) -> &Gpu;

    /// Memory that can still be allocated.
    fn available(&self) -> Bytes;

    /// Allocates; aligned to 256 bytes, contents undefined. `what` names it in messages.
    ///
    /// # Errors
    /// Out of memory.
    fn allocate(&mut self, bytes: u64, what: &str) -> Result<Address>;

    /// Announces that the next allocations are these and belong together: a driver may put them side by side, so that
    /// they can be read in one go. `what` names them in messages.
    ///
    /// # Errors
    /// Out of memory.
    fn together(&mut self, pieces: &mut dyn Iterator<Item = u64>, what: &str) -> Result<()> {
        let _ = (pieces, what);
        Ok(())
    }

    /// Gives an allocation back.
    ///
    /// # Errors
    /// The device failed.
    fn free(&mut self, address: Address) -> Result<()>;

    /// Clears `bytes` at an address, after what was launched before.
    ///
    /// # Errors
    /// The device failed.
    fn zero(&mut self, address: Address, bytes: u64) -> Result<()> {
        self.write(address, &vec![0; bytes as usize])
    }

    /// Copies to the device, after what was launched before.
    ///
    /// # Errors
    /// The device failed.
    fn write(&mut self, to: Address, data: &[u8]) -> Result<()>;

    /// Copies from the device, after everything launched before has ended.
    ///
    /// # Errors
    /// The device failed.
    fn read(&mut self, from: Address, into: &mut [u8]) -> Result<()>;

    /// Launches a kernel after those launched before.
    ///
    /// What the kernels rely on: [`Launch::shared`] may be more than the 48 KB that a kernel has without asking
    /// (`MAX_DYNAMIC_SHARED_SIZE_BYTES`); all kernels of a pass are given the same shared-memory carve-out, since a
    /// multiprocessor drains before it changes; a launch that is not [`Launch::early`] starts after all before it,
    /// and one that is may only follow kernels whose outputs it waits for itself: weights are read without waiting,
    /// so after they were written the device is synchronised once.
    ///
    /// # Errors
    /// The kernel cannot be launched, or the device failed.
    fn launch(&mut self, launch: &Launch) -> Result<()>;

    /// Waits until everything has ended. `doing` names it in messages.
    ///
    /// # Errors
    /// The device failed.
    fn synchronise(&mut self, doing: &str) -> Result<()>;
}
