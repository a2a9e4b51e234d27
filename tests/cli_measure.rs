//! `llmroof measure` and `plot` through the real program, on a small model.
//!
//! How fast anything is, is never asserted.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llmroof::run::{Run, RunStatus, Status};
use llmroof::workload::{Phase, Stage};
use serde_json::Value;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-tied-hd64");

/// Every measurement takes all cores: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn llmroof(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.args(args);
    command
}

fn output(args: &[&str]) -> Output {
    llmroof(args).output().unwrap()
}

/// Attempts before the machine is no excuse any more.
const ATTEMPTS: usize = 5;

/// Runs a measurement whose run files go to `reports`. A point above its roof is the machine changing its speed between
/// a sample and the probes beside it, which others that use the machine can bring about: then the hint is followed.
fn measured(reports: &Path, args: &[&str]) -> Output {
    for _ in 1..ATTEMPTS {
        let out = output(args);
        if out.status.code() != Some(5) || !text(&out.stderr).contains("hint: the machine changed its speed")
        {
            return out;
        }
        std::fs::remove_dir_all(reports).unwrap();
    }
    output(args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Asserts that it was refused with exit 2 and one line that has all of `words`, and that nothing was written.
fn refused(args: &[&str], words: &[&str]) {
    let reports = tempfile::tempdir().unwrap();
    let folder = reports.path().join("runs");
    let mut all = args.to_vec();
    let path = folder.to_str().unwrap().to_owned();
    all.extend(["--reports", &path]);
    let out = output(&all);
    let stderr = text(&out.stderr);
    let error = stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for word in words {
        assert!(error.contains(word), "{args:?}: {error:?} lacks {word:?}");
    }
    assert!(error.contains(". hint: "), "{args:?}: {error:?}");
    assert!(out.stdout.is_empty(), "{args:?}");
    assert!(files(&folder).is_empty(), "{args:?} left {:?}", files(&folder));
}

#[test]
fn a_small_checkpoint_is_measured_exported_and_drawn() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (reports, csv, markdown) = (path("reports"), path("points.csv"), path("table.md"));
    let out = measured(
        Path::new(&reports),
        &[
            "measure",
            "--checkpoint",
            SMALL,
            "--device",
            "cpu",
            "--prompt",
            "100",
            "--generate",
            "20",
            "--batch",
            "1,3",
            "--layers",
            "all",
            "--budget",
            "20s",
            "--repeat",
            "2",
            "--reports",
            &reports,
            "--export",
            &csv,
            "--export",
            &markdown,
        ],
    );
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    assert!(text(&out.stdout).contains("tiny-tied-hd64 on "), "{}", text(&out.stdout));

    let written = files(Path::new(&reports));
    assert_eq!(written.len(), 1, "{written:?}");
    let json = std::fs::read_to_string(&written[0]).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../schema/run.schema.json")).unwrap();
    jsonschema::validate(&schema, &serde_json::from_str(&json).unwrap()).unwrap();

    let run = Run::from_json(&json).unwrap();
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    assert!(run.verification.as_ref().unwrap().passed);
    // Prefill, and decode at two batches: the step and seven stages each.
    assert_eq!(run.points.len(), 3 * 8);
    for point in &run.points {
        assert_eq!(point.layers_measured, 3);
        assert_eq!(point.seconds.trials.len(), 2, "one entry for each trial");
        assert_eq!(
            point.seconds.samples.len(),
            run.points
                .iter()
                .find(|p| { (p.phase, p.batch) == (point.phase, point.batch) })
                .unwrap()
                .seconds
                .samples
                .len()
        );
    }
    let step =
        run.points.iter().find(|p| p.stage.is_none() && p.phase == Phase::Decode && p.batch == 3).unwrap();
    let stages: f64 = run
        .points
        .iter()
        .filter(|p| p.stage.is_some() && p.phase == Phase::Decode && p.batch == 3)
        .map(|p| p.flops)
        .sum();
    assert_eq!(step.flops, stages);
    assert_eq!(step.context, 110, "the middle of the generation");
    assert!(run.points.iter().any(|p| p.stage == Some(Stage::LmHead)));
    let request = run.request.unwrap();
    assert!((request.prefill_share + request.decode_share - 1.0).abs() < 1e-9);
    assert_eq!(run.ceilings.len(), 6);

    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 3 * 8);
    assert!(std::fs::read_to_string(&markdown).unwrap().contains("| "));

    let drawn = output(&["plot", "--reports", &reports]);
    assert_eq!(drawn.status.code(), Some(0), "{}", text(&drawn.stderr));
    let svg = std::fs::read_to_string(written[0].with_extension("svg")).unwrap();
    assert!(svg.contains("tiny-tied-hd64") && svg.ends_with("</svg>\n"), "{svg:.200}");
}

#[test]
fn json_on_stdout_is_the_run_file() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let config = format!("{SMALL}/config.json");
    let out = measured(
        folder.path(),
        &[
            "measure",
            "--model",
            &config,
            "--phase",
            "decode",
            "--batch",
            "2",
            "--context",
            "77",
            "--threads",
            "1",
            "--activations",
            "f32",
            "--layers",
            "1",
            "--budget",
            "2s",
            "--reports",
            reports,
            "-o",
            "json",
        ],
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(
        text(&out.stderr).contains("using the CPU"),
        "--device auto says what it took: {}",
        text(&out.stderr)
    );
    let run = Run::from_json(&text(&out.stdout)).unwrap();
    assert_eq!(text(&out.stdout), std::fs::read_to_string(&files(folder.path())[0]).unwrap());
    let step = &run.points[0];
    assert_eq!((step.batch, step.context, step.layers_measured, step.layers_total), (2, 77, 1, 3));
    assert_eq!((step.activations.name(), step.kv.name()), ("f32", "f32"));
    assert_eq!(run.conditions.unwrap().threads, Some(1));
    assert!(run.request.is_none(), "no prefill was measured");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let reports = folder.path().join(signal);
        let mut child = llmroof(&[
            "measure",
            "--checkpoint",
            SMALL,
            "--prompt",
            "500",
            "--budget",
            "60s",
            "--batch",
            "1-32",
        ])
        .arg("--reports")
        .arg(&reports)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        // The run file appears with the first point.
        let began = Instant::now();
        while !files(&reports).iter().any(|path| path.extension().is_some_and(|ending| ending == "json")) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
            assert!(began.elapsed() < Duration::from_secs(60), "no point was measured");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(
            Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(child.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        let run = Run::from_json(&std::fs::read_to_string(&files(&reports)[0]).unwrap()).unwrap();
        // A point above its roof is worth more than the interruption: see `measured`.
        let says = if run.points.iter().any(|point| point.status == Status::Invalid) {
            (RunStatus::Invalid, "INVALID")
        } else {
            (RunStatus::Partial, "PARTIAL")
        };
        assert_eq!(run.status, says.0);
        assert!(!run.points.is_empty());
        assert!(run.notes.iter().any(|note| note.contains("interrupted")), "{:?}", run.notes);
        assert!(text(&out.stdout).starts_with(says.1), "{}", text(&out.stdout));
    }
}

#[test]
fn a_budget_that_is_too_short_says_what_it_left_out() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let out = measured(
        folder.path(),
        &[
            "measure",
            "--model",
            &format!("{SMALL}/config.json"),
            "--budget",
            "0.5s",
            "--batch",
            "1,4096",
            "--context",
            "1000",
            "--prompt",
            "900",
            "--reports",
            reports,
            "-o",
            "json",
        ],
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let run = Run::from_json(&text(&out.stdout)).unwrap();
    assert_eq!(run.status, RunStatus::Partial);
    assert!(
        run.notes.iter().any(|note| note.contains("left out") && note.contains("batch 4096")),
        "{:?}",
        run.notes
    );
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let config = format!("{SMALL}/config.json");
    refused(&["measure", "--batch", "0"], &["--batch", "0 is not allowed"]);
    refused(&["measure", "--batch", "1-9*1"], &["--batch", "never ends"]);
    refused(&["measure", "--model", "lama-8b"], &["lama-8b", "llama-8b"]);
    refused(&["measure", "--model", &config, "--context", "2000"], &["--context", "1024"]);
    let small = |more: &[&str], words: &[&str]| {
        let mut args = vec!["measure", "--model", &config, "--prompt", "100"];
        args.extend(more);
        refused(&args, words);
    };
    small(&["--layers", "4"], &["--layers 4", "has 3"]);
    small(&["--device", "cuda-0"], &["cuda-0", "auto, cpu, cuda"]);
    small(&["--isa", "sse9"], &["sse9"]);
    small(&["--export", "/nowhere/points.csv"], &["/nowhere/points.csv"]);
    small(&["--export", "points.xls"], &["points.xls", ".csv"]);
    refused(&["measure", "--budget", "never"], &["--budget", "60s"]);
    refused(&["measure", "--modle", "llama-8b"], &["--modle", "--model"]);
    refused(&["measure", "--checkpoint", "/nowhere"], &["/nowhere"]);
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_figures() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let out = output(&["measure", "--model", "llama-405b", "--layers", "all", "--reports", reports]);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("126 of 126 layers needs ") && stderr.contains(" GB are available"), "{stderr}");
    assert!(files(folder.path()).is_empty());
}
