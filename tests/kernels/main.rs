//! The CUDA kernels, executed by the PTX interpreter: every kernel against float64, with what it moves and computes.

#![allow(clippy::unwrap_used)]

mod attended;
mod attention;
mod ceilings;
#[path = "../support/device.rs"]
mod device;
mod elementwise;
mod fill;
mod forward;
mod gemm;
mod gemv;
#[path = "../support/gpu.rs"]
mod gpu;
mod held;
mod ledger;
mod linear;
mod mixed;
mod numbers;
mod on_gpu;
mod quantise;
mod quantised;
mod reference;
mod session;
mod skinny;
mod table;
