//! The published JSON Schema is the one that the code has, and the files that the program writes keep to it.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use serde_json::Value;

const PUBLISHED: &str = include_str!("../schema/run.schema.json");

fn published() -> Value {
    serde_json::from_str(PUBLISHED).unwrap()
}

/// What `llmroof predict -o json` prints.
fn predicted() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_llmroof"))
        .args(["predict", "--model", "llama-8b", "--device", "a100-sxm4-80gb", "-o", "json"])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_published_schema_is_generated_from_the_code() {
    let generated = serde_json::to_value(schemars::schema_for!(llmroof::run::Run)).unwrap();
    assert_eq!(published(), generated, "run `cargo run --example run_schema > schema/run.schema.json`");
}

#[test]
fn a_predicted_run_keeps_to_the_schema() {
    jsonschema::validate(&published(), &predicted()).unwrap();
}

#[test]
fn the_schema_refuses_what_is_no_run() {
    let mut run = predicted();
    run["points"][0]["bound"] = "luck".into();
    assert!(!jsonschema::is_valid(&published(), &run));
}

#[test]
fn the_runs_in_reports_keep_to_the_schema_and_load() {
    let mut found = 0;
    for folder in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/reports")).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(folder.path()) else { continue };
        for path in files.flatten().map(|file| file.path()) {
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            jsonschema::validate(&published(), &serde_json::from_str(&text).unwrap())
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            llmroof::run::Run::from_json(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            found += 1;
        }
    }
    assert!(found > 0, "reports/ holds no run");
}

/// What every version has written so far: the fixture, its version, and what it could not say yet.
const VERSIONS: [(&str, u32, &[&str]); 6] = [
    ("small", 1, &["wall_seconds\": null", "gemm", "throttled_samples", "gpu", "fraction_of_roof\": null"]),
    ("version-2-cpu", 2, &["sm_clock_limit_hz", "\"processes\"", "fraction_of_roof\": null"]),
    ("version-2-gpu", 2, &["sm_clock_limit_hz", "\"processes\"", "fraction_of_roof\": null"]),
    ("version-3-cpu", 3, &["\"prompts\"", "\"contexts\"", "\"head\""]),
    ("version-4-cpu", 4, &["\"head\""]),
    ("version-5-cpu", 5, &["\"kv_page\"", "\"chunk\"", "\"mix\""]),
];

#[test]
fn files_of_every_version_load_and_are_written_again_with_what_is_new_as_null() {
    for (name, version, new) in VERSIONS {
        let path = support::tests(&format!("fixtures/valid/run/{name}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("\"schema_version\": {version}")), "{name} stays what was written");
        for field in new {
            assert!(!text.contains(field), "{name}: {field}");
        }
        let run = llmroof::run::Run::from_json(&text).unwrap();
        for point in &run.points {
            assert_eq!(point.trials.len(), point.seconds.trials.len(), "{name}");
            let slowest = point.seconds.samples.iter().copied().fold(0.0, f64::max);
            for trial in &point.trials {
                assert!(trial.seconds > 0.0 && trial.seconds <= slowest, "{name}: {trial:?}, {slowest}");
            }
            assert!(point.trials.iter().all(|trial| trial.fraction_of_roof.is_some() == (version > 2)));
        }
        let written: Value = serde_json::from_str(&run.to_json().unwrap()).unwrap();
        jsonschema::validate(&published(), &written).unwrap();
        assert_eq!(written["schema_version"], llmroof::run::SCHEMA_VERSION);
        assert_eq!(written["plan"].is_null(), version < 3, "{name}");
    }
}

#[test]
fn the_one_prompt_and_context_of_a_version_3_plan_become_lists() {
    let path = support::tests("fixtures/valid/run/version-3-cpu.json");
    let text = std::fs::read_to_string(path).unwrap();
    let plan = |text: &str| llmroof::run::Run::from_json(text).unwrap().plan.unwrap();
    assert_eq!((plan(&text).prompts, plan(&text).contexts), (vec![16], vec![]));
    let with_context = text.replace("\"context\": null", "\"context\": 20");
    assert_eq!(plan(&with_context).contexts, [20]);
}

#[test]
fn every_version_has_its_fixture() {
    let versions: std::collections::BTreeSet<u32> = VERSIONS.iter().map(|(_, version, _)| *version).collect();
    let all: std::collections::BTreeSet<u32> = (1..llmroof::run::SCHEMA_VERSION).collect();
    assert_eq!(versions, all, "a new format leaves a file of the last one in tests/fixtures/valid/run");
}
