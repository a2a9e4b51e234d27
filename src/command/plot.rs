//! `llmroof plot`: reads run files, draws them, writes the picture.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use super::runs::{newest, read};
use crate::cli::{LevelArg, PlotArgs};
use crate::error::{Failure, Result};
use crate::export::file;
use crate::plot::{self, Figure, Level, Look};
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
    if let Some(path) = &target {
        file::check_writable(path)?;
    }
    let level = match args.level {
        LevelArg::Phase => Level::Phase,
        LevelArg::Stage => Level::Stage,
        LevelArg::All => Level::All,
    };
    let svg = plot::to_svg(&runs, Figure::Roofline, Look { level, ..Look::default() })?;
    match target {
        None => print(&svg),
        Some(path) => {
            file::write_atomic(&path, svg.as_bytes())?;
            say(format_args!("wrote {}", path.display()));
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
