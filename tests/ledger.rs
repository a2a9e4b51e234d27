//! The ledger against figures worked out by hand: Llama 3.1 8B, and the claims that a course on the subject
//! makes, each with what is right.

#![allow(clippy::unwrap_used)]

use llmroof::device::DeviceProfile;
use llmroof::model::{DType, ModelSpec};
use llmroof::profiles::Catalog;
use llmroof::roofline::Bound;
use llmroof::units::{Bytes, BytesPerSec, Flops};
use llmroof::workload::{Chunk, Stage, Workload};
use proptest::prelude::*;

const BF16: DType = DType::Bf16;

fn llama_8b() -> ModelSpec {
    Catalog::load(None).unwrap().model("llama-8b").unwrap()
}

fn card(name: &str) -> DeviceProfile {
    Catalog::load(None).unwrap().device(name).unwrap().clone()
}

/// Highest tokens per second of one sequence at this bandwidth, KV cache left out.
fn wall(bandwidth: f64) -> f64 {
    1.0 / (llama_8b().streamed_bytes(BF16.into()) / BytesPerSec(bandwidth)).0
}

/// Checks `value` to as many decimals as `expected` is written with.
fn close(value: f64, expected: &str) {
    let decimals = expected.split_once('.').map_or(0, |(_, d)| d.len());
    assert_eq!(format!("{value:.decimals$}"), expected);
}

#[test]
fn llama_8b_exactly() {
    let m = llama_8b();
    assert_eq!((m.hidden, m.ffn, m.layers, m.heads, m.kv_heads), (4096, 14_336, 32, 32, 8));
    assert_eq!((m.head_dim, m.vocab, m.tied_embeddings, m.rope_theta), (128, 128_256, false, 500_000.0));
    assert_eq!(m.parameters(), 8_030_261_248.0);
    assert_eq!(m.resident_bytes(BF16.into()), Bytes(16_060_522_496.0));
    assert_eq!(m.streamed_bytes(BF16.into()), Bytes(15_009_849_344.0));
    assert_eq!(m.streamed_matrix_parameters(), 7_504_658_432.0);
    assert_eq!(m.kv_bytes_per_token(BF16), Bytes(131_072.0));
    close(m.head_parameters() * 2e-9, "1.05");
}

#[test]
fn operations_of_a_decode_token() {
    for context in [1, 1000, 131_072] {
        let flops = Workload::decode(&llama_8b(), 1, context).total().flops;
        assert_eq!(flops, Flops(2.0 * 7_504_658_432.0 + 524_288.0 * f64::from(context)));
    }
}

#[test]
fn operations_of_a_prefill() {
    close(Workload::prefill(&llama_8b(), 1, 1000).total().flops.0 * 1e-12, "14.2");
}

#[test]
fn streamed_weights_are_what_the_stages_read() {
    let total = Workload::decode(&llama_8b(), 1, 1000).total();
    let embedding_row = 4096.0 * 2.0;
    assert_eq!(total.weight_bytes.0 - embedding_row, 15_009_849_344.0);
    // Each attended position is read once, the new one is appended once.
    assert_eq!(total.kv_bytes.0, 1001.0 * 131_072.0);
}

#[test]
fn a_hundred_tokens_read_1_50_terabytes_of_weights() {
    close(100.0 * llama_8b().streamed_bytes(BF16.into()).0 * 1e-12, "1.50");
}

#[test]
fn the_wall_in_tokens_per_second() {
    close(wall(2.0e12), "133.2");
    close(wall(card("a100-sxm4-80gb").memory_bandwidth.value), "135.8");
    close(wall(card("a100-sxm4-40gb").memory_bandwidth.value), "104");
}

#[test]
fn ridges_by_card() {
    let ridge = |name: &str| card(name).roofline(BF16).unwrap().ridge().0;
    close(312.0 / 2.0, "156");
    close(ridge("a100-sxm4-80gb"), "153");
    close(ridge("a100-pcie-80gb"), "161");
    close(ridge("a100-sxm4-40gb"), "201");
    close(ridge("h100-sxm5"), "295");
    close(ridge("h200-sxm"), "206");
}

/// Intensity of the q projection of one layer, with the activations that it reads and writes.
fn q_projection(tokens: f64) -> f64 {
    let weights = 4096.0 * 4096.0;
    2.0 * tokens * weights / (2.0 * (weights + 2.0 * tokens * 4096.0))
}

#[test]
fn intensity_of_decode_and_prefill() {
    close(q_projection(1.0), "0.9995");
    close(q_projection(1000.0), "672");
    let decode = |batch| Workload::decode(&llama_8b(), batch, 1050).total().intensity().0;
    close(decode(1), "1.0");
    assert!(decode(1) < decode(32) && decode(32) < decode(256));
}

#[test]
fn sixteen_gflop_are_per_token_not_per_second() {
    let flops = 2.0 * 7_504_658_432.0;
    let rate = wall(2.0e12) * flops;
    close(rate * 1e-12, "2.0");
    close(100.0 * rate / 312e12, "0.64");
    let intensity = flops / llama_8b().streamed_bytes(BF16.into()).0;
    assert!((rate / 312e12 - intensity / 156.0).abs() < 1e-12);
}

#[test]
fn a_prefill_of_1000_tokens_on_an_a100() {
    let flops = Workload::prefill(&llama_8b(), 1, 1000).total().flops.0;
    let milliseconds = |share: f64| flops / (312e12 * share) * 1e3;
    close(milliseconds(1.0), "45.6");
    close(milliseconds(0.75), "61");
    close(milliseconds(0.60), "76");
}

#[test]
fn a_large_batch_has_both_bounds() {
    let roof = card("a100-sxm4-80gb").roofline(BF16).unwrap();
    let work = Workload::decode(&llama_8b(), 256, 2048);
    let bound = |stage: Stage| {
        let cost = work.cost(stage);
        roof.shortest(cost.flops, cost.bytes()).1
    };
    for stage in [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead] {
        assert_eq!(bound(stage), Bound::Compute, "{stage}");
    }
    assert_eq!(bound(Stage::Attention), Bound::Memory);
    // The aggregate point alone would hide it.
    assert!(work.total().intensity() < roof.ridge());
}

#[test]
fn four_and_a_half_bits_give_three_times_not_four() {
    let m = llama_8b();
    let layers = f64::from(m.layers) * m.layer_matrix_parameters();
    let quantised = layers * 4.5 / 8.0 + 2.0 * (m.head_parameters() + m.norm_parameters());
    close(m.streamed_bytes(BF16.into()).0 / quantised, "3.0");
}

proptest! {
    /// A mixed step is its two halves with the matrices read once, and without the logits of the chunk.
    #[test]
    fn a_mixed_step_reads_the_weights_once(
        batch in 1u32..64, context in 1u32..5000, tokens in 1u32..600, before in 0u32..3000
    ) {
        let decode = Workload::decode(&llama_8b(), batch, context);
        let chunk = Chunk { tokens, context: before + tokens };
        let alone = Workload { context: chunk.context, ..Workload::prefill(&llama_8b(), 1, tokens) };
        let mixed = decode.clone().with(chunk);
        prop_assert_eq!(mixed.new_tokens(), f64::from(batch + tokens));
        for stage in Stage::ALL {
            let [own, half, other] = [&mixed, &decode, &alone].map(|work| work.cost(stage));
            if stage == Stage::LmHead {
                prop_assert_eq!(own, half);
                continue;
            }
            let same = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
            prop_assert!(same(own.flops.0, half.flops.0 + other.flops.0), "{stage}");
            prop_assert!(same(own.kv_bytes.0, half.kv_bytes.0 + other.kv_bytes.0), "{stage}");
            prop_assert!(same(own.activation_bytes.0, half.activation_bytes.0 + other.activation_bytes.0));
            if stage.per_layer() {
                prop_assert_eq!(own.weight_bytes, half.weight_bytes);
            }
        }
    }

    /// A cache in pages costs the entries of its table, one for each page that a sequence reads or writes.
    #[test]
    fn pages_cost_their_table(
        batch in 1u32..64, tokens in 1u32..100, before in 0u32..5000, page in prop::sample::select(vec![16u32, 64, 256])
    ) {
        let contiguous = Workload { tokens, context: before + tokens, ..Workload::decode(&llama_8b(), batch, 1) };
        let paged = Workload { kv_page: Some(page), ..contiguous.clone() };
        let table = |stage| (paged.cost(stage).kv_bytes - contiguous.cost(stage).kv_bytes).0 / 4.0 / 32.0;
        let pages = |positions: std::ops::Range<u32>| {
            let all: std::collections::BTreeSet<u32> = positions.map(|position| position / page).collect();
            f64::from(batch) * all.len() as f64
        };
        prop_assert!((table(Stage::Attention) - pages(0..before + tokens)).abs() < 1e-3);
        prop_assert!((table(Stage::Qkv) - pages(before..before + tokens)).abs() < 1e-3);
        prop_assert_eq!(paged.total().flops, contiguous.total().flops);
    }
}
