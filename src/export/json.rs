//! JSON: the run file, or an array of objects.

use serde_json::{Map, Value};

use super::{Exporter, Listing};
use crate::error::{Failure, Result};
use crate::run::Run;

/// The JSON format.
pub(super) struct Json;

impl Exporter for Json {
    fn run(&self, run: &Run) -> Result<String> {
        run.to_json()
    }

    fn listing(&self, listing: &Listing) -> Result<String> {
        let rows = || {
            let objects = listing.rows.iter().map(|row| {
                let fields = listing.columns.iter().zip(row);
                Value::Object(
                    fields.map(|(c, cell)| (c.name.into(), cell.value.clone())).collect::<Map<_, _>>(),
                )
            });
            Value::Array(objects.collect())
        };
        let value = listing.document.clone().unwrap_or_else(rows);
        serde_json::to_string_pretty(&value)
            .map(|text| text + "\n")
            .map_err(|e| Failure::invalid(format!("the list cannot be written: {e}")))
    }
}
