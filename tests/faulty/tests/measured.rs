//! `measure` on a CPU that computes or times wrongly: exit 5, one line, and no figure that anybody could quote.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use llmroof::run::{Run, RunStatus, Status};
use llmroof::workload::Stage;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny-tied-hd64");

/// Every measurement takes all cores: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

/// Measures one decode step of a small model with faults.
fn measure(reports: &Path, faults: &[(&str, &str)], more: &[&str]) -> Output {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.args(["measure", "--checkpoint", SMALL, "--device", "cpu", "--phase", "decode", "--batch", "1"]);
    command
        .args(["--prompt", "20", "--generate", "10", "--budget", "8s", "--reports"])
        .arg(reports)
        .args(more);
    command.envs(faults.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect()
}

/// The one line of the error; beside it there is only where the run file is.
fn error(out: &Output) -> String {
    let stderr = text(&out.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("run file: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{stderr}");
    assert!(lines[0].contains(". hint: "), "{stderr}");
    lines[0].to_owned()
}

/// Asserts that nothing was published, and that the line has these words.
#[track_caller]
fn refused(faults: &[(&str, &str)], words: &[&str]) {
    let reports = tempfile::tempdir().unwrap();
    let out = measure(reports.path(), faults, &[]);
    let said = error(&out);
    assert_eq!(out.status.code(), Some(5), "{faults:?}: {said}");
    assert!(out.stdout.is_empty(), "{faults:?}: {}", text(&out.stdout));
    assert!(files(reports.path()).is_empty(), "{faults:?} left {:?}", files(reports.path()));
    for word in words {
        assert!(said.contains(word), "{faults:?}: {said:?} lacks {word:?}");
    }
}

#[test]
fn wrong_results_are_not_timed() {
    for fault in ["element", "nan", "half:attention", "stale:lm_head"] {
        refused(&[("FAULTY_OUTPUT", fault)], &["verification failed: "]);
    }
    for fault in ["rope:5%", "weights:down"] {
        refused(&[("FAULTY_MODEL", fault)], &["verification failed: "]);
    }
}

#[test]
fn a_step_that_took_no_possible_time_is_refused_by_its_name() {
    for (fault, took) in [("zero", "0 s"), ("negative", "-"), ("nan", "NaN s"), ("infinite", "inf s")] {
        refused(&[("FAULTY_TIMES", fault)], &["decode batch 1: a step took ", took, "device's clock"]);
    }
}

#[test]
fn a_stage_that_took_no_possible_time_is_refused_by_its_name() {
    for (fault, stage) in [("negative:qkv", "qkv"), ("nan:lm_head", "lm_head"), ("infinite:down", "down")] {
        refused(&[("FAULTY_TIMES", fault)], &[&format!("decode batch 1: {stage} took ")]);
    }
}

#[test]
fn probes_that_did_nothing_are_refused() {
    for fault in ["zero", "negative", "nan", "infinite"] {
        refused(&[("FAULTY_PROBES", fault)], &["the probe "]);
    }
}

/// The run file of an invalid measurement, after its line and its tables were looked at.
fn invalid(faults: &[(&str, &str)], words: &[&str]) -> Run {
    let reports = tempfile::tempdir().unwrap();
    let path = |name: &str| reports.path().join(name).to_str().unwrap().to_owned();
    let (csv, markdown) = (path("points.csv"), path("table.md"));
    let runs = reports.path().join("runs");
    let out = measure(&runs, faults, &["--export", &csv, "--export", &markdown]);
    let said = error(&out);
    assert_eq!(out.status.code(), Some(5), "{said}");
    for word in words {
        assert!(said.contains(word), "{faults:?}: {said:?} lacks {word:?}");
    }
    let file = files(&runs).pop().unwrap();
    let run = Run::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(run.status, RunStatus::Invalid, "{:?}", run.notes);
    assert!(run.request.is_none());

    for table in [text(&out.stdout), std::fs::read_to_string(&markdown).unwrap()] {
        assert!(table.contains("INVALID: "), "{table}");
        let rows = table.lines().filter(|line| line.contains(" INVALID "));
        let invalid = run.points.iter().filter(|point| point.status == Status::Invalid).count();
        let mut seen = 0;
        for row in rows {
            seen += 1;
            let cells: Vec<&str> =
                row.split(['|', ' ']).filter(|cell| !cell.is_empty() && *cell != "·").collect();
            let blank = |cell: &&str| ["-", "INVALID"].contains(cell);
            assert!(cells.len() > 5 && cells[2..].iter().all(blank), "{row}");
        }
        assert_eq!(seen, invalid, "{table}");
    }
    let mut reader = csv::Reader::from_path(csv).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |record: &csv::StringRecord, name: &str| {
        record[header.iter().position(|column| column == name).unwrap()].to_owned()
    };
    for record in reader.records().map(Result::unwrap) {
        let blank = [
            "seconds_median",
            "tokens_per_second",
            "bytes_per_second",
            "flops_per_second",
            "fraction_of_roof",
        ]
        .map(|name| column(&record, name).is_empty());
        let invalid = column(&record, "status") == "invalid";
        assert!(!invalid || blank == [true; 5], "{record:?}");
        assert!(invalid || !blank[0], "{record:?}");
    }
    run
}

#[test]
fn a_step_above_its_roof_is_kept_without_a_figure() {
    let run = invalid(&[("FAULTY_TIMES", "tenth")], &["above their measured roof"]);
    let step = run.points.iter().find(|point| point.stage.is_none()).unwrap();
    assert_eq!(step.status, Status::Invalid, "{:?}", step.notes);
    assert!(!step.seconds.samples.is_empty(), "the file keeps the samples");
}

#[test]
fn a_clock_that_fails_midway_takes_the_figures_before_it_along() {
    let run = invalid(&[("FAULTY_TIMES", "nan@2")], &["decode batch 1: a step took NaN s"]);
    assert!(run.points.iter().all(|point| point.status == Status::Invalid));
}

#[test]
fn a_large_stage_that_took_no_time_is_not_left_out_in_silence() {
    let run = invalid(&[("FAULTY_TIMES", "zero:lm_head")], &["above their measured roof"]);
    assert!(run.points.iter().all(|point| point.stage != Some(Stage::LmHead)));
    let step = run.points.iter().find(|point| point.stage.is_none()).unwrap();
    assert!(step.notes.iter().any(|note| note.contains("lm_head took no time")), "{:?}", step.notes);
}

#[test]
fn verify_says_so_too() {
    for (name, fault) in
        [("FAULTY_OUTPUT", "element"), ("FAULTY_OUTPUT", "half:qkv"), ("FAULTY_MODEL", "rope:5%")]
    {
        for checkpoint in [None, Some(SMALL)] {
            // One element of a stage is nothing that a checkpoint's logits are made of.
            if checkpoint.is_some() && name == "FAULTY_OUTPUT" {
                continue;
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
            command.args(["verify", "--device", "cpu", "--activations", "f32"]).env(name, fault);
            command.args(checkpoint.map(|folder| ["--checkpoint", folder]).into_iter().flatten());
            let out = command.output().unwrap();
            assert_eq!(out.status.code(), Some(5), "{fault}: {}", error(&out));
            assert!(error(&out).contains("verification failed: "));
            assert!(text(&out.stdout).contains("FAIL: f32"), "{}", text(&out.stdout));
        }
    }
}
