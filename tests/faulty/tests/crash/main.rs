//! Files are never lost or half written, whenever the process ends and whatever cannot be written to.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod disks;
mod kills;
mod pipes;
mod processes;
mod signals;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use jsonschema::Validator;
use llmroof::run::Run;

/// A small checkpoint.
const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny-tied-hd64");
/// Its dimensions.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/tiny-tied-hd64/config.json");

/// Trials of the measurements here.
const TRIALS: usize = 3;

/// The program; README.md of this package has the variables with which it goes wrong.
fn faulty(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.args(args).env_remove("LLMROOF_REPORTS");
    command
}

/// Measures decode steps, [`TRIALS`] of each, into a folder. Nothing is executed but the check of the kernels, so that
/// the run file is written every few milliseconds. The budget ends no run, however busy the machine is.
fn measure(reports: &Path, batches: &str) -> Command {
    let (trials, reports) = (TRIALS.to_string(), reports.to_str().unwrap());
    let mut command = faulty(&["measure", "--model", MODEL, "--device", "cpu", "--threads", "1"]);
    command
        .args(["--layers", "1", "--phase", "decode", "--context", "50", "--batch", batches])
        .args(["--repeat", &trials, "--budget", "900s", "--reports", reports])
        .env("FAULTY_IDLE", "yes");
    command
}

/// Measures what a run file lacks.
fn resume(run: &Path) -> Command {
    let mut command = faulty(&["measure", "--budget", "900s", "--resume", run.to_str().unwrap()]);
    command.env("FAULTY_IDLE", "yes");
    command
}

/// Adds a trial to a run file.
fn append(run: &Path) -> Command {
    let mut command = faulty(&["measure", "--budget", "900s", "--append", run.to_str().unwrap()]);
    command.env("FAULTY_IDLE", "yes");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it to its end, which is a good one.
fn done(mut command: Command) -> Output {
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{command:?}: {}", text(&out.stderr));
    out
}

/// Asserts exit 2 and a last line that says why and has all of these words.
fn refused(out: &Output, words: &[&str]) {
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(stderr.ends_with(&format!("{}\n", errors[0])), "{stderr}");
    for word in words.iter().chain(&[". hint: "]) {
        assert!(errors[0].contains(word), "{stderr}: no {word:?}");
    }
}

/// Everything in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The one file in a folder, in which there is no stray one either: a whole run.
fn only_run(folder: &Path) -> PathBuf {
    let files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    read(&files[0]);
    files.into_iter().next().unwrap()
}

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../../../schema/run.schema.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

/// Reads a run file, which is a whole one.
fn read(path: &Path) -> Run {
    let json = fs::read_to_string(path).unwrap();
    let run = Run::from_json(&json).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    SCHEMA.validate(&serde_json::from_str(&json).unwrap()).unwrap();
    for point in &run.points {
        let samples: u32 = point.seconds.trials.iter().sum();
        assert_eq!(samples as usize, point.seconds.samples.len(), "{}", path.display());
        assert_eq!(point.seconds.trials.len(), point.trials.len(), "{}", path.display());
    }
    run
}

/// Samples of all points.
fn samples(run: &Run) -> usize {
    run.points.iter().map(|point| point.seconds.samples.len()).sum()
}

/// Whether every point has so many trials.
fn has_trials(run: &Run, trials: usize) -> bool {
    run.points.iter().all(|point| point.trials.len() == trials)
}

/// Points and samples that the process said it had kept: the last line of `FAULTY_ACKNOWLEDGED`.
fn acknowledged(path: &Path) -> (usize, usize) {
    let lines = fs::read_to_string(path).unwrap_or_default();
    lines.lines().last().map_or((0, 0), |line| {
        let (points, samples) = line.split_once(' ').unwrap();
        (points.parse().unwrap(), samples.parse().unwrap())
    })
}

#[test]
fn a_moment_that_is_not_known_is_refused() {
    for at in ["kill", "kill:halfway", "burn:half", "kill:half@x", ""] {
        let out = faulty(&["models"]).env("FAULTY_AT", at).output().unwrap();
        assert_eq!(out.status.code(), Some(101), "{at}");
    }
}
