//! `measure --repeat`, `--append` and `--resume` through the real program: trials of one run file.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llmroof::run::{Run, RunStatus, Status};
use serde_json::Value;
use support::tests;

fn llmroof(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmroof")).args(args).output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

/// Measures two decode steps into a new run file of `folder`.
fn measured(folder: &Path, repeat: &str) -> PathBuf {
    let small = tests("golden/tiny-tied-hd64");
    let reports = folder.to_str().unwrap();
    let out = llmroof(&[
        "measure",
        "--checkpoint",
        small.to_str().unwrap(),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--phase",
        "decode",
        "--batch",
        "1,2",
        "--context",
        "50",
        "--repeat",
        repeat,
        "--budget",
        "4s",
        "--reports",
        reports,
    ]);
    // A point above its roof is this machine's speed changing meanwhile, no matter here.
    assert!(matches!(out.status.code(), Some(0 | 5)), "{}", stderr(&out));
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let path = files.into_iter().next().unwrap();
    complete(&path);
    path
}

/// Has what a busy machine's budget left out measured; the last attempt says that nothing is missing.
fn complete(path: &Path) {
    for _ in 0..10 {
        let out = llmroof(&["measure", "--resume", path.to_str().unwrap(), "--budget", "3s"]);
        if stderr(&out).contains("nothing is missing") {
            assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
            return;
        }
        assert!(matches!(out.status.code(), Some(0 | 5)), "{}", stderr(&out));
    }
    panic!("ten budgets were not enough");
}

fn read(path: &Path) -> Run {
    Run::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every point has as many entries of trials as counts of samples, each of a trial of the run, in order.
fn is_sound(run: &Run) {
    for point in &run.points {
        assert_eq!(point.trials.len(), point.seconds.trials.len());
        assert!(point.trials.windows(2).all(|two| two[0].trial < two[1].trial), "{:?}", point.trials);
        assert!(point.trials.iter().all(|trial| (trial.trial as usize) < run.trials.len()));
        let samples: u32 = point.seconds.trials.iter().sum();
        assert_eq!(samples as usize, point.seconds.samples.len());
    }
    assert!(run.trials.is_sorted_by_key(|trial| &trial.started), "{:?}", run.trials);
}

#[test]
fn another_process_adds_its_trials() {
    let folder = tempfile::tempdir().unwrap();
    let path = measured(folder.path(), "2");
    let first = read(&path);
    let out = llmroof(&["measure", "--append", path.to_str().unwrap(), "--repeat", "1", "--budget", "3s"]);
    assert!(matches!(out.status.code(), Some(0 | 5)), "{}", stderr(&out));
    let appended = read(&path).processes.len();
    complete(&path);
    let both = read(&path);
    is_sound(&both);
    assert_eq!(appended, first.processes.len() + 1);
    assert_eq!(both.created, first.created, "the run is the one that began");
    assert_eq!(both.plan.as_ref().unwrap().repeat, 3);
    let last = both.processes.len() as u32 - 1;
    assert_eq!(both.trials.iter().map(|trial| trial.process).max(), Some(last));
    for (old, new) in first.points.iter().zip(&both.points) {
        assert_eq!(old.key(), new.key());
        assert!(new.seconds.samples.starts_with(&old.seconds.samples), "what was there stays there");
        assert!(new.seconds.samples.len() > old.seconds.samples.len());
        assert_eq!((old.bytes, old.flops), (new.bytes, new.flops));
        let rate = new.bytes / new.seconds.median;
        assert!((new.bytes_per_second / rate - 1.0).abs() < 1e-9, "rates follow the new median");
    }
    let folder: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(folder.len(), 1, "no other file");
}

#[test]
fn a_run_that_was_cut_short_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = measured(folder.path(), "2");
    // As a kill in the second trial leaves it: the second pass has one trial less.
    let mut cut: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for point in cut["points"].as_array_mut().unwrap().iter_mut().filter(|point| point["batch"] == 2) {
        let first = point["seconds"]["trials"][0].as_u64().unwrap() as usize;
        point["seconds"]["samples"].as_array_mut().unwrap().truncate(first);
        point["seconds"]["trials"].as_array_mut().unwrap().truncate(1);
        point["trials"].as_array_mut().unwrap().truncate(1);
    }
    cut["status"] = "partial".into();
    std::fs::write(&path, cut.to_string()).unwrap();
    let before = read(&path);

    complete(&path);
    let run = read(&path);
    is_sound(&run);
    for point in &run.points {
        assert_eq!(point.trials.len(), 2, "{:?} batch {}", point.stage, point.batch);
        if point.batch == 1 {
            let old = before.points.iter().find(|old| old.key() == point.key()).unwrap();
            assert_eq!(point.seconds, old.seconds, "what was complete is not measured again");
        }
    }
    let invalid = run.points.iter().any(|point| point.status == Status::Invalid);
    assert_eq!(run.status, if invalid { RunStatus::Invalid } else { RunStatus::Complete });

    let text = std::fs::read_to_string(&path).unwrap();
    complete(&path);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = measured(folder.path(), "1");
    let text = std::fs::read_to_string(&path).unwrap();
    let run = path.to_str().unwrap();
    let refused = |args: &[&str], words: &[&str]| {
        let out = llmroof(args);
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: ") && error.contains(". hint: "), "{said}");
        for word in words {
            assert!(error.contains(word), "{args:?}: {error:?} lacks {word:?}");
        }
    };
    refused(&["measure", "--append", run, "--batch", "8"], &["--append", "--batch"]);
    refused(&["measure", "--resume", run, "--repeat", "3"], &["--resume", "--repeat"]);
    refused(&["measure", "--append", "/nowhere/run.json"], &["/nowhere/run.json"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // Measured by another version, on another machine.
    let mut other: Value = serde_json::from_str(&text).unwrap();
    other["tool"]["version"] = "9.9.9".into();
    other["device"]["name"] = "A faster CPU".into();
    let elsewhere = folder.path().join("other.json");
    std::fs::write(&elsewhere, other.to_string()).unwrap();
    let words = ["tool llmroof 9.9.9, now llmroof 0.1.0", "device A faster CPU", "other conditions"];
    refused(&["measure", "--append", elsewhere.to_str().unwrap(), "--budget", "1s"], &words);

    let old = tests("fixtures/valid/run/version-2-cpu.json");
    refused(&["measure", "--append", old.to_str().unwrap()], &["older llmroof"]);

    // Another process is measuring into it.
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    refused(&["measure", "--append", run], &["another llmroof is measuring into it"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
