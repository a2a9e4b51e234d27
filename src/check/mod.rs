//! Is a device as fast as it must be? A run held against floors, and the line that says so.
//!
//! - `floors`: where the floors come from: a device profile's shares of the datasheet, or a run of a healthy device.
//! - `judge`: what a run reached of each, and what held its device back.
//! - `line`: all of it in one line.

mod floors;
mod judge;
mod line;

pub use floors::{Basis, Figure, Floor, Floors, decode};
pub use judge::{Finding, Judgement, Verdict, judge, processes};
pub use line::{line, reason};
