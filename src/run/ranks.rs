//! Points of several ranks: what was timed on one of them, and the all-reduces that the whole model needs besides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, Run, impossible};
use crate::error::Result;
use crate::stats;
use crate::units::Seconds;
use crate::workload::Reduction;

/// Where the time of the all-reduces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllReduceFrom {
    /// Computed from the bandwidth and latency of a link, not measured.
    Modelled,
    /// Measured among as many GPUs as there are ranks, by themselves; the run's collectives say how.
    Measured,
}

impl AllReduceFrom {
    /// Lower-case name as in files.
    pub fn name(self) -> &'static str {
        match self {
            AllReduceFrom::Modelled => "modelled",
            AllReduceFrom::Measured => "measured",
        }
    }
}

/// All-reduces that one process measured among GPUs, by themselves and not beside the work of a rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collectives {
    /// Ranks, one GPU each.
    pub ranks: u32,
    /// What ran them: `NCCL 2.27.3`.
    pub library: String,
    /// The GPUs, in the driver's order as it was then: `cuda:0`.
    pub devices: Vec<String>,
    /// How the times were taken.
    pub how: String,
    /// One entry for each kind and size.
    pub all_reduces: Vec<AllReduce>,
}

/// An all-reduce of one kind and size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllReduce {
    /// What it makes of the ranks' values.
    pub reduction: Reduction,
    /// Bytes on every rank.
    pub bytes: f64,
    /// Median seconds of one.
    pub seconds: f64,
    /// Seconds in each round, those of the slowest rank.
    pub samples: Vec<f64>,
    /// What the link of the run's profile allows for it; null without one, and where it joins fewer GPUs.
    pub modelled_seconds: Option<f64>,
}

impl AllReduce {
    /// One that took these times; `None` without any.
    pub fn measured(
        reduction: Reduction,
        bytes: f64,
        samples: Vec<f64>,
        modelled: Option<Seconds>,
    ) -> Option<AllReduce> {
        let seconds = stats::median(&samples)?;
        Some(AllReduce {
            reduction,
            bytes,
            seconds,
            samples,
            modelled_seconds: modelled.map(|Seconds(seconds)| seconds),
        })
    }
}

impl Collectives {
    /// Checks that all figures are positive numbers.
    pub(super) fn validate(&self) -> Result<()> {
        let times = |one: &AllReduce| [Some(one.bytes), Some(one.seconds), one.modelled_seconds];
        let all = self.all_reduces.iter().flat_map(|one| {
            times(one).into_iter().flatten().chain(one.samples.iter().copied()).collect::<Vec<f64>>()
        });
        match self.ranks > 1 && all.into_iter().all(|figure| figure.is_finite() && figure > 0.0) {
            true => Ok(()),
            false => {
                Err(impossible("an all-reduce is of one rank, or has a figure that is not positive".into()))
            }
        }
    }
}

impl Run {
    /// Where the all-reduces of so many ranks are from: `measured`, `modelled` or both in runs of several processes. `None`
    /// where they are not known.
    pub fn all_reduces_from(&self, ranks: u32) -> Option<&'static str> {
        let all = self.points.iter().filter(|point| point.ranks == ranks);
        let mut kinds: Vec<AllReduceFrom> = all.filter_map(|point| point.all_reduce_from).collect();
        kinds.dedup();
        match kinds[..] {
            [] => None,
            [one] => Some(one.name()),
            _ => Some("measured and modelled"),
        }
    }
}

/// The ranks of files that do not say.
pub(super) fn one() -> u32 {
    1
}

impl Point {
    /// Adds the all-reduces of the step, where they are known: the rate of its tokens follows from both.
    #[must_use]
    pub fn all_reduced(mut self, all: Option<(Seconds, AllReduceFrom)>) -> Point {
        if let (true, None, Some((seconds, from))) = (self.ranks > 1, self.stage, all) {
            self.all_reduce_seconds = Some(seconds.0);
            self.all_reduce_from = Some(from);
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

    /// New tokens of all sequences per second of such a step, those that ride along with it as well.
    pub fn rate_at(&self, rank: f64) -> Option<f64> {
        let new = f64::from(self.batch) * f64::from(self.tokens) + f64::from(self.riding());
        Some(new / self.step_at(rank)?)
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
