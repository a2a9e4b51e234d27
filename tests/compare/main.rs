//! Whether verdicts can be trusted: seeded synthetic runs through the whole of `compare`.

#![allow(clippy::unwrap_used)]

mod explore;
mod noise;
mod synthetic;
