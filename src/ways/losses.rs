//! What eats the difference between what a way promises and what it gives, in words with figures.

use super::{Step, Verified};
use crate::model::{DType, Tensor};
use crate::roofline::Bound;
use crate::units::percent;
use crate::workload::Stage;

/// Shares of less than this are not worth a word.
const WORTH: f64 = 0.005;

/// `head 21%`, if that is worth it.
fn share(what: &str, share: f64) -> Option<String> {
    (share >= WORTH).then(|| format!("{what} {}", percent(share)))
}

/// How far the kernels are from their roof, the base's beside it.
fn roof(base: &Step, step: &Step) -> Option<String> {
    let (before, after) = (base.point.fraction_of_roof, step.point.fraction_of_roof);
    ((before - after).abs() >= WORTH)
        .then(|| format!("{} of the roof after {}", percent(after), percent(before)))
}

fn bubble(step: &Step) -> Option<String> {
    share("bubble", step.point.bubble_seconds? / step.point.seconds.median)
}

/// Arithmetic, where it and not memory bounds most of the step.
fn arithmetic(step: &Step) -> Option<String> {
    let quantised = step.point.weights.is_quantised();
    (step.point.bound == Bound::Compute).then(|| match quantised {
        true => "bound by arithmetic, dequantisation with it".into(),
        false => "bound by arithmetic".into(),
    })
}

/// Bytes of a batch that a batch of one has as well are what it saves; the cache and activations are not.
pub(super) fn of_batch(base: &Step, step: &Step) -> Vec<String> {
    let total = step.work().total();
    let bytes = total.bytes().0;
    [
        share("KV cache", total.kv_bytes.0 / bytes),
        share("activations", total.activation_bytes.0 / bytes),
        arithmetic(step),
        bubble(step),
        roof(base, step),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Bytes that did not become `nominal` times fewer, as shares of the step's.
pub(super) fn of_weights(base: &Step, step: &Step, nominal: f64) -> Vec<String> {
    let (before, after) = (base.work(), step.work());
    let (total_before, total) = (before.total(), after.total());
    let bytes = total.bytes().0;
    let excess = |before: f64, after: f64| (after - before / nominal) / bytes;
    let head = |step: &Step| step.work().cost(Stage::LmHead).weight_bytes.0;
    let head_excess = match step.point.head == step.point.weights {
        true => 0.0,
        false => excess(head(base), head(step)),
    };
    let scales = |tensor: &Tensor, dtype: DType| {
        let (rows, columns) = tensor.shape(&after.model);
        dtype.matrix_bytes(rows, columns) - f64::from(rows) * f64::from(columns) * dtype.bytes()
    };
    let layers = f64::from(after.model.layers);
    let in_layers: f64 = Tensor::OF_LAYER.iter().map(|tensor| scales(tensor, step.point.weights)).sum();
    let all_scales = layers * in_layers + scales(&Tensor::Head, step.point.head);
    let rest = excess(total_before.activation_bytes.0, total.activation_bytes.0);
    [
        share("head", head_excess),
        share("KV cache", excess(total_before.kv_bytes.0, total.kv_bytes.0)),
        share("scales", all_scales / bytes),
        share("activations", rest),
        arithmetic(step),
        bubble(step),
        roof(base, step),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn of_speculation(verified: &Verified) -> Vec<String> {
    let cost = format!("T({})/T(1) {:.2}", verified.tokens, verified.cost);
    let draft = match verified.draft {
        Some(draft) => format!("draft {} of the cycle", percent(draft / verified.cycle())),
        None => "no draft counted (--draft)".into(),
    };
    vec![cost, draft]
}

pub(super) fn of_ranks(base: &Step, step: &Step, reduce: f64) -> Vec<String> {
    [share("all-reduces", reduce), bubble(step), roof(base, step)].into_iter().flatten().collect()
}
