//! A list of things with the same columns: devices, models, the facts of one of them.

use serde_json::Value;

use super::grid::Grid;

/// A column of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name in JSON and CSV.
    pub name: &'static str,
    /// Heading for people.
    pub title: &'static str,
}

/// One value of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The value in base units, for JSON and CSV.
    pub value: Value,
    /// The value for people, in human units.
    pub shown: String,
}

/// A list that every format can write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// What is listed.
    pub title: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
    /// What a reader must know, for people only.
    pub notes: Vec<String>,
    /// What JSON holds in place of an array of the rows.
    pub document: Option<Value>,
}

impl Cell {
    /// A text that is the same for people and files.
    pub fn text(text: impl Into<String>) -> Cell {
        let shown: String = text.into();
        Cell { value: Value::from(shown.clone()), shown }
    }

    /// A number with how people read it.
    pub fn number(value: f64, shown: impl Into<String>) -> Cell {
        Cell { value: Value::from(value), shown: shown.into() }
    }

    /// A count with how people read it.
    pub fn count(value: u64, shown: impl Into<String>) -> Cell {
        Cell { value: Value::from(value), shown: shown.into() }
    }

    /// Not known: null, and a dash for people.
    pub fn unknown() -> Cell {
        Cell { value: Value::Null, shown: "-".into() }
    }
}

impl Listing {
    /// The list for people: numbers to the right.
    pub(super) fn grid(&self) -> Grid {
        let number = |at: usize| {
            self.rows.iter().any(|row| row[at].value.is_number())
                && self.rows.iter().all(|row| !row[at].value.is_string())
        };
        let mut grid = Grid::default();
        for (at, column) in self.columns.iter().enumerate() {
            grid.column(column.title, number(at));
        }
        grid.rows = self.rows.iter().map(|row| row.iter().map(|cell| cell.shown.clone()).collect()).collect();
        grid
    }
}
