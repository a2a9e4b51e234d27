//! The arithmetic behind a prediction, in words: every figure from the model and the datasheets, with the
//! numbers it is made of.

mod cards;
mod decode;
mod intensity;
mod prefill;
mod quantised;

use super::roofline;
use crate::device::DeviceProfile;
use crate::error::Result;
use crate::model::{ModelSpec, Precision};
use crate::request::Sweeps;
use crate::roofline::Roofline;
use crate::run::Run;

/// What the sections explain.
struct Case<'a> {
    run: &'a Run,
    model: &'a ModelSpec,
    device: &'a DeviceProfile,
    sweeps: &'a Sweeps,
    /// The datasheet's roofs in bf16.
    roof: Roofline,
}

/// A heading, and lines of a label with a text.
struct Section {
    title: String,
    lines: Vec<(String, String)>,
}

/// Explains a predicted run; `cards` are the other devices to compare with.
///
/// # Errors
/// A profile without a bf16 peak.
pub fn explain(
    run: &Run,
    device: &DeviceProfile,
    sweeps: &Sweeps,
    cards: &[&DeviceProfile],
) -> Result<String> {
    let precision = sweeps.precisions.first().copied().unwrap_or(Precision::BF16);
    let case = Case { run, model: &run.model, device, sweeps, roof: roofline(device, precision)? };
    let sections = [
        decode::bytes(&case),
        decode::operations(&case),
        decode::wall(&case),
        decode::rate(&case),
        intensity::decode(&case),
        intensity::stages(&case),
        prefill::prefill(&case),
        prefill::request(&case),
        quantised::int4(&case),
        cards::cards(&case, cards),
    ];
    let mut text =
        format!("EXPLAINED: {} on {}, bf16; predicted, not measured\n", run.model.name, device.title);
    text.extend(sections.iter().map(Section::text));
    Ok(text)
}

impl Section {
    fn new(title: impl Into<String>) -> Section {
        Section { title: title.into(), lines: Vec::new() }
    }

    fn line(&mut self, label: impl Into<String>, text: impl Into<String>) {
        self.lines.push((label.into(), text.into()));
    }

    /// The section with its texts in one column, wrapped.
    fn text(&self) -> String {
        let indent = self.lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0) + 4;
        let mut text = format!("\n{}\n", wrapped(&self.title, 0));
        for (label, words) in &self.lines {
            let line = format!("  {label:<width$}{}", wrapped(words, indent), width = indent - 2);
            text += &format!("{}\n", line.trim_end());
        }
        text
    }
}

/// Words in lines of at most 110 columns, of which the first `indent` are left free: by the caller in the first
/// line, by spaces in the others.
fn wrapped(words: &str, indent: usize) -> String {
    const WIDTH: usize = 110;
    let mut text = String::new();
    let mut column = indent;
    // By single spaces: several in a row align columns and must stay.
    for word in words.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            text = format!("{}\n{}", text.trim_end(), " ".repeat(indent));
            column = indent;
        } else if !text.is_empty() {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}
