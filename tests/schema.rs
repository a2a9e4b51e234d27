//! The published JSON Schema is the one that the code has, and the files that the program writes keep to it.

#![allow(clippy::unwrap_used)]

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

#[test]
fn a_file_of_version_1_loads_and_is_written_again_with_what_is_new_as_null() {
    let text = include_str!("fixtures/valid/run/small.json");
    assert!(text.contains("\"schema_version\": 1"), "this file stays what the first version wrote");
    for new in ["wall_seconds\": null", "gemm", "throttled_samples", "gpu"] {
        assert!(!text.contains(new), "{new}");
    }
    let run = llmroof::run::Run::from_json(text).unwrap();
    let point = &run.points[0];
    assert_eq!((point.wall_seconds, point.throttled_samples, &point.gemm), (None, None, &None));
    let written: Value = serde_json::from_str(&run.to_json().unwrap()).unwrap();
    jsonschema::validate(&published(), &written).unwrap();
    assert_eq!(written["points"][0]["wall_seconds"], Value::Null);
}
