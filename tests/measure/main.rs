//! Measuring a machine whose speed is known: what comes out must be what was put in.
//!
//! The device is scripted. It computes with the float64 reference, and says that a pass took exactly the time that
//! its roofs allow, divided by the share of the roof that it is told to reach.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod cpu;
mod gpu;
mod scripted;
mod sensors;
mod stopping;
mod traces;
mod virtual_time;
