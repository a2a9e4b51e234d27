//! The process dies, or the system refuses, after every step of writing a file.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use llmroof::run::RunStatus;

use super::{
    TRIALS, append, done, faulty, files, has_trials, measure, only_run, read, refused, resume, samples, text,
};

/// Every step, and whether the new file is in its place after it.
const STEPS: [(&str, bool); 7] = [
    ("created", false),
    ("half", false),
    ("written", false),
    ("permissions", false),
    ("synced", false),
    ("renamed", true),
    ("folder-synced", true),
];

/// A complete run of two passes.
static OLD: LazyLock<String> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    done(measure(folder.path(), "1,2"));
    fs::read_to_string(only_run(folder.path())).unwrap()
});

/// A folder with the old run in it.
fn old_run() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.json");
    fs::write(&path, &*OLD).unwrap();
    (folder, path)
}

/// The old content to the byte, or the next one as a whole.
fn is_old_or_next(path: &Path, next: bool) {
    if next {
        assert!(samples(&read(path)) > 2 * 8 * TRIALS);
    } else {
        assert_eq!(fs::read_to_string(path).unwrap(), *OLD);
    }
}

#[test]
fn a_kill_after_any_step_leaves_the_old_run_or_the_next() {
    for (step, next) in STEPS {
        let (folder, path) = old_run();
        let out = append(&path).env("FAULTY_AT", format!("kill:{step}")).output().unwrap();
        assert_eq!(out.status.signal(), Some(9), "{step}: {}", text(&out.stderr));
        is_old_or_next(&path, next);
        assert_eq!(files(folder.path()).len(), if next { 1 } else { 2 }, "{step}: the temporary file");
        done(resume(&path));
        let run = read(&only_run(folder.path()));
        assert_eq!(run.status, RunStatus::Complete);
        assert!(has_trials(&run, TRIALS + usize::from(next)), "{step}");
    }
}

#[test]
fn a_kill_between_the_last_point_and_the_end_leaves_a_run_that_resume_calls_complete() {
    let folder = tempfile::tempdir().unwrap();
    let last = format!("kill:created@{}", 2 * TRIALS);
    let out = measure(folder.path(), "1,2").env("FAULTY_AT", last).output().unwrap();
    assert_eq!(out.status.signal(), Some(9), "{}", text(&out.stderr));
    let path = files(folder.path()).into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let left = read(&path);
    assert!(left.status == RunStatus::Partial && has_trials(&left, TRIALS));
    done(resume(&path));
    let run = read(&only_run(folder.path()));
    assert_eq!((run.status, run.points), (RunStatus::Complete, left.points));
}

#[test]
fn a_point_that_cannot_be_kept_is_kept_with_the_next() {
    for (step, _) in STEPS {
        let (folder, path) = old_run();
        let out = append(&path).env("FAULTY_AT", format!("eio:{step}")).output().unwrap();
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{step}: {stderr}");
        let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("cannot be written")).collect();
        assert_eq!(warnings.len(), 1, "{step}: {stderr}");
        assert!(warnings[0].contains("Input/output error"), "{stderr}");
        assert!(warnings[0].ends_with("hint: measuring goes on, and every point tries again"), "{stderr}");
        let run = read(&only_run(folder.path()));
        assert_eq!(run.status, RunStatus::Complete);
        assert!(has_trials(&run, TRIALS + 1), "{step}");
    }
}

#[test]
fn a_disk_that_stays_full_leaves_the_old_run_and_the_new_one_on_stdout() {
    for (step, next) in STEPS {
        let (folder, path) = old_run();
        let out = append(&path).env("FAULTY_AT", format!("enospc:{step}@0-")).output().unwrap();
        refused(&out, &["run.json", "No space left on device", "--resume", "run.json"]);
        assert_eq!(text(&out.stderr).lines().count(), 2, "one warning, one error: {}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with("tiny-tied-hd64 on "), "{step}: {}", text(&out.stdout));
        is_old_or_next(&path, next);
        only_run(folder.path());
    }
    // Nothing was there before: nothing is afterwards, and there is nothing to go on with.
    let folder = tempfile::tempdir().unwrap();
    let out = measure(folder.path(), "1").env("FAULTY_AT", "enospc:half@0-").output().unwrap();
    refused(&out, &["No space left on device", "free some space"]);
    assert!(!text(&out.stderr).contains("--resume"), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("tiny-tied-hd64 on "));
    assert!(files(folder.path()).is_empty());
}

/// A result that does not take long: a prediction, written to these files.
fn predict(files: &[&Path]) -> Command {
    let mut command = faulty(&["predict", "--model", "llama-8b", "--device", "a100-sxm4-80gb"]);
    for file in files {
        command.arg("--export").arg(file);
    }
    command
}

#[test]
fn exported_files_are_whole_too() {
    let folder = tempfile::tempdir().unwrap();
    let [csv, table] = ["points.csv", "table.md"].map(|name| folder.path().join(name));
    done(predict(&[&csv, &table]));
    let new = [&csv, &table].map(|path| fs::read_to_string(path).unwrap());
    for (step, next) in STEPS {
        for what in ["kill", "eio", "enospc"] {
            fs::write(&csv, "old").unwrap();
            fs::write(&table, "old").unwrap();
            let at = format!("{what}:{step}");
            let out = predict(&[&csv, &table]).env("FAULTY_AT", &at).output().unwrap();
            assert_eq!(fs::read_to_string(&csv).unwrap(), if next { &*new[0] } else { "old" }, "{at}");
            if what == "kill" {
                assert_eq!(out.status.signal(), Some(9), "{at}");
                assert_eq!(fs::read_to_string(&table).unwrap(), "old");
                done(predict(&[&csv]));
            } else {
                refused(&out, &["points.csv: cannot be written"]);
                assert_eq!(fs::read_to_string(&table).unwrap(), new[1], "the other file has it: {at}");
                assert!(text(&out.stdout).contains("llama-8b on "), "so has stdout: {at}");
            }
            assert_eq!(files(folder.path()), [&*csv, &*table], "{at}");
        }
    }
}

#[test]
fn so_are_pictures() {
    let (folder, path) = old_run();
    let picture = path.with_extension("svg");
    for (step, next) in STEPS {
        for what in ["kill", "eio"] {
            fs::write(&picture, "old").unwrap();
            let mut plot = faulty(&["plot", path.to_str().unwrap()]);
            let out = plot.env("FAULTY_AT", format!("{what}:{step}")).output().unwrap();
            assert!(!out.status.success());
            let drawn = fs::read_to_string(&picture).unwrap();
            assert_eq!((drawn == "old", drawn.ends_with("</svg>\n")), (!next, next), "{what}:{step}");
        }
    }
    done(faulty(&["plot", path.to_str().unwrap()]));
    assert_eq!(files(folder.path()), [path, picture]);
}
