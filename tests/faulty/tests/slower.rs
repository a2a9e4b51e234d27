//! A kernel that really takes a tenth longer, measured in turns with one that does not, and judged.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny-gqa-hd128");
/// Turns, each with this many trials on each side.
const TURNS: usize = 4;
const TRIALS: &str = "2";

fn faulty(arguments: &[&str], slow: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.args(arguments).env_remove("GITHUB_STEP_SUMMARY").envs(slow.map(|part| ("FAULTY_SLOW", part)));
    command.output().unwrap()
}

/// Adds trials of one decode step to the runs of a side.
fn measure(reports: &Path, slow: Option<&str>) {
    let mut arguments = vec!["measure", "--checkpoint", SMALL, "--device", "cpu", "--threads", "1"];
    arguments.extend(["--layers", "all", "--phase", "decode", "--batch", "1", "--context", "60"]);
    arguments.extend(["--repeat", TRIALS, "--budget", "3s", "--reports", reports.to_str().unwrap()]);
    let out = faulty(&arguments, slow);
    // A point above its roof is this machine's speed changing meanwhile; compare will say so.
    assert!(matches!(out.status.code(), Some(0 | 5)), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Whether it is found depends on how noisy the machine is while the test runs; that it is not called the same does not.
#[test]
fn a_kernel_that_takes_a_tenth_longer_is_never_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = (folder.path().join("base"), folder.path().join("new"));
    for _ in 0..TURNS {
        measure(&base, None);
        measure(&new, Some("gate_up:10%"));
    }
    let out = faulty(&["compare", base.to_str().unwrap(), new.to_str().unwrap(), "-o", "json"], None);
    let comparison: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    let pairs = comparison["pairs"].as_array().unwrap();
    let gate_up = pairs.iter().find(|pair| pair["key"]["stage"] == "gate_up").unwrap();
    println!("gate_up: {}: {}", gate_up["verdict"], gate_up["reason"]);
    println!("{}", comparison["sentence"]);
    let verdict = gate_up["verdict"].as_str().unwrap();
    assert!(["slower", "inconclusive"].contains(&verdict), "{gate_up:#}");
    assert_ne!(comparison["verdict"], "same");
    let code = if comparison["verdict"] == "slower" { 1 } else { 0 };
    assert_eq!(out.status.code(), Some(code));
}
