//! `llmroof compare` through the real program: what it reads, prints, writes, and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llmroof::compare::{Options, compare};
use llmroof::run::Run;
use serde_json::Value;

use crate::noise::Noise;
use crate::synthetic::Case;

/// A folder with run files of both sides.
struct Files {
    folder: tempfile::TempDir,
    pub runs: [Run; 2],
}

impl Files {
    /// Of one seeded pair of runs.
    fn of(case: Case, seed: u64) -> Files {
        let mut runs = case.runs();
        case.fill(&mut runs, seed);
        Files::with(runs)
    }

    fn with(runs: [Run; 2]) -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap(), runs };
        for (run, name) in files.runs.iter().zip(["base.json", "new.json"]) {
            std::fs::write(files.path(name), run.to_json().unwrap()).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compares them with these options.
    fn compare(&self, options: &[&str]) -> Output {
        llmroof(self.folder.path(), &[&["base.json", "new.json"], options].concat())
    }
}

fn llmroof(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).arg("compare").args(arguments).env_remove("GITHUB_STEP_SUMMARY");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)))
}

/// Ten quiet trials on each side; one point of NEW takes so much longer.
fn changed(ratio: f64) -> Files {
    Files::of(Case { change: Some((8, ratio)), ..Case::new(Noise::Normal, 0.004) }, 1)
}

#[test]
fn the_verdict_is_the_exit_code() {
    for (ratio, verdict, code) in [(1.0, "same", 0), (1.08, "slower", 1), (0.9, "faster", 0)] {
        let out = changed(ratio).compare(&["-o", "json"]);
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        assert_eq!(json(&out)["verdict"], verdict);
        let error = text(&out.stderr);
        assert_eq!(error.starts_with("error: slower: 1 of 40 points"), code == 1, "{error}");
    }
}

#[test]
fn inconclusive_stands_out_and_fails_where_that_is_asked_for() {
    let files = Files::of(Case::new(Noise::Normal, 0.08), 1);
    let out = files.compare(&[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).contains("WARNING: INCONCLUSIVE"), "{}", text(&out.stdout));
    assert!(text(&out.stderr).starts_with("WARNING: INCONCLUSIVE"), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("trials to settle"), "{}", text(&out.stdout));

    let out = files.compare(&["--fail-on", "inconclusive"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(text(&out.stderr).lines().last().unwrap().starts_with("error: inconclusive: "));

    // A single trial each, as `measure` takes without --repeat.
    let single = Files::of(Case { trials: (1, 1), ..Case::new(Noise::Normal, 0.01) }, 1);
    let out = single.compare(&[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stderr).contains("INCONCLUSIVE"), "{}", text(&out.stderr));
}

#[test]
fn a_side_is_a_file_several_or_a_folder() {
    let files = changed(1.0);
    let folder = |name: &str, runs: &[&Run]| {
        std::fs::create_dir(files.path(name)).unwrap();
        for (at, run) in runs.iter().enumerate() {
            std::fs::write(files.path(&format!("{name}/{at}.json")), run.to_json().unwrap()).unwrap();
        }
        std::fs::write(files.path(&format!("{name}/package.json")), "{\"name\": \"other\"}").unwrap();
        std::fs::write(files.path(&format!("{name}/list.json")), "[1, 2]").unwrap();
    };
    let other = changed(1.0).runs;
    folder("old", &[&files.runs[0], &other[0]]);
    folder("today", &[&files.runs[1]]);
    let out = llmroof(files.folder.path(), &["old", "today", "-o", "json"]);
    assert_eq!(json(&out)["base"]["runs"], 2, "other JSON is passed over");
    assert_eq!(json(&out)["base"]["trials"], 20);

    let out = llmroof(
        files.folder.path(),
        &["--base", "base.json", "old/1.json", "--new", "new.json", "today/0.json", "-o", "json"],
    );
    assert_eq!(json(&out)["base"]["trials"], 20, "{}", text(&out.stderr));
    assert_eq!(json(&out)["new"]["runs"], 2);
}

#[test]
fn every_format_tells_the_same() {
    let files = changed(1.08);
    let names = ["result.txt", "result.md", "result.json", "result.csv", "result.xml"];
    let exports: Vec<&str> = names.iter().flat_map(|name| ["--export", name]).collect();
    let summary = files.path("summary.md");
    std::fs::write(&summary, "what was there\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(files.folder.path()).args(["compare", "base.json", "new.json"]).args(exports);
    let out = command.env("GITHUB_STEP_SUMMARY", &summary).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let [table, markdown, json, csv, junit] =
        names.map(|name| std::fs::read_to_string(files.path(name)).unwrap());

    assert_eq!(text(&out.stdout), table);
    let comparison: Value = serde_json::from_str(&json).unwrap();
    let sentence = comparison["sentence"].as_str().unwrap();
    assert!(table.starts_with(sentence) && markdown.starts_with(&format!("## llmroof: {sentence}\n")));
    assert!(table.lines().all(|line| line.chars().count() <= 110), "{table}");
    let slower: Vec<&Value> =
        comparison["pairs"].as_array().unwrap().iter().filter(|pair| pair["verdict"] == "slower").collect();
    let reason = slower[0]["reason"].as_str().unwrap();
    assert_eq!(slower.len(), 1);
    for format in [&markdown, &csv, &junit] {
        assert!(format.contains(reason), "{format:.2000}");
    }

    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().any(|row| row.iter().any(|cell| cell == "slower")));

    assert!(junit.contains("tests=\"40\"") && junit.contains("failures=\"1\""), "{junit:.400}");
    assert_eq!(junit.matches("<testcase ").count(), 40);
    assert_eq!(junit.matches("<failure ").count(), 1);

    let summary = std::fs::read_to_string(summary).unwrap();
    assert_eq!(summary, format!("what was there\n{markdown}\n"), "a job's summary grows");
}

#[test]
fn the_json_keeps_to_its_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../schema/comparison.schema.json")).unwrap();
    let generated = serde_json::to_value(schemars::schema_for!(llmroof::compare::Comparison)).unwrap();
    let how = "run `cargo run --example comparison_schema > schema/comparison.schema.json`";
    assert!(schema == generated, "{how}");
    for options in [&["-o", "json"][..], &["-o", "json", "--price", "BASE=1.5/h,NEW=3/h", "--by", "roof"]] {
        let out = changed(1.08).compare(options);
        jsonschema::validate(&schema, &json(&out)).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn conditions_that_differ_are_refused_unless_told() {
    let mut files = changed(1.0);
    files.runs[1].tool.version = "0.2.0".into();
    let files = Files::with(files.runs);
    let out = files.compare(&[]);
    assert_eq!(out.status.code(), Some(2));
    let error = text(&out.stderr);
    assert!(
        error.starts_with("error: BASE and NEW differ in tool (llmroof 0.1.0 and llmroof 0.2.0)"),
        "{error}"
    );
    assert!(error.contains("--across tool"), "{error}");
    assert!(out.stdout.is_empty());

    let out = files.compare(&["--across", "tool,driver"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(
        text(&out.stdout).contains("compared across tool: llmroof 0.1.0 on BASE"),
        "{}",
        text(&out.stdout)
    );
}

#[test]
fn money_per_token_needs_a_price() {
    let files = changed(1.0);
    let out = files.compare(&["--price", "BASE=1.5/h,NEW=3/h", "-o", "json"]);
    let costs = json(&out)["costs"].clone();
    assert_eq!(costs.as_array().unwrap().len(), 5, "prefill and four decode batches");
    for cost in costs.as_array().unwrap() {
        let ratio = cost["ratio"].as_f64().unwrap();
        assert!((ratio / 2.0 - 1.0).abs() < 0.02, "{cost}: twice the price at the same speed");
    }
    let tokens = json(&out)["pairs"][0]["base"]["tokens_per_second"].as_f64().unwrap();
    let dollars = costs[0]["base"]["dollars_per_million_tokens"].as_f64().unwrap();
    assert!((dollars / (1.5 / 3600.0 / tokens * 1e6) - 1.0).abs() < 1e-9);
    let table = text(&files.compare(&["--price", "NEW=3"]).stdout);
    assert!(table.contains("$/Mtoken NEW"), "{table}");
}

/// A name out of a file is never obeyed by a terminal, in whatever format it is printed; JSON keeps it all the same.
#[test]
fn names_that_steer_a_terminal_are_spelled_out() {
    let hostile = "\u{1b}]0;title\u{7}\u{9b}31m\r\nforged: line\u{202e}";
    let mut runs = changed(1.08).runs;
    for run in &mut runs {
        run.device.name = hostile.into();
        run.model.name = hostile.into();
        run.tool.version = hostile.into();
        run.created = hostile.into();
        for point in &mut run.points {
            point.model = hostile.into();
        }
        run.points[0].status = llmroof::run::Status::Invalid;
        run.points[0].notes = vec![hostile.into()];
    }
    let files = Files::with(runs);
    let harmless = |bytes: &[u8], what: &str| {
        let said = text(bytes);
        let steers = |c: char| c != '\n' && llmroof::text::unseen(c);
        assert!(!said.contains(steers), "{what}: {said:?}");
        // A cell of a CSV and a text in XML may have several lines.
        let forged = said.lines().any(|line| line.starts_with("forged"));
        assert!(!forged || ["csv", "junit"].contains(&what), "{what}: {said}");
        said
    };
    for format in ["table", "markdown", "json", "csv", "junit"] {
        let exported = files.path("result.md");
        let out = files.compare(&["-o", format, "--export", "result.md", "--export", "result.txt"]);
        assert_eq!(out.status.code(), Some(1), "{format}: {}", text(&out.stderr));
        let said = harmless(&out.stdout, format);
        harmless(&out.stderr, format);
        harmless(&std::fs::read(exported).unwrap(), "exported Markdown");
        harmless(&std::fs::read(files.path("result.txt")).unwrap(), "exported table");
        assert!(said.contains("forged: line"), "{format}: {said}");
        if format == "json" {
            assert_eq!(json(&out)["base"]["device"], hostile);
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(files.folder.path()).args(["plot", "base.json"]);
    harmless(&command.output().unwrap().stdout, "plot");
}

#[test]
fn bad_input_is_one_line() {
    let files = changed(1.0);
    std::fs::create_dir(files.path("empty")).unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let out = llmroof(files.folder.path(), arguments);
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        assert!(out.stdout.is_empty());
        for word in [&["error: ", ". hint: "], words].concat() {
            assert!(error.contains(word), "{arguments:?}: {error:?} lacks {word:?}");
        }
    };
    refused(&["base.json"], &["NEW"]);
    refused(&["base.json", "missing.json"], &["missing.json"]);
    refused(&["base.json", "empty"], &["empty", "no run file"]);
    std::fs::create_dir(files.path("cut")).unwrap();
    let text = files.runs[0].to_json().unwrap();
    std::fs::write(files.path("cut/run.json"), &text[..text.len() / 2]).unwrap();
    refused(&["base.json", "cut"], &["cut/run.json", "not a run file"]);
    refused(&["base.json", "new.json", "--threshold", "lots"], &["--threshold", "5%"]);
    refused(&["base.json", "new.json", "--threshold=-1%"], &["--threshold", "at least 0"]);
    refused(&["base.json", "new.json", "--across", "weather"], &["weather", "driver"]);
    refused(&["base.json", "new.json", "--price", "BASE=free"], &["--price", "BASE=1.5/h"]);
    refused(&["base.json", "new.json", "--export", "result.xls"], &["result.xls", ".xml"]);
    refused(&["base.json", "--base", "./base.json", "--new", "new.json"], &["base.json", "named twice"]);
}

/// The program says what the library says: on seeded pairs of every noise.
#[test]
fn the_program_judges_as_the_library_does() {
    for noise in [Noise::Normal, Noise::Outliers, Noise::TwoHumped, Noise::Drift] {
        for cv in [0.002, 0.01, 0.05] {
            for seed in 0..3 {
                let files = Files::of(Case { change: Some((3, 1.04)), ..Case::new(noise, cv) }, seed);
                let library = compare(&files.runs[..1], &files.runs[1..], &Options::default()).unwrap();
                let out = files.compare(&["-o", "json"]);
                let code = library.code(false).map_or(0, |code| code as i32);
                assert_eq!(out.status.code(), Some(code), "{noise:?} {cv} {seed}");
                assert_eq!(json(&out), serde_json::to_value(&library).unwrap(), "{noise:?} {cv} {seed}");
            }
        }
    }
}
