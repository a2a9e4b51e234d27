//! Points of several ranks: what was timed on one of them, and the all-reduces that the whole model needs besides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, impossible};
use crate::error::Result;
use crate::units::Seconds;

/// Where the time of the all-reduces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllReduceFrom {
    /// Computed from the bandwidth and latency of a link, not measured.
    Modelled,
}

impl AllReduceFrom {
    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            AllReduceFrom::Modelled => "modelled",
        }
    }
}

/// The ranks of files that do not say.
pub(super) fn one() -> u32 {
    1
}

impl Point {
    /// Adds the all-reduces of the step, modelled, where they are known: the rate of its tokens follows from both.
    #[must_use]
    pub fn all_reduced(mut self, modelled: Option<Seconds>) -> Point {
        if let (true, None, Some(seconds)) = (self.ranks > 1, self.stage, modelled) {
            self.all_reduce_seconds = Some(seconds.0);
            self.all_reduce_from = Some(AllReduceFrom::Modelled);
            self.tokens_per_second = self.rate_at(self.seconds.median);
        }
        self
    }

    /// Seconds of the whole step of all ranks, had one rank's part taken `rank` seconds: with the all-reduces after it.
    /// `None` for a stage, and where these are not known.
    pub fn step_at(&self, rank: f64) -> Option<f64> {
        match (self.stage, self.ranks) {
            (Some(_), _) => None,
            (None, 1) => Some(rank),
            (None, _) => Some(rank + self.all_reduce_seconds?),
        }
    }

    /// New tokens of all sequences per second of such a step.
    pub fn rate_at(&self, rank: f64) -> Option<f64> {
        Some(f64::from(self.batch) * f64::from(self.tokens) / self.step_at(rank)?)
    }

    /// Share of the all-reduces in the step of all ranks.
    pub fn all_reduce_share(&self) -> Option<f64> {
        Some(self.all_reduce_seconds? / self.step_at(self.seconds.median)?)
    }

    /// `, 4 ranks`; nothing for one.
    pub fn of_ranks(&self) -> String {
        of_ranks(self.ranks)
    }

    /// Checks that ranks and all-reduces go together.
    pub(super) fn validate_ranks(&self) -> Result<()> {
        if self.ranks == 0 {
            return Err(impossible("ranks is 0".into()));
        }
        let alone = self.ranks == 1 || self.stage.is_some();
        if alone && self.all_reduce_seconds.is_some()
            || self.all_reduce_seconds.is_some() != self.all_reduce_from.is_some()
        {
            return Err(impossible(
                "all_reduce_seconds is of a stage or one rank, or says not where it is from".into(),
            ));
        }
        if self.ranks > 1 && self.tokens_per_second.is_some() && self.all_reduce_seconds.is_none() {
            return Err(impossible("tokens_per_second of several ranks without their all-reduces".into()));
        }
        Ok(())
    }
}

/// `, 4 ranks`; nothing for one.
pub fn of_ranks(ranks: u32) -> String {
    if ranks == 1 { String::new() } else { format!(", {ranks} ranks") }
}
