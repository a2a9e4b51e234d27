//! Run files that are there: read by name, or the newest of a folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Failure, Result};
use crate::input;
use crate::run::{Run, RunStatus};

/// Reads a run file.
///
/// # Errors
/// It cannot be read, or it is no run.
pub fn read(path: &Path) -> Result<Run> {
    Run::from_json(&input::text(path, input::RUN)?).map_err(|e| e.at(path.display()))
}

/// The newest run file in a folder and the folders in it: by when the run began, then by name.
///
/// # Errors
/// There is none.
pub fn newest(reports: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Begun {
        // Only runs have both; other JSON is passed over.
        #[serde(rename = "schema_version")]
        _schema_version: u32,
        created: String,
    }
    let none = || {
        Failure::input(format!("no run file in {}", reports.display()))
            .hint("`llmroof measure` writes one; or name a run file, or another folder with --reports")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(reports).map_err(|_| none())?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        } else {
            files.push(path);
        }
    }
    files
        .into_iter()
        .filter(|path| path.extension() == Some(OsStr::new("json")))
        .filter_map(|path| {
            let begun: Begun = serde_json::from_str(&input::text(&path, input::RUN).ok()?).ok()?;
            Some((begun.created, path))
        })
        .max()
        .map(|(_, path)| path)
        .ok_or_else(none)
}

/// The measured runs that a side of a comparison names: files, and folders of which all run files count. A folder's
/// predictions are left out where it has measured runs.
///
/// # Errors
/// A path that is no run file or folder of run files, or a file that is named twice.
pub fn side(paths: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs: Vec<(PathBuf, Run)> = Vec::new();
    for path in paths {
        if path.is_dir() {
            runs.extend(folder(path)?);
        } else {
            runs.push((path.clone(), read(path)?));
        }
    }
    let mut seen = Vec::new();
    for (path, _) in &runs {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if seen.contains(&real) {
            return Err(Failure::input(format!("{}: named twice", path.display()))
                .hint("a run's trials count once: name each run file once"));
        }
        seen.push(real);
    }
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

/// The runs in a folder, by name; other JSON is passed over.
fn folder(path: &Path) -> Result<Vec<(PathBuf, Run)>> {
    let none = |why: String| {
        Failure::input(format!("{}: {why}", path.display()))
            .hint("give a run file that `llmroof measure` wrote, or a folder that holds some")
    };
    let entries = fs::read_dir(path).map_err(|e| none(e.to_string()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("json")));
    files.sort();
    let mut runs = Vec::new();
    for file in files {
        let text = input::text(&file, input::RUN)?;
        if claims_to_be_a_run(&text) {
            let run = Run::from_json(&text).map_err(|e| e.at(file.display()))?;
            runs.push((file, run));
        }
    }
    let measured = |run: &Run| run.status != RunStatus::Predicted;
    if runs.iter().any(|(_, run)| measured(run)) {
        runs.retain(|(_, run)| measured(run));
    }
    if runs.is_empty() { Err(none("no run file in this folder".into())) } else { Ok(runs) }
}

/// Whether a text is meant to be a run: JSON of something else is none, broken JSON may have been one.
fn claims_to_be_a_run(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Version {
        schema_version: Option<IgnoredAny>,
    }
    // A list would do for a struct as well.
    let list_or_scalar = !text.trim_start().is_empty() && !text.trim_start().starts_with('{');
    if list_or_scalar {
        return false;
    }
    match serde_json::from_str::<Version>(text) {
        Ok(version) => version.schema_version.is_some(),
        Err(e) => !e.is_data(),
    }
}
