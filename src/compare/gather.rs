//! One side's runs put together: what each point's trials found, and when.

use std::collections::HashMap;

use super::Measured;
use crate::run::{Key, Point, PointTrial, Run, RunStatus, Status};
use crate::stats;

/// One side.
pub(super) struct Gathered<'a> {
    /// Points of equal keys together, in the order of the runs.
    pub works: Vec<Work<'a>>,
    at: HashMap<Key, usize>,
    /// When each trial began, in seconds; trials of all runs one after the other.
    pub times: Vec<f64>,
    /// Whether the runs say so.
    pub timed: bool,
    /// Processes that measured.
    pub processes: u32,
}

/// The points of one key.
pub(super) struct Work<'a> {
    pub key: Key,
    pub points: Vec<&'a Point>,
    /// The trials with their places among the side's.
    pub trials: Vec<(usize, &'a PointTrial)>,
}

impl<'a> Gathered<'a> {
    /// Puts runs together.
    pub fn of(runs: &'a [Run]) -> Gathered<'a> {
        let mut side =
            Gathered { works: Vec::new(), at: HashMap::new(), times: Vec::new(), timed: true, processes: 0 };
        for run in runs {
            let first = side.times.len();
            let times = times(run);
            side.timed &= times.is_some();
            side.times
                .extend(times.unwrap_or_else(|| (0..trials(run)).map(|n| (first + n) as f64).collect()));
            if run.status != RunStatus::Predicted {
                side.processes += run.processes.len().max(1) as u32;
            }
            for point in &run.points {
                let key = point.key();
                let at = *side.at.entry(key).or_insert_with_key(|key| {
                    side.works.push(Work { key: key.clone(), points: Vec::new(), trials: Vec::new() });
                    side.works.len() - 1
                });
                side.works[at].points.push(point);
                side.works[at]
                    .trials
                    .extend(point.trials.iter().map(|trial| (first + trial.trial as usize, trial)));
            }
        }
        side
    }

    /// The points of this key.
    pub fn get(&self, key: &Key) -> Option<&Work<'a>> {
        self.at.get(key).map(|&at| &self.works[at])
    }
}

impl Work<'_> {
    /// The logarithm of a figure of each trial; empty where a trial does not have it.
    pub fn logarithms(&self, figure: impl Fn(&PointTrial) -> Option<f64>) -> Vec<(usize, f64)> {
        self.trials
            .iter()
            .map(|&(at, trial)| figure(trial).map(|x| (at, x.ln())))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }

    /// The worst of the points' statuses.
    pub fn status(&self) -> Status {
        let has = |status| self.points.iter().any(|point| point.status == status);
        [Status::Invalid, Status::Predicted, Status::Partial]
            .into_iter()
            .find(|&status| has(status))
            .unwrap_or(Status::Ok)
    }

    /// What was measured, over all trials.
    pub fn measured(&self) -> Measured {
        let first = self.points[0];
        let middle = |figures: Vec<f64>| stats::median(&figures);
        let of_points = |figure: fn(&Point) -> f64| {
            middle(self.points.iter().map(|point| figure(point)).collect()).unwrap_or(f64::NAN)
        };
        let of_trials = |figure: fn(&PointTrial) -> Option<f64>| {
            middle(self.trials.iter().filter_map(|(_, trial)| figure(trial)).collect())
        };
        let seconds: Vec<f64> = self.trials.iter().map(|(_, trial)| trial.seconds).collect();
        let median_seconds = middle(seconds.clone()).unwrap_or_else(|| of_points(|p| p.seconds.median));
        let known = |figure: fn(&Point) -> Option<f64>| {
            middle(self.points.iter().filter_map(|point| figure(point)).collect())
        };
        Measured {
            median_seconds,
            trials: seconds.len() as u32,
            spread: spread(&seconds),
            tokens_per_second: first.tokens_per_second.and_then(|_| first.rate_at(median_seconds)),
            share_of_step: of_points(|p| p.share_of_step),
            fraction_of_roof: of_trials(|t| t.fraction_of_roof)
                .unwrap_or_else(|| of_points(|p| p.fraction_of_roof)),
            roof_bytes_per_second: of_trials(|t| t.roof_bytes_per_second)
                .unwrap_or_else(|| of_points(|p| p.roof_bytes_per_second)),
            roof_flops_per_second: of_trials(|t| t.roof_flops_per_second)
                .unwrap_or_else(|| of_points(|p| p.roof_flops_per_second)),
            bound: first.bound,
            joules_per_token: known(|p| p.joules_per_token),
            sm_clock_hz: of_trials(|t| t.sm_clock_hz).or_else(|| known(|p| p.sm_clock_hz)),
            status: self.status(),
        }
    }
}

/// Standard deviation over mean.
fn spread(seconds: &[f64]) -> Option<f64> {
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let squares: f64 = seconds.iter().map(|s| (s - mean).powi(2)).sum();
    (seconds.len() > 1).then(|| (squares / (count - 1.0)).sqrt() / mean)
}

/// How many trials a run has.
fn trials(run: &Run) -> usize {
    let used = run.points.iter().flat_map(|point| &point.trials).map(|trial| trial.trial as usize + 1);
    used.max().unwrap_or(0).max(run.trials.len())
}

/// When a run's trials began. Files before version 3 say only when the run did: its trials are spread over it.
fn times(run: &Run) -> Option<Vec<f64>> {
    let count = trials(run);
    let parsed = |text: &str| -> Option<f64> {
        let moment: jiff::Timestamp = text.parse().ok()?;
        Some(moment.as_millisecond() as f64 * 1e-3)
    };
    if run.trials.len() == count {
        return run.trials.iter().map(|trial| parsed(&trial.started)).collect();
    }
    let began = parsed(&run.created)?;
    let each = run.conditions.as_ref().map_or(1.0, |c| c.wall_seconds) / count as f64;
    Some((0..count).map(|n| began + n as f64 * each).collect())
}
