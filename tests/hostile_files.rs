//! What is no ordinary file, or far too large, or nonsense, in every place that names a file: one line within seconds,
//! in little memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use support::tests;

/// Address space of the program: it needs some 300 MB of it to start.
const MEMORY: u64 = 1 << 30;
/// Nothing here takes a second; what takes so long waits for somebody.
const STUCK: Duration = Duration::from_secs(60);
const SPARSE: u64 = 10 << 30;

/// The line on stderr of the program in this folder, which must end with exit code 2.
fn complaint(folder: &Path, arguments: &str) -> Result<String, String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).args(arguments.split(' '));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LLMROOF_") {
            command.env_remove(name);
        }
    }
    let limits = || {
        let most = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
        // SAFETY: `most` lives until the call returns.
        match unsafe { libc::setrlimit(libc::RLIMIT_AS, &most) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec nothing but a system call is made.
    unsafe { command.pre_exec(limits) };
    let done = assert_cmd::Command::from_std(command).timeout(STUCK).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let told = format!("`{arguments}` ended with {:?}: {said}", done.status.code());
    let good = done.status.code() == Some(2)
        && done.stdout.is_empty()
        && said.lines().count() == 1
        && said.starts_with("error: ")
        && said.contains("hint: ");
    if good { Ok(said) } else { Err(told) }
}

/// Makes something at a path.
type Make = fn(&Path);

fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(SPARSE).unwrap();
}

/// What can be where a file should be.
const SPECIAL: [(&str, Make); 18] = [
    ("pipe", |path| {
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the name ends in a NUL byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    }),
    ("socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("endless device", |path| symlink("/dev/zero", path).unwrap()),
    ("empty device", |path| symlink("/dev/null", path).unwrap()),
    ("folder", |path| fs::create_dir(path).unwrap()),
    ("link to itself", |path| symlink(path.file_name().unwrap(), path).unwrap()),
    ("link to nothing", |path| symlink("nowhere", path).unwrap()),
    ("process's memory", |path| symlink("/proc/self/mem", path).unwrap()),
    ("sparse file", sparse),
    ("empty file", |path| fs::write(path, "").unwrap()),
    ("nesting", |path| fs::write(path, "[".repeat(1 << 20)).unwrap()),
    ("objects in objects", |path| fs::write(path, "{\"a\":".repeat(1 << 18)).unwrap()),
    ("infinity", |path| fs::write(path, "{\"schema_version\": 1e999}").unwrap()),
    ("a field twice", |path| fs::write(path, "{\"hidden_size\": 8, \"hidden_size\": 8}").unwrap()),
    ("zeros", |path| fs::write(path, [0; 4096]).unwrap()),
    ("UTF-16", |path| fs::write(path, b"\xff\xfe{\0}\0").unwrap()),
    ("not UTF-8", |path| fs::write(path, b"{\"a\": \"\xff\"}").unwrap()),
    // Root reads it all the same, and what it reads is no valid file either.
    ("locked file", |path| {
        fs::write(path, "locked").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }),
];

/// Commands, and the file that each of them reads; the folders around it are there.
const PLACES: [(&str, &str); 26] = [
    ("plot FILE -o -", "file.json"),
    ("plot ../valid.json FILE -o -", "file.json"),
    ("compare FILE ../valid.json", "file.json"),
    ("compare ../valid.json --new FILE", "file"),
    ("compare --base FILE --new ../valid.json", "file"),
    ("claims FILE", "file.json"),
    ("claims --model FILE", "file.json"),
    ("models FILE", "file.json"),
    ("measure --model FILE", "file.json"),
    ("measure --append FILE", "file.json"),
    ("measure --resume FILE", "file.json"),
    ("check --against FILE", "file.json"),
    ("check --against FILE", "file"),
    ("predict -d l4 --model FILE", "file.json"),
    ("predict -d l4 --model .", "config.json"),
    ("measure --checkpoint .", "config.json"),
    ("verify --checkpoint .", "config.json"),
    ("verify --checkpoint .", "model.safetensors"),
    ("measure --checkpoint .", "model.safetensors"),
    ("verify --checkpoint .", "expected.json"),
    ("verify --checkpoint FILE", "file"),
    ("predict -d l4 --profiles .", "devices/x.toml"),
    ("devices --profiles .", "models/x.toml"),
    ("measure --profiles FILE", "file"),
    ("plot --reports .", "x.json"),
    ("plot --reports FILE", "x"),
];

/// A folder in which everything is valid but what a test puts there.
fn folder() -> tempfile::TempDir {
    let around = tempfile::tempdir().unwrap();
    fs::copy(tests("fixtures/valid/run/small.json"), around.path().join("valid.json")).unwrap();
    let inside = around.path().join("inside");
    for folder in ["", "devices", "models"] {
        fs::create_dir(inside.join(folder)).unwrap();
    }
    for entry in fs::read_dir(tests("fixtures/valid/checkpoint/single")).unwrap() {
        let entry = entry.unwrap();
        // The run files' folder is this one as well: there must be none.
        fs::copy(entry.path(), inside.join(entry.file_name())).unwrap();
    }
    around
}

#[test]
fn whatever_is_in_the_place_of_a_file_is_answered_in_one_line() {
    let mut wrong = Vec::new();
    for (what, make) in SPECIAL {
        for (command, file) in PLACES {
            let around = folder();
            let inside = around.path().join("inside");
            let path = inside.join(file);
            let _ = fs::remove_file(&path);
            make(&path);
            if let Err(told) = complaint(&inside, &command.replace("FILE", file)) {
                wrong.push(format!("{what} as {file}: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is said of some of them.
#[test]
fn the_line_says_what_is_there() {
    for (what, words) in [
        ("pipe", "is a pipe, not a file. hint: write what comes out of it to a file"),
        ("socket", "is a socket, not a file"),
        ("endless device", "is a device, not a file"),
        ("folder", "is a folder, not a file"),
        ("sparse file", "larger than 128 MiB"),
        ("UTF-16", "UTF-16"),
        ("not UTF-8", "not UTF-8 text at byte 7"),
        ("nesting", "expected u32 at line 1"),
        ("objects in objects", "not a run file"),
        ("infinity", "number out of range"),
    ] {
        let around = folder();
        let make = SPECIAL.iter().find(|(name, _)| *name == what).unwrap().1;
        make(&around.path().join("x"));
        let said = complaint(around.path(), "plot x -o -").unwrap();
        assert!(said.contains(words), "{what}: {said}");
    }
    let around = folder();
    fs::write(around.path().join("x"), "{\"hidden_size\": 8, \"hidden_size\": 8}").unwrap();
    let said = complaint(around.path(), "models x").unwrap();
    assert!(said.contains("duplicate field `hidden_size`"), "{said}");
    let said = complaint(around.path(), "plot -").unwrap();
    assert!(said.contains("stdin is not read"), "{said}");
}

/// A header that would be as long as is allowed, in weights that are far larger than the memory.
#[test]
fn huge_weights_are_answered_without_reading_them() {
    for (length, words) in [
        (64u64 << 20, "header is damaged"),
        ((64 << 20) + 1, "its header would be"),
        (u64::MAX, "its header would be"),
        (2, "fill 0 of"),
    ] {
        let around = folder();
        let path = around.path().join("inside/model.safetensors");
        fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(SPARSE).unwrap();
        let said = complaint(&around.path().join("inside"), "verify --checkpoint .").unwrap();
        assert!(said.contains(words), "{length}: {said}");
    }
}

/// `<(...)` is a pipe with somebody at its other end.
#[test]
fn process_substitution_is_refused() {
    let line = format!("{} plot <(cat small.json) -o -", env!("CARGO_BIN_EXE_llmroof"));
    let mut bash = assert_cmd::Command::new("bash");
    let done = bash.current_dir(tests("fixtures/valid/run")).args(["-c", &line]).timeout(STUCK);
    let done = done.assert().code(2);
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains("is a pipe, not a file"), "{said}");
}

/// As large as is legitimate: 10,000 points.
#[test]
fn a_large_run_file_is_read() {
    let text = fs::read_to_string(tests("fixtures/valid/run/small.json")).unwrap();
    let mut run: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut point = run["points"][0].clone();
    point["seconds"]["samples"] = vec![0.001_234_567_890_123; 100].into();
    point["seconds"]["trials"] = vec![100].into();
    run["points"] = vec![point; 10_000].into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.json");
    fs::write(&path, serde_json::to_string_pretty(&run).unwrap()).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    assert!(length > 30 << 20, "{length}");
    let text = llmroof::input::text(&path, llmroof::input::RUN).unwrap();
    assert_eq!(llmroof::run::Run::from_json(&text).unwrap().points.len(), 10_000);
}
