//! `llmroof plot`: reads run files, draws them, writes the picture or the page.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use super::picture::{Form, Kind};
use super::runs::{newest, read};
use super::terminal::screen;
use crate::cli::{FigureArg, LevelArg, PlotArgs, ThemeArg};
use crate::error::{Failure, Result};
use crate::export::file;
use crate::plot::theme::{Scheme, Theme};
use crate::plot::{self, Figure, Level, Look};
use crate::report;
use crate::run::Run;

/// Runs `llmroof plot`.
///
/// # Errors
/// No run file, one that is none, or a picture that cannot be drawn or written.
pub fn run(args: &PlotArgs) -> Result<()> {
    let paths = match args.runs.as_slice() {
        [] => vec![newest(&args.reports)?],
        named => named.to_vec(),
    };
    let target = target(args.output.as_deref(), &paths[0])?;
    let runs = paths.iter().map(|path| read(path)).collect::<Result<Vec<Run>>>()?;
    if args.term {
        return print(&plot::to_terminal(&runs, screen())?);
    }
    if let Some(path) = &target {
        file::check_writable(path)?;
    }
    let level = level(args.level, runs.len());
    if let Some(path) = target.as_deref().filter(|path| is_page(path)) {
        return write(path, page(&runs, level, args)?.as_bytes());
    }
    let form = Form::of(target.as_deref(), theme(args.theme), args.size)?;
    let look = Look { level, theme: form.theme };
    let Some(figure) = figure(args.figure) else { return all(&runs, look, form, target.as_deref()) };
    let picture = form.encode(plot::to_svg(&runs, figure, look)?)?;
    match target {
        None => print(&String::from_utf8_lossy(&picture)),
        Some(path) => write(&path, &picture),
    }
}

/// Writes every figure that the runs have points for, each to a file of its own beside `target`.
fn all(runs: &[Run], look: Look, form: Form, target: Option<&Path>) -> Result<()> {
    let Some(target) = target else {
        return Err(Failure::input("--figure all writes several files, which cannot go to stdout")
            .hint("name a file with --output, or one figure"));
    };
    let mut written = 0;
    let mut first_failure = None;
    for figure in Figure::ALL {
        match plot::to_svg(runs, figure, look) {
            Ok(svg) => {
                write(&named(target, figure), &form.encode(svg)?)?;
                written += 1;
            }
            Err(failure) => {
                say(format_args!("left out: {}: {failure}", figure.name()));
                first_failure.get_or_insert(failure);
            }
        }
    }
    match first_failure {
        Some(failure) if written == 0 => Err(failure),
        _ => Ok(()),
    }
}

/// `run.svg` as `run-stages.svg`.
fn named(target: &Path, figure: Figure) -> PathBuf {
    let mut name = target.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{}", figure.name()));
    if let Some(ending) = target.extension() {
        name.push(".");
        name.push(ending);
    }
    target.with_file_name(name)
}

fn write(path: &Path, picture: &[u8]) -> Result<()> {
    file::write_atomic(path, picture)?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}

/// Of several runs the stages would bury the steps.
fn level(arg: Option<LevelArg>, runs: usize) -> Level {
    match arg {
        None if runs > 1 => Level::Phase,
        Some(LevelArg::Phase) => Level::Phase,
        Some(LevelArg::Stage) => Level::Stage,
        None | Some(LevelArg::All) => Level::All,
    }
}

fn theme(arg: ThemeArg) -> Theme {
    match arg {
        ThemeArg::Auto => Theme::Auto,
        ThemeArg::Light => Theme::Fixed(Scheme::Light),
        ThemeArg::Dark => Theme::Fixed(Scheme::Dark),
        ThemeArg::Print => Theme::Fixed(Scheme::Print),
    }
}

/// `None` is all of them.
fn figure(arg: FigureArg) -> Option<Figure> {
    match arg {
        FigureArg::Roofline => Some(Figure::Roofline),
        FigureArg::Stages => Some(Figure::Stages),
        FigureArg::Batch => Some(Figure::Batch),
        FigureArg::Context => Some(Figure::Context),
        FigureArg::All => None,
    }
}

/// Where the picture goes; `None` is stdout.
fn target(output: Option<&Path>, first: &Path) -> Result<Option<PathBuf>> {
    let Some(path) = output else { return Ok(Some(first.with_extension("svg"))) };
    if path == Path::new("-") {
        return Ok(None);
    }
    if is_page(path) {
        return Ok(Some(path.to_path_buf()));
    }
    Kind::of(path).map(|_| Some(path.to_path_buf()))
}

/// The report. It has all figures, and its reader chooses size and colours.
fn page(runs: &[Run], level: Level, args: &PlotArgs) -> Result<String> {
    if args.figure != FigureArg::Roofline || args.size.is_some() || args.theme != ThemeArg::Auto {
        return Err(Failure::input("--figure, --size and --theme are for pictures")
            .hint("leave them out: a report has every figure, in its reader's size and colours"));
    }
    report::to_html(runs, level)
}

/// Whether a report is asked for.
fn is_page(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ["html", "htm"].iter().any(|page| ending.eq_ignore_ascii_case(page)))
}
