//! `llmroof check` through the real program, on the CPU: against a run that it measured a moment before.
//!
//! How fast anything is, is never asserted: the run is made a hundred times slower or faster than it was.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

/// A model of 30 MB, whose step takes milliseconds: shorter ones end between two swings of a busy machine's speed.
const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 8000,
    "max_position_embeddings": 2048, "rope_theta": 10000.0}"#;
/// Every measurement takes a core and all of the memory's bandwidth: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());
/// Attempts before the machine, which others use, is no excuse any more.
const ATTEMPTS: usize = 5;

/// How the program ended, and what it printed. Started in a folder of its own, which it leaves as it was.
fn llmroof(args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    for name in ["LLMROOF_DEVICE", "LLMROOF_THREADS", "LLMROOF_ISA", "LLMROOF_AGAINST", "LLMROOF_PROFILES"] {
        command.env_remove(name);
    }
    let out = command.current_dir(folder.path()).args(args).output().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{args:?} left files");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

/// The same again, as the hint says, while others take the machine: a point lies above its roof because the speed
/// changed meanwhile, or the budget ended first.
fn believed(args: &[&str]) -> (Option<i32>, String, String) {
    let again = |(code, _, err): &(Option<i32>, String, String)| match code {
        Some(5) => err.contains("hint: the machine changed its speed"),
        Some(3) => err.contains("not done within"),
        _ => false,
    };
    (1..ATTEMPTS).map(|_| llmroof(args)).find(|ended| !again(ended)).unwrap_or_else(|| llmroof(args))
}

/// A run of a small model's decode at batch 1, of one thread: what is held against it runs on one, too.
fn measured() -> &'static Value {
    static RUN: OnceLock<Value> = OnceLock::new();
    RUN.get_or_init(|| {
        let reports = tempfile::tempdir().unwrap();
        let model = tempfile::tempdir().unwrap();
        let config = model.path().join("config.json");
        fs::write(&config, SMALL).unwrap();
        let (config, folder) = (config.to_str().unwrap(), reports.path().to_str().unwrap());
        let args = ["measure", "--model", config, "--device", "cpu", "--threads", "1", "--phase", "decode"];
        let more =
            ["--prompt", "20", "--generate", "10", "--batch", "1", "--budget", "3s", "--reports", folder];
        let (code, _, err) = llmroof(&[&args[..], &more[..]].concat());
        // A stage or step above its roof is of no matter here: the step's mark is taken off below.
        assert!(matches!(code, Some(0 | 5)), "{err}");
        let file = fs::read_dir(reports.path()).unwrap().next().unwrap().unwrap().path();
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    })
}

/// The run as a file, at this many times the speed.
fn at_speed(folder: &TempDir, factor: f64) -> PathBuf {
    let mut run = measured().clone();
    for ceiling in run["ceilings"].as_array_mut().unwrap() {
        for field in ["rate", "low", "median"] {
            ceiling[field] = (ceiling[field].as_f64().unwrap() * factor).into();
        }
    }
    for point in run["points"].as_array_mut().unwrap() {
        point["fraction_of_roof"] = (point["fraction_of_roof"].as_f64().unwrap() * factor).into();
        point["status"] = "ok".into();
    }
    written(folder, &run)
}

fn written(folder: &TempDir, run: &Value) -> PathBuf {
    let path = folder.path().join("run.json");
    fs::write(&path, run.to_string()).unwrap();
    path
}

fn check<'a>(run: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let budget: &[&str] = if more.contains(&"--budget") { &[] } else { &["--budget", "20s"] };
    let args = ["check", "--device", "cpu", "--against", run.to_str().unwrap()];
    [&args[..], budget, more].concat()
}

/// The one line on stderr of what is refused with exit 2, with nothing on stdout.
fn refused(args: &[&str], words: &[&str]) {
    let (code, out, err) = llmroof(args);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{args:?}: {err}");
    assert!(err.starts_with("error: ") && err.contains(". hint: "), "{err}");
    for word in words {
        assert!(err.contains(word), "{args:?}: {err:?} lacks {word:?}");
    }
}

#[test]
fn a_machine_passes_against_itself_at_a_hundredth_of_its_speed() {
    let folder = tempfile::tempdir().unwrap();
    let path = at_speed(&folder, 0.01);
    let json = folder.path().join("check.json");
    let (code, out, err) = believed(&check(&path, &["--export", json.to_str().unwrap()]));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    for word in
        ["ok: ", ": read ", "B/s (", "% of the run, floor 95.0%), ", "FLOP/s (", ", decode ", "% of read ("]
    {
        assert!(out.contains(word), "{out:?} lacks {word:?}");
    }
    let all: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let one = &all[0];
    assert_eq!((&one["verdict"], &one["exit_code"], &one["reason"]), (&"ok".into(), &0.into(), &Value::Null));
    let figures = one["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 3);
    for figure in figures {
        let number = |field: &str| figure[field].as_f64().unwrap();
        assert_eq!((number("floor"), &figure["passed"]), (0.95, &true.into()));
        let share = number("measured") / number("reference");
        assert!(
            (number("share") / share - 1.0).abs() < 1e-9 && !figure["source"].as_str().unwrap().is_empty()
        );
    }
}

#[test]
fn it_fails_against_itself_at_a_hundred_times_its_speed_with_one_line_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = at_speed(&folder, 100.0);
    let csv = folder.path().join("check.csv");
    let (code, out, err) =
        believed(&check(&path, &["--tolerance", "10%", "--export", csv.to_str().unwrap()]));
    assert_eq!((code, out.lines().count(), err.lines().count()), (Some(1), 1, 1), "{out}{err}");
    assert!(
        out.starts_with("failed: ")
            && err.starts_with("error: ")
            && err.contains(". hint: look at what else"),
        "{out}{err}"
    );
    for word in [": read ", "B/s is ", "% of the run, floor 90.0%; ", "; decode "] {
        assert!(out.contains(word), "{out:?} lacks {word:?}");
    }
    let rows = fs::read_to_string(csv).unwrap();
    assert_eq!(rows.lines().count(), 4, "a heading and three figures: {rows}");
    assert!(rows.contains("memory_read") && rows.lines().skip(1).all(|row| row.contains("false")), "{rows}");
}

#[test]
fn too_short_a_budget_is_no_verdict_and_says_what_was_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = at_speed(&folder, 0.01);
    // Half a second of samples is the least.
    let (code, out, err) = llmroof(&check(&path, &["--budget", "0.3s"]));
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.starts_with("inconclusive: ") && out.contains("not done within 0.3 s, it was "), "{out}");
    assert!(err.contains("--budget") && err.lines().count() == 1, "{err}");
}

#[test]
fn without_anything_to_hold_it_against_a_cpu_is_told_to_measure_first() {
    refused(&["check", "--device", "cpu"], &["nothing to hold the ", "llmroof measure", "--against"]);
}

#[test]
fn what_cannot_be_held_against_this_machine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut run = measured().clone();
        run["points"].as_array_mut().unwrap().iter_mut().for_each(|point| point["status"] = "ok".into());
        change(&mut run);
        written(&folder, &run)
    };
    let path = edited(&|run| run["device"]["name"] = "Another CPU".into());
    refused(&check(&path, &[]), &["--against is of Another CPU", "the device is "]);
    let path = edited(&|run| run["conditions"]["threads"] = 7.into());
    refused(&check(&path, &["--threads", "1"]), &["--against is of 7 threads, and --threads is 1", "leave"]);
    let path = edited(&|run| run["conditions"]["threads"] = 4000.into());
    refused(
        &check(&path, &[]),
        &["to run as --against did: 4000 threads were asked for", "this machine runs"],
    );
    let path = edited(&|run| run["conditions"]["instruction_set"] = "portable".into());
    refused(&check(&path, &["--isa", "avx2"]), &["--against is of portable, and --isa is avx2"]);
    let path = edited(&|run| run["conditions"]["instruction_set"] = "sse9".into());
    refused(&check(&path, &[]), &["to run as --against did: ", "sse9"]);
    let path = edited(&|run| run["status"] = "predicted".into());
    refused(&check(&path, &[]), &["run.json: the run holds no measured ceilings"]);
    fs::write(&path, "{}").unwrap();
    refused(&check(&path, &[]), &["run.json: not a run file"]);
    refused(&["check", "--device", "cpu", "--against", "nowhere/run.json"], &["nowhere/run.json", "measure"]);
    refused(&["check", "--device", "cpu", "--against", "h100-sxm"], &["did you mean h100-sxm5?"]);
    refused(&["check", "--device", "cpu", "--against", "h100-sxm5"], &["NVIDIA H100 SXM5", "the device is "]);
    refused(&["check", "--device", "cpu", "--against", "l4"], &["NVIDIA L4"]);
    for share in ["100%", "-1%", "x", "nan"] {
        let option = format!("--tolerance={share}");
        refused(&["check", &option], &["write a share as 5%"]);
    }
}
