//! All-reduces among several devices, as a session times them.

use serde::{Deserialize, Serialize};

use crate::workload::Reduction;

/// An all-reduce of one size, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduce {
    /// What is made of the ranks' values.
    pub reduction: Reduction,
    /// Bytes on every rank.
    pub bytes: u64,
}

/// What a session has to say of all-reduces.
#[derive(Debug, Clone, PartialEq)]
pub enum AllReduced {
    /// They were timed.
    Timed(ReducedAmong),
    /// They were not, for this reason.
    NotTimed(String),
}

/// All-reduces that were timed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReducedAmong {
    /// What ran them: `NCCL 2.27.3`.
    pub library: String,
    /// The devices: `cuda:0`.
    pub devices: Vec<String>,
    /// How the times were taken, for people.
    pub how: String,
    /// Seconds of one all-reduce, of each that was asked for in that order: a sample for each round.
    pub seconds: Vec<Vec<f64>>,
}
