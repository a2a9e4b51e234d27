//! Text files of every kind that llmroof reads: the valid ones are read, of the invalid ones it says where
//! and what.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use llmroof::device::DeviceProfile;
use llmroof::error::{Code, Failure, Result};
use llmroof::model::ModelSpec;
use llmroof::run::Run;
use support::tests;

const KINDS: [&str; 4] = ["config", "model", "device", "run"];

fn read(kind: &str, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::input(e.to_string()));
    let read = text.and_then(|text| match kind {
        "config" => ModelSpec::from_config_json(&text, "fixture").map(drop),
        "model" => ModelSpec::from_toml(&text).map(drop),
        "device" => DeviceProfile::from_toml(&text).map(drop),
        _ => Run::from_json(&text).map(drop),
    });
    read.map_err(|e| e.at(path.display()))
}

#[test]
fn valid_files_are_read() {
    for kind in KINDS {
        for entry in std::fs::read_dir(tests("fixtures/valid").join(kind)).unwrap() {
            let path = entry.unwrap().path();
            read(kind, &path).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

const INVALID: [(&str, &str); 29] = [
    ("config/truncated.json", "line 4"),
    ("config/negative-layers.json", "-2"),
    ("config/huge-layers.json", "number of layers is 4294967295"),
    ("config/infinite-hidden.json", "number out of range at line 2"),
    ("config/gpt2.json", "model_type \"gpt2\""),
    ("config/no-heads.json", "heads"),
    ("config/kv-heads.json", "4 query heads do not divide into 3 kv heads"),
    ("config/yarn.json", "rope_type \"yarn\""),
    ("config/rope-factors.json", "high_freq_factor <= low_freq_factor"),
    ("config/not-utf8.json", "UTF-8"),
    ("model/no-hidden.toml", "hidden size is 0"),
    ("model/nan-theta.toml", "rope_theta is NaN"),
    ("model/huge-layers.toml", "line 4"),
    ("model/unknown-field.toml", "experts"),
    ("device/negative-bandwidth.toml", "memory_bandwidth of card is -2000000000000"),
    ("device/infinite-bandwidth.toml", "memory_bandwidth of card is inf"),
    ("device/no-source.toml", "bf16 of card has no source"),
    ("device/no-bf16-peak.toml", "card has no bf16 peak"),
    ("device/syntax.toml", "line 6"),
    ("run/newer.json", "schema_version 7, this llmroof reads up to 6"),
    ("run/newer-with-new-fields.json", "schema_version 8"),
    ("run/nan.json", "line"),
    ("run/infinite.json", "number out of range at line"),
    ("run/negative-time.json", "points[0]: seconds.median is -0.001"),
    ("run/negative-ceiling.json", "ceilings[0] (memory_read)"),
    ("run/trials.json", "points[0]: seconds.trials"),
    ("run/truncated.json", "EOF while parsing"),
    ("run/no-run.json", "not a run file"),
    ("run/model.json", "hidden size 65 is not a multiple of 8"),
];

#[test]
fn what_is_wrong_with_a_file_is_said_in_one_line() {
    let root = tests("fixtures/invalid");
    let mut wrong = Vec::new();
    for (file, words) in INVALID {
        let path = root.join(file);
        let kind = file.split('/').next().unwrap();
        let failure = read(kind, &path).unwrap_err();
        let message = failure.to_string();
        assert_eq!(failure.code, Code::BadInput, "{message}");
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        if !message.contains(words) || message.lines().count() != 1 {
            wrong.push(format!("{file} lacks \"{words}\": {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files: usize = KINDS.iter().map(|kind| std::fs::read_dir(root.join(kind)).unwrap().count()).sum();
    assert_eq!(files, INVALID.len(), "every file has its case");
}
