//! Rows and columns for people, as plain text or Markdown.

use super::escape::markdown;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent, presets};

use crate::text::line;

/// Widest line; long texts are wrapped within their column.
pub(super) const WIDTH: u16 = 110;
/// Texts up to here, names and numbers, are never broken, even if a line gets wider for it.
const SHORT: u16 = 16;

/// Texts in columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Grid {
    /// Heading, and whether the column's texts stand to the right.
    columns: Vec<(String, bool)>,
    /// Texts, one per column.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// Adds a column.
    pub fn column(&mut self, title: impl Into<String>, right: bool) {
        self.columns.push((title.into(), right));
    }

    /// Aligned columns under underlined headings. No colours: nothing here needs them to be understood.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_style(TableComponent::HeaderLines, '─')
            .set_style(TableComponent::MiddleHeaderIntersections, '─')
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .set_header(self.columns.iter().map(|(title, _)| line(title)));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| line(cell))));
        let widths = table.column_max_content_widths();
        for ((column, (_, right)), width) in table.column_iter_mut().zip(&self.columns).zip(widths) {
            column.set_padding((0, 1));
            if width <= SHORT {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            column.set_cell_alignment(if *right { CellAlignment::Right } else { CellAlignment::Left });
        }
        table.lines().map(|line| line.trim_end().to_string() + "\n").collect()
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let joined = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        // Markdown drops the spaces that indent a stage below its step.
        let escape = |text: &String| match text.strip_prefix("  ") {
            Some(indented) => format!("· {}", markdown(indented)),
            None => markdown(text),
        };
        let mut text = joined(self.columns.iter().map(|(title, _)| escape(title)).collect());
        text += &joined(
            self.columns.iter().map(|(_, right)| if *right { "--:" } else { "---" }.into()).collect(),
        );
        text.extend(self.rows.iter().map(|row| joined(row.iter().map(escape).collect())));
        text
    }
}
