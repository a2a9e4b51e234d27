//! The real program on GPUs that are not there: the fake driver of `tests/fake-driver` in the place of NVIDIA's.
//!
//! - `devices`: what is listed, and which GPU `--device` takes.
//! - `sensors`: what NVML says.
//! - `verify`, `measure`: both from the command line to the files, on A100s and H100s.
//! - `check`: floors, passed and missed.
//! - `session`: the backend by itself, where tables do not show what `measure` relies on.
//! - `ranks`: `--tp` among several GPUs, with and without NCCL.
//! - `cublaslt`: `--gemm`, with and without the library.
//! - `plan`: a whole Llama 3 8B on memory that is only reserved.
//! - `collect`: the script that collects all that one GPU can show.
//! - `faults`: everything that can go wrong and end the program, one line each.
//! - `conditions`: what can go wrong and only leaves a mark in the run.
//!
//! How fast anything is, is never asserted: it is the fake's virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod check;
mod collect;
mod conditions;
mod cublaslt;
mod devices;
#[path = "../support/fake.rs"]
mod fake;
mod faults;
mod measure;
mod plan;
mod program;
mod ranks;
mod sensors;
mod session;
mod verify;
