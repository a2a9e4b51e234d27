//! The run files themselves, inside the page: the script reads its figures from them, and a button gives them back.

use super::html::Html;
use super::names;
use crate::error::{Failure, Result};
use crate::export::file::run_file_name;
use crate::run::Run;
use crate::units::Bytes;

/// A run file as it stands in the page.
pub(super) struct Data {
    json: String,
}

/// The runs as JSON in one line each. It is read back by [`Run::from_json`] as it stands: `<` only occurs within
/// strings there, and is spelled in a way that no HTML parser takes for the end of the script or for a comment.
///
/// # Errors
/// A figure that JSON cannot hold.
pub(super) fn all(runs: &[Run]) -> Result<Vec<Data>> {
    let one = |run: &Run| {
        let json = serde_json::to_string(run)
            .map_err(|e| Failure::invalid(format!("the run cannot be written: {e}")))?;
        Ok(Data { json: json.replace('<', "\\u003c") })
    };
    runs.iter().map(one).collect()
}

/// The section with the buttons, and the data.
pub(super) fn write(html: &mut Html, runs: &[Run], data: &[Data]) {
    html.element("section", &[("id", "data"), ("aria-labelledby", "data-title")], |html| {
        html.leaf("h2", &[("id", "data-title")], if runs.len() == 1 { "Run file" } else { "Run files" });
        html.leaf(
            "p",
            &[],
            "This page holds every sample. The downloaded file is an ordinary run file: llmroof plot, compare and \
             measure --append read it.",
        );
        html.element("ul", &[("class", "downloads")], |html| {
            for (i, (run, data)) in runs.iter().zip(data).enumerate() {
                html.element("li", &[], |html| {
                    let name = run_file_name(run);
                    let (id, size) = (format!("run-{i}"), Bytes(data.json.len() as f64).human());
                    if runs.len() > 1 {
                        html.leaf("span", &[("class", &names::hue(i))], &names::letter(i));
                    }
                    html.element("span", &[("class", "file")], |html| {
                        html.leaf("code", &[], &name);
                        html.text(&format!(" {size}"));
                    });
                    html.leaf(
                        "button",
                        &[("type", "button"), ("class", "scripted"), ("data-download", &id), ("data-file", &name)],
                        "Download",
                    );
                });
            }
        });
    });
    for (i, data) in data.iter().enumerate() {
        html.line();
        html.element("script", &[("type", "application/json"), ("id", &format!("run-{i}"))], |html| {
            html.trusted(&data.json);
        });
    }
}
