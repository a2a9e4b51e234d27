//! The interpreter against the PTX ISA: values worked out independently, bugs that it must find, counts by hand.
#![allow(clippy::unwrap_used)]

mod approx;
mod async_copy;
mod atomics;
mod control;
mod convert;
mod counters;
mod cuda;
mod faults;
mod float;
mod half;
mod integer;
mod lab;
mod matrix;
mod memory;
mod races;
mod refused;
mod warp;
mod wgmma;
mod wgmma_order;
