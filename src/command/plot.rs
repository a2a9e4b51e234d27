//! `llmroof plot`: reads run files, draws them, writes the picture.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::{LevelArg, PlotArgs};
use crate::error::{Failure, Result};
use crate::export::file::write_atomic;
use crate::plot::{self, Level};
use crate::run::Run;

/// Runs `llmroof plot`.
///
/// # Errors
/// No run file, one that is none, or a picture that cannot be written.
pub fn run(args: &PlotArgs) -> Result<()> {
    let paths = match args.runs.as_slice() {
        [] => vec![newest(&args.reports)?],
        named => named.to_vec(),
    };
    let target = target(args.output.as_deref(), &paths[0])?;
    let runs = paths.iter().map(|path| read(path)).collect::<Result<Vec<Run>>>()?;
    let level = match args.level {
        LevelArg::Phase => Level::Phase,
        LevelArg::Stage => Level::Stage,
        LevelArg::All => Level::All,
    };
    let svg = plot::to_svg(&runs, level)?;
    match target {
        None => match io::stdout().write_all(svg.as_bytes()).and_then(|()| io::stdout().flush()) {
            // The reader has seen enough: `| head`.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(e) => Err(Failure::input(format!("stdout: {e}")).hint("write to a file with -o picture.svg")),
            Ok(()) => Ok(()),
        },
        Some(path) => {
            write_atomic(&path, svg.as_bytes())?;
            eprintln!("wrote {}", path.display());
            Ok(())
        }
    }
}

/// Where the picture goes; `None` is stdout.
fn target(output: Option<&Path>, first: &Path) -> Result<Option<PathBuf>> {
    let Some(path) = output else { return Ok(Some(first.with_extension("svg"))) };
    if path == Path::new("-") {
        return Ok(None);
    }
    match path.extension().and_then(OsStr::to_str) {
        Some(ending) if ending.eq_ignore_ascii_case("svg") => Ok(Some(path.to_path_buf())),
        _ => Err(Failure::input(format!("{}: only SVG pictures can be written", path.display()))
            .hint("end the name in .svg, or use - for stdout")),
    }
}

fn read(path: &Path) -> Result<Run> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::input(format!("{}: {e}", path.display())).hint("give a file that `llmroof measure` wrote")
    })?;
    Run::from_json(&text).map_err(|e| e.at(path.display()))
}

/// The newest run file in a folder and the folders in it: by when the run began, then by name.
fn newest(reports: &Path) -> Result<PathBuf> {
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
            let begun: Begun = serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()?;
            Some((begun.created, path))
        })
        .max()
        .map(|(_, path)| path)
        .ok_or_else(none)
}
