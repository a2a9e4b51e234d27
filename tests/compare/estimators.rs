//! Medians, ratios and their intervals on every kind of noise.

use llmroof::stats::random::Random;
use llmroof::stats::{Shift, median, median_interval, quantile};

use crate::noise::Noise;

const NOISES: [Noise; 4] = [Noise::Normal, Noise::LogNormal, Noise::Outliers, Noise::TwoHumped];
const TRIALS: usize = 2000;

/// The median of a noise, from a great many draws.
fn truth(noise: Noise, cv: f64) -> f64 {
    median(&noise.factors(cv, 400_001, &mut Random::new(99))).unwrap()
}

fn share(held: impl Iterator<Item = bool>) -> f64 {
    held.filter(|&held| held).count() as f64 / TRIALS as f64
}

#[test]
fn intervals_of_medians_hold_them_as_often_as_they_say() {
    for noise in NOISES {
        let truth = truth(noise, 0.02);
        // Eight samples of two humps are covered in 93%, the least that ranks allow.
        for n in [9, 10, 11, 20, 50, 300] {
            let mut random = Random::new(1000 + n as u64);
            let held = share((0..TRIALS).map(|_| {
                let (low, high) = median_interval(&noise.factors(0.02, n, &mut random)).unwrap();
                low <= truth && truth <= high
            }));
            println!("median of {n}, {noise:?}: covered {:.1}%", held * 100.0);
            assert!((0.93..=0.97).contains(&held), "{noise:?}, {n} samples: {held}");
        }
    }
}

#[test]
fn intervals_of_ratios_hold_them_as_often_as_they_say() {
    for noise in NOISES {
        for (n, m) in [(5, 5), (8, 8), (10, 10), (10, 20), (30, 30)] {
            let mut random = Random::new((n * 100 + m) as u64);
            let (mut held, mut errors) = (Vec::new(), Vec::new());
            for _ in 0..TRIALS {
                let mut side = |n: usize, ratio: f64| -> Vec<f64> {
                    noise.factors(0.02, n, &mut random).iter().map(|x| (ratio * x).ln()).collect()
                };
                let shift = Shift::between(&side(n, 1.0), &side(m, 1.05)).unwrap();
                let (low, high, confidence) = shift.interval(0.95);
                assert!((confidence - 0.95).abs() < 1e-9);
                held.push(low <= 1.05f64.ln() && 1.05f64.ln() <= high);
                errors.push(shift.estimate().exp() / 1.05 - 1.0);
            }
            let (held, error) = (share(held.into_iter()), quantile(&errors, 0.5).unwrap());
            println!(
                "ratio of {n} and {m}, {noise:?}: covered {:.1}%, median error {error:.5}",
                held * 100.0
            );
            assert!((0.93..=0.97).contains(&held), "{noise:?}, {n} and {m} trials: {held}");
            assert!(error.abs() < 0.01, "{noise:?}, {n} and {m} trials: off by {error}");
        }
    }
}

#[test]
fn medians_are_recovered_within_one_percent() {
    for noise in NOISES {
        for cv in [0.002, 0.01, 0.05, 0.1] {
            let truth = truth(noise, cv);
            let mut random = Random::new(5);
            let medians: Vec<f64> =
                (0..TRIALS).map(|_| median(&noise.factors(cv, 11, &mut random)).unwrap()).collect();
            let middle = median(&medians).unwrap();
            assert!((middle / truth - 1.0).abs() < 0.01, "{noise:?} at {cv}: {middle}, not {truth}");
        }
    }
}
