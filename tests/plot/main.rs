//! The picture: snapshots of whole figures, and what must hold for any figure.

#![allow(clippy::unwrap_used)]

mod figures;
mod labels;
mod program;
mod runs;
