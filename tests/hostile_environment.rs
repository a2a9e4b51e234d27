//! Variables and arguments that are nonsense: one line that names what to change.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use assert_cmd::Command;

/// The program in an empty folder, with no variable of its own but these.
fn llmroof<'a>(folder: &Path, arguments: &[&OsStr], variables: &[(&'a str, &'a OsStr)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LLMROOF_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    command
}

fn complaint(arguments: &str, variables: &[(&str, &OsStr)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let arguments: Vec<&OsStr> = arguments.split(' ').map(OsStr::new).collect();
    let failed = llmroof(folder.path(), &arguments, variables).assert().code(2);
    let failed = failed.get_output();
    assert!(failed.stdout.is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written");
    let said = String::from_utf8(failed.stderr.clone()).unwrap();
    assert!(said.ends_with('\n') && !said.trim_end().contains(char::is_control), "{said:?}");
    assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
    said
}

/// Each variable, a command that reads it, and what the line about it must name.
const VARIABLES: [(&str, &str, &str); 19] = [
    ("LLMROOF_AGAINST", "check", "device"),
    ("LLMROOF_BATCH", "predict -d l4", "--batch"),
    ("LLMROOF_BUDGET", "measure", "--budget"),
    ("LLMROOF_DEVICE", "measure", "--device"),
    ("LLMROOF_GEMM", "verify", "--gemm"),
    ("LLMROOF_HEAD", "measure", "--head"),
    ("LLMROOF_ISA", "verify --device cpu", "--isa"),
    ("LLMROOF_KV", "measure", "--kv"),
    ("LLMROOF_KV_PAGE", "measure", "--kv-page"),
    ("LLMROOF_LINK", "predict -d l4", "device"),
    ("LLMROOF_MIX", "predict -d l4", "--mix"),
    ("LLMROOF_MODEL", "measure", "model"),
    ("LLMROOF_PROFILES", "devices", "--profiles"),
    ("LLMROOF_REPORTS", "plot", "--reports"),
    ("LLMROOF_SOAK", "measure", "--soak"),
    ("LLMROOF_THREADS", "verify --device cpu", "--threads"),
    ("LLMROOF_TIMEOUT", "verify", "--timeout"),
    ("LLMROOF_TP", "predict -d l4", "--tp"),
    ("LLMROOF_WEIGHTS", "predict -d l4", "--weights"),
];

#[test]
fn nonsense_in_a_variable_is_answered_with_its_option() {
    for (name, command, words) in VARIABLES {
        for value in ["", "nonsense", "a\nb\u{1b}[31m", "-1", "*", "\u{202e}0", "999999999999999999999999x"] {
            let said = complaint(command, &[(name, OsStr::new(value))]);
            assert!(said.contains(words), "{name}={value:?}: {said}");
        }
    }
}

#[test]
fn every_variable_of_the_help_is_in_the_table() {
    let help = |command: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_llmroof")).args(["help", command]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let texts =
        ["measure", "plot", "predict", "claims", "verify", "check", "devices", "models"].map(help).concat();
    let mut names: Vec<&str> = texts
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).next().unwrap())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, VARIABLES.map(|(name, ..)| name));
}

#[test]
fn a_variable_that_is_no_text_is_named() {
    for (name, command, option) in VARIABLES {
        let said = complaint(command, &[(name, OsStr::from_bytes(b"a\xff"))]);
        match name {
            // Names of folders may be any bytes.
            "LLMROOF_PROFILES" => assert!(said.contains("no profiles here"), "{said}"),
            "LLMROOF_REPORTS" => assert!(said.contains("no run file"), "{said}"),
            // One of a few words: that this is none of them is as good.
            "LLMROOF_GEMM" | "LLMROOF_HEAD" | "LLMROOF_KV" | "LLMROOF_WEIGHTS" => {
                assert!(said.contains(option), "{said}")
            }
            _ => assert!(said.contains(&format!("the variable {name} is not UTF-8")), "{said}"),
        }
    }
}

#[test]
fn an_argument_that_is_no_text_is_named_where_text_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let odd = OsStr::from_bytes(b"odd\xff");
    let failed = llmroof(folder.path(), &["predict".as_ref(), "-d".as_ref(), odd], &[]).assert().code(2);
    let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
    assert!(
        said.contains("the argument \"odd\u{fffd}\" is not UTF-8 text") && said.lines().count() == 1,
        "{said}"
    );
}

/// Names of files may be any bytes: the run file, whose command line is text, shows what it can.
#[test]
fn files_may_have_names_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut name = OsString::from("odd");
    name.push(OsStr::from_bytes(b"\xff.json"));
    let arguments = ["predict", "-d", "l4", "--export"].map(OsStr::new);
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([name.as_os_str()]).collect();
    llmroof(folder.path(), &arguments, &[]).assert().success();
    let run = fs::read_to_string(folder.path().join(&name)).unwrap();
    assert!(run.contains("\"odd\u{fffd}.json\""), "{run}");
    let arguments = [OsStr::new("plot"), &name, OsStr::new("-o"), OsStr::new("-")];
    llmroof(folder.path(), &arguments, &[]).assert().success();
}
