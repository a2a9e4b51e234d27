//! Do the kernels compute a Llama? Their outputs on the device against float64.
//!
//! Two checks. A checkpoint's logits against those of a trusted implementation show that the whole is right
//! and belongs to the checkpoint. Random models of odd shapes, stage by stage, show that each kernel is right
//! at the edges of its tiles; every stage is fed the device's own output of the stage before, so that errors
//! do not add up and the bound can be tight. Both load their own weights into the session.

mod checkpoint;
mod error;
mod kernels;
mod shapes;
mod source;

pub use checkpoint::{check_checkpoint, check_logits, random_logits};
pub use kernels::{Extent, check_kernels, check_support};
pub use source::{NormalWeights, WeightRows};

use serde::Serialize;

use crate::backend::{Gemm, Session};
use crate::error::{Failure, Result};
use crate::model::{DType, Precision};
use crate::request::caches;
use crate::run::Verification;
use crate::workload::Stage;

/// One comparison: the largest relative errors and what they were held against.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Types of weights, activations and cache.
    #[serde(flatten)]
    pub precision: Precision,
    /// What was compared: `prefill`, `decode 3`, a stage, or `logits` of a whole random model.
    pub check: String,
    /// Largest ||out - ref|| / ||ref|| over all token rows. Infinite for outputs that are no numbers.
    pub error: f64,
    /// What `error` must be under.
    pub bound: f64,
    /// The same error against logits of the checkpoint's own weights, where `error` is against quantised ones: what
    /// quantising costs. Null where nothing is quantised, and for stages.
    pub unquantised_error: Option<f64>,
    /// Largest |out - ref| of one element, relative to the larger of |ref| and the row's root mean square, so
    /// that one wrong element among hundreds is seen. Null for a checkpoint's logits.
    pub element_error: Option<f64>,
    /// What `element_error` must be under.
    pub element_bound: Option<f64>,
    /// Token rows compared.
    pub rows: u64,
    /// Where the largest error was.
    pub at: String,
}

impl Row {
    /// Whether the errors are under their bounds.
    pub fn passed(&self) -> bool {
        self.severity() < 1.0
    }

    /// Error over bound, the larger of the two: 1 or more has failed.
    pub fn severity(&self) -> f64 {
        let element = self.element_error.zip(self.element_bound).map_or(0.0, |(error, bound)| error / bound);
        let severity = (self.error / self.bound).max(element);
        // Whatever is no number is no success.
        if severity.is_nan() { f64::INFINITY } else { severity }
    }
}

/// Which errors are allowed, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    /// Logits after all layers, and a checkpoint's logits.
    logits: f64,
    /// A token row of one stage.
    stage: f64,
    /// One element of one stage.
    element: f64,
}

impl Bounds {
    /// f32: a product of a few hundred terms errs by about 1e-6, a rotation by an angle of some hundred
    /// radians by 1e-5; a mistake of any kind by more than 1e-3. transformers in float32 lands under 1e-5.
    ///
    /// bf16: the reference rounds where the device rounds. A device may still round an intermediate value
    /// once more, or the input of a product before the norm's scale instead of after (2^-9 each, 0.1-0.6% of a
    /// row), and a value at a tie may fall to the other side (2^-7 of the element). silu(gate) x up multiplies two
    /// such errors: among a million elements the largest is 3.5% of the row's root mean square. Through all layers
    /// transformers' own bf16 lands at 0.011 to 0.029. So wide a bound on logits lets a rotary base 5% off pass
    /// (0.01 to 0.03 after a short prompt): f32 activations and the stages find it.
    ///
    /// A cache of e4m3: what a device puts into it may fall to the other side of a tie, where the next number is an eighth
    /// of it away. One element in thirty does, which is 1.4% of a row of qkv, and 5% of logits after all layers, of which
    /// quantising the cache itself is 12%. Activations of 8 bits likewise: they are rounded at run time from values that differ in
    /// their last bits, a tenth of a step, and every tenth falls to the other side. Logits come out 3 to 6% off, quantising
    /// itself is 5 to 8%.
    fn of(precision: Precision) -> Self {
        match (precision.activations, precision.kv) {
            (DType::F32, _) => Bounds { logits: 1e-4, stage: 1e-4, element: 1e-4 },
            (_, DType::Fp8) | (DType::Int8, _) => Bounds { logits: 0.1, stage: 0.01, element: 0.05 },
            _ => Bounds { logits: 0.05, stage: 0.01, element: 0.05 },
        }
    }

    /// Of a token row of a stage, and of one element.
    fn of_stage(self, stage: Stage, kv: DType) -> (f64, f64) {
        match (stage, kv) {
            (Stage::Qkv, DType::Fp8) => (2.0 * self.stage, 0.15),
            _ => (self.stage, self.element),
        }
    }
}

/// Behind the names of rows whose products of many rows were cuBLASLt's.
const CUBLASLT: &str = ", cublaslt";

/// What must be checked for passes of up to this many token rows: everything that may multiply in them when they are
/// timed. `None` where there is no choice.
fn each_gemm(session: &dyn Session, rows: u32, precision: Precision) -> Vec<Option<Gemm>> {
    let all: Vec<_> = session.gemms(rows).into_iter().map(Some).collect();
    // Quantised weights are multiplied by our own kernels alone.
    if all.is_empty() || precision.weights.is_quantised() { vec![None] } else { all }
}

/// The row that is nearest to its bound, or furthest above it.
pub fn worst(rows: &[Row]) -> Option<&Row> {
    rows.iter().max_by(|a, b| a.severity().total_cmp(&b.severity()))
}

/// Checks the kernels on small random models in each of the types, with the contiguous cache and pages of each size, and mixed steps if
/// there will be some, before anything is timed; replaces what is loaded.
/// Takes a fraction of a second.
///
/// # Errors
/// The device failed, or an error is above its bound ([`crate::error::Code::Invalid`]).
pub fn quick_check(
    session: &mut dyn Session,
    seed: u64,
    precisions: &[Precision],
    kv_pages: &[u32],
    mixed: bool,
) -> Result<Verification> {
    let extent = if mixed { Extent::Mixed } else { Extent::Short };
    let mut rows = Vec::new();
    for &precision in precisions {
        for kv_page in caches(kv_pages) {
            rows.extend(check_kernels(session, seed, precision, kv_page, extent)?);
        }
    }
    let worst = worst(&rows).ok_or_else(|| Failure::invalid("the check of the kernels compared nothing"))?;
    if !worst.passed() {
        return Err(failed(worst));
    }
    Ok(Verification {
        passed: true,
        largest_error: worst.error,
        bound: worst.bound,
        description: format!(
            "every stage of random models against float64, {}; largest in {}, {}",
            names(precisions),
            worst.check,
            types(worst.precision)
        ),
    })
}

/// `bf16`, the activations where weights and cache are as usual, and otherwise all that is not.
pub fn types(precision: Precision) -> String {
    if precision.is_quantised() { precision.name() } else { precision.activations.to_string() }
}

fn names(precisions: &[Precision]) -> String {
    let names: Vec<String> = precisions.iter().map(|&precision| types(precision)).collect();
    names.join("; ")
}

/// The failure of a row that is above its bound.
pub fn failed(row: &Row) -> Failure {
    let (error, bound, what) = match (row.element_error, row.element_bound) {
        (Some(error), Some(bound)) if row.error < row.bound => (error, bound, " of one element"),
        _ => (row.error, row.bound, ""),
    };
    Failure::invalid(format!(
        "verification failed: {} in {} has a relative error{what} of {error:.1e}, bound {bound:.0e} ({})",
        row.check,
        types(row.precision),
        row.at
    ))
    .hint("the kernels do not compute a Llama on this device: report it; on a CPU another --isa may do")
}
