//! How matrices of weights are held on the device, and which kernels take them: `kernels/weights.cuh`.

use super::gemv::LinearStage;
use crate::model::DType;
use crate::model::precision::GROUP;

/// The type of a matrix's codes, `enum Format` of the kernels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As they are.
    #[default]
    Bf16,
    /// One f32 scale for each row.
    Int8,
    /// One bf16 scale for each group of columns.
    Int4,
    /// e4m3 with one f32 scale for each row.
    Fp8,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Bf16, Format::Int8, Format::Int4, Format::Fp8];

    /// What weights of this type are held in.
    pub fn of(dtype: DType) -> Format {
        match dtype {
            DType::Int8 => Format::Int8,
            DType::Int4 => Format::Int4,
            DType::Fp8 => Format::Fp8,
            _ => Format::Bf16,
        }
    }

    /// Whether codes need scales.
    pub fn is_quantised(self) -> bool {
        self != Format::Bf16
    }

    /// Columns of a piece of 16 bytes.
    pub fn columns(self) -> u32 {
        match self {
            Format::Bf16 => 8,
            Format::Int8 | Format::Fp8 => 16,
            Format::Int4 => 32,
        }
    }

    /// Bytes from one row to the next: whole pieces.
    pub fn row_bytes(self, k: u32) -> u64 {
        16 * u64::from(k.div_ceil(self.columns()))
    }

    /// Bytes of the codes of a matrix.
    pub fn code_bytes(self, rows: u32, k: u32) -> u64 {
        u64::from(rows) * self.row_bytes(k)
    }

    /// Bytes of the scales of a matrix. Those of eight rows of int4 lie together.
    pub fn scale_bytes(self, rows: u32, k: u32) -> u64 {
        match self {
            Format::Bf16 => 0,
            Format::Int8 | Format::Fp8 => 4 * u64::from(rows),
            Format::Int4 => 16 * u64::from(rows.div_ceil(8)) * u64::from(k / GROUP),
        }
    }

    /// Bytes of weights that a step of `columns` columns of `rows` rows puts into shared memory, scales included.
    pub(super) fn step_bytes(self, rows: u32, columns: u32) -> u32 {
        let scales = if self == Format::Int4 { rows / 8 * 16 } else { 0 };
        rows * columns / self.columns() * 16 + scales
    }
}

/// A file of kernels for each format: `gemv.cu`, `gemv_int8.cu`.
macro_rules! source {
    ($family:literal, $format:expr) => {
        match $format {
            Format::Bf16 => $family,
            Format::Int8 => concat!($family, "_int8"),
            Format::Int4 => concat!($family, "_int4"),
            Format::Fp8 => concat!($family, "_fp8"),
        }
    };
}

/// The kernel of a family for a stage, a format and a size: `gemv_int8_qkv_1`.
macro_rules! kernel {
    ($family:literal, $stage:expr, $format:expr, $size:literal) => {
        match $stage {
            LinearStage::Qkv => kernel!(@format $family, $format, concat!("_qkv_", $size)),
            LinearStage::Residual => kernel!(@format $family, $format, concat!("_residual_", $size)),
            LinearStage::GateUp => kernel!(@format $family, $format, concat!("_gate_up_", $size)),
            LinearStage::LmHead => kernel!(@format $family, $format, concat!("_lm_head_", $size)),
        }
    };
    (@format $family:literal, $format:expr, concat!($stage:literal, $size:literal)) => {
        match $format {
            Format::Bf16 => concat!($family, $stage, $size),
            Format::Int8 => concat!($family, "_int8", $stage, $size),
            Format::Int4 => concat!($family, "_int4", $stage, $size),
            Format::Fp8 => concat!($family, "_fp8", $stage, $size),
        }
    };
}

/// Source and kernel for 1 to 8 token rows.
pub(super) fn gemv(stage: LinearStage, format: Format, one: bool) -> (&'static str, &'static str) {
    let kernel = if one { kernel!("gemv", stage, format, "1") } else { kernel!("gemv", stage, format, "8") };
    (source!("gemv", format), kernel)
}

/// Source and kernel for 9 to 64 token rows, in tiles of this many.
pub(super) fn skinny(stage: LinearStage, format: Format, tokens: u32) -> (&'static str, &'static str) {
    let kernel = match tokens {
        16 => kernel!("skinny", stage, format, "16"),
        32 => kernel!("skinny", stage, format, "32"),
        _ => kernel!("skinny", stage, format, "64"),
    };
    (source!("skinny", format), kernel)
}

/// Source and kernel for any number of token rows in int8, as the weights are, in tiles of this many weight rows.
pub(super) fn gemm_of_codes(stage: LinearStage, weights: u32) -> (&'static str, &'static str) {
    // Of codes there is one format, which the family's name says.
    let kernel = match weights {
        256 => kernel!("gemm_w8a8", stage, Format::Bf16, "256"),
        128 => kernel!("gemm_w8a8", stage, Format::Bf16, "128"),
        _ => kernel!("gemm_w8a8", stage, Format::Bf16, "64"),
    };
    ("gemm_w8a8", kernel)
}

/// Source and kernel for more token rows, in tiles of this many weight rows.
pub(super) fn gemm(stage: LinearStage, format: Format, weights: u32) -> (&'static str, &'static str) {
    let kernel = match weights {
        256 => kernel!("gemm", stage, format, "256"),
        128 => kernel!("gemm", stage, format, "128"),
        _ => kernel!("gemm", stage, format, "64"),
    };
    (source!("gemm", format), kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_has_the_bytes_that_the_ledger_counts() {
        for (format, dtype) in [
            (Format::Bf16, DType::Bf16),
            (Format::Int8, DType::Int8),
            (Format::Int4, DType::Int4),
            (Format::Fp8, DType::Fp8),
        ] {
            assert_eq!(Format::of(dtype), format);
            let held = format.code_bytes(264, 512) + format.scale_bytes(264, 512);
            assert_eq!(held as f64, dtype.matrix_bytes(264, 512), "{dtype}");
        }
    }

    #[test]
    fn kernels_are_named_after_their_source() {
        for format in Format::ALL {
            for stage in LinearStage::ALL {
                for (source, kernel) in
                    [gemv(stage, format, true), skinny(stage, format, 32), gemm(stage, format, 128)]
                {
                    assert!(kernel.starts_with(source), "{kernel} of {source}");
                }
            }
        }
        assert_eq!(gemv(LinearStage::GateUp, Format::Int4, false), ("gemv_int4", "gemv_int4_gate_up_8"));
        assert_eq!(gemm_of_codes(LinearStage::Qkv, 64), ("gemm_w8a8", "gemm_w8a8_qkv_64"));
    }
}
