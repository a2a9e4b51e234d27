//! `llmroof compare`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use super::runs;
use crate::cli::{CompareArgs, FailOnArg, MetricArg};
use crate::compare::{Comparison, Metric, Options, compare};
use crate::error::{Code, Failure, Result};
use crate::export::comparison::{ComparisonFormat, render_comparison};
use crate::export::file;

/// The file that GitHub shows as the summary of a job.
const JOB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Runs `llmroof compare`.
///
/// # Errors
/// Input that cannot be compared; after the result was printed, the verdict where it ends in a failing exit code.
pub fn run(args: &CompareArgs) -> Result<()> {
    let files: Vec<(&PathBuf, ComparisonFormat)> = args
        .export
        .iter()
        // `-` is stdout, which gets the result anyway.
        .filter(|path| path.as_os_str() != "-")
        .map(|path| Ok((path, ComparisonFormat::of(path)?)))
        .collect::<Result<_>>()?;
    for (path, _) in &files {
        file::check_writable(path)?;
    }
    let paths = |one: &Option<PathBuf>, more: &[PathBuf]| -> Vec<PathBuf> {
        one.iter().chain(more).cloned().collect()
    };
    let base = runs::side(&paths(&args.base, &args.base_files))?;
    let new = runs::side(&paths(&args.new, &args.new_files))?;
    let options = Options {
        threshold: args.threshold,
        metric: match args.metric {
            MetricArg::Time => Metric::Time,
            MetricArg::Roof => Metric::Roof,
        },
        across: args.across.clone(),
        prices: args.price,
        power: true,
    };
    let comparison = compare(&base, &new, &options)?;

    let fails_inconclusive = args.fail_on == FailOnArg::Inconclusive;
    let render = |format| render_comparison(&comparison, format, fails_inconclusive);
    for (path, format) in files {
        file::write_atomic(path, render(format)?.as_bytes())?;
    }
    if let Some(path) = std::env::var_os(JOB_SUMMARY).filter(|path| !path.is_empty()) {
        let text = render(ComparisonFormat::Markdown)?;
        if let Err(e) = append(Path::new(&path), &text) {
            say(format_args!("warning: {JOB_SUMMARY}: {e}; the summary is left out"));
        }
    }
    print(&render(args.output)?)?;
    if let Some(warning) = &comparison.warning {
        say(format_args!("WARNING: {warning}"));
    }
    ended(&comparison, fails_inconclusive)
}

/// Adds a text to a file that others write to as well.
fn append(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(format!("{text}\n").as_bytes())
}

/// The verdict as the end of the process.
fn ended(comparison: &Comparison, fails_inconclusive: bool) -> Result<()> {
    let Some(code) = comparison.code(fails_inconclusive) else { return Ok(()) };
    let hint = match code {
        Code::Inconclusive => "measure more trials (`measure --append`), or on a quieter machine",
        _ => "the table says which points and by how much",
    };
    Err(Failure::new(code, comparison.sentence.clone()).hint(hint))
}
