//! What must hold of the tests whatever the numbers.

use llmroof::compare::{self, Options, PairVerdict};
use llmroof::run::Run;
use llmroof::stats::random::Random;
use llmroof::stats::{RankSum, Shift};
use proptest::prelude::*;

use crate::noise::Noise;
use crate::synthetic::Case;

/// P(U <= u) by trying every way to give the ranks to the samples.
fn enumerated(n: usize, m: usize, u: usize) -> f64 {
    let ways: Vec<u32> = (0..1u32 << (n + m)).filter(|way| way.count_ones() as usize == n).collect();
    let statistic = |way: u32| -> usize {
        let of_first = |at: usize| way >> at & 1 == 1;
        (0..n + m).filter(|&at| of_first(at)).map(|at| (0..at).filter(|&b| !of_first(b)).count()).sum()
    };
    ways.iter().filter(|&&way| statistic(way) <= u).count() as f64 / ways.len() as f64
}

#[test]
fn the_distribution_is_that_of_every_way_to_rank() {
    for (n, m) in [(1, 1), (1, 6), (2, 3), (3, 3), (4, 5), (6, 6), (7, 4)] {
        let null = RankSum::of(n, m);
        for u in 0..=n * m {
            let (exact, tried) = (null.at_most(u), enumerated(n, m, u));
            assert!((exact - tried).abs() < 1e-12, "{n} and {m}, U <= {u}: {exact}, not {tried}");
        }
    }
    assert!((RankSum::of(10, 10).at_most(0) - 1.0 / 184_756.0).abs() < 1e-16);
}

#[test]
fn beyond_the_exact_sizes_the_normal_takes_over_smoothly() {
    // 100 by 100 is the last exact one.
    let (exact, near) = (RankSum::of(100, 100), RankSum::of(100, 101));
    for share in [0.36, 0.4, 0.45, 0.5] {
        let at = |null: &RankSum| null.at_most((null.pairs() as f64 * share) as usize);
        assert!((at(&exact) / at(&near) - 1.0).abs() < 0.08, "{share}: {} and {}", at(&exact), at(&near));
    }
    assert_eq!(near.critical(near.at_most(4000)), Some(4000));
}

proptest! {
    #[test]
    fn sides_swapped_mirror_the_tests(
        base in prop::collection::vec(-5i32..5, 1..9),
        new in prop::collection::vec(-5i32..5, 1..9),
        margin in 0i32..3,
    ) {
        // Small integers, so that there are ties.
        let [base, new] = [base, new].map(|side| side.into_iter().map(f64::from).collect::<Vec<_>>());
        let (there, back) = (Shift::between(&base, &new).unwrap(), Shift::between(&new, &base).unwrap());
        let margin = f64::from(margin);
        prop_assert_eq!(there.p_above(margin), back.p_below(-margin));
        prop_assert_eq!(there.estimate(), -back.estimate());
        let ((low, high, _), (back_low, back_high, _)) = (there.interval(0.95), back.interval(0.95));
        prop_assert!((low + back_high).abs() < 1e-9 && (high + back_low).abs() < 1e-9);
        prop_assert!(there.p_above(margin) + there.p_below(margin) >= 1.0 - 1e-12);
    }
}

fn verdicts(base: &[Run], new: &[Run]) -> Vec<PairVerdict> {
    let comparison = compare::compare(base, new, &Options::default()).unwrap();
    comparison.pairs.iter().map(|pair| pair.verdict).collect()
}

/// Every point of NEW takes as many times longer, which gives all verdicts among the seeds.
fn sides(seed: u64, ratio: f64) -> [Run; 2] {
    let case = Case::new(Noise::Normal, 0.01);
    let mut runs = case.runs();
    case.fill(&mut runs, seed);
    for point in &mut runs[1].points {
        point.trials.iter_mut().for_each(|trial| trial.seconds *= ratio);
    }
    runs
}

#[test]
fn verdicts_mirror_scale_and_do_not_mind_the_order() {
    let mut seen = Vec::new();
    for (seed, ratio) in [(1, 1.0), (2, 1.05), (3, 0.95), (4, 1.03), (5, 0.97)] {
        let [base, new] = sides(seed, ratio);
        let there = verdicts(std::slice::from_ref(&base), std::slice::from_ref(&new));
        let back = verdicts(std::slice::from_ref(&new), std::slice::from_ref(&base));
        let mirrored: Vec<PairVerdict> = back
            .into_iter()
            .map(|verdict| match verdict {
                PairVerdict::Slower => PairVerdict::Faster,
                PairVerdict::Faster => PairVerdict::Slower,
                other => other,
            })
            .collect();
        assert_eq!(there, mirrored, "seed {seed}");

        let scaled = [base.clone(), new.clone()].map(|mut run| {
            let trials = run.points.iter_mut().flat_map(|point| &mut point.trials);
            trials.for_each(|trial| trial.seconds *= 1e-6);
            run
        });
        assert_eq!(there, verdicts(&scaled[..1], &scaled[1..]), "seed {seed}, scaled");

        let mut shuffled = [base, new];
        let mut random = Random::new(seed);
        for point in shuffled.iter_mut().flat_map(|run| &mut run.points) {
            for at in (1..point.trials.len()).rev() {
                point.trials.swap(at, (random.uniform() * (at + 1) as f64) as usize);
            }
        }
        assert_eq!(there, verdicts(&shuffled[..1], &shuffled[1..]), "seed {seed}, shuffled");
        seen.extend(there);
    }
    for verdict in [PairVerdict::Slower, PairVerdict::Faster, PairVerdict::Same, PairVerdict::Inconclusive] {
        assert!(seen.contains(&verdict), "no {verdict:?} among them");
    }
}
