//! A checkpoint's logits on the device against those it must give.

use std::borrow::Cow;

use super::source::{QuantisedRows, Random, WeightRows};
use super::{Bounds, CUBLASLT, Row, each_gemm, error};
use crate::backend::{Gemm, Residency, Session, Work};
use crate::checkpoint::{Checkpoint, Expected};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::reference::{Numerics, Reference, Rows};
use crate::request::caches;
use crate::run::of_pages;
use crate::workload::Phase;

/// Feeds the prompt in one pass, then the continuation token by token whatever the logits say, and compares
/// the logits of each pass with `expected.json`, or with the reference's for random tokens of
/// this seed where there is none. Quantised, they are compared with those of a reference of the same quantised weights,
/// and with the others beside it. One row
/// for the prefill and one for each decode step, with the contiguous cache and with pages of each size; once more if cuBLASLt
/// may multiply in a prefill of this length.
///
/// # Errors
/// The device cannot hold or run it. Errors above their bounds are in the rows.
pub fn check_checkpoint(
    session: &mut dyn Session,
    checkpoint: &Checkpoint,
    seed: u64,
    precision: Precision,
    kv_pages: &[u32],
) -> Result<Vec<Row>> {
    let unquantised = match checkpoint.expected() {
        Some(expected) => Cow::Borrowed(expected),
        None => Cow::Owned(random_logits(checkpoint, seed, Numerics::of(precision))),
    };
    if !precision.is_quantised() {
        return check_logits(session, checkpoint, &unquantised, precision, kv_pages);
    }
    let quantised = QuantisedRows { rows: &WeightRows(checkpoint), precision };
    let Expected { prompt, continuation, .. } = &*unquantised;
    // What is quantised once more falls to other codes where it was not rounded before as on the device.
    let numerics = match precision.activations.is_quantised() {
        true => Numerics::of(precision),
        false => Numerics::exact(precision),
    };
    let expected = logits(checkpoint.spec(), &quantised, numerics, prompt, continuation);
    let rows = check_logits(session, checkpoint, &expected, precision, kv_pages)?;
    let before = check_logits(session, checkpoint, &unquantised, precision, kv_pages)?;
    let beside = |(row, before): (Row, Row)| Row { unquantised_error: Some(before.error), ..row };
    Ok(rows.into_iter().zip(before).map(beside).collect())
}

/// [`check_checkpoint`] against logits that are at hand.
///
/// # Errors
/// As [`check_checkpoint`].
pub fn check_logits(
    session: &mut dyn Session,
    checkpoint: &Checkpoint,
    expected: &Expected,
    precision: Precision,
    kv_pages: &[u32],
) -> Result<Vec<Row>> {
    let model = checkpoint.spec();
    let (prompt, steps) = (expected.prompt.len() as u32, expected.continuation.len() as u32);
    let residency = Residency { model: model.clone(), layers: model.layers, precision, copies: 1 };
    let work = Work {
        phase: Phase::Prefill,
        batch: 1,
        tokens: prompt,
        context: prompt + steps,
        chunk: None,
        kv_page: None,
    };
    let (needed, free) = (session.needed_memory(&residency, &[work]), session.available_memory());
    if needed > free {
        return Err(Failure::device(format!(
            "{} needs {}, {} are free",
            checkpoint.folder().display(),
            needed.human(),
            free.human()
        ))
        .hint("give a smaller checkpoint, or a device with more memory"));
    }
    session.load(&residency, checkpoint)?;
    let mut rows = Vec::new();
    for gemm in each_gemm(session, prompt, precision) {
        if let Some(gemm) = gemm {
            session.use_gemm(gemm)?;
        }
        let by = if gemm == Some(Gemm::CublasLt) { CUBLASLT } else { "" };
        for kv_page in caches(kv_pages) {
            let by = format!("{by}{}", of_pages(kv_page));
            rows.extend(check_passes(session, expected, (precision, kv_page), &by)?);
        }
    }
    Ok(rows)
}

/// The prompt, then the continuation, with the weights that are loaded. `by` is put behind the names.
fn check_passes(
    session: &mut dyn Session,
    expected: &Expected,
    (precision, kv_page): (Precision, Option<u32>),
    by: &str,
) -> Result<Vec<Row>> {
    session.begin(1, (expected.prompt.len() + expected.continuation.len()) as u32, kv_page)?;
    let passes = std::iter::once((expected.prompt.clone(), &expected.prefill_logits))
        .chain(expected.continuation.iter().map(|&token| vec![token]).zip(&expected.decode_logits));
    let bound = Bounds::of(precision).logits;
    let mut position = 0;
    let mut rows = Vec::new();
    for (i, (tokens, logits)) in passes.enumerate() {
        position += tokens.len();
        let outputs = session.forward(&[tokens], false)?;
        let out = outputs.last().map_or(&[][..], |output| &output.values);
        rows.push(Row {
            precision,
            unquantised_error: None,
            check: if i == 0 { format!("prefill{by}") } else { format!("decode {i}{by}") },
            error: error::of_row(out, logits),
            bound,
            element_error: None,
            element_bound: None,
            rows: 1,
            at: format!("position {}", position - 1),
        });
    }
    Ok(rows)
}

/// The logits of random tokens by the reference in float64. Slow: the larger the model, the fewer tokens.
pub fn random_logits(checkpoint: &Checkpoint, seed: u64, numerics: Numerics) -> Expected {
    let spec = checkpoint.spec();
    // About five billion weights to multiply: some seconds. A model of 8B gets two tokens and one step.
    let affordable = (5e9 / spec.streamed_matrix_parameters()) as u32;
    let total = affordable.clamp(3, 80).min(spec.max_position);
    let steps = (total / 5).clamp(1, 12).min(total - 1);
    let mut random = Random::new(seed);
    let prompt = random.tokens(total - steps, spec.vocab);
    let continuation = random.tokens(steps, spec.vocab);
    logits(spec, &WeightRows(checkpoint), numerics, &prompt, &continuation)
}

/// The logits of a prompt and of each token that follows.
fn logits(
    spec: &ModelSpec,
    rows: &dyn Rows,
    numerics: Numerics,
    prompt: &[u32],
    continuation: &[u32],
) -> Expected {
    let mut reference = Reference::new(spec, rows, numerics, spec.layers, 1);
    let mut logits = |tokens: Vec<u32>| {
        let outputs = reference.forward(&[tokens]);
        outputs.into_iter().next_back().map_or_else(Vec::new, |output| output.values)
    };
    Expected {
        prefill_logits: logits(prompt.to_vec()),
        decode_logits: continuation.iter().map(|&token| logits(vec![token])).collect(),
        prompt: prompt.to_vec(),
        continuation: continuation.to_vec(),
    }
}
