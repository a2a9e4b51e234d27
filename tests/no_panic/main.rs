//! Damaged input of every kind: the answer is a value or one line, never a panic, never a huge allocation.
//!
//! Each parser gets 20,000 cases, the same ones in every run: valid files of `tests/fixtures/valid`, damaged as bytes
//! and as trees. A failure prints its case and the input.
#![allow(clippy::unwrap_used)]

mod allocations;
mod cases;
mod command_line;
mod folders;
mod parsers;
mod random;
mod seeds;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod tree;
