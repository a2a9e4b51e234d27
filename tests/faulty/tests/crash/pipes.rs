//! stdout and stderr that nobody reads, and such as cannot be written to.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{CHECKPOINT, done, faulty, measure, only_run, refused, text};

/// A pipe that nobody reads any more: `| head -0`.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A disk that is full.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Every command, in every format that it has.
fn every_command(folder: &Path) -> Vec<Command> {
    let run = folder.join("run.json");
    if !run.exists() {
        done(measure(folder, "1"));
        fs::rename(only_run(folder), &run).unwrap();
    }
    let mut commands = vec![
        faulty(&["--help"]),
        faulty(&["--version"]),
        faulty(&["help", "measure"]),
        faulty(&["plot", run.to_str().unwrap(), "-o", "-"]),
    ];
    // Held against a run of the same machine, on which nothing is executed either.
    let check = || {
        let mut check = faulty(&["check", "--device", "cpu", "--threads", "1", "--budget", "300s"]);
        check.arg("--against").arg(&run).env("FAULTY_IDLE", "yes");
        check
    };
    commands.push(check());
    for format in ["table", "json", "csv", "markdown"] {
        let mut of = |args: &[&str]| {
            let mut command = faulty(args);
            command.args(["-o", format]);
            commands.push(command);
        };
        of(&["models"]);
        of(&["models", "llama-8b"]);
        of(&["devices"]);
        of(&["devices", "a100-sxm4-80gb"]);
        of(&["verify", "--device", "cpu", "--activations", "f32", "--checkpoint", CHECKPOINT]);
        of(&["predict", "--device", "a100-sxm4-80gb", "--explain"]);
        of(&["compare", run.to_str().unwrap(), run.to_str().unwrap()]);
        let mut measure = measure(&folder.join("runs"), "1");
        measure.args(["-o", format]);
        commands.push(measure);
        let mut check = check();
        check.args(["-o", format]);
        commands.push(check);
        let mut resume = super::resume(&run);
        resume.args(["-o", format]);
        commands.push(resume);
    }
    commands
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    for mut command in every_command(folder.path()) {
        let out = command.stdout(closed()).output().unwrap();
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{command:?}: {stderr}");
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{command:?}: {stderr}");
    }
}

#[test]
fn stdout_that_cannot_be_written_to_is_one_line_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    for mut command in every_command(folder.path()) {
        let out = command.stdout(full()).output().unwrap();
        refused(&out, &["stdout: No space left on device"]);
    }
}

#[test]
fn nobody_needs_to_listen_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    for stderr in [closed, full] {
        for mut command in every_command(folder.path()) {
            let out = command.stderr(stderr()).output().unwrap();
            assert_eq!(out.status.code(), Some(0), "{command:?}");
            assert!(!out.stdout.is_empty(), "{command:?}");
        }
        let refused = faulty(&["measure", "--modle", "llama-8b"]).stderr(stderr()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let mut neither = faulty(&["plot", "/nowhere"]);
        assert_eq!(neither.stdout(closed()).stderr(stderr()).status().unwrap().code(), Some(2));
    }
}
