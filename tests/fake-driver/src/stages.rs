//! The stages of a model among the kernels: products and attention.

use crate::costs::{Cost, Launched, Parameters, Span, Understood, Unit, Way};

/// Collects spans; parameters that may be null are left out where they are.
struct Spans(Vec<Span>);

impl Spans {
    fn must(&mut self, address: u64, bytes: u64, what: &'static str) {
        self.0.push(Span { address, bytes, what });
    }

    fn may(&mut self, address: u64, bytes: u64, what: &'static str) {
        if address != 0 {
            self.must(address, bytes, what);
        }
    }
}

/// Bytes of the keys, or of the values, and of their scales: of so many rows of `head_dim` elements.
fn cached(rows: u64, head_dim: u64, codes: bool) -> (u64, u64) {
    if codes { (rows * head_dim, 4 * rows) } else { (2 * rows * head_dim, 0) }
}

/// Bytes of a row of weights, and of all scales of `rows` rows, in the format that a kernel is named after.
fn held(kernel: &str, k: u64) -> (u64, impl Fn(u64) -> u64) {
    let named = |format: &str| kernel.contains(format);
    let (int4, narrow) = (named("_int4"), named("_int8") || named("_fp8") || named("_w8a8"));
    let row = if int4 {
        k / 2
    } else if narrow {
        k.next_multiple_of(16)
    } else {
        2 * k
    };
    let scales = move |rows: u64| match (int4, narrow) {
        (true, _) => rows.next_multiple_of(8) * (k / 128) * 2,
        (_, true) => 4 * rows,
        _ => 0,
    };
    (row, scales)
}

/// What makes weights narrower: `struct Quantise`.
pub fn quantise(kernel: &str, p: &Parameters) -> Option<Understood> {
    let (rows, k) = (p.word(24), p.word(28));
    let (row, scales) = held(kernel, k);
    let mut spans = Spans(Vec::new());
    spans.must(p.wide(0), 2 * rows * k, "from");
    spans.must(p.wide(8), rows * row, "codes");
    spans.must(p.wide(16), scales(rows), "scales");
    let cost = Cost::memory((rows * (2 * k + row)) as f64, 0.6);
    Some(Understood { cost, spans: spans.0, way: Way::Interpret })
}

/// Pages of `capacity` positions. A shift that leaves none is a launch gone wrong, which the checks of spans are
/// there to find: it must not stop them.
fn pages(capacity: u64, shift: u64) -> u64 {
    capacity.checked_shr(shift as u32).unwrap_or(0)
}

/// Where new keys and values go, and what says where there: `struct Linear`.
fn keys_and_values(spans: &mut Spans, p: &Parameters) {
    let [rows, tokens, head_dim, kv_width] = [120, 136, 140, 148].map(|offset| p.word(offset));
    let [capacity, sequences, page_shift] = [152, 164, 168].map(|offset| p.word(offset));
    // Where a launch says nothing, all sequences have as many rows.
    let sequences = if sequences == 0 { rows / tokens.max(1) } else { sequences };
    let held = sequences * kv_width / head_dim.max(1) * capacity;
    let (codes, scales) = cached(held, head_dim, p.wide(208) != 0);
    spans.must(p.wide(48), codes, "keys");
    spans.must(p.wide(56), codes, "values");
    spans.may(p.wide(216), scales, "key scales");
    spans.may(p.wide(224), scales, "value scales");
    spans.may(p.wide(200), 4 * sequences * pages(capacity, page_shift), "pages");
    spans.may(p.wide(208), 8 * rows * kv_width, "fresh");
    spans.must(p.wide(72), 4 * sequences, "start");
}

/// A product: `struct Linear`.
pub fn linear(kernel: &str, p: &Parameters) -> Option<Understood> {
    let [rows, k, n, stride] = [120, 124, 128, 132].map(|offset| p.word(offset));
    let [head_dim, q_width, kv_width] = [140, 144, 148].map(|offset| p.word(offset));
    let mut spans = Spans(Vec::new());
    if kernel == "reference_argmax" {
        spans.must(p.wide(80), 4 * rows * n, "logits");
        spans.must(p.wide(88), 4 * rows, "chosen");
        let cost = Cost::memory((4 * rows * n) as f64, 0.5);
        return Some(Understood { cost, spans: spans.0, way: Way::Interpret });
    }
    // Activations in int8 are held as weights in int8 are, in whole pieces and with a scale for each row.
    let codes = kernel.contains("_w8a8");
    let (row, x_stride) = if codes { (k, k.next_multiple_of(16)) } else { (2 * k, 2 * stride) };
    spans.must(p.wide(0), rows.saturating_sub(1) * x_stride + row, "x");
    if codes {
        spans.must(p.wide(232), 4 * rows, "x scales");
    }
    spans.may(p.wide(8), row, "norm");
    let (w0, w1, w2, y) = (p.wide(16), p.wide(24), p.wide(32), p.wide(40));
    let [s0, s1, s2] = [176, 184, 192].map(|offset| p.wide(offset));
    let (weight_row, scales) = held(kernel, k);
    let (weights, out);
    if kernel.contains("qkv") {
        spans.must(w0, q_width * weight_row, "w0");
        spans.may(s0, scales(q_width), "s0");
        spans.must(w1, kv_width * weight_row, "w1");
        spans.may(s1, scales(kv_width), "s1");
        spans.must(w2, kv_width * weight_row, "w2");
        spans.may(s2, scales(kv_width), "s2");
        spans.must(y, 2 * rows * q_width, "y");
        keys_and_values(&mut spans, p);
        spans.must(p.wide(64), 4 * head_dim, "turns");
        (weights, out) = (n, 2 * rows * n);
    } else if kernel.contains("gate_up") {
        spans.must(w0, n * weight_row, "w0");
        spans.may(s0, scales(n), "s0");
        spans.must(w1, n * weight_row, "w1");
        spans.may(s1, scales(n), "s1");
        spans.must(y, 2 * rows * n, "y");
        (weights, out) = (2 * n, 2 * rows * n);
    } else if kernel.contains("lm_head") {
        spans.must(w0, n * weight_row, "w0");
        spans.may(s0, scales(n), "s0");
        spans.may(p.wide(80), 4 * rows * n, "logits");
        if !kernel.starts_with("reference") {
            spans.must(p.wide(88), 4 * rows, "chosen");
            spans.must(p.wide(96), 8 * rows, "best");
        }
        (weights, out) = (n, 4 * rows);
    } else if kernel.contains("residual") {
        spans.must(w0, n * weight_row, "w0");
        spans.may(s0, scales(n), "s0");
        spans.must(y, 2 * rows * n, "y");
        (weights, out) = (n, 4 * rows * n);
    } else {
        return None;
    }
    spans.may(p.wide(104), 4, "partial");
    spans.may(p.wide(112), 4, "arrivals");
    let bytes = (weights * weight_row + scales(weights) + rows * row + out) as f64;
    let flops = 2.0 * (rows * weights) as f64 * k as f64;
    let unit = if codes { Unit::Int8 } else { Unit::Bf16 };
    let cost = Cost { unit, ..Cost::product(bytes, flops) };
    Some(Understood { cost, spans: spans.0, way: Way::Interpret })
}

/// What follows a product of cuBLASLt, whose x are the products, or any product before a cache of codes: `struct Linear` as
/// well.
pub fn finish(kernel: &str, p: &Parameters) -> Option<Understood> {
    let [rows, n, stride, head_dim] = [120, 128, 132, 140].map(|offset| p.word(offset));
    let [q_width, kv_width] = [144, 148].map(|offset| p.word(offset));
    let mut spans = Spans(Vec::new());
    if kernel.starts_with("append") {
        keys_and_values(&mut spans, p);
        let cost = Cost::memory((10 * rows * kv_width) as f64, 0.85);
        return Some(Understood { cost, spans: spans.0, way: Way::Interpret });
    }
    let (taken, given) = if kernel == "rotate_append" {
        spans.must(p.wide(40), 2 * rows * q_width, "y");
        keys_and_values(&mut spans, p);
        spans.must(p.wide(64), 4 * head_dim, "turns");
        (n, n)
    } else {
        spans.must(p.wide(40), 2 * rows * n, "y");
        (2 * n, n)
    };
    spans.must(p.wide(0), 2 * (rows.saturating_sub(1) * stride + taken), "x");
    let cost = Cost::memory((2 * rows * (taken + given)) as f64, 0.85);
    Some(Understood { cost, spans: spans.0, way: Way::Interpret })
}

/// Attention in both phases: `struct Attention`.
pub fn attention(
    launched: &Launched,
    p: &Parameters,
    start: &dyn Fn(u64, u64) -> Vec<u32>,
) -> Option<Understood> {
    let [sequences, tokens, heads, kv_heads, capacity] = [56, 60, 64, 68, 72].map(|offset| p.word(offset));
    let head_dim = if launched.kernel.starts_with("reference") {
        u64::from(launched.threads)
    } else {
        launched.kernel.split('_').find_map(|part| part.parse().ok())?
    };
    let rows = sequences * tokens;
    let mut spans = Spans(Vec::new());
    let held = sequences * kv_heads * capacity;
    let (codes, scales) =
        cached(held, head_dim, ["_int8_", "_fp8_"].iter().any(|codes| launched.kernel.contains(codes)));
    spans.must(p.wide(0), 2 * rows * heads * head_dim, "q");
    spans.must(p.wide(8), codes, "keys");
    spans.must(p.wide(16), codes, "values");
    spans.may(p.wide(96), scales, "key scales");
    spans.may(p.wide(104), scales, "value scales");
    spans.may(p.wide(88), 4 * sequences * pages(capacity, p.word(84)), "pages");
    spans.must(p.wide(24), 2 * rows * heads * head_dim, "out");
    spans.must(p.wide(32), 4 * sequences, "start");
    spans.may(p.wide(40), 4, "partial");
    spans.may(p.wide(48), 4, "arrivals");
    let (mut positions, mut pairs) = (0.0, 0.0);
    for first in start(p.wide(32), sequences) {
        if u64::from(first) + tokens > capacity {
            spans.must(0, 1, "positions beyond the capacity");
        }
        let (first, tokens) = (f64::from(first), tokens as f64);
        positions += first + tokens;
        // Token i attends first + i + 1.
        pairs += tokens * first + tokens * (tokens + 1.0) / 2.0;
    }
    // Of keys and values, of all that the cache has of a position.
    let position = 2.0 * (codes + scales) as f64 / (sequences * capacity).max(1) as f64;
    let bytes = positions * position + (4 * rows * heads * head_dim) as f64;
    let flops = 4.0 * pairs * (heads * head_dim) as f64;
    Some(Understood { cost: Cost::product(bytes, flops), spans: spans.0, way: Way::Interpret })
}
