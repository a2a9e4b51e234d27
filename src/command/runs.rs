//! Run files that are there: read by name, or the newest of a folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Failure, Result};
use crate::input;
use crate::run::Run;

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
