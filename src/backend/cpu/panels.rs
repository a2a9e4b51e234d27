//! How a matrix of each type lies in memory as panels of 32 rows, and how what it is multiplied with does.
//!
//! A panel goes through its columns in steps of 128 bytes, two lines of 16 rows:
//! - bf16: a step is 2 columns, `[2 lines][16 rows][2]`.
//! - int8: a step is 4 columns, `[2 lines][16 rows][4]`, each code + 128; the panel ends with the scales of its 32 rows,
//!   f32.
//! - int4: a step is 8 columns, `[2 lines][16 rows][4 bytes]`: byte i of a row has the code of column i in its lower half
//!   and that of column 4 + i in its upper, each + 8; every 16 steps are followed by the scales of that group, bf16.
//!
//! Quantised weights are multiplied with integers: a token's activations, rounded to bf16 before, as 16-bit integers of
//! one scale, split into two columns of 8 bits (or, for int8 activations, as one column). Codes are unsigned because the
//! instructions want one unsigned factor; what the offset adds is known from the sum of the other factor.

use super::dot::{GROUP_STEPS, PANEL, STEP_BYTES};
use crate::model::DType;
use crate::model::precision::GROUP;

/// Bytes of a group of int4 with its scales.
pub const GROUP_BYTES: usize = GROUP_STEPS * STEP_BYTES + PANEL * 2;
/// Bytes of one column's integers of a group of int4, and of their sum behind them.
pub const GROUP_COLUMN_BYTES: usize = GROUP as usize + 4;

/// A matrix as panels, and its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panels {
    /// Type of the weights.
    pub dtype: DType,
    /// Columns of the matrix.
    pub columns: usize,
    /// Columns of 8-bit integers that a token becomes, 1 or 2; 1 for bf16 weights, which take it as it is.
    pub limbs: usize,
    /// Bytes of an activation, for bf16 weights.
    pub element: usize,
}

impl Panels {
    /// Steps of a panel.
    pub fn steps(&self) -> usize {
        self.columns
            / match self.dtype {
                DType::Int8 => 4,
                DType::Int4 => 8,
                _ => 2,
            }
    }

    /// Where a step lies in its panel. Of int4, a step that begins a group.
    pub fn offset(&self, step: usize) -> usize {
        match self.dtype {
            DType::Int4 => step / GROUP_STEPS * GROUP_BYTES,
            _ => step * STEP_BYTES,
        }
    }

    /// Bytes of a panel.
    pub fn bytes(&self) -> usize {
        let scales = if self.dtype == DType::Int8 { PANEL * 4 } else { 0 };
        self.offset(self.steps()) + scales
    }

    /// Where a step lies in the input of `tokens` tokens that go together; for all steps, how long it is.
    pub fn input_offset(&self, step: usize, tokens: usize) -> usize {
        match self.dtype {
            DType::Int8 => step * tokens * self.limbs * 4,
            DType::Int4 => step / GROUP_STEPS * tokens * self.limbs * GROUP_COLUMN_BYTES,
            _ => step * tokens * 2 * self.element,
        }
    }

    /// Values that the kernel puts out for a token and a row.
    pub fn outputs(&self) -> usize {
        if self.dtype == DType::Int8 { self.limbs } else { 1 }
    }

    /// Whether the weights are multiplied with integers.
    pub fn is_quantised(&self) -> bool {
        self.dtype.is_quantised()
    }
}
