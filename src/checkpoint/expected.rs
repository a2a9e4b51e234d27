//! `expected.json`: the logits that a trusted implementation computed for this checkpoint.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Failure, Result};
use crate::input;
use crate::model::ModelSpec;

/// Tokens to feed and the logits that must come out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Expected {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Token ids fed after it, one per decode step.
    pub continuation: Vec<u32>,
    /// Logits of the last prompt position, `[vocab]`.
    pub prefill_logits: Vec<f64>,
    /// Logits after each token of the continuation, `[step][vocab]`.
    pub decode_logits: Vec<Vec<f64>>,
}

impl Expected {
    /// Reads the file if there is one.
    pub(super) fn open(path: &Path, spec: &ModelSpec) -> Result<Option<Self>> {
        if !input::present(path) {
            return Ok(None);
        }
        Self::from_json(&input::text(path, input::CHECKPOINT)?, spec)
            .map(Some)
            .map_err(|e| e.at(path.display()))
    }

    /// Reads the file's text and checks it against the model.
    ///
    /// # Errors
    /// Text that is no such file, or lengths or token ids that do not fit the model; the field is named.
    pub fn from_json(text: &str, spec: &ModelSpec) -> Result<Self> {
        let wrong =
            |what: String| Err(Failure::input(what).hint("write it anew for this checkpoint, or remove it"));
        let expected: Expected = match serde_json::from_str(text) {
            Ok(expected) => expected,
            Err(e) => return wrong(format!("not a file of expected logits: {e}")),
        };
        let Expected { prompt, continuation, prefill_logits, decode_logits } = &expected;
        if prompt.is_empty() {
            return wrong("prompt is empty".into());
        }
        if prompt.len() + continuation.len() > spec.max_position as usize {
            return wrong(format!(
                "prompt and continuation have {} tokens, the model takes {}",
                prompt.len() + continuation.len(),
                spec.max_position
            ));
        }
        for (field, tokens) in [("prompt", prompt), ("continuation", continuation)] {
            if let Some((at, id)) = tokens.iter().enumerate().find(|(_, id)| **id >= spec.vocab) {
                return wrong(format!("{field}[{at}] is {id}, the vocabulary has {}", spec.vocab));
            }
        }
        if decode_logits.len() != continuation.len() {
            return wrong(format!(
                "decode_logits has {} rows, continuation has {} tokens",
                decode_logits.len(),
                continuation.len()
            ));
        }
        let steps = decode_logits.iter().enumerate().map(|(i, row)| (format!("decode_logits[{i}]"), row));
        for (field, row) in std::iter::once(("prefill_logits".into(), prefill_logits)).chain(steps) {
            if row.len() != spec.vocab as usize {
                return wrong(format!("{field} has {} values, the vocabulary {}", row.len(), spec.vocab));
            }
            // An error relative to nothing, or to infinity, would say nothing.
            if !row.iter().all(|x| x.is_finite() && x.abs() < 1e30) || row.iter().all(|&x| x == 0.0) {
                return wrong(format!("{field} holds no usable logits (all zero, or too large)"));
            }
        }
        Ok(expected)
    }
}
