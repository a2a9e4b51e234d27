//! Linear stages of more than 64 token rows through the machine's cuBLASLt, where it has one.
//!
//! cuBLASLt multiplies and can add to what is there; what our own kernels do before they store (rotation, appending
//! to the caches, SwiGLU) happens in a kernel behind it, from products that were rounded to bf16 in between. The head
//! stays with our own kernels: its logits are f32 and never leave the chip when only the best of them is wanted.

mod library;
mod plan;

use bytemuck::{Pod, Zeroable};

pub(super) use library::CublasLt;

use super::driver::{Address, Gpu};
use super::launch::Launch;
use super::launch::args::LinearArgs;
use super::launch::elementwise;
use super::launch::gemv::LinearStage;
use crate::model::ModelSpec;

/// [`Launch::source`] of what is no kernel but a product for cuBLASLt; its parameter is a [`ProductArgs`].
pub const SOURCE: &str = "cublaslt";

/// `y[rows][n] = x[rows][k] w[n][k]^T`, added to `y` if `accumulate` is 1. bf16, summed in f32; matrices are row-major,
/// strides are elements from one row to the next, rows of `w` follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ProductArgs {
    pub x: Address,
    pub w: Address,
    pub y: Address,
    pub rows: u32,
    pub n: u32,
    pub k: u32,
    pub x_stride: u32,
    pub y_stride: u32,
    pub accumulate: u32,
}

impl ProductArgs {
    /// The product that a launch asks for; `None` where it is a kernel's.
    pub fn of(launch: &Launch) -> Option<ProductArgs> {
        (launch.source == SOURCE).then(|| bytemuck::try_pod_read_unaligned(&launch.parameter).ok())?
    }

    /// What an algorithm depends on: all of it, but of the addresses only how they are aligned.
    fn shape(&self) -> ProductArgs {
        let alignment = |address: Address| 1 << address.trailing_zeros().min(8);
        let (x, w, y) = (alignment(self.x), alignment(self.w), alignment(self.y));
        ProductArgs { x, w, y, ..*self }
    }

    fn launch(self) -> Launch {
        Launch::new(SOURCE, "product", [1; 3], 1, 0, &self)
    }
}

/// Elements of a token row of the buffer that products wait in for the kernel behind them.
pub fn width(model: &ModelSpec) -> u32 {
    (model.q_width() + 2 * model.kv_width()).max(2 * model.ffn)
}

/// Bytes of scratch memory that cuBLASLt is given: as much as NVIDIA advises for the architecture.
pub fn workspace_bytes(gpu: &Gpu) -> u64 {
    if gpu.capability >= (9, 0) { 32 << 20 } else { 4 << 20 }
}

/// A stage whose `x` is normed already; `products` is a buffer of [`width`] elements a row. `None` for the head.
pub fn launches(stage: LinearStage, args: LinearArgs, products: Address) -> Option<Vec<Launch>> {
    let product = |w: Address, n: u32, y: Address, y_stride: u32, accumulate: u32| {
        let LinearArgs { x, x_stride, rows, k, .. } = args;
        ProductArgs { x, w, y, rows, n, k, x_stride, y_stride, accumulate }.launch()
    };
    // `from` elements into each row of `products`.
    let part =
        |w: Address, from: u32, n: u32, stride: u32| product(w, n, products + 2 * u64::from(from), stride, 0);
    let finish = |x_stride: u32| LinearArgs { x: products, x_stride, ..args };
    match stage {
        LinearStage::Qkv => {
            let (q, kv, n) = (args.q_width, args.kv_width, args.n);
            Some(vec![
                part(args.w0, 0, q, n),
                part(args.w1, q, kv, n),
                part(args.w2, q + kv, kv, n),
                elementwise::rotate_append(finish(n)),
            ])
        }
        LinearStage::GateUp => {
            let n = args.n;
            Some(vec![
                part(args.w0, 0, n, 2 * n),
                part(args.w1, n, n, 2 * n),
                elementwise::silu_multiply(finish(2 * n)),
            ])
        }
        LinearStage::Residual => Some(vec![product(args.w0, args.n, args.y, args.n, 1)]),
        LinearStage::LmHead => None,
    }
}
