//! The CUDA kernels, executed by the PTX interpreter: every kernel against float64, with what it moves and computes.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "../support/gpu.rs"]
mod gpu;
mod numbers;

mod attention;
mod ceilings;
mod elementwise;
mod fill;
mod gemm;
mod gemv;
mod linear;
mod reference;
mod skinny;
