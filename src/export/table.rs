//! The table for people, in plain text at most 110 columns wide.

use super::grid::WIDTH;
use super::view::View;
use super::{Exporter, Listing};
use crate::error::Result;
use crate::run::Run;
use crate::text::harmless;

/// The table format.
pub(super) struct Table;

impl Exporter for Table {
    fn run(&self, run: &Run) -> Result<String> {
        let view = View::of(run);
        let mut text = wrap(&view.title);
        text.extend(view.above.iter().map(|line| wrap(line)));
        text.push('\n');
        text += &view.grid.text();
        text.push('\n');
        text.extend(view.below.iter().map(|line| wrap(line)));
        for more in &view.more {
            text += &format!("\n{}\n{}\n", wrap(&more.title), more.grid.text());
            text.extend(more.below.iter().map(|line| wrap(line)));
        }
        Ok(text)
    }

    fn listing(&self, listing: &Listing) -> Result<String> {
        let mut text = wrap(&listing.title);
        if !listing.rows.is_empty() {
            text.push('\n');
            text += &listing.grid().text();
        }
        if !listing.notes.is_empty() {
            text.push('\n');
            text.extend(listing.notes.iter().map(|note| wrap(note)));
        }
        Ok(text)
    }
}

/// Breaks a line at spaces; what follows the first break is indented by two.
pub(super) fn wrap(line: &str) -> String {
    let mut lines = vec![String::new()];
    for word in harmless(line).split_whitespace() {
        let now = lines.last().map_or(0, |l| l.chars().count());
        if now > 2 && now + 1 + word.chars().count() > usize::from(WIDTH) {
            lines.push(format!("  {word}"));
        } else if let Some(last) = lines.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_spaces_and_keep_every_word() {
        let long = "word ".repeat(60);
        let wrapped = wrap(&long);
        assert!(wrapped.lines().all(|line| line.len() <= usize::from(WIDTH)));
        assert_eq!(wrapped.split_whitespace().count(), 60);
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with("  word")));
    }
}
