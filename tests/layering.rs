//! The rooms of the house have a direction. This reads every import and fails on one that runs the other way.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use, besides itself. Pure rooms first, in the direction of the data.
const ALLOWED: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("text", &[]),
    ("error", &["text"]),
    ("sweep", &[]),
    ("stats", &[]),
    ("model", &["units", "error"]),
    ("roofline", &["units", "model", "stats"]),
    ("device", &["units", "error", "model", "roofline"]),
    ("workload", &["units", "error", "model"]),
    ("reference", &["units", "error", "model", "workload"]),
    ("run", &["units", "error", "model", "stats", "workload", "roofline"]),
    ("request", &["error", "model", "workload", "run"]),
    (
        "predict",
        &["ways", "units", "error", "model", "device", "stats", "workload", "roofline", "run", "request"],
    ),
    ("plot", &["units", "text", "error", "model", "device", "stats", "workload", "roofline", "run"]),
    ("check", &["units", "error", "model", "device", "workload", "roofline", "run"]),
    ("compare", &["units", "error", "model", "stats", "workload", "roofline", "run", "device"]),
    ("claims", &["units", "error", "model", "device", "workload", "roofline", "run", "predict"]),
    ("ways", &["units", "error", "model", "device", "workload", "roofline", "run"]),
    (
        "export",
        &[
            "ways", "units", "text", "error", "model", "device", "stats", "workload", "roofline", "run",
            "compare", "input",
        ],
    ),
    ("report", &["units", "error", "model", "stats", "workload", "roofline", "run", "plot", "export"]),
    // Around the pure ones.
    ("backend", &["units", "error", "model", "workload"]),
    ("telemetry", &["units", "error"]),
    ("input", &["error"]),
    ("profiles", &["units", "error", "model", "device", "input"]),
    ("checkpoint", &["units", "error", "model", "backend", "input"]),
    (
        "measure",
        &[
            "units",
            "error",
            "model",
            "device",
            "stats",
            "workload",
            "roofline",
            "run",
            "request",
            "ways",
            "reference",
            "backend",
            "telemetry",
            "checkpoint",
        ],
    ),
    ("raster", &["error", "plot"]),
    ("cli", &["sweep", "run", "compare", "export", "plot"]),
];

/// Rooms that must not look at the clock, the environment, the disk or a device.
const PURE: &[&str] = &[
    "units",
    "text",
    "error",
    "sweep",
    "stats",
    "model",
    "roofline",
    "device",
    "workload",
    "reference",
    "run",
    "request",
    "predict",
    "plot",
    "check",
    "compare",
    "claims",
    "report",
];

/// What a pure room must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::time",
    "std::net",
    "std::process",
    "std::thread",
    "env::var",
    "Instant::now",
    "SystemTime",
    "println!",
    "eprintln!",
    "print!(",
];

fn with_ending(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            with_ending(&path, endings, found);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|&one| ending == one)) {
            found.push(path);
        }
    }
}

/// Every source file below src with its room: `src/plot/svg.rs` is in `plot`.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    with_ending(&src, &["rs"], &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).unwrap();
            let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let room = room.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            // Comments and documentation may point anywhere.
            let code: String = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            (room, path, code)
        })
        .collect()
}

/// The rooms that a piece of code names: `crate::run::Run`, `crate::{run, stats}`.
fn used(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    if start && !c.is_whitespace() {
                        names.push(word(&list[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn imports_run_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, code) in rooms() {
        if matches!(room.as_str(), "main" | "lib" | "command") {
            continue;
        }
        let may =
            allowed.get(room.as_str()).unwrap_or_else(|| panic!("{room} has no place in the direction"));
        for name in used(&code) {
            if name != room && allowed.contains_key(name.as_str()) && !may.contains(&name.as_str())
                || name == "command"
            {
                wrong.push(format!("{}: {room} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for (room, path, code) in rooms() {
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        if PURE.contains(&room.as_str()) {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}: {room} is pure but names {word}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_main_ends_the_process() {
    for (room, path, code) in rooms() {
        let ends = ["process::exit", "process::abort", ".exit()"].iter().any(|word| code.contains(word));
        assert!(room == "main" || !ends, "{} ends the process", path.display());
    }
}

/// `println!` and `eprintln!` panic where stdout or stderr cannot be written to: `command/output.rs` has what does not.
#[test]
fn only_output_prints() {
    for (_, path, code) in rooms() {
        let prints = ["print!(", "println!("].iter().any(|word| code.contains(word));
        assert!(!prints, "{}: use output::print or output::say", path.display());
    }
}

#[test]
fn no_source_file_is_over_500_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "kernels", "tests", "benches"] {
        with_ending(&root.join(folder), &["rs", "cu", "cuh"], &mut files);
    }
    assert!(files.iter().any(|path| path.ends_with("kernels/gemm.cu")));
    let long: Vec<String> = files
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > 500).then(|| format!("{}: {lines}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    assert_eq!(used("use crate::run::Run;"), ["run"]);
    assert_eq!(
        used("use crate::{\n    run::{Run, Point},\n    stats,\n};\nlet x = crate::units::si(1.0);"),
        ["run", "stats", "units"]
    );
}
