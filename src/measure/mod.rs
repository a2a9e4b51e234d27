//! What is measured and in which order; the check that comes before.

pub mod verify;
