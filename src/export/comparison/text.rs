//! The comparison for people: in plain text at most 110 columns wide, and in Markdown.

use super::view::View;
use crate::compare::Comparison;
use crate::export::escape::{markdown as escape, markdown_line};
use crate::export::markdown::bullets;
use crate::export::table::wrap;

/// Plain text. A warning stands between rules.
pub(super) fn table(comparison: &Comparison) -> String {
    let view = View::of(comparison);
    let mut text = wrap(&view.verdict);
    if let Some(warning) = &view.warning {
        let rule = format!("{}\n", "=".repeat(72));
        text += &format!("{rule}{}{rule}", wrap(&format!("WARNING: {warning}")));
    }
    text.extend(view.sides.iter().map(|line| wrap(line)));
    text.push('\n');
    text += &view.pairs.text();
    for (sentence, ratios) in &view.devices {
        text += &format!("\n{}\n{}", wrap(sentence), ratios.text());
    }
    if let Some(costs) = &view.costs {
        text += &format!("\n{}", costs.text());
    }
    text.push('\n');
    text.extend(view.below.iter().map(|line| wrap(line)));
    text
}

/// Markdown; a warning is an alert, as pull requests and job summaries show it.
pub(super) fn markdown(comparison: &Comparison) -> String {
    let view = View::of(comparison);
    let mut text = format!("## llmroof: {}\n\n", escape(&view.verdict));
    if let Some(warning) = &view.warning {
        text += &format!("> [!WARNING]\n> {}\n\n", markdown_line(warning));
    }
    text += &format!("{}\n{}", bullets(&view.sides), view.pairs.markdown());
    for (sentence, ratios) in &view.devices {
        text += &format!("\n{}\n\n{}", markdown_line(sentence), ratios.markdown());
    }
    if let Some(costs) = &view.costs {
        text += &format!("\n{}", costs.markdown());
    }
    if !view.below.is_empty() {
        text += &format!("\n{}", bullets(&view.below));
    }
    text
}
