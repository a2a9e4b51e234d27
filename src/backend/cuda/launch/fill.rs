//! Seeded random normals made on the device: `kernels/fill.cu`.

use bytemuck::{Pod, Zeroable};

use super::Launch;
use crate::backend::cuda::driver::{Address, Gpu};
use crate::backend::weights::mix;

/// `struct Fill` of `kernels/fill.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct FillArgs {
    to: Address,
    count: u64,
    state: u64,
    mean: f32,
    deviation: f32,
}

/// A normal distribution. Values are rounded to bf16; what would be zero becomes a thousandth of the deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// Its mean.
    pub mean: f32,
    /// Its standard deviation.
    pub deviation: f32,
}

/// Fills `count` bf16 elements at `to`, which is 16-byte aligned. Element i depends on the seed, the stream's number
/// and i alone.
pub fn normals(gpu: &Gpu, to: Address, count: u64, seed: u64, stream: u64, normal: Normal) -> Launch {
    debug_assert!(to.is_multiple_of(16));
    const THREADS: u32 = 256;
    let Normal { mean, deviation } = normal;
    let args = FillArgs { to, count, state: mix(seed ^ mix(stream)), mean, deviation };
    // Eight elements per thread; as many blocks as a multiprocessor holds.
    let blocks = count.div_ceil(8 * u64::from(THREADS)).clamp(1, u64::from(gpu.multiprocessors) * 8);
    Launch::new("fill", "fill_normals", [blocks as u32, 1, 1], THREADS, 0, &args)
}
