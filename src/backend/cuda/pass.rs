//! What one pass feeds: decode, prefill, or the two mixed in one step.

use super::launch::skinny;
use crate::error::{Failure, Result};
use crate::workload::Chunk;

/// What one pass feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Sequences, but for the chunk's.
    pub batch: u32,
    /// New tokens of each of them.
    pub tokens: u32,
    /// Most positions that a new token of theirs attends, its own included.
    pub context: u32,
    /// New tokens of each of them that get logits: the last, or all.
    pub headed: u32,
    /// Mixed step: what one sequence more, the last, is fed. Its tokens get no logits.
    pub chunk: Option<Chunk>,
}

impl Pass {
    /// A pass whose last new token of each sequence gets logits.
    pub const fn new(batch: u32, tokens: u32, context: u32) -> Pass {
        Pass { batch, tokens, context, headed: 1, chunk: None }
    }

    /// A mixed step: one new token for each of `batch` sequences, and a chunk of one more.
    pub const fn mixed(batch: u32, context: u32, chunk: Chunk) -> Pass {
        Pass { chunk: Some(chunk), ..Pass::new(batch, 1, context) }
    }

    /// What feeding `tokens[sequence]` is where `filled[sequence]` positions are filled: a mixed step where the last has several
    /// tokens and every other one.
    ///
    /// # Errors
    /// Neither that, nor are all of one length.
    pub fn of(tokens: &[Vec<u32>], filled: &[u32]) -> Result<Pass> {
        let lengths = || tokens.iter().map(|tokens| tokens.len() as u32);
        let (first, last) = (lengths().next().unwrap_or_default(), lengths().next_back().unwrap_or_default());
        let most = |filled: &[u32]| filled.iter().copied().max().unwrap_or_default();
        let pass = match filled.split_last() {
            Some((&filled, before)) if first == 1 && last > 1 => {
                let chunk = Chunk { tokens: last, context: filled + last };
                Pass::mixed(before.len() as u32, most(before) + 1, chunk)
            }
            _ => Pass::new(filled.len() as u32, first, most(filled) + first),
        };
        pass.check(tokens, filled)?;
        Ok(pass)
    }

    /// Whether these tokens are what it feeds, behind so many positions of each sequence.
    ///
    /// # Errors
    /// They are not, or there are none.
    pub fn check(self, tokens: &[Vec<u32>], filled: &[u32]) -> Result<()> {
        let new: Vec<u32> = (0..self.sequences()).map(|sequence| self.new_tokens(sequence)).collect();
        let given: Vec<u32> = tokens.iter().map(|tokens| tokens.len() as u32).collect();
        if given == new && given.len() == filled.len() && !given.is_empty() && !given.contains(&0) {
            return Ok(());
        }
        Err(Failure::input(format!("{} sequences of tokens were given", tokens.len())).hint(format!(
            "give {} sequences, all of one length, or of one token but for the last",
            filled.len()
        )))
    }

    /// All sequences.
    pub fn sequences(self) -> u32 {
        self.batch + u32::from(self.chunk.is_some())
    }

    /// New tokens of one of them.
    pub fn new_tokens(self, sequence: u32) -> u32 {
        match self.chunk {
            Some(chunk) if sequence >= self.batch => chunk.tokens,
            _ => self.tokens,
        }
    }

    /// Token rows of all sequences, one sequence after the other.
    pub fn rows(self) -> u32 {
        self.batch * self.tokens + self.chunk.map_or(0, |chunk| chunk.tokens)
    }

    /// Positions of a sequence that caches must have room for.
    pub fn capacity(self) -> u32 {
        self.context.max(self.chunk.map_or(0, |chunk| chunk.context))
    }

    /// Whether it has products that [`Products`](super::step::Products) decides on.
    pub fn has_choice(self) -> bool {
        self.rows() > skinny::MOST_ROWS
    }
}
