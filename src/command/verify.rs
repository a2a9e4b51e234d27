//! `llmroof verify`.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::device::open_device;
use super::output::print;
use crate::backend::Session;
use crate::checkpoint::Checkpoint;
use crate::cli::{ActivationsArg, Format, VerifyArgs};
use crate::error::{Failure, Result};
use crate::measure::verify::{self, Extent, Row};
use crate::model::DType;

/// What `-o json` prints.
#[derive(Serialize)]
struct Report<'a> {
    device: &'a str,
    instruction_set: String,
    /// Null on a GPU.
    threads: Option<u32>,
    /// Folder of the checkpoint; null for random models.
    checkpoint: Option<String>,
    seed: u64,
    passed: bool,
    /// Errors that are no finite number are null here.
    rows: &'a [Row],
}

/// Runs `llmroof verify`.
///
/// # Errors
/// Whatever ended it, with its exit code; an error above its bound is [`crate::error::Code::Invalid`].
pub fn run(args: &VerifyArgs) -> Result<()> {
    // The folder first: what is wrong with it is known at once, without a device.
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let mut session = open_device(&args.device)?;
    let rows = check(session.as_mut(), checkpoint.as_ref(), args)?;
    let setup = session.setup();
    let report = Report {
        device: &session.device().name,
        instruction_set: setup.instruction_set,
        threads: setup.threads,
        checkpoint: args.checkpoint.as_ref().map(|folder| folder.display().to_string()),
        seed: args.seed,
        passed: rows.iter().all(Row::passed),
        rows: &rows,
    };
    print(&render(&report, args.output)?)?;
    match verify::worst(&rows) {
        Some(worst) if !worst.passed() => Err(verify::failed(worst)),
        Some(_) => Ok(()),
        None => Err(Failure::invalid("the verification compared nothing")),
    }
}

fn check(session: &mut dyn Session, checkpoint: Option<&Checkpoint>, args: &VerifyArgs) -> Result<Vec<Row>> {
    let precisions: &[DType] = match args.activations {
        None => &[DType::F32, DType::Bf16],
        Some(ActivationsArg::F32) => &[DType::F32],
        Some(ActivationsArg::Bf16) => &[DType::Bf16],
    };
    let mut rows = Vec::new();
    for &activations in precisions {
        rows.extend(match checkpoint {
            Some(checkpoint) => verify::check_checkpoint(session, checkpoint, args.seed, activations)?,
            None => verify::check_kernels(session, args.seed, activations, Extent::Full)?,
        });
    }
    Ok(rows)
}

/// One line for each precision: `PASS: f32: 13 rows, largest error 3.1e-6, bound 1e-4 (decode 3)`.
fn verdicts(rows: &[Row]) -> Vec<String> {
    rows.chunk_by(|a, b| a.activations == b.activations)
        .filter_map(|rows| {
            let worst = verify::worst(rows)?;
            Some(format!(
                "{}: {}: {} rows, largest error {:.1e}, bound {:.0e} ({})",
                if worst.passed() { "PASS" } else { "FAIL" },
                worst.activations,
                rows.len(),
                worst.error,
                worst.bound,
                worst.check
            ))
        })
        .collect()
}

const HEADER: [&str; 8] =
    ["activations", "check", "rows", "error", "bound", "element error", "element bound", "verdict"];

fn cells(row: &Row) -> [String; 8] {
    let optional = |x: Option<f64>, text: fn(f64) -> String| x.map_or_else(String::new, text);
    [
        row.activations.to_string(),
        row.check.clone(),
        row.rows.to_string(),
        format!("{:.1e}", row.error),
        format!("{:.0e}", row.bound),
        optional(row.element_error, |x| format!("{x:.1e}")),
        optional(row.element_bound, |x| format!("{x:.0e}")),
        if row.passed() { "pass".into() } else { "FAIL".into() },
    ]
}

fn render(report: &Report, format: Format) -> Result<String> {
    let unwritable =
        |e: &dyn std::fmt::Display| Failure::invalid(format!("the result cannot be written: {e}"));
    match format {
        Format::Json => {
            serde_json::to_string_pretty(report).map(|text| text + "\n").map_err(|e| unwritable(&e))
        }
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            let columns = HEADER.map(|name| name.replace(' ', "_"));
            writer
                .write_record(columns.iter().map(String::as_str).chain(["at"]))
                .map_err(|e| unwritable(&e))?;
            for row in report.rows {
                // In full, where the table rounds.
                let full = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
                let mut fields = cells(row);
                fields[3] = full(Some(row.error));
                fields[5] = full(row.element_error);
                writer.write_record(fields.iter().chain([&row.at])).map_err(|e| unwritable(&e))?;
            }
            let bytes = writer.into_inner().map_err(|e| unwritable(&e))?;
            String::from_utf8(bytes).map_err(|e| unwritable(&e))
        }
        Format::Table | Format::Markdown => {
            let mut table = Table::new();
            let preset = if format == Format::Markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING };
            table.load_preset(preset).set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(HEADER);
            for row in report.rows {
                table.add_row(cells(row));
            }
            for column in 2..7 {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            let subject = report.checkpoint.as_deref().unwrap_or("random models");
            Ok(format!(
                "{subject} on {} ({}{})\n\n{}\n\n{}\n",
                report.device,
                report.instruction_set,
                report.threads.map_or(String::new(), |n| format!(", {n} threads")),
                table.trim_fmt(),
                verdicts(report.rows).join("\n")
            ))
        }
    }
}
