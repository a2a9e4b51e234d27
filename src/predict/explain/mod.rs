//! The arithmetic behind a prediction, in words: every figure from the model and the datasheets, with the
//! numbers it is made of.

mod cards;
mod decode;
mod figure;
mod intensity;
mod prefill;
mod quantised;

use super::roofline;
use crate::device::DeviceProfile;
use crate::error::Result;
use crate::model::ModelSpec;
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
    let case = Case { run, model: &run.model, device, sweeps, roof: roofline(device)? };
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
    let mut text = format!(
        "EXPLAINED: {} on {}, bf16. All of this is predicted: computed, not measured.\n",
        run.model.name, device.title
    );
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
        const WIDTH: usize = 110;
        let indent = self.lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0) + 4;
        let mut text = format!("\n{}\n", self.title);
        for (label, words) in &self.lines {
            let mut line = format!("  {label:<width$}", width = indent - 2);
            let mut empty = true;
            for word in words.split(' ') {
                if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                    text += &format!("{}\n", line.trim_end());
                    line = " ".repeat(indent);
                    empty = true;
                }
                if !empty {
                    line.push(' ');
                }
                line.push_str(word);
                empty = false;
            }
            text += &format!("{}\n", line.trim_end());
        }
        text
    }
}
