//! Speculation and the table of ways through the binary, on a small model.
#![allow(clippy::unwrap_used)]

mod support;

use llmroof::run::Basis;
use llmroof::ways::{ACCEPTANCES, verified};
use support::{llmroof, refused, run_of};

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-gqa-hd128");

#[test]
fn every_way_that_was_measured_has_its_row_and_says_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let draft = format!("{}/config.json", CHECKPOINT.replace("gqa-hd128", "tied-hd64"));
    let measured = llmroof(&[
        "measure",
        "--checkpoint",
        CHECKPOINT,
        "--ways",
        "--speculate",
        "4",
        "--draft",
        &draft,
        "--link",
        "h100-sxm5",
        "--price",
        "2",
        "--phase",
        "decode",
        "--batch",
        "1,2",
        "--context",
        "100",
        "--threads",
        "1",
        "--budget",
        "24s",
        "--reports",
        reports,
        "--no-progress",
        "-o",
        "json",
    ]);
    // A busy machine may leave a point above its roof: the run is whole all the same.
    assert!(matches!(measured.status.code(), Some(0 | 5)), "{}", String::from_utf8_lossy(&measured.stderr));
    let run = run_of(&measured);
    let types: std::collections::BTreeSet<&str> = run.points.iter().map(|p| p.weights.name()).collect();
    assert_eq!(types.into_iter().collect::<Vec<_>>(), ["bf16", "int4", "int8"]);
    let tokens: std::collections::BTreeSet<u32> = run.points.iter().map(|p| p.tokens).collect();
    assert_eq!(tokens.into_iter().collect::<Vec<_>>(), [1, 4]);
    let draft = run.draft.as_ref().unwrap();
    assert_eq!((draft.model.as_str(), draft.steps.len()), ("tiny-tied-hd64", 2));
    for v in verified(&run) {
        assert!(v.cost > 0.0 && v.draft.is_some_and(|draft| draft > 0.0), "{v:?}");
    }
    if measured.status.code() == Some(0) {
        let ways: Vec<&str> = run.ways.iter().map(|way| way.way.as_str()).collect();
        assert_eq!(&ways[..3], ["batch 2", "int8 weights", "int4 weights"]);
        assert_eq!(ways.iter().filter(|way| way.contains("acceptance")).count(), ACCEPTANCES.len());
        let basis = |name: &str| run.ways.iter().find(|way| way.way.starts_with(name)).map(|way| way.basis);
        assert_eq!(basis("int8"), Some(Basis::Measured));
        assert_eq!(basis("the bandwidth of"), Some(Basis::Predicted));
        assert!(run.ways.iter().all(|way| way.gain > 0.0 && way.tokens_per_second > 0.0));
    }
}

#[test]
fn a_prediction_gains_what_the_bytes_allow() {
    let output = llmroof(&[
        "predict",
        "-d",
        "a100-sxm4-80gb",
        "--ways",
        "--draft",
        "llama-1b",
        "--batch",
        "1,8",
        "-o",
        "json",
    ]);
    let run = run_of(&output);
    let way = |name: &str| run.ways.iter().find(|way| way.way == name).unwrap();
    // An A100 has no arithmetic for fp8, an H100 has.
    assert!(!run.ways.iter().any(|way| way.way == "fp8 weights"));
    for name in ["batch 8", "int8 weights", "int4 weights"] {
        assert!((way(name).gain / way(name).ideal_gain - 1.0).abs() < 1e-9, "{name}");
        assert_eq!(way(name).basis, Basis::Predicted);
    }
    // 16 over 4 bits and a scale of 16 for each 128: 3.88 of the weights; the cache has the rest.
    let int4 = way("int4 weights");
    assert_eq!(int4.nominal_gain, Some(4.0));
    assert!((3.7..3.88).contains(&int4.gain), "{int4:?}");
    assert!(int4.eaten_by.iter().any(|loss| loss.starts_with("scales 2.9%")), "{int4:?}");
    let head = run_of(&llmroof(&[
        "predict",
        "-d",
        "l4",
        "--weights",
        "bf16,int4",
        "--head",
        "bf16",
        "--context",
        "1",
        "-o",
        "json",
    ]));
    let int4 = head.ways.iter().find(|way| way.way == "int4 weights, bf16 head").unwrap();
    assert!(
        (3.2..3.3).contains(&int4.gain) && int4.eaten_by.iter().any(|loss| loss.starts_with("head 1")),
        "{int4:?}"
    );
}

#[test]
fn the_tables_of_a_prediction() {
    let output = llmroof(&[
        "predict",
        "-d",
        "h100-sxm5",
        "--ways",
        "--draft",
        "llama-1b",
        "--price",
        "2.5",
        "--phase",
        "decode",
        "--batch",
        "1,8",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let tables = &text[text.find("Speculation").unwrap()..];
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    insta::assert_snapshot!(tables);
}

#[test]
fn what_cannot_be_speculated_on_is_said_in_one_line() {
    for (arguments, words) in [
        (&["--speculate", "33"][..], "give 1 to 32"),
        (&["--speculate", "8", "--context", "4"], "give --speculate 4 or less"),
        (&["--speculate", "0"], "--speculate"),
        (&["--price=-1"], "dollars per hour"),
        (&["--draft", "nobody"], "unknown model"),
        (&["--weights", "int4", "--tp", "16"], "--tp 16"),
        (&["--weights", "int3"], "int3"),
    ] {
        refused(&[&["predict", "-d", "l4"], arguments].concat(), words);
    }
    let odd = CHECKPOINT.replace("gqa-hd128", "tied-hd64");
    let output = llmroof(&["verify", "--checkpoint", &odd, "--weights", "int4"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("groups of 128") && said.contains("int8"), "{said}");
}
