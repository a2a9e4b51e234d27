//! The picture: snapshots of whole figures, and what must hold for any figure.

mod figures;
mod labels;
mod runs;
