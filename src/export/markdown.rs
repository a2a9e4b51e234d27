//! The table in Markdown.

use super::escape::{markdown, markdown_line};
use super::view::View;
use super::{Exporter, Listing};
use crate::error::Result;
use crate::run::Run;

/// The Markdown format.
pub(super) struct Markdown;

impl Exporter for Markdown {
    fn run(&self, run: &Run) -> Result<String> {
        let view = View::of(run);
        let mut text = format!(
            "## {}\n\n{}\n{}\n{}",
            markdown(&view.title),
            bullets(&view.above),
            view.grid.markdown(),
            bullets(&view.below)
        );
        for more in &view.more {
            let (title, below) = (markdown(&more.title), bullets(&more.below));
            text += &format!("\n### {title}\n\n{}\n{below}", more.grid.markdown());
        }
        Ok(text)
    }

    fn listing(&self, listing: &Listing) -> Result<String> {
        let mut text = format!("## {}\n", markdown(&listing.title));
        if !listing.rows.is_empty() {
            text += &format!("\n{}", listing.grid().markdown());
        }
        if !listing.notes.is_empty() {
            text += &format!("\n{}", bullets(&listing.notes));
        }
        Ok(text)
    }
}

/// A list, each text one line of it.
pub(super) fn bullets(texts: &[String]) -> String {
    texts.iter().map(|text| format!("- {}\n", markdown_line(text))).collect()
}
