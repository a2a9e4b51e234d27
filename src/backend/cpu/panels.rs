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
//! one scale, or of 8 bits for int8 activations. Where the CPU multiplies 8 bits, 16 are split into two columns of 8;
//! elsewhere a token is one column of 16. Codes are unsigned because the instructions want one unsigned factor; what the
//! offset adds is known from the sum of the other factor.
//!
//! Columns of 16 bits lie as `[step][token][4 or 8]`, each four in the order 0, 2, 1, 3: the codes of a row's bytes 0 and 2
//! are what stands in 16 bits each once the others are masked. Every 128 columns, and the last, however many, are followed by
//! the tokens' sums over them, i32.

use super::dot::{GROUP_STEPS, PANEL, STEP_BYTES};
use super::isa::InstructionSet;
use crate::model::DType;
use crate::model::precision::GROUP;

/// Bytes of a group of int4 with its scales.
pub const GROUP_BYTES: usize = GROUP_STEPS * STEP_BYTES + PANEL * 2;
/// Bytes of one column's integers of a group of int4, and of their sum behind them.
pub const GROUP_COLUMN_BYTES: usize = GROUP as usize + 4;

/// Largest magnitude of 16 bits whose two halves, each signed, are 8 bits.
const MOST: u16 = 127 * 256 + 127;

/// What a token becomes where it meets quantised weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers {
    /// Columns of 8 bits: one, or the upper and the lower of 16 bits.
    Bytes {
        /// 1 or 2.
        columns: usize,
    },
    /// A column of 16 bits.
    Words {
        /// Largest magnitude in it.
        most: u16,
    },
}

impl Integers {
    /// What the kernels of this set take, of activations of this type.
    pub fn of(isa: InstructionSet, activations: DType) -> Integers {
        let is_narrow = activations == DType::Int8;
        match isa.multiplies_bytes() {
            true => Integers::Bytes { columns: if is_narrow { 1 } else { 2 } },
            false => Integers::Words { most: if is_narrow { 127 } else { MOST } },
        }
    }

    /// Columns of a token.
    pub fn columns(self) -> usize {
        match self {
            Integers::Bytes { columns } => columns,
            Integers::Words { .. } => 1,
        }
    }

    /// Bytes of an activation, all its columns together.
    pub fn bytes(self) -> usize {
        match self {
            Integers::Bytes { columns } => columns,
            Integers::Words { .. } => 2,
        }
    }

    /// Largest magnitude of an activation's integer.
    pub fn most(self) -> u16 {
        match self {
            Integers::Bytes { columns: 1 } => 127,
            Integers::Bytes { .. } => MOST,
            Integers::Words { most } => most,
        }
    }
}

/// Where column `k`, the first of a group of 128 or the end of all, lies in columns of 16 bits of `tokens` tokens.
pub fn words_offset(k: usize, tokens: usize) -> usize {
    tokens * (k * 2 + k.div_ceil(GROUP as usize) * 4)
}

/// A matrix as panels, and its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panels {
    /// Type of the weights.
    pub dtype: DType,
    /// Columns of the matrix.
    pub columns: usize,
    /// What a token becomes for quantised weights.
    pub integers: Integers,
    /// Bytes of an activation, for bf16 weights.
    pub element: usize,
}

impl Panels {
    /// Steps of a panel.
    pub fn steps(&self) -> usize {
        self.columns / self.step_columns()
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

    /// Columns of a step.
    pub fn step_columns(&self) -> usize {
        match self.dtype {
            DType::Int8 => 4,
            DType::Int4 => 8,
            _ => 2,
        }
    }

    /// Where a step, the first of a group where there are groups, lies in the input of `tokens` tokens that go together; for
    /// all steps, how long it is.
    pub fn input_offset(&self, step: usize, tokens: usize) -> usize {
        match (self.dtype, self.integers) {
            (DType::Int8 | DType::Int4, Integers::Words { .. }) => {
                words_offset(step * self.step_columns(), tokens)
            }
            (DType::Int8, Integers::Bytes { columns }) => step * tokens * columns * 4,
            (DType::Int4, Integers::Bytes { columns }) => {
                step / GROUP_STEPS * tokens * columns * GROUP_COLUMN_BYTES
            }
            _ => step * tokens * 2 * self.element,
        }
    }

    /// Values that the kernel puts out for a token and a row.
    pub fn outputs(&self) -> usize {
        if self.dtype == DType::Int8 { self.integers.columns() } else { 1 }
    }

    /// Whether the weights are multiplied with integers.
    pub fn is_quantised(&self) -> bool {
        self.dtype.is_quantised()
    }
}
