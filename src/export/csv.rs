//! CSV: the points table, one line per point, with the run file's names and base units.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Exporter, Listing};
use crate::error::{Failure, Result};
use crate::run::Run;

/// The CSV format.
pub(super) struct Csv;

/// The columns that say what a point is of.
pub(super) const KEY: [&str; 14] = [
    "model",
    "phase",
    "stage",
    "batch",
    "tokens",
    "context",
    "weights",
    "head",
    "activations",
    "kv",
    "kv_page",
    "chunk_tokens",
    "chunk_context",
    "ranks",
];

/// The columns after those: the other fields of a point in the run file's order, nested ones joined by `_`. Samples stay
/// in the run file.
const FIGURES: [&str; 35] = [
    "threads",
    "layers_measured",
    "layers_total",
    "flops",
    "bytes",
    "resident_bytes",
    "witnessed_bytes",
    "seconds_median",
    "seconds_low",
    "seconds_high",
    "seconds_count",
    "seconds_discarded",
    "seconds_stopped_by",
    "all_reduce_seconds",
    "all_reduce_from",
    "bubble_seconds",
    "share_of_step",
    "tokens_per_second",
    "bytes_per_second",
    "flops_per_second",
    "intensity",
    "roof_bytes_per_second",
    "roof_flops_per_second",
    "attainable_flops_per_second",
    "fraction_of_roof",
    "bound",
    "joules_per_token",
    "status",
    "notes",
    "wall_seconds",
    "gemm",
    "throttled_samples",
    "sm_clock_hz",
    "tensor_activity",
    "device",
];

/// The columns that stay empty for an invalid point: whatever was measured of it.
const MEASURED: [&str; 15] = [
    "witnessed_bytes",
    "seconds_median",
    "seconds_low",
    "seconds_high",
    "bubble_seconds",
    "share_of_step",
    "tokens_per_second",
    "bytes_per_second",
    "flops_per_second",
    "attainable_flops_per_second",
    "fraction_of_roof",
    "bound",
    "joules_per_token",
    "wall_seconds",
    "tensor_activity",
];

impl Exporter for Csv {
    fn run(&self, run: &Run) -> Result<String> {
        let columns = [&KEY[..], &FIGURES].concat();
        let rows = run.points.iter().map(|point| {
            let mut fields = Map::new();
            flatten("", serde_json::to_value(point).map_err(|e| unwritable(&e))?, &mut fields);
            fields.insert("device".into(), run.device.name.clone().into());
            // What a reader of cells would take for a result. The bubble is a difference: one wrong part spoils it.
            let mut blank = |name: &str| fields.insert(name.into(), Value::Null);
            if point.is_invalid() {
                MEASURED.iter().for_each(|name| drop(blank(name)));
            } else if run.points.iter().any(|part| part.is_invalid() && part.shares_pass_with(point)) {
                blank("bubble_seconds");
            }
            Ok(columns.iter().map(|name| fields.get(*name).map(text).unwrap_or_default()).collect())
        });
        write(&columns, rows)
    }

    fn listing(&self, listing: &Listing) -> Result<String> {
        let names: Vec<&str> = listing.columns.iter().map(|c| c.name).collect();
        write(&names, listing.rows.iter().map(|row| Ok(row.iter().map(|cell| text(&cell.value)).collect())))
    }
}

/// Fields of nested objects, their names joined by `_`.
fn flatten(prefix: &str, value: Value, out: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if prefix.is_empty() { name } else { format!("{prefix}_{name}") };
                flatten(&name, value, out);
            }
        }
        other => {
            out.insert(prefix.into(), other);
        }
    }
}

/// A value as one field: null is empty, a list is joined by semicolons.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// A table under these headings. No cell of it is one that a spreadsheet would compute: such a text begins with a
/// single quote.
///
/// # Errors
/// From the rows.
pub fn write(columns: &[&str], rows: impl Iterator<Item = Result<Vec<String>>>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).map_err(|e| unwritable(&e))?;
    for row in rows {
        writer
            .write_record(row?.iter().map(|cell| harmless(cell).into_owned()))
            .map_err(|e| unwritable(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| unwritable(&e))?;
    String::from_utf8(bytes).map_err(|e| unwritable(&e))
}

/// The cell with a single quote before what a spreadsheet would take for a formula; a number stays one. Names and notes
/// come from files that others wrote. Semicolons, tabs and line ends part cells in some countries and programs.
fn harmless(cell: &str) -> Cow<'_, str> {
    const APART: [char; 4] = [';', '\t', '\r', '\n'];
    // As they are, full-width and small: spreadsheets read all of them.
    const BEGIN: [char; 13] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫', '−'];
    let unseen = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || c == '"'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
    };
    let is_number =
        |text: &str| text.bytes().all(|b| b"0123456789.eE+-".contains(&b)) && text.parse::<f64>().is_ok();
    let computed =
        |part: &str| part.trim_start_matches(unseen).starts_with(BEGIN) && !is_number(part.trim_matches(' '));
    // What begins with a tab or a line end is taken for an attempt as well.
    let begins = cell.starts_with(&APART[1..]);
    if !begins && !cell.split(APART).any(computed) {
        return Cow::Borrowed(cell);
    }
    let mut out = String::from(if begins { "'" } else { "" });
    for part in cell.split_inclusive(APART) {
        if computed(part.trim_end_matches(APART)) && !(begins && out == "'") {
            out.push('\'');
        }
        out.push_str(part);
    }
    Cow::Owned(out)
}

fn unwritable(e: &dyn std::fmt::Display) -> Failure {
    Failure::invalid(format!("the CSV cannot be written: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;
    use crate::roofline::Roofline;
    use crate::run::{Placement, Point, Status, Timing};
    use crate::units::{BytesPerSec, FlopsPerSec, Seconds};
    use crate::workload::{Chunk, Workload};

    #[test]
    fn formulas_become_text_and_numbers_stay_numbers() {
        for (cell, wanted) in [
            ("=1+1", "'=1+1"),
            ("  @SUM(A1)", "'  @SUM(A1)"),
            ("-2+3|cmd", "'-2+3|cmd"),
            ("\t=1", "'\t'=1"),
            ("\rx", "'\rx"),
            ("＝1", "'＝1"),
            ("\u{feff}=1", "'\u{feff}=1"),
            ("\"=1\"", "'\"=1\""),
            ("a; =1", "a;' =1"),
            ("a\n=1;b", "a\n'=1;b"),
            ("-inf", "'-inf"),
        ] {
            assert_eq!(harmless(cell), wanted, "{cell:?}");
        }
        for plain in ["", "-1.5e-3", "+7", "llama-8b", "a = b", "1; -2", "bf16", "'=1", "a, -b"] {
            assert_eq!(harmless(plain), plain);
        }
    }

    /// A field added to the run file's points must get its column.
    #[test]
    fn every_field_of_a_point_is_a_column() {
        let model = ModelSpec::from_toml(include_str!("../../profiles/models/llama-1b.toml")).unwrap();
        let place = Placement {
            roof: Roofline { bandwidth: BytesPerSec(1e9), peak: FlopsPerSec(1e9) },
            threads: None,
            layers_measured: 16,
            step_seconds: 1.0,
            status: Status::Ok,
        };
        let mixed = Workload::decode(&model, 1, 8).with(Chunk { tokens: 4, context: 6 });
        let point = Point::new(&mixed, None, Timing::computed(Seconds(1.0)), place);
        let mut fields = Map::new();
        flatten("", serde_json::to_value(point).unwrap(), &mut fields);
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        names.retain(|name| !["seconds_samples", "seconds_trials", "trials"].contains(name));
        names.push("device");
        assert_eq!(names, [&KEY[..], &FIGURES].concat());
    }
}
