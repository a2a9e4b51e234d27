//! The course's claims: the judging, the figures behind it, the command, and the page in `reports/claims.md`, which
//! `LLMROOF_WRITE_CLAIMS=1 cargo test --test claims` writes again.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use llmroof::claims::{Claim, Claimed, Figure, Verdict, claims, machines, overall};
use llmroof::device::DeviceProfile;
use llmroof::model::{DType, Precision};
use llmroof::profiles::Catalog;
use llmroof::run::{Point, Run, Status};
use llmroof::workload::Phase;
use proptest::prelude::*;

/// The run that the page is made of, in the package's folder.
/// A run in bf16 alone.
const RUN: &str = "reports/amd-epyc-2-cores/20261123T151520Z-llama-8b-amd-epyc.json";
/// The run that the page is made from: it has narrower weights and a draft as well.
const PAGE_RUN: &str = "reports/amd-epyc-2-cores-vnni/20261129T090015Z-llama-8b-amd-epyc.json";
const PAGE: &str = "reports/claims.md";

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run() -> Run {
    Run::from_json(&fs::read_to_string(package().join(RUN)).unwrap()).unwrap()
}

/// The claims held against llama-8b on a card, and against runs.
fn held(card: &str, runs: &[Run]) -> Vec<Claim> {
    let catalog = Catalog::load(None).unwrap();
    let cards: Vec<&DeviceProfile> = catalog.devices().collect();
    let model = catalog.model("llama-8b").unwrap();
    claims(&model, catalog.device(card).unwrap(), &cards, &machines(runs)).unwrap()
}

fn figure<'a>(claims: &'a [Claim], number: usize, what: &str) -> &'a Figure {
    let claim = &claims[number - 1];
    claim.figures.iter().find(|figure| figure.what == what).unwrap_or_else(|| panic!("{what} in {claim:#?}"))
}

/// What a machine measured of a figure.
fn found(claims: &[Claim], number: usize, what: &str, machine: usize) -> Option<f64> {
    Some(figure(claims, number, what).measured[machine].as_ref()?.value)
}

/// The program in a folder, without settings from outside.
fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).args(args).env_remove("LLMROOF_PROFILES").env_remove("LLMROOF_MODEL");
    command
}

fn stdout(args: &[&str]) -> String {
    let done = program(package(), args).assert().success();
    let done = done.get_output();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout.clone()).unwrap()
}

/// The one line on stderr of a command that ends with exit code 2.
fn complaint(args: &[&str]) -> String {
    let failed = program(package(), args).assert().code(2);
    let failed = failed.get_output();
    assert!(failed.stdout.is_empty());
    let said = String::from_utf8(failed.stderr.clone()).unwrap();
    assert!(said.starts_with("error: ") && said.contains("hint: ") && said.lines().count() == 1, "{said}");
    said
}

proptest! {
    #[test]
    fn a_claim_is_right_exactly_within_its_tolerance(value in 1e-9..1e15f64, off in -3.0..3.0f64) {
        let claimed = Claimed::about(value);
        let found = value * 10f64.powf(off);
        let verdict = claimed.judge(found);
        let (high, low) = (value / found, found / value);
        match verdict {
            Verdict::Right => prop_assert!(high.max(low) <= 1.05 + 1e-9),
            Verdict::TooHigh(ratio) => prop_assert!(high > 1.05 && ratio == high),
            Verdict::TooLow(ratio) => prop_assert!(low > 1.05 && ratio == low),
        }
        // A range of one value is that value.
        prop_assert_eq!(claimed.judge_within(found, 0.0), Some(verdict));
        prop_assert!(!verdict.words().contains("NaN") && !verdict.words().contains("inf"));
    }

    /// Of the three, "at most" and "more than" are each other's opposite, but for what is within the tolerance of equal.
    #[test]
    fn bounds_oppose_each_other(value in 1e-6..1e6f64, off in -2.0..2.0f64) {
        let found = value * 10f64.powf(off);
        let most = Claimed::at_most(value).judge(found).is_right();
        let more = Claimed::more_than(value).judge(found).is_right();
        prop_assert!(most != more);
    }

    /// The verdict does not depend on the unit.
    #[test]
    fn units_do_not_matter(value in 1e-3..1e3f64, found in 1e-3..1e3f64, power in -12i32..12) {
        let scale = 2f64.powi(power);
        prop_assert_eq!(Claimed::is(value).judge(found), Claimed::is(value * scale).judge(found * scale));
    }

    /// A wider interval never makes a verdict surer, and one that is given is that of the value itself.
    #[test]
    fn wider_intervals_judge_less(found in 0.1..10.0f64, spread in 0.0..0.9f64, more in 0.0..0.5f64) {
        for claimed in [Claimed::is(1.0), Claimed::about(1.0), Claimed::at_most(1.0), Claimed::more_than(1.0)] {
            let (narrow, wide) = (claimed.judge_within(found, spread), claimed.judge_within(found, spread + more));
            prop_assert!(wide.is_none() || wide == narrow);
            prop_assert!(narrow.is_none_or(|verdict| verdict == claimed.judge(found)));
        }
    }

    #[test]
    fn one_verdict_says_right_only_of_what_is(ratios in proptest::collection::vec(0.2..5.0f64, 1..6)) {
        let judged: Vec<Verdict> = ratios.iter().map(|&found| Claimed::is(1.0).judge(found)).collect();
        let named: Vec<(&str, Verdict)> = judged.iter().map(|&verdict| ("x", verdict)).collect();
        let words = overall(&named).unwrap();
        prop_assert_eq!(words == "right", judged.iter().all(|verdict| verdict.is_right()));
        prop_assert_eq!(words.contains("right for") || words.contains("right only") || words == "right",
            judged.iter().any(|verdict| verdict.is_right()), "{}", words);
    }
}

/// What is right, worked out apart from this program.
#[test]
fn the_figures_are_those_that_are_right_for_an_a100() {
    let all = held("a100-sxm4-80gb", &[]);
    assert_eq!(all.len(), 11);
    for (number, what, wanted) in [
        (1, "in memory", 16_060_522_496.0),
        (1, "weights read for a token", 15_009_849_344.0),
        (1, "weights read for 100 tokens", 1_500_984_934_400.0),
        (2, "2.0 TB/s, context 0", 133.25),
        (2, "the datasheet's bandwidth, context 0", 135.84),
        (2, "a100-sxm4-40gb, context 0", 103.6),
        (3, "its peak over 2.0 TB/s", 156.0),
        (3, "a100-sxm4-80gb", 153.02),
        (3, "a100-pcie-80gb", 161.24),
        (3, "a100-sxm4-40gb", 200.64),
        (3, "h100-sxm5", 295.34),
        (3, "h200-sxm", 206.13),
        (4, "the q projection at batch 1", 0.999_512),
        (5, "the q projection, bytes of its weights alone", 1000.0),
        (5, "the q projection, activations too", 671.9),
        (6, "rate of operations at the wall", 2.039e12),
        (7, "100% of the peak", 0.045_58),
        (7, "75% of the peak", 0.060_78),
        (7, "60% of the peak", 0.075_97),
        (8, "its share at the datasheet's roofs", 0.941),
        (11, "the head in bf16, a scale per 32 weights, context 0", 3.016),
    ] {
        let value = figure(&all, number, what).predicted.unwrap();
        assert!((value / wanted - 1.0).abs() < 6e-4, "{what}: {value}, not {wanted}");
    }
    // Without runs nothing is measured.
    assert!(all.iter().all(|claim| claim.measured_verdicts.is_empty()));
    assert!(all.iter().flat_map(|claim| &claim.figures).all(|figure| figure.measured.is_empty()));
}

#[test]
fn verdicts_change_with_the_card() {
    let verdict = |card: &str, number: usize| held(card, &[])[number - 1].verdict.clone().unwrap();
    assert_eq!(verdict("a100-sxm4-80gb", 6), "wrong: too low by a factor of 127 to 131");
    assert_eq!(verdict("h200-sxm", 6), "wrong: too low by a factor of 97.0 to 300");
    assert!(verdict("a100-sxm4-80gb", 3).contains("right only for its peak over 2.0 TB/s"));
    assert!(!verdict("h100-sxm5", 3).contains("right"), "{}", verdict("h100-sxm5", 3));
    // The largest bandwidth of all: no card has more, the other ways remain.
    let largest = held("b200", &[]);
    assert!(!largest[8].figures.iter().any(|figure| figure.what.starts_with("more bandwidth")));
}

/// The whole decode steps of batch 1, with other weights and a time of their own.
fn with_weights(run: &Run, weights: DType, saved: f64, faster: f64) -> Run {
    let is_step = |p: &&Point| p.stage.is_none() && p.phase == Phase::Decode && p.batch == 1;
    let mut more: Vec<Point> = run.points.iter().filter(is_step).cloned().collect();
    for point in &mut more {
        point.weights = weights;
        point.bytes -= saved;
        for time in [&mut point.seconds.median, &mut point.seconds.low, &mut point.seconds.high] {
            *time /= faster;
        }
    }
    Run { points: more, ..run.clone() }
}

const INT8: &str = "quantization: int8, the head too";
/// Bytes of a step that int8 weights with a scale for each row save of llama-8b, with the head and without it.
const SAVED: [f64; 2] = [7.5e9, 6.98e9];

#[test]
fn points_with_other_weights_are_held_against_those_in_bf16() {
    let bf16 = run();
    assert_eq!(found(&held("a100-sxm4-80gb", &[run()]), 9, INT8, 0), None);
    // In the same run, or in another run of the same machine.
    let int8 = with_weights(&bf16, DType::Int8, SAVED[0], 1.7);
    let both = Run { points: [bf16.points.clone(), int8.points.clone()].concat(), ..run() };
    for runs in [vec![both], vec![bf16.clone(), int8.clone()], vec![int8.clone(), bf16.clone()]] {
        let value = found(&held("a100-sxm4-80gb", &runs), 9, INT8, 0).unwrap();
        assert!((value - 1.7).abs() < 1e-9, "{value}");
    }
    // On another machine, or invalid, they say nothing.
    let mut other = int8.clone();
    other.device.name = "Another".into();
    let apart = held("a100-sxm4-80gb", &[bf16.clone(), other]);
    assert_eq!((found(&apart, 9, INT8, 0), found(&apart, 9, INT8, 1)), (None, None));
    let mut invalid = int8;
    invalid.points.iter_mut().for_each(|point| point.status = Status::Invalid);
    assert_eq!(found(&held("a100-sxm4-80gb", &[bf16, invalid]), 9, INT8, 0), None);
}

/// Several formats of one type are told apart by what they read.
#[test]
fn the_head_is_told_by_the_bytes() {
    let bf16 = run();
    let [all, head_kept] = [(SAVED[0], 1.9), (SAVED[1], 1.7)]
        .map(|(saved, faster)| with_weights(&bf16, DType::Int8, saved, faster));
    let runs = [bf16, head_kept.clone(), all];
    let value = found(&held("a100-sxm4-80gb", &runs), 9, INT8, 0).unwrap();
    assert!((value - 1.9).abs() < 1e-9, "{value}");
    assert_eq!(found(&held("a100-sxm4-80gb", &[run(), head_kept]), 9, INT8, 0), None);
    let machines = machines(&runs);
    let any = machines[0].faster_with(DType::Int8, |_| None).unwrap();
    assert!((any.value - 1.7).abs() < 1e-9);
    assert_eq!(any.remark.as_deref(), Some("reading 8.17 GB instead of 15.2 GB"));
}

#[test]
fn four_times_as_fast_is_judged_by_points_in_int4() {
    let catalog = Catalog::load(None).unwrap();
    let model = catalog.model("llama-8b").unwrap();
    let streamed =
        |head: DType| model.streamed_bytes(Precision { weights: DType::Int4, head, ..Precision::BF16 }).0;
    let saved = |head: DType| model.streamed_bytes(Precision::BF16).0 - streamed(head);
    let runs = [
        run(),
        with_weights(&run(), DType::Int4, saved(DType::Bf16), 2.5),
        with_weights(&run(), DType::Int4, saved(DType::Int4), 3.0),
    ];
    let all = held("a100-sxm4-80gb", &runs);
    for (what, faster) in
        [("the head in int4 too, context 1050", 3.0), ("the head in bf16, context 1050", 2.5)]
    {
        let measured = figure(&all, 11, what).measured[0].clone().unwrap();
        assert!((measured.value - faster).abs() < 1e-9, "{measured:?}");
        assert!(matches!(measured.verdict, Some(Verdict::TooHigh(_))), "{measured:?}");
    }
    assert_eq!(found(&all, 11, "the head in bf16, a scale per 32 weights, context 1050", 0), None);
    let verdict = all[10].measured_verdicts[0].clone().unwrap();
    assert_eq!(verdict, "wrong: 33.3% to 60.0% too high, by 2 of 6 figures");
}

/// What is claimed of an A100 is judged by what an A100 measured, and by nothing else.
#[test]
fn claims_about_a_card_are_judged_by_runs_on_it() {
    let mut own = run();
    own.device.profile = Some("a100-sxm4-80gb".into());
    let (of_cpu, of_card) = (held("a100-sxm4-80gb", &[run()]), held("a100-sxm4-80gb", &[own]));
    for number in [3, 6, 7, 8] {
        assert_eq!(of_cpu[number - 1].measured_verdicts, [None], "{number}");
        assert!(of_card[number - 1].measured_verdicts[0].is_some(), "{number}");
    }
    let share = figure(&of_card, 8, "its share at the datasheet's roofs").measured[0].clone().unwrap();
    assert!(matches!(share.verdict, Some(Verdict::TooHigh(ratio)) if ratio > 2.0), "{share:?}");
}

#[test]
fn a_run_without_the_points_leaves_them_unmeasured() {
    let bare = Run { points: Vec::new(), request: None, ceilings: Vec::new(), ..run() };
    let all = held("a100-sxm4-80gb", &[bare]);
    assert!(all.iter().all(|claim| claim.measured_verdicts == [None]));
    assert!(all.iter().flat_map(|claim| &claim.figures).all(|figure| figure.measured == [None]));
}

#[test]
fn the_table_of_a_run() {
    insta::assert_snapshot!("claims_table", stdout(&["claims", RUN]));
}

#[test]
fn the_page_is_what_the_command_makes() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("claims.md");
    program(
        package(),
        &["claims", PAGE_RUN, "--device", "a100-sxm4-80gb", "--export", page.to_str().unwrap()],
    )
    .assert()
    .success();
    let text = fs::read_to_string(page).unwrap();
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")) && !text.contains(folder.path().to_str().unwrap()));
    if std::env::var_os("LLMROOF_WRITE_CLAIMS").is_some() {
        fs::write(package().join(PAGE), &text).unwrap();
    }
    let published = fs::read_to_string(package().join(PAGE)).unwrap_or_default();
    assert!(
        published == text,
        "{PAGE} is not what the program makes: run `LLMROOF_WRITE_CLAIMS=1 cargo test --test claims`"
    );
    // A page that names the command that made it.
    assert!(text.contains(&format!("made by: llmroof claims {PAGE_RUN} --device a100-sxm4-80gb")));
}

#[test]
fn several_machines_have_letters() {
    let other: PathBuf = fs::read_dir(package().join("reports/amd-epyc-2-cores-avx2"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "json"))
        .unwrap();
    let table = stdout(&["claims", RUN, other.to_str().unwrap(), "-o", "markdown"]);
    assert!(table.contains("measured: A: on AMD EPYC, 2 threads, avx512-bf16"), "{table}");
    assert!(table.contains("measured: B: on AMD EPYC, 2 threads, avx2"), "{table}");
    assert!(table.contains("A: 3.563 tok/s") && table.contains("B: 1.630 tok/s"), "{table}");
}

#[test]
fn files_have_base_units() {
    let json: serde_json::Value = serde_json::from_str(&stdout(&["claims", RUN, "-o", "json"])).unwrap();
    let all = json["claims"].as_array().unwrap();
    assert_eq!((all.len(), &json["device"]), (11, &"a100-sxm4-80gb".into()));
    let read = &all[0]["figures"][1];
    assert_eq!((&read["predicted"], &read["unit"]), (&15_009_849_344.0.into(), &"B".into()));
    assert_eq!((&read["claimed"]["value"], &read["verdict"]["is"]), (&16e9.into(), &"too_high".into()));
    let text = stdout(&["claims", "-o", "csv"]);
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let names = csv.headers().unwrap().clone();
    assert_eq!(names.iter().take(4).collect::<Vec<_>>(), ["number", "claim", "figure", "unit"]);
    let figures: usize = all.iter().map(|claim| claim["figures"].as_array().unwrap().len()).sum();
    assert_eq!(csv.records().map(Result::unwrap).count(), figures);
}

#[test]
fn every_card_and_model_is_answered() {
    let catalog = Catalog::load(None).unwrap();
    let cards: Vec<&DeviceProfile> = catalog.devices().collect();
    for card in &cards {
        for model in catalog.models() {
            let all = claims(model, card, &cards, &[]).unwrap();
            let figures = all.iter().flat_map(|claim| &claim.figures);
            let mut values = figures.filter_map(|figure| figure.predicted);
            assert!(values.all(|value| value.is_finite() && value >= 0.0));
        }
    }
    let text = stdout(&["claims", "--model", "llama-405b", "--device", "l4"]);
    assert!(text.contains("llama-405b does not fit") && text.contains("no run was given"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
}

#[test]
fn bad_input_is_one_line() {
    assert!(complaint(&["claims", "--device", "a100-sxm-80gb"]).contains("did you mean a100-sxm4-80gb?"));
    assert!(complaint(&["claims", "--model", "llama-8"]).contains("did you mean llama-8b?"));
    assert!(complaint(&["claims", "no-such-run.json"]).contains("no-such-run.json"));
    assert!(complaint(&["claims", "-o", "bmf"]).contains("error: "));
    assert!(complaint(&["claims", "--export", "no/such/claims.md"]).contains("no/such"));
    let said = complaint(&["claims", RUN, "--model", "llama-1b"]);
    assert!(said.contains("a run of llama-8b, the claims are held against llama-1b"), "{said}");
    let said = complaint(&["claims", "schema/run.schema.json"]);
    assert!(said.contains("run.schema.json: not a run file"), "{said}");
    let small = "tests/fixtures/valid/run/small.json";
    assert!(complaint(&["claims", small]).contains("small was made for"));
    assert!(complaint(&["claims", RUN, small]).contains("small.json: a run of small"));
    let folder = tempfile::tempdir().unwrap();
    let predicted = folder.path().join("predicted.json");
    let path = predicted.to_str().unwrap();
    program(package(), &["predict", "-d", "l4", "--export", path]).assert().success();
    assert!(complaint(&["claims", path]).contains("a prediction, nothing of it was measured"));
}
