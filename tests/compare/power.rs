//! Sides that differ in one point of 40: is it found, and does the comparison know what it could have found?

use llmroof::compare::{Options, PairVerdict};
use llmroof::stats;

use crate::noise::Noise;
use crate::synthetic::Case;

/// The point that differs: the last stage of the first pass.
const POINT: usize = 7;

fn slowed(noise: Noise, cv: f64, ratio: f64) -> Case {
    Case { change: Some((POINT, ratio)), ..Case::new(noise, cv) }
}

/// Share of comparisons in which the slower point gets this verdict.
fn share(case: Case, verdict: PairVerdict, comparisons: u64, threshold: f64) -> f64 {
    let options = Options { threshold, power: false, ..Options::default() };
    let found = case.simulate(comparisons, &options, |c| c.pairs[POINT].verdict == verdict);
    let share = found.iter().filter(|&&found| found).count() as f64 / comparisons as f64;
    println!(
        "{:?} CV {}%, one point x {:.3}, threshold {}%: {} in {:.1}%",
        case.noise,
        case.cv * 100.0,
        case.change.map_or(1.0, |(_, ratio)| ratio),
        threshold * 100.0,
        verdict.name(),
        share * 100.0
    );
    share
}

#[test]
fn one_slower_point_of_forty_is_found() {
    for noise in [Noise::Normal, Noise::LogNormal, Noise::TwoHumped] {
        for cv in [0.002, 0.005, 0.01] {
            let five = share(slowed(noise, cv, 1.05), PairVerdict::Slower, 1000, 0.02);
            let ten = share(slowed(noise, cv, 1.10), PairVerdict::Slower, 1000, 0.02);
            assert!(five >= 0.95 && ten >= 0.99, "{noise:?} at CV {cv}: {five} of 5%, {ten} of 10%");
        }
    }
    // A tenth of trials that are interrupted cost the rank test some power; a wider margin costs more.
    let outliers = share(slowed(Noise::Outliers, 0.01, 1.05), PairVerdict::Slower, 1000, 0.02);
    let wider = share(slowed(Noise::Normal, 0.01, 1.05), PairVerdict::Slower, 1000, 0.03);
    assert!(outliers >= 0.8 && wider >= 0.6, "{outliers}, {wider}");
}

#[test]
fn a_real_slowdown_in_noise_is_not_called_the_same() {
    for noise in [Noise::Normal, Noise::LogNormal, Noise::Outliers, Noise::TwoHumped, Noise::Drift] {
        for cv in [0.05, 0.1] {
            let same = share(slowed(noise, cv, 1.05), PairVerdict::Same, 1000, 0.02);
            assert!(same <= 0.01, "{noise:?} at CV {cv}: {same}");
        }
    }
}

/// What is found nine times in ten must lie within 20% of the median printed.
#[test]
fn the_detectable_difference_is_the_one_that_is_detected() {
    for noise in [Noise::Normal, Noise::LogNormal, Noise::TwoHumped, Noise::Outliers] {
        for cv in [0.01, 0.05, 0.1] {
            let printed = Case::new(noise, cv)
                .simulate(20, &Options::default(), |c| {
                    c.pairs.iter().filter_map(|pair| pair.detectable?.slowdown).collect::<Vec<_>>()
                })
                .concat();
            let quartile = |q| stats::quantile(&printed, q).unwrap();
            let median = quartile(0.5);
            println!(
                "{noise:?} CV {}%: detectable {:.2}%, quartiles {:.2}% to {:.2}%",
                cv * 100.0,
                median * 100.0,
                quartile(0.25) * 100.0,
                quartile(0.75) * 100.0
            );
            let found =
                |slowdown: f64| share(slowed(noise, cv, 1.0 + slowdown), PairVerdict::Slower, 400, 0.02);
            let (less, more) = (found(median / 1.2), found(median / 0.8));
            assert!(less < 0.9 && more > 0.9, "{noise:?} at CV {cv}: {median}, found {less} to {more}");
        }
    }
}

/// As many trials as are said to settle a difference find it nine times in ten, beyond the number up to which power is
/// simulated as well. Where a tenth of the trials are interrupted more are asked for than are needed, but fewer than twice
/// as many.
#[test]
fn the_trials_that_would_settle_it_do() {
    const RATIO: f64 = 1.055;
    for (noise, too_few) in [(Noise::Normal, 0.7), (Noise::Outliers, 0.5)] {
        let twenty = Case { trials: (20, 20), ..slowed(noise, 0.05, RATIO) };
        let said = twenty.simulate(60, &Options::default(), |c| {
            let pair = &c.pairs[POINT];
            // Of what is true, not of what twenty trials happened to see.
            let close = pair.ratio.is_some_and(|seen| (seen / RATIO - 1.0).abs() < 0.006);
            pair.detectable.filter(|_| close)?.trials_to_settle.map(f64::from)
        });
        let said: Vec<f64> = said.into_iter().flatten().collect();
        let median = stats::median(&said).unwrap();
        let found = |trials: f64| {
            let trials = (trials.round() as usize, trials.round() as usize);
            share(Case { trials, ..slowed(noise, 0.05, RATIO) }, PairVerdict::Slower, 200, 0.02)
        };
        let (less, so_many) = (found(median * too_few), found(median));
        println!(
            "{noise:?}: {median} trials by {} said: found {so_many}, {too_few} of them {less}",
            said.len()
        );
        assert!(median > 50.0, "{noise:?}: {median} trials are none beyond what is simulated");
        assert!(less < 0.9 && so_many > 0.85, "{noise:?}: {median} trials find {so_many}, fewer {less}");
    }
}
