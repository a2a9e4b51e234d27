//! The rules by example.

use llmroof::compare::{self, Comparison, Metric, Options, PairVerdict, Prices, Verdict};
use llmroof::error::Code;
use llmroof::model::DType;
use llmroof::roofline::{Bound, Ceiling, CeilingKind, CeilingSource};
use llmroof::run::{Condition, Conditions, Run, RunStatus, Status};

use crate::noise::Noise;
use crate::synthetic::{Case, Turns};

/// Two runs of ten trials, in turns, that scatter by 0.3%.
fn runs() -> [Run; 2] {
    let case = Case::new(Noise::Normal, 0.003);
    let mut runs = case.runs();
    case.fill(&mut runs, 1);
    runs
}

fn compared(runs: &[Run; 2], options: &Options) -> Comparison {
    compare::compare(&runs[..1], &runs[1..], options).unwrap()
}

/// Makes one point of NEW take longer.
fn slow(run: &mut Run, point: usize, ratio: f64) {
    for trial in &mut run.points[point].trials {
        trial.seconds *= ratio;
        trial.fraction_of_roof = trial.fraction_of_roof.map(|fraction| fraction / ratio);
    }
}

#[test]
fn equal_runs_are_the_same_and_one_slow_stage_is_slower() {
    let mut runs = runs();
    let same = compared(&runs, &Options::default());
    assert_eq!((same.verdict, same.code(true)), (Verdict::Same, None));
    assert_eq!(same.sentence, "same: all 40 points within 2%");

    slow(&mut runs[1], 6, 1.05);
    let slower = compared(&runs, &Options::default());
    assert_eq!((slower.verdict, slower.code(false)), (Verdict::Slower, Some(Code::CheckFailed)));
    assert!(
        slower
            .sentence
            .starts_with("slower: 1 of 40 points slower by more than 2% (prefill of 512, down: 1.05")
    );
    assert!(slower.pairs[6].reason.ends_with("slower by more than 2%"), "{}", slower.pairs[6].reason);
    assert!(slower.pairs[6].base.as_ref().unwrap().trials == 10);
}

#[test]
fn too_few_trials_say_how_many_are_needed() {
    let case = Case { trials: (2, 2), change: Some((0, 1.5)), ..Case::new(Noise::Normal, 0.003) };
    let mut runs = case.runs();
    case.fill(&mut runs, 1);
    let open = compared(&runs, &Options::default());
    assert_eq!((open.verdict, open.code(false)), (Verdict::Inconclusive, None));
    assert_eq!(open.code(true), Some(Code::Inconclusive));
    let pair = &open.pairs[0];
    assert!(pair.reason.ends_with("among 40 points: at least 9 on each side are needed"), "{}", pair.reason);
    assert_eq!(pair.detectable.unwrap().slowdown, None);
    assert!(open.warning.unwrap().starts_with("INCONCLUSIVE on 40 of the points"));
}

#[test]
fn noise_says_what_it_hides_and_what_would_settle_it() {
    let case = Case { change: Some((0, 1.05)), ..Case::new(Noise::Normal, 0.05) };
    let mut runs = case.runs();
    case.fill(&mut runs, 3);
    let pair = &compared(&runs, &Options::default()).pairs[0];
    assert_eq!(pair.verdict, PairVerdict::Inconclusive);
    let detectable = pair.detectable.unwrap();
    assert!((0.08..0.25).contains(&detectable.slowdown.unwrap()), "{detectable:?}");
    assert!(pair.reason.contains("could go unseen; "), "{}", pair.reason);
}

#[test]
fn conditions_that_differ_are_refused_unless_crossed() {
    let mut runs = runs();
    runs[1].tool.version = "0.2.0".into();
    let refused = compare::compare(&runs[..1], &runs[1..], &Options::default()).unwrap_err();
    assert_eq!(refused.code, Code::BadInput);
    let line = refused.to_string();
    assert!(line.starts_with("BASE and NEW differ in tool (llmroof 0.1.0 and llmroof 0.2.0)"), "{line}");
    assert!(line.contains("`--across tool`"), "{line}");

    let crossed = compared(&runs, &Options { across: vec![Condition::Tool], ..Options::default() });
    assert_eq!(crossed.differences.len(), 1);
    assert!(crossed.notes[0].starts_with("compared across tool"), "{:?}", crossed.notes);
    // The runs of one side must agree as well.
    assert!(compare::compare(&runs, &runs[1..], &Options::default()).is_err());
    assert!(compare::compare(&[], &runs[1..], &Options::default()).is_err());
}

#[test]
fn points_without_a_partner_are_named_and_change_nothing() {
    let mut runs = runs();
    runs[1].points.truncate(39);
    runs[0].points.remove(0);
    let comparison = compared(&runs, &Options::default());
    assert_eq!((comparison.verdict, comparison.counts.unmatched), (Verdict::Same, 2));
    assert!(comparison.pairs.iter().any(|pair| pair.reason == "NEW has no such point"));
    assert!(comparison.pairs.last().unwrap().reason == "BASE has no such point");

    runs[1].points.clear();
    let nothing = compare::compare(&runs[..1], &runs[1..], &Options::default()).unwrap_err();
    assert_eq!(nothing.code, Code::BadInput);
}

#[test]
fn short_stages_are_not_judged_and_what_is_invalid_or_predicted_has_no_verdict() {
    let mut runs = runs();
    for run in &mut runs {
        run.points[1].share_of_step = 0.004;
    }
    slow(&mut runs[1], 1, 2.0);
    runs[1].points[2].status = Status::Invalid;
    runs[1].points[2].notes.push("140% of the best roof".into());
    runs[0].points[3].status = Status::Predicted;
    let comparison = compared(&runs, &Options::default());
    assert_eq!(comparison.verdict, Verdict::Inconclusive);
    let of = |at: usize| (comparison.pairs[at].verdict, comparison.pairs[at].reason.as_str());
    assert_eq!(of(1), (PairVerdict::NotJudged, "not judged: under 1% of the step"));
    assert_eq!(of(2), (PairVerdict::Inconclusive, "NEW is invalid: 140% of the best roof"));
    assert_eq!(of(3), (PairVerdict::Inconclusive, "BASE is predicted: there are no trials to test"));
}

#[test]
fn a_clock_that_changed_is_no_change_of_the_code() {
    let mut runs = runs();
    for (run, clock) in runs.iter_mut().zip([1.98e9, 1.80e9]) {
        for trial in run.points.iter_mut().flat_map(|point| &mut point.trials) {
            trial.sm_clock_hz = Some(clock);
        }
    }
    // What follows the clock, and what is slower in cycles as well.
    slow(&mut runs[1], 0, 1.1);
    slow(&mut runs[1], 1, 1.3);
    let comparison = compared(&runs, &Options::default());
    let (clock, code) = (&comparison.pairs[0], &comparison.pairs[1]);
    assert_eq!(clock.verdict, PairVerdict::Inconclusive);
    assert!(
        clock.reason.contains("the clock changed from 1.98 GHz to 1.80 GHz: in cycles it is the same"),
        "{}",
        clock.reason
    );
    assert_eq!(code.verdict, PairVerdict::Slower);
    assert!(code.reason.contains("in clock cycles too"), "{}", code.reason);
    // Fewer cycles in the same time.
    let steady = &comparison.pairs[2];
    assert_eq!((steady.verdict, steady.cycles.unwrap().verdict), (PairVerdict::Same, PairVerdict::Faster));
    assert!(steady.notes[0].contains("the clock changed"), "{:?}", steady.notes);
}

#[test]
fn a_machine_that_got_slower_is_not_the_program() {
    let mut runs = runs();
    for trial in runs[1].points.iter_mut().flat_map(|point| &mut point.trials) {
        trial.seconds /= 0.9;
        trial.roof_bytes_per_second = trial.roof_bytes_per_second.map(|rate| rate * 0.9);
    }
    let by_time = compared(&runs, &Options::default());
    assert_eq!(by_time.verdict, Verdict::Slower);
    let reason = &by_time.pairs[8].reason;
    assert!(reason.contains("the read ceiling itself fell to 0.900x"), "{reason}");
    assert!(reason.ends_with("the machine, not the program"), "{reason}");
    let by_roof = compared(&runs, &Options { metric: Metric::Roof, ..Options::default() });
    assert_eq!(by_roof.verdict, Verdict::Same, "{}", by_roof.sentence);
}

#[test]
fn sides_measured_one_after_the_other_are_told_so() {
    let case = Case { turns: Turns::After, ..Case::new(Noise::Normal, 0.003) };
    let mut runs = case.runs();
    case.fill(&mut runs, 1);
    let comparison = compared(&runs, &Options::default());
    assert_eq!(comparison.order, compare::Order::Sequential);
    assert!(comparison.notes.iter().any(|note| note.contains("one after the other")));
}

/// A run under these conditions.
fn loaded(load: Option<f64>) -> Conditions {
    Conditions {
        instruction_set: "avx2".into(),
        threads: Some(2),
        pinned_cpus: vec![],
        huge_page_share: None,
        foreign_load: load,
        energy_source: None,
        seed: 1,
        weights_from: "random".into(),
        budget_seconds: 60.0,
        wall_seconds: 60.0,
        gpu: None,
    }
}

#[test]
fn what_taints_several_runs_is_said_once() {
    let [base, new] = runs();
    let mut side = vec![base; 5];
    for (run, load) in side.iter_mut().zip([0.3, 0.42, 0.2, 0.25, 0.05]) {
        run.conditions = Some(loaded(Some(load)));
    }
    side[1].status = RunStatus::Partial;
    side[2].status = RunStatus::Invalid;
    side[3].status = RunStatus::Invalid;
    side[4].created = "2026-01-02T00:00:00Z".into();
    side[4].points[0].throttled_samples = Some(3);
    let new = Run { conditions: Some(loaded(Some(0.31))), ..new };
    let comparison = compare::compare(&side, &[new], &Options::default()).unwrap();
    let tainted: Vec<&str> = comparison
        .notes
        .iter()
        .map(String::as_str)
        .filter(|note| note.starts_with("BASE:") || note.starts_with("NEW:"))
        .collect();
    assert_eq!(
        tainted,
        [
            "BASE: the run of 2026-01-02T00:00:00Z: 3 of 50 samples were taken while the GPU held its clocks down",
            "BASE: other processes kept up to 0.420 cores busy during 4 of 5 runs",
            "BASE: 2 of 5 runs are marked invalid: some of what they say cannot be true",
            "BASE: the run of 2026-01-01T00:00:00.000Z: it is partial: not all of its plan was measured",
            "NEW: other processes kept 0.310 cores busy meanwhile",
        ]
    );
    side.iter_mut().for_each(|run| run.points[0].throttled_samples = Some(2));
    let comparison = compare::compare(&side, &side[..1], &Options::default()).unwrap();
    assert_eq!(
        comparison.base.taints[0],
        "10 of 250 samples were taken while the GPU held its clocks down, in 5 of 5 runs"
    );
}

fn with_ceilings(run: &mut Run, paper: f64, measured: f64) {
    let ceiling = |kind, dtype, rate, source| Ceiling {
        kind,
        dtype,
        rate,
        low: None,
        median: None,
        source,
        citation: String::new(),
        samples: Vec::new(),
    };
    for (factor, source) in [(paper, CeilingSource::Datasheet), (measured, CeilingSource::Measured)] {
        run.ceilings.push(ceiling(CeilingKind::MemoryRead, None, 1e12 * factor, source));
        run.ceilings.push(ceiling(CeilingKind::Compute, Some(DType::Bf16), 1e15 * factor, source));
    }
}

#[test]
fn two_devices_have_three_ratios_and_a_sentence() {
    let mut runs = runs();
    with_ceilings(&mut runs[0], 1.0, 0.9);
    with_ceilings(&mut runs[1], 2.0, 1.6);
    runs[1].device.name = "another".into();
    runs.iter_mut().flat_map(|run| &mut run.points).for_each(|point| point.bound = Bound::Memory);
    for trial in runs[1].points.iter_mut().flat_map(|point| &mut point.trials) {
        trial.seconds /= 1.75;
    }
    let prices = Prices { base: Some(1.5), new: Some(3.0) };
    let options = Options { across: vec![Condition::Device], prices: Some(prices), ..Options::default() };
    let comparison = compared(&runs, &options);
    let devices = comparison.devices.unwrap();
    let decode = &devices.passes[1];
    assert_eq!(
        decode.sentence,
        "decode batch 1, context 1024: 2.00x on paper, 1.78x in read bandwidth, 1.75x measured: memory-bound on both; \
         the read bandwidth of BASE is 90.0% of its datasheet's, that of NEW 80.0%"
    );
    assert_eq!(decode.ratios.len(), 8);
    let step = &decode.ratios[0];
    assert!(
        (step.datasheet.unwrap() - 2.0).abs() < 1e-9
            && (step.ceiling.unwrap() / (1.6 / 0.9) - 1.0).abs() < 1e-9
    );
    assert!(step.interval.is_some_and(|interval| interval.low < 1.76 && interval.high > 1.74));

    // A step of one token takes a second on BASE: 1.5 dollars buy 3600 tokens.
    let cost = &comparison.costs[1];
    assert!((cost.base.dollars_per_million_tokens.unwrap() / (1.5 / 3600.0 * 1e6) - 1.0).abs() < 0.01);
    assert!((cost.ratio.unwrap() - 2.0 / 1.75).abs() < 0.01);
    assert_eq!(cost.base.joules_per_token, None);
}
