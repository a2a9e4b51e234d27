//! Whether verdicts can be trusted: seeded synthetic runs through the whole of `compare`, and the rules by example.

#![allow(clippy::unwrap_used)]

mod estimators;
mod examples;
mod false_alarms;
mod noise;
mod power;
mod program;
mod properties;
mod synthetic;
