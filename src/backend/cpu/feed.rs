//! What is fed to sequences: one kind of them in a pass, in a mixed step two, those that decode and the one whose prompt
//! rides along.

use super::shape::{Groups, Shape};

/// Sequences that take equally many new tokens after equally many positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// The first of its rows among those of the pass.
    pub row: usize,
    /// The first of its sequences.
    pub sequence: usize,
    /// Sequences.
    pub sequences: usize,
    /// New tokens per sequence.
    pub tokens: usize,
    /// Positions before them.
    pub start: usize,
    /// Queries of one unit: `[token][head of the group]`.
    pub columns: Groups,
}

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence.
    pub sequence: usize,
    /// Its position there.
    pub position: usize,
    /// Its place among the new tokens of the sequence.
    pub new: usize,
}

impl Feed {
    /// After `before`, `sequences` of them with so many new tokens after `start` positions.
    pub fn after(
        before: Option<&Feed>,
        sequences: usize,
        tokens: usize,
        start: usize,
        shape: &Shape,
    ) -> Feed {
        let (row, sequence) =
            before.map_or((0, 0), |b| (b.row + b.sequences * b.tokens, b.sequence + b.sequences));
        Feed { row, sequence, sequences, tokens, start, columns: Groups::new(tokens * shape.group) }
    }

    /// Where one of its rows belongs, counted from the first of the pass.
    pub fn place(&self, row: usize) -> Place {
        let (sequence, new) = ((row - self.row) / self.tokens, (row - self.row) % self.tokens);
        Place { sequence: self.sequence + sequence, position: self.start + new, new }
    }

    /// The units of the cache that it attends, KV heads of its sequences.
    pub fn units(&self, shape: &Shape) -> std::ops::Range<usize> {
        self.sequence * shape.kv_heads..(self.sequence + self.sequences) * shape.kv_heads
    }

    /// Where the queries of a unit begin among those of the pass.
    pub fn queries(&self, unit: usize, shape: &Shape) -> usize {
        let before = self.row * shape.heads;
        (before + (unit - self.units(shape).start) * self.columns.count) * shape.head_width()
    }
}
