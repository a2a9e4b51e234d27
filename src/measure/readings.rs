//! What a GPU's sensors said while samples were taken.

use std::time::{Duration, Instant};

use crate::stats;
use crate::telemetry::Reading;

/// A reading this far from a round says nothing of it.
const NEAR: Duration = Duration::from_millis(500);

/// A change of the clock within a point that is worth a note: boost clocks move by a step or two of 15 MHz at rest.
const CLOCK_DRIFT: f64 = 0.02;

/// From when to when some executions ran, on the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// Before the first was launched.
    pub from: Instant,
    /// After the last had ended.
    pub to: Instant,
}

/// Readings in order of time.
#[derive(Debug, Clone, Default)]
pub(super) struct Readings(pub Vec<Reading>);

impl Readings {
    /// Why the clocks were held down during a round: by the readings inside it, or by the nearest where it lies
    /// between two. `None` where that is not known.
    pub fn throttled(&self, round: Round) -> Option<Vec<&'static str>> {
        let (first, end) = self.range(round);
        let inside: Vec<&Vec<&'static str>> =
            self.0[first..end].iter().filter_map(|reading| reading.throttle_reasons.as_ref()).collect();
        if !inside.is_empty() {
            return Some(distinct(inside.into_iter().flatten().copied()));
        }
        self.nearest(round, |reading| reading.throttle_reasons.clone())
    }

    /// Median clock of the multiprocessors during these rounds; where no reading fell into one, between them; where they
    /// were over before the next reading, by the nearest.
    pub fn clock(&self, rounds: &[Round]) -> Option<f64> {
        let clocks = |round: Round| {
            let (first, end) = self.range(round);
            self.0[first..end].iter().filter_map(|reading| reading.sm_clock_hz)
        };
        let mut rounds = rounds.to_vec();
        // The samples of one round share it.
        rounds.dedup();
        let inside: Vec<f64> = rounds.iter().flat_map(|&round| clocks(round)).collect();
        let (first, last) = (rounds.first()?, rounds.last()?);
        let between = Round { from: first.from, to: last.to };
        stats::median(&inside)
            .or_else(|| stats::median(&clocks(between).collect::<Vec<_>>()))
            .or_else(|| self.nearest(between, |reading| reading.sm_clock_hz))
    }

    /// Median clocks of the multiprocessors in the first and in the last third of these rounds, one for each sample, where
    /// they are more than 2% apart.
    pub fn clock_drift(&self, rounds: &[Round]) -> Option<(f64, f64)> {
        let third = rounds.len() / 3;
        let (first, last) = (self.clock(&rounds[..third])?, self.clock(&rounds[rounds.len() - third..])?);
        ((last / first - 1.0).abs() > CLOCK_DRIFT).then_some((first, last))
    }

    /// Those from the last before the first sample up to a moment; all up to there without samples. What came earlier says
    /// nothing of them: the surveys of the peaks ran, which take all the power there is, and are to.
    pub fn between(&self, first_sample: Option<Instant>, end: Instant) -> &[Reading] {
        let end = self.0.partition_point(|reading| reading.at <= end);
        let begun = first_sample.map_or(0, |began| self.0.partition_point(|reading| reading.at < began));
        &self.0[begun.saturating_sub(1).min(end)..end]
    }

    /// What the nearest reading before or after a round says, if either is near and says anything.
    fn nearest<T>(&self, round: Round, says: impl Fn(&Reading) -> Option<T>) -> Option<T> {
        let (first, end) = self.range(round);
        let before = first.checked_sub(1).and_then(|at| self.0.get(at));
        before
            .into_iter()
            .chain(self.0.get(end))
            .filter_map(|reading| Some((distance(reading.at, round), says(reading)?)))
            .filter(|(far, _)| *far <= NEAR)
            .min_by_key(|(far, _)| *far)
            .map(|(_, said)| said)
    }

    /// The readings inside a round, from the first to before the second number.
    fn range(&self, round: Round) -> (usize, usize) {
        let first = self.0.partition_point(|reading| reading.at < round.from);
        (first, self.0.partition_point(|reading| reading.at <= round.to).max(first))
    }
}

/// Time between a moment and a round that it lies outside of.
fn distance(moment: Instant, round: Round) -> Duration {
    round.from.saturating_duration_since(moment) + moment.saturating_duration_since(round.to)
}

/// Each once, in order of the alphabet.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Free until 1 s, at its power limit until 2 s, then silent.
    fn readings(start: Instant) -> Readings {
        let reading = |ms: u64| Reading {
            at: at(start, ms),
            power_watts: None,
            sm_clock_hz: Some(if ms < 1000 { 2e9 } else { 1e9 }),
            memory_clock_hz: None,
            temperature_celsius: None,
            throttle_reasons: Some(if ms < 1000 { vec![] } else { vec!["power_cap"] }),
            unavailable: Default::default(),
        };
        Readings((0..20).map(|i| reading(i * 100)).collect())
    }

    #[test]
    fn a_round_has_the_state_of_the_readings_in_it_or_else_of_the_nearest() {
        let start = Instant::now();
        let readings = readings(start);
        let state = |from, to| readings.throttled(Round { from: at(start, from), to: at(start, to) });
        assert_eq!(state(210, 480), Some(vec![]));
        assert_eq!(state(850, 1250), Some(vec!["power_cap"]), "one of the readings inside says so");
        assert_eq!(state(910, 930), Some(vec![]), "the reading at 900 is nearer than the one at 1000");
        assert_eq!(state(970, 990), Some(vec!["power_cap"]));
        assert_eq!(state(2200, 2300), Some(vec!["power_cap"]));
        assert_eq!(state(3000, 3100), None, "the sensors had been silent for a second");
    }

    #[test]
    fn what_the_sensors_said_long_before_the_samples_is_left_out() {
        let start = Instant::now();
        let readings = readings(start);
        let count = |first: Option<u64>, end| {
            readings.between(first.map(|first| at(start, first)), at(start, end)).len()
        };
        assert_eq!(count(Some(1050), 1450), 5, "those at 1000 to 1400");
        assert_eq!(count(None, 1450), 15);
        assert_eq!(count(Some(0), 5000), 20);
        assert_eq!(count(Some(9000), 450), 0, "the end came first");
    }

    #[test]
    fn a_clock_that_moves_within_the_samples_is_told_from_one_that_rests() {
        let start = Instant::now();
        let readings = readings(start);
        let rounds = |from: u64, to: u64| -> Vec<Round> {
            let round = |ms| Round { from: at(start, ms), to: at(start, ms + 100) };
            (from..to).step_by(100).map(round).collect()
        };
        assert_eq!(readings.clock_drift(&rounds(110, 1910)), Some((2e9, 1e9)), "it fell at 1 s");
        assert_eq!(readings.clock_drift(&rounds(110, 910)), None);
        assert_eq!(readings.clock_drift(&rounds(1110, 1910)), None);
        assert_eq!(readings.clock_drift(&rounds(2500, 3100)), None, "no sensor said anything");
        assert_eq!(readings.clock_drift(&[]), None);
    }

    #[test]
    fn the_clock_is_that_of_the_rounds() {
        let start = Instant::now();
        let readings = readings(start);
        let round = |from, to| Round { from: at(start, from), to: at(start, to) };
        assert_eq!(readings.clock(&[round(150, 450), round(450, 850)]), Some(2e9));
        assert_eq!(readings.clock(&[round(1110, 1120), round(1310, 1320)]), Some(1e9), "between the rounds");
        assert_eq!(
            readings.clock(&[round(910, 920)]),
            Some(2e9),
            "over before the next reading: the nearest"
        );
        assert_eq!(readings.clock(&[round(2500, 2510)]), None, "none is near");
        assert_eq!(readings.clock(&[]), None);
    }
}
