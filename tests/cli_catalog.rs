//! `predict`, `devices` and `models` as a user runs them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// The program in this folder, without settings from outside.
fn llmroof(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).args(args);
    for name in ["LLMROOF_MODEL", "LLMROOF_BATCH", "LLMROOF_REPORTS", "LLMROOF_PROFILES"] {
        command.env_remove(name);
    }
    command
}

fn stdout(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let done = llmroof(folder.path(), args).assert().success();
    let done = done.get_output();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing but stdout is written");
    String::from_utf8(done.stdout.clone()).unwrap()
}

/// The one line on stderr of a run that ends with exit code 2, and prints and writes nothing.
fn complaint(folder: &Path, args: &[&str]) -> String {
    let before = fs::read_dir(folder).unwrap().count();
    let failed = llmroof(folder, args).assert().code(2);
    let failed = failed.get_output();
    assert!(failed.stdout.is_empty());
    assert_eq!(fs::read_dir(folder).unwrap().count(), before, "nothing is written");
    let said = String::from_utf8(failed.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
    said
}

fn complaint_of(args: &[&str]) -> String {
    complaint(tempfile::tempdir().unwrap().path(), args)
}

#[test]
fn one_device_is_shown_with_its_sources() {
    insta::assert_snapshot!("devices_one", stdout(&["devices", "a100-sxm4-80gb"]));
}

#[test]
fn models_are_listed() {
    insta::assert_snapshot!("models_table", stdout(&["models"]));
    insta::assert_snapshot!("models_markdown", stdout(&["models", "-o", "markdown"]));
    insta::assert_snapshot!("models_csv", stdout(&["models", "-o", "csv"]));
    insta::assert_snapshot!("models_one", stdout(&["models", "llama-8b"]));
}

/// Not a snapshot: the list begins with what the machine at hand has.
#[test]
fn devices_are_listed() {
    let table = stdout(&["devices"]);
    let a100 = table.lines().find(|line| line.starts_with("a100-sxm4-80gb")).unwrap();
    for figure in ["NVIDIA A100 SXM4 80 GB", "80.0 GB", "2039", "312", "153", "40.0 MB", "400 W"] {
        assert!(a100.contains(figure), "{a100}");
    }
    let list: serde_json::Value = serde_json::from_str(&stdout(&["devices", "-o", "json"])).unwrap();
    let l4 = list.as_array().unwrap().iter().find(|device| device["name"] == "l4").unwrap();
    assert_eq!((&l4["memory_bandwidth"], &l4["here"]), (&300e9.into(), &false.into()));
}

#[test]
fn json_of_one_profile_has_the_fields_of_its_file() {
    let device: serde_json::Value = serde_json::from_str(&stdout(&["devices", "l4", "-o", "json"])).unwrap();
    let file: toml::Value = toml::from_str(include_str!("../profiles/devices/l4.toml")).unwrap();
    assert_eq!(device, serde_json::to_value(file).unwrap());
    let model: serde_json::Value =
        serde_json::from_str(&stdout(&["models", "llama-1b", "-o", "json"])).unwrap();
    assert_eq!(model["rope_scaling"]["factor"], 32.0);
}

#[test]
fn lists_fit_110_columns() {
    let mut texts = vec![stdout(&["devices"]), stdout(&["models"])];
    let names: Vec<String> =
        texts[0].lines().filter_map(|line| Some(line.split_once(' ')?.0.into())).collect();
    let profiles = names.iter().filter(|name| name.contains("0") || name.starts_with('l'));
    texts.extend(profiles.map(|name| stdout(&["devices", name])));
    assert!(texts.len() > 10);
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

#[test]
fn explain_shows_what_is_right_about_a_100_sxm4_80gb() {
    let text = stdout(&["predict", "--model", "llama-8b", "--device", "a100-sxm4-80gb", "--explain"]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for figure in [
        "PREDICTED",
        "= 16.06 GB",
        "15,009,849,344 B = 15.01 GB",
        "1.50 TB",
        "2 x 7,504,658,432",
        "135.8 tok/s",
        "2.0 TB/s: 133.2 tok/s",
        "= 153 FLOP/B",
        "/ 156",
        "0.9995 FLOP/B",
        "672 FLOP/B",
        "2.000 TFLOP/s = 0.64%",
        "14.22 TFLOP",
        "45.6 ms at 100%",
        "61 to 76 ms",
        "94.1% decode",
        "batch 256, context 2048",
        "= 3.02x",
        "103.6 tok/s",
        "= 161 FLOP/B",
        "= 201 FLOP/B",
        "= 295 FLOP/B",
        "= 206 FLOP/B",
    ] {
        assert!(text.contains(figure), "{figure} is missing in:\n{text}");
    }
}

#[test]
fn every_model_is_explained_on_every_card() {
    let names = |command: &str| -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&stdout(&[command, "-o", "json"])).unwrap();
        let profiles = list.as_array().unwrap().iter().filter(|item| item["here"] != true);
        profiles.map(|item| item["name"].as_str().unwrap().to_string()).collect()
    };
    let devices = names("devices");
    for (at, model) in names("models").iter().enumerate() {
        // One card each, another each time.
        let device = &devices[(2 * at + 1) % devices.len()];
        let text = stdout(&["predict", "-m", model, "-d", device, "--explain", "--generate", "1"]);
        assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }
}

#[test]
fn explanations_are_for_people_only() {
    let json = stdout(&["predict", "-d", "l4", "--explain", "-o", "json"]);
    let run: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(run["status"], "predicted");
    assert!(stdout(&["predict", "-d", "l4", "--explain", "-o", "markdown"]).contains("EXPLAINED"));
}

#[test]
fn exports_go_to_files_by_their_endings() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["predict", "-d", "l4", "--export", "a.json", "--export", "b.csv", "--export", "-"];
    llmroof(folder.path(), &args).assert().success();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("a.json").starts_with("{\n  \"schema_version\": 6"));
    assert!(read("b.csv").starts_with("model,phase,stage,"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn reports_get_a_run_file() {
    let folder = tempfile::tempdir().unwrap();
    llmroof(folder.path(), &["predict", "-d", "l4", "--reports", "new/reports"]).assert().success();
    let files: Vec<_> = fs::read_dir(folder.path().join("new/reports")).unwrap().collect();
    assert_eq!(files.len(), 1);
    let name = files[0].as_ref().unwrap().file_name().into_string().unwrap();
    assert!(name.ends_with("Z-llama-8b-l4-predicted.json"), "{name}");
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    assert!(complaint_of(&["predict", "-d", "a100-sxm-80gb"]).contains("did you mean a100-sxm4-80gb?"));
    assert!(complaint_of(&["predict", "-d", "l4", "-m", "llama-8"]).contains("did you mean llama-8b?"));
    assert!(complaint_of(&["devices", "h10"]).contains("did you mean h100-"));
    assert!(complaint_of(&["models", "lama-70b"]).contains("did you mean llama-70b?"));
}

#[test]
fn bad_input_names_the_file_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("p/devices")).unwrap();
    let negative = include_str!("../profiles/devices/l4.toml").replace("300.0e9", "-300.0e9");
    fs::write(path("p/devices/bad.toml"), negative).unwrap();
    let said = complaint(folder.path(), &["devices", "--profiles", "p"]);
    assert!(said.contains("p/devices/bad.toml") && said.contains("memory_bandwidth"), "{said}");

    fs::write(path("p/devices/bad.toml"), "name = \"x\"\ntitle = 7\n").unwrap();
    let said = complaint(folder.path(), &["devices", "--profiles", "p"]);
    assert!(said.contains("p/devices/bad.toml") && said.contains("line 2"), "{said}");

    let said = complaint(folder.path(), &["devices", "--profiles", "nowhere"]);
    assert!(said.contains("nowhere"), "{said}");

    fs::write(path("config.json"), "{\"model_type\": \"mamba\"}").unwrap();
    let said = complaint(folder.path(), &["models", "config.json"]);
    assert!(said.contains("config.json"), "{said}");
    let said = complaint(folder.path(), &["predict", "-d", "l4", "-m", "./missing"]);
    assert!(said.contains("./missing"), "{said}");
}

#[test]
fn an_export_that_cannot_be_written_fails_first() {
    assert!(complaint_of(&["predict", "-d", "l4", "--export", "no/such/run.json"]).contains("no/such"));
    assert!(complaint_of(&["predict", "-d", "l4", "--export", "run.svg"]).contains(".json"));
    // One bad file stops the good one as well.
    complaint_of(&["devices", "--export", "good.json", "--export", "no/such/bad.csv"]);
}

#[test]
fn positions_beyond_the_model_are_refused() {
    let said = complaint_of(&["predict", "-d", "l4", "-m", "llama2-7b", "--prompt", "5000"]);
    assert!(said.contains("4096"), "{said}");
    assert!(complaint_of(&["predict", "-d", "l4", "--context", "131073"]).contains("131072"));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let line = format!(
        "{} predict -d l4 -o csv --batch 1-64 | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_llmroof")
    );
    let done = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stderr.is_empty());
}
