//! `llmroof verify`.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::device::{self, Chosen};
use super::machine::Machine;
use super::output::{print, say};
use super::work;
use crate::backend::Session;
use crate::checkpoint::Checkpoint;
use crate::cli::{Format, VerifyArgs};
use crate::error::{Failure, Result};
use crate::export::write_csv;
use crate::measure::verify::{self, Extent, Row};
use crate::model::{DType, Precision};
use crate::request::{caches, check_pages};

/// What `-o json` prints; of several GPUs an array of these.
#[derive(Serialize)]
struct Report {
    device: String,
    /// UUID of a GPU.
    device_id: Option<String>,
    instruction_set: String,
    /// Null on a GPU.
    threads: Option<u32>,
    /// Folder of the checkpoint; null for random models.
    checkpoint: Option<String>,
    seed: u64,
    passed: bool,
    /// Errors that are no finite number are null here.
    rows: Vec<Row>,
    /// Precisions that the device does not have, and why.
    left_out: Vec<String>,
}

/// Runs `llmroof verify`.
///
/// # Errors
/// Whatever ended it, with its exit code; an error above its bound is [`crate::error::Code::Invalid`]. Of several
/// GPUs the worst.
pub fn run(args: &VerifyArgs, machine: &dyn Machine) -> Result<()> {
    args.output.of_lists()?;
    // The folder first: what is wrong with it is known at once, without a device.
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let devices = device::choose(&args.device)?;
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    for chosen in &devices {
        match verify(chosen, checkpoint.as_ref(), args, machine) {
            Ok(report) => {
                failures.extend(verdict(&report));
                reports.push(report);
            }
            Err(failure) => failures.push(match devices.len() {
                1 => failure,
                _ => failure.at(device::called(chosen.info())),
            }),
        }
    }
    if !reports.is_empty() {
        print(&render(&reports, args.output)?)?;
    }
    failures.sort_by_key(|failure| failure.code as u8);
    let worst = failures.pop();
    for failure in failures {
        say(failure);
    }
    worst.map_or(Ok(()), Err)
}

/// Verifies one device.
fn verify(
    chosen: &Chosen,
    checkpoint: Option<&Checkpoint>,
    args: &VerifyArgs,
    machine: &dyn Machine,
) -> Result<Report> {
    let mut session = chosen.open(machine)?;
    let (rows, left_out) = check(session.as_mut(), checkpoint, args)?;
    let setup = session.setup();
    let info = session.device();
    Ok(Report {
        device: info.name.clone(),
        device_id: info.id.clone(),
        instruction_set: setup.instruction_set,
        threads: setup.threads,
        checkpoint: args.checkpoint.as_ref().map(|folder| folder.display().to_string()),
        seed: args.seed,
        passed: !rows.is_empty() && rows.iter().all(Row::passed),
        rows,
        left_out,
    })
}

/// Why a device did not pass.
fn verdict(report: &Report) -> Option<Failure> {
    match verify::worst(&report.rows) {
        Some(worst) if !worst.passed() => Some(verify::failed(worst)),
        Some(_) => None,
        None => Some(Failure::invalid("the verification compared nothing")),
    }
}

/// The rows of every precision that the device has, and a line for each that it has not.
///
/// # Errors
/// As the checks, and the reason where no precision is left: one that was asked for, or all.
fn check(
    session: &mut dyn Session,
    checkpoint: Option<&Checkpoint>,
    args: &VerifyArgs,
) -> Result<(Vec<Row>, Vec<String>)> {
    let kv_pages = args.precision.kv_page.as_ref().map_or(&[][..], |sweep| &sweep.0);
    check_pages(kv_pages)?;
    let asked = |activations: DType| work::precisions(&args.precision, activations);
    let precisions: Vec<Precision> = match args.precision.activations {
        // f32 finds what bf16 hides, but quantised weights and caches have no such kernels.
        None => {
            asked(DType::F32).into_iter().filter(|p| !p.is_quantised()).chain(asked(DType::Bf16)).collect()
        }
        named => asked(work::activations(named)),
    };
    let (mut rows, mut left_out, mut refusal) = (Vec::new(), Vec::new(), None);
    for precision in precisions {
        let supported = match checkpoint {
            Some(checkpoint) => session.supports(checkpoint.spec(), precision),
            None => verify::check_support(session, precision, Extent::Full),
        };
        if let Err(failure) = supported {
            left_out.push(format!("{}: left out: {}", verify::types(precision), failure.what));
            refusal = Some(failure);
            continue;
        }
        rows.extend(match checkpoint {
            Some(checkpoint) => {
                verify::check_checkpoint(session, checkpoint, args.seed, precision, kv_pages)?
            }
            None => {
                let mut all = Vec::new();
                for kv_page in caches(kv_pages) {
                    all.extend(verify::check_kernels(session, args.seed, precision, kv_page, Extent::Full)?);
                }
                all
            }
        });
    }
    match refusal {
        Some(failure) if rows.is_empty() => Err(failure),
        _ => Ok((rows, left_out)),
    }
}

/// One line for each precision: `PASS: f32: 13 rows, largest error 3.1e-6, bound 1e-4 (decode 3)`.
fn verdicts(rows: &[Row]) -> Vec<String> {
    rows.chunk_by(|a, b| a.precision == b.precision)
        .filter_map(|rows| {
            let worst = verify::worst(rows)?;
            Some(format!(
                "{}: {}: {} rows, largest error {:.1e}, bound {:.0e} ({})",
                if worst.passed() { "PASS" } else { "FAIL" },
                verify::types(worst.precision),
                rows.len(),
                worst.error,
                worst.bound,
                worst.check
            ))
        })
        .collect()
}

const HEADER: [&str; 9] = [
    "types",
    "check",
    "rows",
    "error",
    "bound",
    "element error",
    "element bound",
    "against unquantised",
    "verdict",
];

fn cells(row: &Row) -> [String; 9] {
    let optional = |x: Option<f64>, text: fn(f64) -> String| x.map_or_else(String::new, text);
    [
        verify::types(row.precision),
        row.check.clone(),
        row.rows.to_string(),
        format!("{:.1e}", row.error),
        format!("{:.0e}", row.bound),
        optional(row.element_error, |x| format!("{x:.1e}")),
        optional(row.element_bound, |x| format!("{x:.0e}")),
        optional(row.unquantised_error, |x| format!("{x:.1e}")),
        if row.passed() { "pass".into() } else { "FAIL".into() },
    ]
}

fn render(reports: &[Report], format: Format) -> Result<String> {
    let unwritable =
        |e: &dyn std::fmt::Display| Failure::invalid(format!("the result cannot be written: {e}"));
    match format {
        Format::Json => {
            let text = match reports {
                [one] => serde_json::to_string_pretty(one),
                several => serde_json::to_string_pretty(several),
            };
            text.map(|text| text + "\n").map_err(|e| unwritable(&e))
        }
        Format::Csv => {
            let columns = HEADER.map(|name| name.replace(' ', "_"));
            let columns: Vec<&str> = columns.iter().map(String::as_str).chain(["at", "device"]).collect();
            // In full, where the table rounds.
            let full = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
            let rows = reports.iter().flat_map(|report| report.rows.iter().map(move |row| (report, row)));
            let rows = rows.map(|(report, row)| {
                let mut fields = cells(row);
                fields[3] = full(Some(row.error));
                fields[5] = full(row.element_error);
                fields[7] = full(row.unquantised_error);
                let device = report.device_id.as_ref().unwrap_or(&report.device);
                Ok(fields.into_iter().chain([row.at.clone(), device.clone()]).collect())
            });
            write_csv(&columns, rows)
        }
        _ => Ok(reports.iter().map(|report| shown(report, format)).collect::<Vec<_>>().join("\n")),
    }
}

/// One device's table, with what it is above and the verdicts below.
fn shown(report: &Report, format: Format) -> String {
    let mut table = Table::new();
    let preset = if format == Format::Markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING };
    table.load_preset(preset).set_content_arrangement(ContentArrangement::Disabled);
    // The column of what quantising costs only where something is quantised.
    let quantised = report.rows.iter().any(|row| row.unquantised_error.is_some());
    let shown =
        |cells: [String; 9]| cells.into_iter().enumerate().filter(move |(at, _)| quantised || *at != 7);
    table.set_header(shown(HEADER.map(str::to_owned)).map(|(_, cell)| cell));
    for row in &report.rows {
        table.add_row(shown(cells(row)).map(|(_, cell)| cell));
    }
    for column in 2..7 + usize::from(quantised) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let subject = report.checkpoint.as_deref().unwrap_or("random models");
    let details = [
        Some(report.instruction_set.clone()),
        report.threads.map(|n| format!("{n} threads")),
        report.device_id.clone(),
    ];
    let mut verdicts = verdicts(&report.rows);
    verdicts.extend(report.left_out.iter().cloned());
    format!(
        "{subject} on {} ({})\n\n{}\n\n{}\n",
        report.device,
        details.into_iter().flatten().collect::<Vec<_>>().join(", "),
        table.trim_fmt(),
        verdicts.join("\n")
    )
}
